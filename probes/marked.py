"""Trials of arcs that are marked in a text, from a word to one or more others: with rules and matched controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from probes.questions import Cells, RowTrials
from probes.syntax.controls import Targets, begin, control_words
from probes.syntax.draws import Draws
from probes.syntax.rules import Near
from probes.tally import Key
from probes.words import Reading

__all__ = ["Marked", "marked_trials"]


@dataclass(frozen=True)
class Marked:
    """One word that asks one question, and the words that are right.

    Attributes:
        key: the question.
        query: word of the text that the model saw.
        targets: words of the text, the query not among them.
    """

    key: Key
    query: int
    targets: tuple[int, ...]


def marked_trials(reading: Reading, marked: Sequence[Marked], draws: Draws, n_rules: int) -> RowTrials | None:
    """One trial for every mark of which the query can see a target; the rest is asked and not scored.

    Args:
        reading: the text.
        marked: what is asked of it.
        draws: the text's random numbers, for control words.
        n_rules: columns of `points`: the first so many of `probes.syntax.rules`, empty ones after these.
    """
    if not marked:
        return None
    keys = tuple(dict.fromkeys(each.key for each in marked))
    number = {key: i for i, key in enumerate(keys)}
    entries = []
    questions: list[int] = []
    for each in sorted(marked, key=lambda one: (number[one.key], one.query)):
        visible = [target for target in each.targets if reading.candidates[each.query, target]]
        if visible:
            entries += [(len(questions), number[each.key], each.query, target) for target in visible]
            questions.append(number[each.key])
    trial, question, query, target = np.array(entries, dtype=np.int64).reshape(-1, 4).T
    gold = Targets(trial, question, query, target, np.arange(len(trial)))
    controls, paired = control_words(gold, len(questions), len(keys), reading.kept, reading.causal, draws)
    n_candidates = np.maximum(reading.candidates.sum(axis=1), 1)
    near = Near(reading.upos, reading.kept)
    return RowTrials(
        keys=keys,
        asked=np.bincount([number[each.key] for each in marked], minlength=len(keys)),
        question=np.array(questions, dtype=np.int64),
        chance=np.bincount(trial, weights=1 / n_candidates[query], minlength=len(questions)).astype(np.float64),
        targets=Cells.at(trial, query, target),
        points=_columns(near.points(query, target), n_rules),
        paired=paired,
        controls=controls,
        silent=_columns(near.silent(query[begin(trial)]), n_rules),
    )


def _columns(points: Bool[np.ndarray, "row rule"], n: int) -> Bool[np.ndarray, "row some_rule"]:
    """The first `n` columns, and empty ones where there are fewer."""
    columns = np.zeros((len(points), n), dtype=bool)
    known = min(n, points.shape[1])
    columns[:, :known] = points[:, :known]
    return columns
