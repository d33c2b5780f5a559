"""What a head does where the annotation says nothing: offset-matched control words, and shuffled gold (b5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from probes.questions import Cells
from probes.syntax.relations import Arcs

__all__ = ["N_CONTROLS", "Targets", "control_words", "shuffled_targets"]

N_CONTROLS = 5


@dataclass(frozen=True)
class Targets:
    """Right cells, sorted by trial.

    Attributes:
        trial: of each entry.
        question: of each entry.
        query, target: the cell.
        arc: which arc of the sentence it comes from.
    """

    trial: Int64[np.ndarray, " entry"]
    question: Int64[np.ndarray, " entry"]
    query: Int64[np.ndarray, " entry"]
    target: Int64[np.ndarray, " entry"]
    arc: Int64[np.ndarray, " entry"]

    def where(self, rows: Bool[np.ndarray, " entry"]) -> Targets:
        """A part of them."""
        return Targets(self.trial[rows], self.question[rows], self.query[rows], self.target[rows], self.arc[rows])


def control_words(
    gold: Targets,
    n_trials: int,
    n_questions: int,
    kept: Bool[np.ndarray, " word"],
    causal: bool,
    random: np.random.Generator,
) -> tuple[Cells, Bool[np.ndarray, " trial"]]:
    """Up to five other words of the sentence per trial, at which none of its offsets is an answer to its question.

    All of a trial's offsets lie inside the sentence at these words, so that a head which always looks at one offset
    hits all of them where it hits the trial, and none where it misses it.

    Returns:
        The cells at the control words, which share in the mean over their trial's control words, and which trials
        have a control word.
    """
    n_words = len(kept)
    paired = np.zeros(n_trials, dtype=bool)
    if not len(gold.trial):
        return Cells.at((), (), ()), paired
    offset = gold.target - gold.query
    other = np.arange(n_words) + offset[:, None]
    inside = (other >= 0) & (other < n_words)
    other[~inside] = 0
    answers = np.zeros((n_questions, n_words, n_words), dtype=bool)
    answers[gold.question, gold.query, gold.target] = True
    fits = inside & ~answers[gold.question[:, None], np.arange(n_words), other]
    fits[np.arange(len(offset)), gold.query] = False
    if causal:
        fits[offset > 0] = False
    if not kept.all():
        fits &= kept & kept[other]
    starts = np.flatnonzero(np.diff(gold.trial, prepend=-1))
    usable = np.logical_and.reduceat(fits, starts, axis=0)  # of the trials that have targets
    drawn = np.where(usable, random.random(usable.shape), 2.0)
    chosen = drawn.argsort(axis=1)[:, :N_CONTROLS]
    valid = np.take_along_axis(usable, chosen, axis=1)
    n_valid = valid.sum(axis=1)
    paired[gold.trial[starts]] = n_valid > 0
    row = np.cumsum(np.diff(gold.trial, prepend=gold.trial[0]) > 0)  # of each entry in `usable`
    entry, column = np.nonzero(valid[row])
    at = chosen[row[entry], column]
    return Cells(gold.trial[entry], at, at + offset[entry], 1 / n_valid[row[entry]]), paired


def shuffled_targets(
    gold: Targets,
    arcs: Arcs,
    heads_asked: Bool[np.ndarray, " entry"],
    kept: Bool[np.ndarray, " word"],
    causal: bool,
    random: np.random.Generator,
) -> Cells:
    """The targets after the sentence's arcs have exchanged them: every query keeps its place and asks for another's.

    A word that many arcs answer with stays as frequent an answer, so that a head which always looks at the root gains
    nothing from being right here.

    Args:
        gold: the targets.
        arcs: of the sentence.
        heads_asked: entries whose target is the arc's head; of the others it is the dependent.
        kept: words that the model saw.
        causal: a query sees earlier words only; a target that it cannot see is a miss.
        random: draws one permutation for the sentence.
    """
    ends = np.zeros((2, arcs.n_arcs), dtype=np.int64)
    ends[0, arcs.arc], ends[1, arcs.arc] = arcs.dependent, arcs.head
    exchanged = random.permutation(arcs.n_arcs)
    target = ends[heads_asked.astype(np.int64), exchanged[gold.arc]]
    seen = (target < gold.query) if causal else (target != gold.query)
    seen &= kept[target]
    return Cells.at(gold.trial[seen], gold.query[seen], target[seen])
