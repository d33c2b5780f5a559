"""One layer's attention pattern of one text: the weights themselves, or the queries and keys they follow from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.axes import Visibility

__all__ = ["DensePattern", "LazyPattern", "Pattern"]


@dataclass(frozen=True)
class DensePattern:
    """Weights as the family's eager code computed them (exact mode)."""

    probabilities: Float[Tensor, "head query key"]
    seen: Visibility

    @property
    def n_heads(self) -> int:
        """Number of query heads."""
        return int(self.probabilities.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.probabilities.nbytes + self.seen.nbytes

    def visible(self) -> Visibility:
        """True where the mask let the query see the key."""
        return self.seen

    def weights(self, heads: slice = slice(None), queries: slice = slice(None)) -> Float[Tensor, "head query key"]:
        """Probabilities in at least float32; each row over `key` sums to 1."""
        chosen = self.probabilities[heads, queries]
        return chosen.to(torch.promote_types(chosen.dtype, torch.float32))


@dataclass(frozen=True)
class LazyPattern:
    """Queries and keys as the model's attention received them; weights are recomputed in float32 on demand.

    `softmax(query @ key.T * scaling + mask)` per head and block of queries: only what is asked for is built.

    Attributes:
        query: after the rotary embedding, in the model's dtype.
        key: likewise; query head `h` reads key-value head `h // (n_heads / n_kv_heads)`.
        scaling: factor on the scores.
        mask: True where the query sees the key; None where it sees all (or, with `causal`, all up to itself).
        causal: later keys are hidden although no mask says so.
    """

    query: Float[Tensor, "head query d_head"]
    key: Float[Tensor, "kv_head key d_head"]
    scaling: float
    mask: Visibility | None
    causal: bool

    @property
    def n_heads(self) -> int:
        """Number of query heads."""
        return int(self.query.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes held; a mask shared between layers counts in each."""
        return self.query.nbytes + self.key.nbytes + (0 if self.mask is None else self.mask.nbytes)

    @cached_property
    def _visible(self) -> Visibility:
        if self.mask is not None:
            return self.mask
        n_queries, n_keys = self.query.shape[1], self.key.shape[1]
        everything = torch.ones(n_queries, n_keys, dtype=torch.bool)
        return everything.tril(n_keys - n_queries) if self.causal else everything

    def visible(self) -> Visibility:
        """True where the mask let the query see the key."""
        return self._visible

    def weights(self, heads: slice = slice(None), queries: slice = slice(None)) -> Float[Tensor, "head query key"]:
        """Probabilities in at least float32; each row over `key` sums to 1."""
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        group = self.query.shape[0] // self.key.shape[0]
        chosen = torch.arange(self.n_heads)[heads]
        query = self.query[chosen][:, queries].to(dtype)
        key = self.key[chosen // group].to(dtype)
        scores = query @ key.transpose(-1, -2) * self.scaling
        scores.masked_fill_(~self.visible()[queries], torch.finfo(dtype).min)
        return scores.softmax(-1)


Pattern = DensePattern | LazyPattern
