"""Measures of attention that are taken while the weights pass by: sums and counts, so that the weights can be dropped.

A `Reducer` sees the weights of a forward pass tile by tile and keeps what it adds up. The one here, `RowMeans`, takes
any function of a tile to one value per query; `head_summary` gives the four that need no annotation. What a reducer
holds is float64 sums and integer counts, so shards merge in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

__all__ = ["SUMMARY", "Reducer", "RowMeans", "WeightTile", "head_summary"]

SUMMARY = ("entropy", "distance", "previous", "first")
"""Names of the measures of `head_summary`, in order."""


@dataclass(frozen=True)
class WeightTile:
    """Attention weights of some rows of some heads; valid only until the reducer returns, since the buffer is reused.

    Attributes:
        site: which attention this is, as the capture labels it (stack, kind, layer).
        batch, heads, queries: where the tile lies in the forward's weights.
        n_heads: heads of this site in all.
        weights: probabilities; the keys are `first_key` and those after it, keys left out have weight 0 in every row.
        mask: True where the mask lets the query see the key; None where no mask hides any.
        causal_offset: key `j` is hidden from query row `i` when `j > i + causal_offset`; None where nothing is causal.
        keep: True for the rows that count; None where all do.
        first_query: position of the tile's first row on the key axis.
        first_key: position of the tile's first key.
        text_starts: position of each text's first token, 0 unless the padding is on the left.
    """

    site: Hashable
    batch: slice
    heads: slice
    queries: slice
    n_heads: int
    weights: Float[Tensor, "batch head query key"]
    mask: Bool[Tensor, "#batch #head query key"] | None = None
    causal_offset: int | None = None
    keep: Bool[Tensor, "batch query"] | None = None
    first_query: int = 0
    first_key: int = 0
    text_starts: tuple[int, ...] = ()

    def visible(self) -> Bool[Tensor, "#batch #head query key"]:
        """True where the query sees the key, mask and causality together."""
        n_queries, n_keys = self.weights.shape[-2:]
        seen = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=self.weights.device)
        if self.causal_offset is not None:
            seen = seen.tril(int(self.queries.start) + self.causal_offset - self.first_key)
        return seen if self.mask is None else seen & self.mask


@runtime_checkable
class Reducer(Protocol):
    """Adds up what it needs from every tile of a forward pass."""

    def add(self, tile: WeightTile) -> None:
        """Take one tile; the weights must not be kept, their memory is reused."""
        ...

    def merge(self, other: Any) -> Any:
        """A reducer that has seen the tiles of both."""
        ...

    def value(self) -> Any:
        """What was measured."""
        ...


class RowMeans:
    """Mean over queries of values that a function takes from each tile, for every head of every site.

    A value that is NaN, or stands in a row that does not count (`WeightTile.keep`), is left out of its mean. One
    instance belongs to one recorder: it is not locked.
    """

    def __init__(
        self, names: tuple[str, ...], measure: Callable[[WeightTile], Float[Tensor, "measure batch head query"]]
    ) -> None:
        """`names`: one per measure, in the order in which `measure` stacks them."""
        self.names = names
        self._measure = measure
        self._sums: dict[Hashable, Float64[Tensor, "measure head"]] = {}
        self._counts: dict[Hashable, Int64[Tensor, "measure head"]] = {}

    def add(self, tile: WeightTile) -> None:
        """Add the tile's rows to the sums of its heads."""
        values = self._measure(tile)
        defined = values.isnan().logical_not_()
        if tile.keep is not None:
            defined &= tile.keep[:, None, :]
        values = torch.where(defined, values, 0.0)
        sums, counts = self._cells(tile)
        sums[:, tile.heads] += values.sum((1, 3), dtype=torch.float64)
        counts[:, tile.heads] += defined.sum((1, 3))

    def merge(self, other: RowMeans) -> RowMeans:
        """A new reducer with the sums and counts of both, which stay as they are."""
        merged = type(self)(self.names, self._measure)
        for part in (self, other):
            for site, sums in part._sums.items():
                known = site in merged._sums
                merged._sums[site] = merged._sums[site] + sums if known else sums.clone()
                merged._counts[site] = (
                    merged._counts[site] + part._counts[site] if known else part._counts[site].clone()
                )
        return merged

    def sums(self) -> Mapping[Hashable, Float64[Tensor, "measure head"]]:
        """The sums per site."""
        return dict(self._sums)

    def counts(self) -> Mapping[Hashable, Int64[Tensor, "measure head"]]:
        """How many queries entered each sum."""
        return dict(self._counts)

    def value(self) -> dict[Hashable, dict[str, Float64[Tensor, " head"]]]:
        """Per site and name the mean over queries of every head; NaN where no query had a value."""
        return {
            site: dict(zip(self.names, sums / self._counts[site], strict=True)) for site, sums in self._sums.items()
        }

    def _cells(self, tile: WeightTile) -> tuple[Float64[Tensor, "measure head"], Int64[Tensor, "measure head"]]:
        if tile.site not in self._sums:
            shape, device = (len(self.names), tile.n_heads), tile.weights.device
            self._sums[tile.site] = torch.zeros(shape, dtype=torch.float64, device=device)
            self._counts[tile.site] = torch.zeros(shape, dtype=torch.int64, device=device)
        return self._sums[tile.site], self._counts[tile.site]


