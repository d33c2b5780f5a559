"""One layer's attention pattern of one text: the weights themselves, or the queries and keys they follow from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.scores import Scores

__all__ = ["DensePattern", "LazyPattern", "Pattern"]

_ALL = slice(None)


@dataclass(frozen=True)
class DensePattern:
    """Weights that were built during the run: by the family's eager code (exact mode), or with `weights=True`.

    Attributes:
        probabilities: the weights; with sinks a row sums to less than 1.
        seen: True where the mask let the query see the key.
        heads: which heads these are; None for every one.
    """

    probabilities: Float[Tensor, "head query key"]
    seen: Visibility
    heads: tuple[int, ...] | None = None

    @property
    def n_heads(self) -> int:
        """Number of heads held."""
        return int(self.probabilities.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return int(self.probabilities.shape[1]), int(self.probabilities.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.probabilities.nbytes + self.seen.nbytes

    def visible(self) -> Visibility:
        """True where the mask let the query see the key."""
        return self.seen

    def weights(
        self, heads: slice = _ALL, queries: slice = _ALL, keys: slice = _ALL
    ) -> Float[Tensor, "head query key"]:
        """Probabilities in at least float32, of the rectangle asked for."""
        chosen = self.probabilities[heads, queries, keys]
        return chosen.to(torch.promote_types(chosen.dtype, torch.float32))


@dataclass(frozen=True)
class LazyPattern:
    """Queries and keys as the model's attention received them; weights are recomputed in float32 on demand.

    Attributes:
        scores: of one text (a batch of one).
        heads: which heads these are; None for every one.
    """

    scores: Scores
    heads: tuple[int, ...] | None = None

    @property
    def n_heads(self) -> int:
        """Number of heads held."""
        return int(self.scores.query.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return int(self.scores.query.shape[2]), int(self.scores.key.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes held; a mask or a bias that layers share counts in each."""
        return self.scores.nbytes

    def visible(self) -> Visibility:
        """True where the mask let the query see the key, in some head at least."""
        return self.scores.visible_to_any_head()[0]

    def weights(
        self, heads: slice = _ALL, queries: slice = _ALL, keys: slice = _ALL
    ) -> Float[Tensor, "head query key"]:
        """Probabilities in at least float32, of the rectangle asked for; nothing else is kept in memory."""
        return self.scores.weights(heads=heads, queries=queries, keys=keys)[0]


Pattern = DensePattern | LazyPattern
