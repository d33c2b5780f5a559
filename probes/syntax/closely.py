"""What is kept of a sentence that is read closely: every head's matrix in single precision, its tree, its questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from probes.questions import RowTrials
from probes.syntax.draws import Draws
from probes.syntax.relations import Arcs
from probes.syntax.rules import Near
from probes.syntax.trees import GoldTree
from probes.syntax.trials import row_trials
from probes.words import Observation

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
        to_special: of each word, its weight on all special tokens together.
        from_special: of each word, the mean weight that special tokens put on it. Both are 0 without special tokens.
    """

    cluster: int
    confirm: bool
    tree: GoldTree | None
    words: Float32[np.ndarray, "head word other"]
    candidates: Bool[np.ndarray, "word other"]
    trials: RowTrials | None
    to_special: Float32[np.ndarray, "head word"]
    from_special: Float32[np.ndarray, "head word"]


def keep(seen: Observation) -> CloseText:
    """One sentence as it was seen, without what is not needed again."""
    (sentence,) = seen.sentences
    arcs = Arcs.of(sentence, seen.kept)
    near = Near(seen.upos, seen.kept)
    to_special, from_special = _specials(seen)
    return CloseText(
        cluster=seen.cluster,
        confirm=seen.confirm,
        tree=GoldTree.of(sentence, seen.kept),
        words=seen.words.astype(np.float32),
        candidates=seen.candidates,
        trials=row_trials(seen, arcs, near, Draws(0, seen.key)) if arcs.names else None,
        to_special=to_special,
        from_special=from_special,
    )


def _specials(seen: Observation) -> tuple[Float32[np.ndarray, "head word"], Float32[np.ndarray, "head word"]]:
    """Weights between words and special tokens, by the rule of `word_attention`: sum to, mean (or last piece) from."""
    n_heads, n_words = len(seen.words), len(seen.kept)
    to_special, from_special = (np.zeros((n_heads, n_words), dtype=np.float32) for _ in range(2))
    if not seen.special.any():
        return to_special, from_special
    pieces = seen.word_of_token
    on_special = seen.attention[:, :, seen.special].sum(axis=2)
    by_special = seen.attention[:, seen.special, :].mean(axis=1)
    for word in np.flatnonzero(seen.kept):
        tokens: Int64[np.ndarray, " token"] = np.flatnonzero(pieces == word)
        queries = tokens[-1:] if seen.causal else tokens
        to_special[:, word] = on_special[:, queries].mean(axis=1)
        from_special[:, word] = by_special[:, tokens].sum(axis=1)
    return to_special, from_special
