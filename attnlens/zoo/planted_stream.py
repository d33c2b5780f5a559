"""The residual stream of planted models: named blocks of 64 numbers, and the code that tells words apart in one block.

A planted model's stream is a list of blocks, each a vector space of its own, so that what a head reads and writes can
be named: `TOK` holds which word it is, `POS` its place, `FEAT` its class, `PTR` where gold annotation points, `PREV`
what the head that copies the previous token wrote, `OUT` what the vocabulary is read from.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["BLOCKS", "BLOCK_SIZE", "FIRST", "WIDTH", "block", "token_vectors", "unit"]

BLOCK_SIZE = 64
BLOCKS = ("TOK", "POS", "FEAT", "PTR", "PREV", "OUT")
WIDTH = BLOCK_SIZE * len(BLOCKS)
FIRST = 2  # number of the token that every text begins with, in all vocabularies

_FIELD = 0b1000011  # x^6 + x + 1 makes GF(64)


def block(name: str) -> slice:
    """Where a block lies in the stream."""
    start = BLOCKS.index(name) * BLOCK_SIZE
    return slice(start, start + BLOCK_SIZE)


def unit(index: int) -> Float64[np.ndarray, " axis"]:
    """One of a block's axes."""
    vector = np.zeros(BLOCK_SIZE)
    vector[index] = 1
    return vector


def token_vectors(rarity: Float64[np.ndarray, " token"]) -> Float64[np.ndarray, "token axis"]:
    """A vector of length 1 per token for the block `TOK`: any two differ by a wide angle.

    The first number is the token's rarity, the second marks the token that every text begins with (number `FIRST`),
    which is at right angles to all others; the other 62 are a sign pattern. Two tokens' patterns have a cosine of at
    most 18/62. There are 4096 patterns; tokens beyond these share them.

    Args:
        rarity: from 0 to .5.

    Source of the patterns: Gold 1968 (doi:10.1109/TIT.1968.1054106); the signs of the trace of `a x^3 + b x` over
    GF(64), without two of its elements.
    """
    signs = _signs()[np.arange(len(rarity)) % BLOCK_SIZE**2, 2:] / np.sqrt(BLOCK_SIZE - 2)
    vectors = np.column_stack([rarity, np.zeros(len(rarity)), np.sqrt(1 - rarity**2)[:, None] * signs])
    vectors[FIRST : FIRST + 1] = unit(1)
    return vectors


@lru_cache(maxsize=1)
def _signs() -> Float64[np.ndarray, "pattern element"]:
    field = np.arange(BLOCK_SIZE)
    products = _products()
    cubes = products[field, products[field, field]]
    trace = _trace(products)
    exponent = products[:, None, cubes] ^ products[None, :, field]
    return np.asarray(1.0 - 2.0 * trace[exponent].reshape(-1, BLOCK_SIZE))


def _products() -> Int64[np.ndarray, "element element"]:
    """The multiplication table of GF(64)."""
    table = np.zeros((BLOCK_SIZE, BLOCK_SIZE), dtype=np.int64)
    shifted = np.arange(BLOCK_SIZE)
    for bit in range(6):
        table ^= np.where((np.arange(BLOCK_SIZE) >> bit) & 1, shifted[:, None], 0)
        shifted = shifted << 1
        shifted = np.where(shifted & BLOCK_SIZE, shifted ^ _FIELD, shifted)
    return table


def _trace(products: Int64[np.ndarray, "element element"]) -> Int64[np.ndarray, " element"]:
    """The sum of x, x^2, x^4, ..., x^32 for every element x, which is 0 or 1."""
    power = np.arange(BLOCK_SIZE)
    total = power.copy()
    for _ in range(5):
        power = products[power, power]
        total = total ^ power
    return total
