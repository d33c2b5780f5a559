"""Pattern measures over a corpus: those of the registry, taken while the weights pass by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.errors import UsageError
from attnlens.measures import patterns
from attnlens.measures.running import SUMMARY, RowMeans, WeightTile, head_summary, summary_rows

__all__ = ["PASSING", "pattern_means"]


@dataclass(frozen=True)
class _TileRows:
    """What the measures of one tile share: rows are divided by their totals at the end, where that costs nothing."""

    tile: WeightTile

    @cached_property
    def summary(self) -> Float[Tensor, "4 batch head query"]:
        """`SUMMARY`, in one go."""
        return summary_rows(self.tile)

    @cached_property
    def sums(self) -> Float64[Tensor, "batch head query 3"]:
        """Sums over keys of the raw weights, times 1, x and x^2, with x counted from the tile's middle row."""
        raw = self.tile.raw
        x = torch.arange(raw.shape[-1], dtype=raw.dtype, device=raw.device) + (self.tile.first_key - self._middle)
        return (raw @ torch.stack([torch.ones_like(x), x, x.square()], 1)).double()

    def divided(self, rows: Float[Tensor, "batch head query"]) -> Float64[Tensor, "batch head query"]:
        """Rows of raw weights as rows of weights."""
        totals = self.tile.totals
        return rows.double() if totals is None else rows.double() / totals[..., 0]

    def at(self, offset: int) -> Float64[Tensor, "batch head query"]:
        """As `patterns.offset_mass`."""
        tile = self.tile
        start = tile.first_query - tile.first_key
        return self.divided(patterns.offset_mass(tile.raw, offset, tile.visible(), start))

    def breadth(self) -> Float64[Tensor, "batch head query"]:
        """As `patterns.breadth`."""
        n_visible = self.tile.visible().sum(-1).double()
        share = self.summary[0].double() / n_visible.clamp_min(2).log()
        return torch.where(n_visible >= 2, share, torch.nan)

    def near(self) -> Float64[Tensor, "batch head query"]:
        """As `shapes.band_mass` of width 1."""
        beside = torch.stack([self.at(offset) for offset in (-1, 0, 1)])
        return torch.where(beside.isnan().all(0), torch.nan, beside.nansum(0))

    def distance_variance(self) -> Float64[Tensor, "batch head query"]:
        """As `patterns.distance_variance`: the mean square, which needs no absolute value, less the squared mean."""
        total, first, second = self.sums.unbind(-1)
        row = torch.arange(total.shape[-1], device=total.device) + (self.tile.first_query - self._middle)
        squares = (second - 2 * row * first + row.square() * total) / total
        mean = self.summary[1].double() / self.divided(total)
        return (squares - mean.square()).clamp_min(0)

    @property
    def _middle(self) -> int:
        return self.tile.first_query + self.tile.raw.shape[-2] // 2


PASSING: Mapping[str, Callable[[_TileRows], Float[Tensor, "batch head query"]]] = {
    "entropy": lambda rows: rows.summary[0],
    "breadth": _TileRows.breadth,
    "distance": lambda rows: rows.summary[1],
    "distance-variance": _TileRows.distance_variance,
    "self": lambda rows: rows.at(0),
    "previous": lambda rows: rows.summary[2],
    "next": lambda rows: rows.at(1),
    "first": lambda rows: rows.summary[3],
    "max-weight": lambda rows: rows.divided(patterns.max_weight(rows.tile.raw)),
    "diagonal": _TileRows.near,
}
"""Measures that `pattern_means` knows, by their names in the registry; what needs whole maps or tokens is not here."""

_FROM_SUMMARY = {"entropy", "breadth", "distance", "distance-variance", "previous", "first"}


def pattern_means(*names: str, offsets: tuple[int, ...] = ()) -> RowMeans:
    """A reducer for `lens.reduce`: means of pattern measures over all queries of a corpus, for every head.

    The measures are those of the registry by these names, with one difference: a reducer sees no tokens, so that the
    queries are all that are not padding, special tokens among them. Cross-attention gives numbers too, where distances
    count from one text's positions to another's.

    Args:
        names: out of `PASSING`; none takes `head_summary`.
        offsets: weight at these distances as well, under the names `offset-2`, `offset+1`.

    Raises:
        UsageError: a measure that needs a whole map or tokens, or does not exist.
    """
    if unknown := [name for name in names if name not in PASSING]:
        raise UsageError(f"{unknown[0]!r} is not taken while weights pass by; choose some of {', '.join(PASSING)}.")
    if not offsets and (not names or names == SUMMARY):
        return head_summary()
    functions = [PASSING[name] for name in names]
    labels = (*names, *(f"offset{offset:+d}" for offset in offsets))

    def measure(tile: WeightTile) -> Float[Tensor, "measure batch head query"]:
        rows = _TileRows(tile)
        found = [*(function(rows) for function in functions), *(rows.at(offset) for offset in offsets)]
        return torch.stack([values.double() for values in found])

    return RowMeans(labels, measure, logs=not _FROM_SUMMARY.isdisjoint(names))
