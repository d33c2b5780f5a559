"""What is kept of a sentence that is read closely: every head's matrix in single precision, its tree, its questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from probes.close_reading import Matrices
from probes.questions import RowTrials
from probes.syntax.draws import Draws
from probes.syntax.relations import Arcs
from probes.syntax.rules import Near
from probes.syntax.trees import GoldTree
from probes.syntax.trials import row_trials

__all__ = ["CloseText", "keep"]


@dataclass(frozen=True)
class CloseText:
    """One sentence.

    Attributes:
        cluster: where it counts.
        confirm: that cluster belongs to CONFIRM.
        tree: without punctuation; None where that is no tree of two words.
        words: word-level weights.
        candidates: who may win a row.
        trials: the syntactic questions about it; None without arcs.
        to_special, from_special: of each word, see `Matrices`.
    """

    cluster: int
    confirm: bool
    tree: GoldTree | None
    words: Float32[np.ndarray, "head word other"]
    candidates: Bool[np.ndarray, "word other"]
    trials: RowTrials | None
    to_special: Float32[np.ndarray, "head word"]
    from_special: Float32[np.ndarray, "head word"]


def keep(seen: Matrices) -> CloseText:
    """One sentence as a model attends to it, with what is asked about it."""
    reading = seen.reading
    (sentence,) = reading.sentences
    arcs = Arcs.of(sentence, reading.kept)
    near = Near(reading.upos, reading.kept)
    return CloseText(
        cluster=reading.cluster,
        confirm=reading.confirm,
        tree=GoldTree.of(sentence, reading.kept),
        words=seen.words,
        candidates=reading.candidates,
        trials=row_trials(reading, arcs, near, Draws(0, reading.key)) if arcs.names else None,
        to_special=seen.to_special,
        from_special=seen.from_special,
    )
