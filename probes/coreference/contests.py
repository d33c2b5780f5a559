"""Contests between a few options, each some words of a text, and the trials that many of them make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.questions import Cells, Level, OptionTrials
from probes.tally import Key

__all__ = ["Contest", "missed", "trials_of", "word_contest"]


@dataclass(frozen=True)
class Contest:
    """One question about a text, asked for several keys at once: which option does the query look at most?

    Attributes:
        keys: what it counts for.
        right: per option.
        points: rules that answer with the option.
        of: option of each cell.
        query, key, weight: the cells; see `probes.questions.Cells`.
        scored: False where the question occurs and cannot be answered (a causal model does not see the answer).
    """

    keys: tuple[Key, ...]
    right: Bool[np.ndarray, " option"]
    points: Bool[np.ndarray, "option rule"]
    of: Int64[np.ndarray, " cell"]
    query: Int64[np.ndarray, " cell"]
    key: Int64[np.ndarray, " cell"]
    weight: Float64[np.ndarray, " cell"]
    scored: bool = True


def word_contest(
    keys: tuple[Key, ...],
    query: int,
    options: Int64[np.ndarray, " option"],
    right: Bool[np.ndarray, " option"],
    points: Bool[np.ndarray, "option rule"],
) -> Contest:
    """A contest of single words for the row of one word; it is not scored where no option is right."""
    if not right.any():
        return missed(keys, points.shape[1])
    n = len(options)
    return Contest(keys, right, points, np.arange(n), np.full(n, query), options, np.ones(n))


def missed(keys: tuple[Key, ...], n_rules: int) -> Contest:
    """A question that occurs and cannot be answered."""
    none = np.zeros(0, dtype=np.int64)
    return Contest(
        keys, none.astype(bool), np.zeros((0, n_rules), dtype=bool), none, none, none, none.astype(np.float64), False
    )


def trials_of(contests: Sequence[Contest], level: Level = "word") -> OptionTrials:
    """All contests of a text as trials, each once for every key that it counts for."""
    keys = tuple(dict.fromkeys(key for contest in contests for key in contest.keys))
    index = {key: i for i, key in enumerate(keys)}
    asked = np.bincount([index[key] for contest in contests for key in contest.keys], minlength=len(keys))
    entries = [(index[key], contest) for contest in contests if contest.scored for key in contest.keys]
    n_options = np.array([len(contest.right) for _, contest in entries], dtype=np.int64)
    first_option = np.cumsum(n_options) - n_options

    def joined(name: str, dtype: type) -> np.ndarray:
        parts = [getattr(contest, name) for _, contest in entries]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

    n_cells = [len(contest.of) for _, contest in entries]
    points = [contest.points for _, contest in entries] or [contests[0].points[:0]]
    return OptionTrials(
        keys=keys,
        asked=asked,
        question=np.array([question for question, _ in entries], dtype=np.int64),
        chance=np.array([contest.right.mean() for _, contest in entries], dtype=np.float64),
        option_trial=np.repeat(np.arange(len(entries)), n_options),
        right=joined("right", bool),
        cells=Cells(
            joined("of", np.int64) + np.repeat(first_option, n_cells),
            joined("query", np.int64),
            joined("key", np.int64),
            joined("weight", np.float64),
        ),
        points=np.concatenate(points),
        level=level,
    )
