"""How much of a head's attention lies along dependency arcs, whatever their relation and direction (measure S2).

Alignment is `sum A[q,k] dep(q,k) / sum A[q,k]` over words, where dep is 1 for words that an arc joins. The question is
that of Vig and Belinkov 2019 (arXiv:1906.04284). Attention on the first token, where heads rest, is left out, and that
on all special tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from probes.tally import UNIT, Key
from probes.view import LayerView, Sums
from probes.words import Reading

__all__ = ["ALIGNMENT", "alignment_sums", "joined"]

ALIGNMENT = Key("any arc")
"""Its `hits` are the attention along arcs, its `mass` that on words: alignment is the one over the other."""


def alignment_sums(view: LayerView) -> Sums:
    """Both sums over each text with a tree; its trials are the words that see any. Chance is uniform attention."""
    n_texts, n_words = len(view.readings), view.words.shape[-1]
    arcs, words = (torch.zeros(n_texts, n_words, n_words, dtype=torch.float64) for _ in range(2))
    chance, mass_chance = (torch.zeros(n_texts, 1, dtype=torch.float64) for _ in range(2))
    trials = torch.zeros(n_texts, 1, dtype=torch.int64)
    for row, reading in enumerate(view.readings):
        size = len(reading.kept)
        along, seen = joined(reading)
        if seen.any():
            arcs[row, :size, :size], words[row, :size, :size] = torch.from_numpy(along), torch.from_numpy(seen)
            share = _uniform(reading, view.visible[row].sum(-1).numpy())
            chance[row], mass_chance[row] = float((along * share).sum()), float((seen * share).sum())
            trials[row] = int(seen.any(axis=1).sum())
    weights = (view.words * UNIT).round()  # whole numbers, so that the sums do not depend on the padding
    hits, mass = ((weights * cells[:, None]).sum((-1, -2))[:, None] / UNIT for cells in (arcs, words))
    return Sums((ALIGNMENT,), trials, hits, mass, chance, mass_chance)


def _uniform(reading: Reading, n_visible: Int64[np.ndarray, " token"]) -> Float64[np.ndarray, "word other"]:
    """What each word gets from rows that attend to all visible tokens alike; a row is that of its last piece."""
    n = len(reading.kept)
    owned = np.flatnonzero(reading.word_of_token >= 0)
    pieces = np.bincount(reading.word_of_token[owned], minlength=n)
    sees = np.ones(n)
    sees[reading.word_of_token[owned]] = n_visible[owned]  # of several pieces the last one stays
    return np.asarray(pieces / sees[:, None])


def joined(reading: Reading) -> tuple[Bool[np.ndarray, "word other"], Bool[np.ndarray, "word other"]]:
    """Which words arcs join, in both directions, and which words each word's attention is summed over.

    Nothing of a text without a tree, or of one in which a word is masked. Where no special token stands in front, the
    first word is where heads rest, and attention on it is left out.
    """
    n = len(reading.kept)
    none = np.zeros((n, n), dtype=bool)
    heads = [head for sentence in reading.sentences for head in sentence.heads]
    if reading.masked is not None or len(reading.sentences) != 1 or not heads:
        return none, none
    seen = np.outer(reading.kept, reading.kept)
    if reading.causal:
        seen &= np.tri(n, dtype=bool)
    if not reading.special[0]:
        seen[:, int(reading.word_of_token[0])] = False
    along = none.copy()
    linked = [(word, head) for word, head in enumerate(heads) if head >= 0]
    if linked:
        dependent, head = np.array(linked).T
        along[dependent, head] = along[head, dependent] = True
    return along & seen, seen
