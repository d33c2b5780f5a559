"""Options of the probes of the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnlens.errors import UsageError

__all__ = ["Pieces", "StreamSettings"]

Pieces = Literal["mean", "first", "last"]


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What is sampled, how words are made of tokens, and how large the structural probe is.

    Attributes:
        words: of each half of the corpus whole sentences are drawn until there are so many words.
        pieces: a word's vector is the mean over its tokens, or its first or last one.
        rank: rows of the structural probe's matrix; at most the width of the stream.
        bootstrap: replicates that intervals are made of.
        memory: bytes above which word vectors are kept in a temporary file instead of in memory.
        batch_size: texts per forward pass.
    """

    words: int = 5_000
    pieces: str = "mean"
    rank: int = 64
    bootstrap: int = 2_000
    memory: int = 1 << 30
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("words", "rank", "bootstrap", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.pieces not in ("mean", "first", "last"):
            raise UsageError(f"pieces is {self.pieces!r}; expected mean, first or last.")