def head_summary() -> RowMeans:
    """Four measures of every head that need no annotation, means over queries.

    - `entropy`: of the row, in nats, 0 and up (`patterns.entropy`);
    - `distance`: mean |query - key| under the weights, in tokens, 0 and up (`patterns.distance`);
    - `previous`: weight on the previous token, 0 to 1, where there is one to see (`patterns.offset_mass`, -1);
    - `first`: weight on the text's first token, the usual attention sink, 0 to 1 (`patterns.key_mass`, 0).

    Each is the mean of the function named, which states its source; here they share their passes over the tile.
    """
    return RowMeans(SUMMARY, _summary)


def _summary(tile: WeightTile) -> Float[Tensor, "4 batch head query"]:
    weights = tile.weights
    work = torch.empty_like(weights)
    values = weights.new_full((len(SUMMARY), *weights.shape[:3]), torch.nan)
    # p * log p: the smallest normal number in place of 0 leaves the product 0 and, unlike a denormal, is not slow.
    torch.clamp_min(weights, torch.finfo(weights.dtype).tiny, out=work)
    torch.sum(work.log_().mul_(weights), -1, out=values[0])
    values[0].neg_()
    torch.mul(weights, _gaps(tile), out=work)
    torch.sum(work, -1, out=values[1])
    _fill_previous(tile, values[2])
    _fill_first(tile, values[3])
    return values


def _gaps(tile: WeightTile) -> Float[Tensor, "query key"]:
    """|query - key| in tokens."""
    n_queries, n_keys = tile.weights.shape[-2:]
    options: dict[str, Any] = {"dtype": tile.weights.dtype, "device": tile.weights.device}
    queries = torch.arange(tile.first_query, tile.first_query + n_queries, **options)
    keys = torch.arange(tile.first_key, tile.first_key + n_keys, **options)
    return (queries[:, None] - keys[None, :]).abs_()


def _fill_previous(tile: WeightTile, values: Float[Tensor, "batch head query"]) -> None:
    """Weight on the key before the query; left NaN where it lies outside the text or is hidden."""
    n_queries, n_keys = tile.weights.shape[-2:]
    column = tile.first_query - 1 - tile.first_key  # of row 0
    start, stop = max(0, -column), min(n_queries, n_keys - column)
    if start >= stop:
        return
    rows, columns = slice(start, stop), slice(start + column, stop + column)
    found = tile.weights[..., rows, columns].diagonal(dim1=-2, dim2=-1)
    seen = _seen(tile)
    if seen is not None:
        found = torch.where(seen[..., rows, columns].diagonal(dim1=-2, dim2=-1), found, torch.nan)
    values[..., rows] = found


def _fill_first(tile: WeightTile, values: Float[Tensor, "batch head query"]) -> None:
    """Weight on the text's first token; left NaN where it is hidden."""
    n_texts, _, _, n_keys = tile.weights.shape
    starts, seen = tile.text_starts or (0,) * n_texts, _seen(tile)
    for text, start in enumerate(starts):
        column = start - tile.first_key
        if not 0 <= column < n_keys:
            continue
        found = tile.weights[text, :, :, column]
        if seen is not None:
            found = torch.where(seen[text if seen.shape[0] > 1 else 0, :, :, column], found, torch.nan)
        values[text] = found


def _seen(tile: WeightTile) -> Bool[Tensor, "#batch #head query key"] | None:
    """Visibility where it can hide an earlier key: causality alone does so only if rows stand before every key."""
    return tile.visible() if tile.causal_offset is not None and tile.causal_offset < 0 else tile.mask
