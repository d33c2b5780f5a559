"""Ensembles of heads (measure S3): do a few heads together know a relation better than the best one alone?

Heads are added one at a time: the one that, averaged with those already chosen, is right most often on SELECT; at most
four, out of the 25 that are best alone, and none that adds less than half a point. What they reach together is counted
on CONFIRM only; to choose and to report on the same sentences is how such figures come out too high.
Source: Limisiewicz, Rosa and Marecek 2020 ("Universal Dependencies According to BERT"), who select on what they report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.statistics import Resampling, interval, replicates
from probes.syntax.closely import CloseText
from probes.syntax.trials import LABELLED
from probes.tally import Key

__all__ = ["CANDIDATES", "FEWEST", "LARGEST", "LEAST_GAIN", "Ensemble", "Rows", "ensembles", "grow"]

CANDIDATES = 25
LARGEST = 4
LEAST_GAIN = 0.005
FEWEST = 50  # trials in each half of the sample


@dataclass(frozen=True)
class Rows:
    """The rows of one question's trials, padded to the longest text.

    Attributes:
        weights: of each head on each word; -1 where a word cannot win.
        targets: right words.
        cluster: of each trial.
    """

    weights: Float64[np.ndarray, "trial head word"]
    targets: Bool[np.ndarray, "trial word"]
    cluster: Int64[np.ndarray, " trial"]

    def hits(self, heads: Sequence[int]) -> Float64[np.ndarray, " trial"]:
        """Per trial the share of a win of these heads' mean; ties are split."""
        return _hits(self.weights[:, list(heads)].mean(axis=1), self.targets)

    @classmethod
    def of(cls, texts: Sequence[CloseText], key: Key) -> Rows:
        """All trials of `key` in these texts."""
        found = [
            (text, int(query), text.trials.targets.key[mine])
            for text in texts
            if text.trials is not None and key in text.trials.keys
            for query, mine in _trials(text, key)
        ]
        n_heads = texts[0].words.shape[0] if texts else 0
        width = max((len(text.candidates) for text, _, _ in found), default=0)
        weights = np.full((len(found), n_heads, width), -1.0)
        targets = np.zeros((len(found), width), dtype=bool)
        for trial, (text, query, right) in enumerate(found):
            n = len(text.candidates)
            weights[trial, :, :n] = np.where(text.candidates[query], text.words[:, query], -1.0)
            targets[trial, right] = True
        return cls(weights, targets, np.array([text.cluster for text, _, _ in found], dtype=np.int64))


def _trials(text: CloseText, key: Key) -> list[tuple[int, Int64[np.ndarray, " entry"]]]:
    """(query, entries) of each trial of a question."""
    trials = text.trials
    if trials is None:
        return []
    of, query = trials.targets.of, trials.targets.query
    mine = np.flatnonzero(trials.question[of] == trials.keys.index(key))
    return [(int(query[mine[of[mine] == trial][0]]), mine[of[mine] == trial]) for trial in np.unique(of[mine])]


@dataclass(frozen=True)
class Ensemble:
    """A few heads, by index, chosen on SELECT.

    Attributes:
        heads: in the order of choice; the first one is the best alone.
        select: share of SELECT trials they get right together; `steps` that after each choice.
        score, ci: on CONFIRM.
        single: what the first head alone reaches on CONFIRM.
        gain, gain_ci: of the ensemble over it, on CONFIRM.
        n_select, n_confirm: trials.
    """

    key: Key
    heads: tuple[int, ...]
    steps: tuple[float, ...]
    score: float
    ci: tuple[float, float]
    single: float
    gain: float
    gain_ci: tuple[float, float]
    n_select: int
    n_confirm: int


def ensembles(
    texts: Sequence[CloseText],
    alone: dict[Key, Float64[np.ndarray, " head"]],
    confirm: Bool[np.ndarray, " cluster"],
    resampling: Resampling,
) -> list[Ensemble]:
    """One ensemble for each question with enough trials in both halves of the sample.

    Args:
        texts: of both halves.
        alone: SELECT score of every head, per question, over the whole corpus.
        confirm: which clusters confirm.
        resampling: draws over the clusters that confirm.
    """
    halves = [[text for text in texts if text.confirm is half] for half in (False, True)]
    found = []
    for key in sorted(alone, key=str):
        if key.direction not in LABELLED or key.at != "word":
            continue
        select, confirming = (Rows.of(half, key) for half in halves)
        if min(len(select.cluster), len(confirming.cluster)) >= FEWEST:
            candidates = np.argsort(-alone[key], kind="stable")[:CANDIDATES]
            heads, steps = grow(select, [int(head) for head in candidates])
            found.append(_confirmed(key, heads, steps, len(select.cluster), confirming, confirm, resampling))
    return found


def grow(select: Rows, candidates: Sequence[int]) -> tuple[list[int], list[float]]:
    """Greedy forward selection: the heads chosen, and what they reach together after each choice."""
    chosen: list[int] = []
    steps: list[float] = []
    total = np.zeros((len(select.weights), select.weights.shape[2]))
    while len(chosen) < LARGEST:
        rest = [head for head in candidates if head not in chosen]
        if not rest:
            break
        together = total[:, None] + select.weights[:, rest]
        score = _hits(together, select.targets[:, None]).mean(axis=0)
        best = int(score.argmax())
        if steps and score[best] - steps[-1] < LEAST_GAIN:
            break
        chosen.append(rest[best])
        steps.append(float(score[best]))
        total += select.weights[:, rest[best]]
    return chosen, steps


def _hits(
    weights: Float64[np.ndarray, "*rows word"], targets: Bool[np.ndarray, "*others word"]
) -> Float64[np.ndarray, "*rows"]:
    """Share of the strongest words that are right; a word that cannot win has negative weight."""
    best = weights == weights.max(axis=-1, keepdims=True)
    return np.asarray((best & targets).sum(axis=-1) / best.sum(axis=-1))


def _confirmed(
    key: Key,
    heads: Sequence[int],
    steps: Sequence[float],
    n_select: int,
    rows: Rows,
    confirm: Bool[np.ndarray, " cluster"],
    resampling: Resampling,
) -> Ensemble:
    together, single = rows.hits(heads), rows.hits(heads[:1])
    n_clusters = len(confirm)
    trials = np.bincount(rows.cluster, minlength=n_clusters)[confirm].astype(np.float64)
    columns = np.stack(
        [np.bincount(rows.cluster, hits, minlength=n_clusters)[confirm] for hits in (together, together - single)],
        axis=1,
    )
    (low, gain_low), (high, gain_high) = interval(replicates(resampling, columns, trials))
    return Ensemble(
        key=key,
        heads=tuple(heads),
        steps=tuple(steps),
        score=float(together.mean()),
        ci=(float(low), float(high)),
        single=float(single.mean()),
        gain=float((together - single).mean()),
        gain_ci=(float(gain_low), float(gain_high)),
        n_select=n_select,
        n_confirm=len(rows.cluster),
    )
