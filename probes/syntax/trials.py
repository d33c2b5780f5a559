"""The questions that one sentence's arcs ask of a head, all directions together in one table.

`d2h`: in the dependent's row the strongest word is its head. `h2d`: in the head's row it is one of its dependents of
that relation; one trial per head word, since a row has one strongest word. Reported beside them, never for labels:
`h2d_row`, the same with one trial per dependent, which a head word with two dependents cannot get right twice (Voita
et al. 2019, arXiv:1905.09418); `h2d_col`, the strongest word in the dependent's column, i.e. the word that looks at it
the most, is its head (the transposed heads of Clark et al. 2019, arXiv:1906.04341).

At the prediction position ("pred") the row is that of the place where the word is predicted: the word before it in a
causal model, the mask in its place in a bidirectional one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from probes.questions import Cells, RowTrials
from probes.syntax.controls import Targets, begin, control_words, shuffled_targets
from probes.syntax.draws import Draws
from probes.syntax.relations import Arcs
from probes.syntax.rules import Near
from probes.tally import Key
from probes.words import Reading

__all__ = ["COLUMN", "LABELLED", "View", "column_trials", "previous_word", "row_trials", "views_of"]

LABELLED = ("d2h", "h2d")
COLUMN = "h2d_col"


class View(NamedTuple):
    """One way of asking for a relation in rows; only the directions of labels have controls and shuffled targets."""

    direction: str
    at: str


_WORD = (View("d2h", "word"), View("h2d", "word"))
_PRED = (View("d2h", "pred"), View("h2d", "pred"))
_REPORTED = (View("h2d_row", "word"),)


def views_of(reading: Reading) -> tuple[View, ...]:
    """A masked text asks about its mask only; a causal model is asked at both positions. Labels' directions first."""
    if reading.masked is not None:
        return _PRED
    return (*_WORD, *_PRED, *_REPORTED) if reading.causal else (*_WORD, *_REPORTED)


def previous_word(kept: Bool[np.ndarray, " word"]) -> Int64[np.ndarray, " word"]:
    """The word before each word, of those that the model saw; -1 where there is none."""
    latest = np.maximum.accumulate(np.where(kept, np.arange(len(kept)), -1))
    return np.concatenate(([-1], latest[:-1]))


def row_trials(reading: Reading, arcs: Arcs, near: Near, draws: Draws) -> RowTrials:
    """All questions of `views_of` about these arcs, in one table."""
    views, kept, n_names = views_of(reading), reading.kept, len(arcs.names)
    code, query, target, arc = _entries(reading, arcs, views)
    asked = np.bincount(code[begin(code)] // len(kept), minlength=len(views) * n_names)
    if reading.causal:
        seen = target < query
        code, query, target, arc = code[seen], query[seen], target[seen], arc[seen]
    begins = begin(code)
    trial = begins.cumsum() - 1
    asks = code // len(kept)
    question = asks[begins]
    n_labelled = sum(view.direction in LABELLED for view in views) * n_names
    held = Targets(trial, asks, query, target, arc).first(int(asks.searchsorted(n_labelled)))
    controls, paired = control_words(held, len(question), n_labelled, kept, reading.causal, draws)
    heads_asked = held.question // n_names % 2 == 0  # `d2h` and `h2d` take turns
    keys = [_key(name, view.direction, view.at) for view in views for name in arcs.names]
    if reading.masked is not None:  # asks a few of the questions only
        used = asked.nonzero()[0]
        keys, asked, question = [keys[each] for each in used], asked[used], used.searchsorted(question)
    return RowTrials(
        keys=tuple(keys),
        asked=asked,
        question=question,
        chance=np.bincount(trial, 1 / _n_candidates(reading)[query], minlength=len(question)).astype(np.float64),
        targets=Cells.at(trial, query, target),
        points=near.points(query, target),
        paired=paired,
        controls=controls,
        shuffled=shuffled_targets(held, arcs, heads_asked, kept, reading.causal, draws),
        silent=near.silent(query[begins]),
    )


def column_trials(reading: Reading, arcs: Arcs, near: Near) -> RowTrials:
    """One trial per dependent and label, in the dependent's column; a causal model's later words look at it."""
    dependent, head, relation = arcs.dependent, arcs.head, arcs.relation
    asked = np.bincount(relation, minlength=len(arcs.names))
    n_queries = np.full(len(reading.kept), reading.kept.sum() - 1)
    if reading.causal:
        seen = dependent < head
        dependent, head, relation = dependent[seen], head[seen], relation[seen]
        n_queries = reading.kept.sum() - np.cumsum(reading.kept)
    return RowTrials(
        keys=tuple(_key(name, COLUMN, "word") for name in arcs.names),
        asked=asked,
        question=relation,
        chance=1 / n_queries[dependent],
        targets=Cells.at(np.arange(len(dependent)), head, dependent),
        points=near.points(dependent, head),
        paired=np.zeros(len(dependent), dtype=bool),
        level="column",
        silent=near.silent(dependent),
    )


def _entries(reading: Reading, arcs: Arcs, views: Sequence[View]) -> tuple[Int64[np.ndarray, " entry"], ...]:
    """(code, query, target, arc) of every entry, sorted by code.

    Entries of one trial share a code; divided by the number of words it is the question. A query of -1 is a word that
    is predicted from nothing.
    """
    n_words = len(reading.kept)
    before = previous_word(reading.kept) if reading.causal else arcs.head  # not looked at without a causal model
    codes, queries, targets = [], [], []
    for number, view in enumerate(views):
        asking, target = (arcs.dependent, arcs.head) if view.direction == "d2h" else (arcs.head, arcs.dependent)
        shared = arcs.head if view.direction == "h2d" else arcs.dependent
        codes.append((number * len(arcs.names) + arcs.relation) * n_words + shared)
        queries.append(before[asking] if view.at == "pred" and reading.causal else asking)
        targets.append(target)
    code, query, target = np.concatenate(codes), np.concatenate(queries), np.concatenate(targets)
    order = code.argsort(kind="stable")
    if reading.masked is not None:
        order = order[query[order] == reading.masked]
    return code[order], query[order], target[order], np.concatenate([arcs.arc] * len(views))[order]


_key = lru_cache(maxsize=4096)(Key)


def _n_candidates(reading: Reading) -> Int64[np.ndarray, " word"]:
    """How many words can win each word's row, as in `Reading.candidates`; of words that the model saw."""
    kept = reading.kept
    return np.asarray(np.cumsum(kept) - 1 if reading.causal else np.full(len(kept), kept.sum() - 1))
