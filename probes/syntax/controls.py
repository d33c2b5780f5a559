"""What a head does where the annotation says nothing: offset-matched control words, and shuffled gold (b5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from probes.questions import Cells, no_cells
from probes.syntax.draws import Draws
from probes.syntax.relations import Arcs

__all__ = ["N_CONTROLS", "Targets", "begin", "control_words", "shuffled_targets"]

N_CONTROLS = 5
_LAST = np.uint64(2**64 - 1)


def begin(numbers: Int64[np.ndarray, " entry"]) -> Bool[np.ndarray, " entry"]:
    """Where a new number begins, of sorted ones."""
    first = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return first


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

    def first(self, n: int) -> Targets:
        """The first `n` of them."""
        return Targets(self.trial[:n], self.question[:n], self.query[:n], self.target[:n], self.arc[:n])


def control_words(
    gold: Targets,
    n_trials: int,
    n_questions: int,
    kept: Bool[np.ndarray, " word"],
    causal: bool,
    draws: Draws,
) -> tuple[Cells, Bool[np.ndarray, " trial"]]:
    """Up to five other words of the sentence per trial, at which none of its offsets is an answer to its question.

    All of a trial's offsets lie inside the sentence at these words, so that a head which always looks at one offset
    hits all of them where it hits the trial, and none where it misses it.

    Returns:
        The cells at the control words, which share in the mean over their trial's control words, and which trials
        have a control word.
    """
    n_words, n_entries = len(kept), len(gold.trial)
    paired = np.zeros(n_trials, dtype=bool)
    if not n_entries:
        return no_cells(), paired
    offset = gold.target - gold.query
    words = np.arange(n_words)
    other = words + offset[:, None]
    inside = (other >= 0) & (other < n_words)
    other *= inside
    answers = np.zeros((n_questions, n_words, n_words), dtype=bool)
    answers[gold.question, gold.query, gold.target] = True
    fits = inside & ~answers[gold.question[:, None], words, other]
    fits[np.arange(n_entries), gold.query] = False
    if causal:
        fits[offset > 0] = False
    if not kept.all():
        fits &= kept & kept[other]
    begins = begin(gold.trial)
    usable = np.logical_and.reduceat(fits, begins.nonzero()[0], axis=0)  # of the trials that have targets
    n_valid = np.minimum(usable.sum(axis=1), N_CONTROLS)
    paired[gold.trial[begins]] = n_valid > 0
    drawn = np.where(usable, draws.integers(*usable.shape), _LAST)
    chosen = drawn.argsort(axis=1)[:, :N_CONTROLS]
    row = begins.cumsum() - 1  # of each entry in `usable`
    n_of_entry = n_valid[row]
    entry, column = (words[: chosen.shape[1]] < n_of_entry[:, None]).nonzero()
    at = chosen[row[entry], column]
    return Cells(gold.trial[entry], at, at + offset[entry], 1 / n_of_entry[entry]), paired


def shuffled_targets(
    gold: Targets,
    arcs: Arcs,
    heads_asked: Bool[np.ndarray, " entry"],
    kept: Bool[np.ndarray, " word"],
    causal: bool,
    draws: Draws,
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
        draws: the sentence's random numbers.
    """
    ends = np.zeros((2, arcs.n_arcs), dtype=np.int64)
    ends[0, arcs.arc], ends[1, arcs.arc] = arcs.dependent, arcs.head
    exchanged = draws.integers(arcs.n_arcs).argsort()
    target = ends[heads_asked.astype(np.int64), exchanged[gold.arc]]
    seen = (target < gold.query) if causal else (target != gold.query)
    seen &= kept[target]
    return Cells.at(gold.trial[seen], gold.query[seen], target[seen])
