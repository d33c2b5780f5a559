"""Random numbers for one text: from a seed and the text's name, cheaper to begin than a generator of numpy's.

A corpus has millions of sentences, and each draws a few hundred numbers; to make a generator takes longer than that.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import UInt64

__all__ = ["Draws"]

_GAMMA, _FIRST, _SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFTS = tuple(np.uint64(each) for each in (30, 27, 31))
_ALL = (1 << 64) - 1


class Draws:
    """A sequence of integers from 0 to 2^64 - 1 that depends on seed and name alone.

    SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), begun at a SHA-256 of both.
    """

    def __init__(self, seed: int, name: str) -> None:
        """The sequence of `name` under `seed`."""
        digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        self._at = int.from_bytes(digest[:8], "big")

    def integers(self, *shape: int) -> UInt64[np.ndarray, "*shape"]:
        """The next numbers."""
        n = int(np.prod(shape))
        mixed = np.arange(1, n + 1, dtype=np.uint64) * _GAMMA + np.uint64(self._at)
        self._at = (self._at + n * int(_GAMMA)) & _ALL
        mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
        mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
        return (mixed ^ (mixed >> _SHIFTS[2])).reshape(shape)
