"""What a planted head's score is made of: terms that add up, each turned into rows of its query and key matrices.

The score of a query and a key is the sum of the terms. A row is one number that the query side reads from the stream
and one that the key side reads; the score is the sum over rows of their products. A head of 128 numbers has room for
128 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from attnlens.zoo.planted_stream import BLOCK_SIZE, WIDTH, block, unit

__all__ = ["Fixed", "Match", "Offset", "Rows", "Sink", "Term", "Write", "rows_of"]

Matrix = Float64[np.ndarray, "axis axis"]


@dataclass(frozen=True)
class Match:
    """`scores[a, b]` where the query has axis `a` of one block and the key has axis `b` of another."""

    query: str
    scores: Matrix
    key: str


@dataclass(frozen=True)
class Fixed:
    """The same for every query: the product of `scores` with a block of the key."""

    scores: Float64[np.ndarray, " axis"]
    key: str


@dataclass(frozen=True)
class Sink:
    """A score for the text's first position, whatever the query."""

    score: float


@dataclass(frozen=True)
class Offset:
    """Scores by distance: `scores[d]` for the key `d` tokens after the query, 0 for others.

    Targets before the text are its first position. With rotary positions there is one distance, and the score falls
    off with the cosine of what a key is away from it.
    """

    scores: dict[int, float]


Term = Match | Fixed | Sink | Offset


@dataclass(frozen=True)
class Write:
    """What a head copies: a block of what it attends to, into a block of its own position, times `scale`."""

    source: str
    target: str
    scale: float = 1.0


@dataclass(frozen=True)
class Rows:
    """Rows of the two matrices, in the coordinates of the stream; `bias` is what the query side adds to its number."""

    query: Float64[np.ndarray, "row stream"]
    bias: Float64[np.ndarray, " row"]
    key: Float64[np.ndarray, "row stream"]

    def __len__(self) -> int:
        return len(self.bias)


def rows_of(terms: Sequence[Term]) -> Rows:
    """The rows of all terms, for models whose positions are a block of the stream."""
    parts = [part for term in terms for part in _rows(term)]
    query, bias, key = (np.array([part[i] for part in parts]) for i in range(3))
    return Rows(query.reshape(-1, WIDTH), bias.reshape(-1), key.reshape(-1, WIDTH))


Row = tuple[Float64[np.ndarray, " stream"], float, Float64[np.ndarray, " stream"]]


def _rows(term: Term) -> list[Row]:
    if isinstance(term, Fixed):
        return [(np.zeros(WIDTH), 1.0, _placed(term.key, term.scores))]
    if isinstance(term, Sink):
        return _rows(Fixed(term.score * unit(0), "POS"))
    if isinstance(term, Offset):
        return _rows(Match("POS", _by_distance(term.scores), "POS"))
    by_query, by_key = np.flatnonzero(term.scores.any(axis=1)), np.flatnonzero(term.scores.any(axis=0))
    if len(by_query) < len(by_key):
        return [(_placed(term.query, unit(a)), 0.0, _placed(term.key, term.scores[a])) for a in by_query.tolist()]
    return [(_placed(term.query, term.scores[:, b]), 0.0, _placed(term.key, unit(b))) for b in by_key.tolist()]


def _placed(name: str, vector: Float64[np.ndarray, " axis"]) -> Float64[np.ndarray, " stream"]:
    stream = np.zeros(WIDTH)
    stream[block(name)] = vector
    return stream


def _by_distance(scores: dict[int, float]) -> Matrix:
    matrix = np.zeros((BLOCK_SIZE, BLOCK_SIZE))
    for query in range(BLOCK_SIZE):
        for offset, score in scores.items():
            target = max(query + offset, 0)
            if target < BLOCK_SIZE:
                matrix[query, target] = max(matrix[query, target], score)
    return matrix
