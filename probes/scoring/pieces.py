"""Word-level weights of a whole batch at once, by the rule of `probes.words.word_attention`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from probes.words import Aggregation, Reading

__all__ = ["Pieces", "pieces_of"]

Index = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Pieces:
    """Which tokens become which words.

    Attributes:
        further: for the second, third, ... pieces of words: (text, token of the first piece, token of the piece).
        means: words of several pieces whose rows are averaged: (text, token of the first piece, number of pieces).
        place: where each word-level weight is found in `[text head token token]`, flat; one past the end for padding
            and for words without a token.
    """

    further: tuple[tuple[Index, Index, Index], ...]
    means: tuple[Index, Index, Index] | None
    place: Int64[np.ndarray, "text head word other"]

    def words(
        self,
        weights: Float64[np.ndarray, " weight"],
        shape: tuple[int, ...],
        out: Float64[np.ndarray, "text head word other"],
    ) -> Float64[np.ndarray, "text head word other"]:
        """Word-level weights.

        Args:
            weights: `[text head query key]`, flat, with a 0 at the end; they are overwritten.
            shape: of these.
            out: where to write.
        """
        tokens = weights[:-1].reshape(shape)
        for text, first, piece in self.further:
            tokens[text, :, :, first] += tokens[text, :, :, piece]
        if self.means is not None:
            for text, first, piece in self.further:
                tokens[text, :, first] += tokens[text, :, piece]
            text, first, number = self.means
            tokens[text, :, first] /= number[:, None, None]
        return np.take(weights, self.place, out=out, mode="clip")  # another mode would copy `out`


def pieces_of(
    readings: Sequence[Reading], n_heads: int, n_tokens: int, n_words: int, aggregation: Aggregation
) -> Pieces:
    """The pieces of a batch, padded to so many tokens and words."""
    text, word, token = _placed(readings)
    number = text * n_words + word
    order = np.argsort(number, kind="stable")
    text, word, token, number = text[order], word[order], token[order], number[order]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    n_pieces = np.diff(starts, append=len(number))
    nth = np.arange(len(number)) - np.repeat(starts, n_pieces)
    first = np.repeat(token[starts], n_pieces)
    further = tuple(
        (text[nth == step], first[nth == step], token[nth == step]) for step in range(1, int(n_pieces.max(initial=1)))
    )
    several = starts[n_pieces > 1]
    averaged = aggregation == "mean" and len(several) > 0
    means = (text[several], token[several], n_pieces[n_pieces > 1]) if averaged else None
    row = np.full((len(readings), n_words), -1, np.int64)
    column = row.copy()
    column[text[starts], word[starts]] = token[starts]
    row[text[starts], word[starts]] = token[starts if aggregation == "mean" else starts + n_pieces - 1]
    known = (row >= 0)[:, :, None] & (column >= 0)[:, None, :]
    inside = np.where(known, row[:, :, None] * n_tokens + column[:, None, :], -1)
    size = n_tokens * n_tokens
    front = (np.arange(len(readings))[:, None] * n_heads + np.arange(n_heads)) * size
    place = np.where(known[:, None], inside[:, None] + front[:, :, None, None], len(readings) * n_heads * size)
    return Pieces(further, means, place)


def _placed(readings: Sequence[Reading]) -> tuple[Index, Index, Index]:
    """Text, word and token of every token that belongs to a word."""
    words = [reading.word_of_token for reading in readings]
    lengths = np.array([len(part) for part in words], dtype=np.int64)
    text = np.repeat(np.arange(len(readings)), lengths)
    token = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    word = np.concatenate([np.zeros(0, np.int64), *words])
    owned = word >= 0
    return text[owned], word[owned], token[owned]
