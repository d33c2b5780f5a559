"""Measures of attention that are taken while the weights pass by: sums and counts, so that the weights can be dropped.

A `Reducer` sees the weights of a forward pass tile by tile and keeps what it adds up. The one here, `RowMeans`, takes
any function of a tile to one value per query; `head_summary` gives the four that need no annotation. What a reducer
holds is float64 sums and integer counts, so shards merge in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

__all__ = ["SUMMARY", "Reducer", "RowMeans", "WeightTile", "head_summary", "summary_rows"]

SUMMARY = ("entropy", "distance", "previous", "first")
"""Names of the measures of `head_summary`, in order."""

_MOST_PENDING = 64


@dataclass(frozen=True)
class WeightTile:
    """Attention weights of some rows of some heads; valid only until the reducer returns, since the buffer is reused.

    Attributes:
        site: which attention this is, as the capture labels it (stack, kind, layer).
        batch, heads, queries: where the tile lies in the forward's weights.
        n_heads: heads of this site in all.
        raw: the weights, times the row's total where there are totals; the keys are `first_key` and those after it,
            and keys left out have weight 0 in every row.
        totals: the weights are `raw / totals`; None where they are `raw`.
        logs: `log(raw)`, finite where `raw` is 0, for one reducer that asked for it and may overwrite it; else None.
        mass: what each row of weights sums to; None where that is 1, or 0 for a row that sees no key.
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
    raw: Float[Tensor, "batch head query key"]
    totals: Float[Tensor, "batch head query 1"] | None = None
    logs: Float[Tensor, "batch head query key"] | None = None
    mass: Float[Tensor, "batch head query"] | None = None
    mask: Bool[Tensor, "#batch #head query key"] | None = None
    causal_offset: int | None = None
    keep: Bool[Tensor, "batch query"] | None = None
    first_query: int = 0
    first_key: int = 0
    text_starts: tuple[int, ...] = ()

    @cached_property
    def weights(self) -> Float[Tensor, "batch head query key"]:
        """Probabilities: each row over `key` sums to 1, to less with sinks, to 0 where no key is visible."""
        return self.raw if self.totals is None else self.raw / self.totals

    @property
    def looks_back(self) -> bool:
        """True where causality alone hides keys, shows no query one after its own position, and shows each some."""
        if self.causal_offset is None or self.mask is not None:
            return False
        return self.causal_offset >= 0 and self.queries.start + self.causal_offset <= self.first_query

    def visible(self) -> Bool[Tensor, "#batch #head query key"]:
        """True where the query sees the key, mask and causality together."""
        n_queries, n_keys = self.raw.shape[-2:]
        seen = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=self.raw.device)
        if self.causal_offset is not None:
            seen = seen.tril(int(self.queries.start) + self.causal_offset - self.first_key)
        return seen if self.mask is None else seen & self.mask


@runtime_checkable
class Reducer(Protocol):
    """Adds up what it needs from every tile of a forward pass.

    One that also has `logs = True` is given `WeightTile.logs`.
    """

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
        self,
        names: tuple[str, ...],
        measure: Callable[[WeightTile], Float[Tensor, "measure batch head query"]],
        logs: bool = False,
    ) -> None:
        """`names`: one per measure, in the order in which `measure` stacks them; `logs`: it reads `WeightTile.logs`."""
        self.names = names
        self.logs = logs
        self._measure = measure
        self._sums: dict[Hashable, Float64[Tensor, "measure head"]] = {}
        self._counts: dict[Hashable, Int64[Tensor, "measure head"]] = {}
        self._pending: list[_Rows] = []

    def add(self, tile: WeightTile) -> None:
        """Add the tile's rows to the sums of its heads."""
        values = self._measure(tile)
        if tile.keep is not None:
            values = values.masked_fill(~tile.keep[:, None, :], torch.nan)
        self._pending.append(_Rows(tile.site, tile.n_heads, tile.heads.start, tile.heads.stop, values))
        if len(self._pending) >= _MOST_PENDING:
            self._settle()

    def merge(self, other: RowMeans) -> RowMeans:
        """A new reducer with the sums and counts of both, which stay as they are."""
        merged = type(self)(self.names, self._measure, self.logs)
        for part in (self, other):
            part._settle()
            for site, sums in part._sums.items():
                known = site in merged._sums
                merged._sums[site] = merged._sums[site] + sums if known else sums.clone()
                merged._counts[site] = (
                    merged._counts[site] + part._counts[site] if known else part._counts[site].clone()
                )
        return merged

    def sums(self) -> Mapping[Hashable, Float64[Tensor, "measure head"]]:
        """The sums per site."""
        self._settle()
        return dict(self._sums)

    def counts(self) -> Mapping[Hashable, Int64[Tensor, "measure head"]]:
        """How many queries entered each sum."""
        self._settle()
        return dict(self._counts)

    def value(self) -> dict[Hashable, dict[str, Float64[Tensor, " head"]]]:
        """Per site and name the mean over queries of every head; NaN where no query had a value."""
        self._settle()
        return {
            site: dict(zip(self.names, sums / self._counts[site], strict=True)) for site, sums in self._sums.items()
        }

    def _settle(self) -> None:
        """Add up what came in, many tiles at a time: the additions of a tile are small, and their number counts."""
        pending, self._pending = self._pending, []
        groups: dict[tuple[Hashable, int, int, int], list[Tensor]] = {}
        for rows in pending:
            groups.setdefault((rows.site, rows.n_heads, rows.first, rows.stop), []).append(
                rows.values.transpose(1, 2).flatten(2)
            )
        for (site, n_heads, first, stop), parts in groups.items():
            values = torch.cat(parts, -1)
            if site not in self._sums:
                shape, device = (len(self.names), n_heads), values.device
                self._sums[site] = torch.zeros(shape, dtype=torch.float64, device=device)
                self._counts[site] = torch.zeros(shape, dtype=torch.int64, device=device)
            self._sums[site][:, first:stop] += values.nansum(-1, dtype=torch.float64)
            self._counts[site][:, first:stop] += (values == values).sum(-1)  # NaN is not itself


@dataclass(frozen=True, eq=False)
class _Rows:
    """Values of one tile that wait to be added up."""

    site: Hashable
    n_heads: int
    first: int
    stop: int
    values: Float[Tensor, "measure batch head query"]


def head_summary() -> RowMeans:
    """Four measures of every head that need no annotation, means over queries.

    - `entropy`: of the row, in nats, 0 and up (`patterns.entropy`);
    - `distance`: mean |query - key| under the weights, in tokens, 0 and up (`patterns.distance`);
    - `previous`: weight on the previous token, 0 to 1, where there is one to see (`patterns.offset_mass`, -1);
    - `first`: weight on the text's first token, the usual attention sink, 0 to 1 (`patterns.key_mass`, 0).

    Each is the mean of the function named, which states its source; here they share their passes over the tile.
    """
    return RowMeans(SUMMARY, summary_rows, logs=True)


def summary_rows(tile: WeightTile) -> Float[Tensor, "4 batch head query"]:
    """The measures of `head_summary` of each row, in the order of `SUMMARY`; `tile.logs` is spent afterwards.

    The rows may not be divided yet: each measure is linear in them but for the entropy's logarithm.
    """
    raw = tile.raw
    values = raw.new_full((len(SUMMARY), *raw.shape[:3]), torch.nan)
    logs = raw.clamp_min(torch.finfo(raw.dtype).tiny).log_() if tile.logs is None else tile.logs
    torch.sum(logs.mul_(raw), -1, out=values[0])
    _fill_gaps(tile, values[1])
    _fill_previous(tile, values[2])
    _fill_first(tile, values[3])
    if tile.totals is None:
        values[0].neg_()
        return values
    # -sum(p log p) with p = raw / total is log(total) * sum(p) - sum(raw log raw) / total.
    values /= tile.totals[..., 0]
    spread = tile.totals[..., 0].log()
    torch.sub(spread if tile.mass is None else spread * tile.mass, values[0], out=values[0])
    return values


def _fill_gaps(tile: WeightTile, values: Float[Tensor, "batch head query"]) -> None:
    """Sum of raw * |query - key|, from products with vectors: one pass over the tile each.

    With `c` the middle row's position, |i - j| is |j - c| + (i - c) * sign(c - j) but for keys between `i` and `c`; and
    (c - j) + (i - c) where no row sees a key after itself.
    """
    raw = tile.raw
    gaps = _gaps(tile.first_query - tile.first_key, raw.shape[2], raw.shape[3], raw.dtype, raw.device)
    rows = raw.flatten(0, 2)
    if tile.looks_back and tile.totals is not None and tile.mass is None:
        torch.addcmul(rows.mv(gaps.back).view(values.shape), tile.totals[..., 0], gaps.steps, out=values)
        return
    torch.addcmul(rows.mv(gaps.far).view(values.shape), rows.mv(gaps.side).view(values.shape), gaps.steps, out=values)
    if gaps.correction is not None:
        values += (raw[..., gaps.near] * gaps.correction).sum(-1)


@dataclass(frozen=True, eq=False)
class _Gaps:
    """Distances from a tile's rows to its keys, as `_fill_gaps` needs them; `c` is the middle row's position.

    Attributes:
        back, far, side: per key `j`: c - j, |j - c|, sign(c - j).
        steps: per row `i`: i - c.
        near: the keys at the positions of the tile's own rows.
        correction: |i - j| - far - steps * side at those keys; None where there are none.
    """

    back: Float[Tensor, " key"]
    far: Float[Tensor, " key"]
    side: Float[Tensor, " key"]
    steps: Float[Tensor, " query"]
    near: slice
    correction: Float[Tensor, "query near"] | None


@lru_cache(maxsize=256)
def _gaps(first_row: int, n_queries: int, n_keys: int, dtype: torch.dtype, device: torch.device) -> _Gaps:
    """The distances of a tile whose first row stands at key number `first_row`: the same for every layer and text."""
    steps = torch.arange(n_queries, dtype=dtype, device=device) - n_queries // 2
    back = first_row + n_queries // 2 - torch.arange(n_keys, dtype=dtype, device=device)
    near = slice(max(0, first_row), max(0, min(n_keys, first_row + n_queries)))
    correction = None
    if near.start < near.stop:
        own = back[near]
        correction = (steps[:, None] + own).abs() - own.abs() - steps[:, None] * own.sign()
    return _Gaps(back, back.abs(), back.sign(), steps, near, correction)


def _fill_previous(tile: WeightTile, values: Float[Tensor, "batch head query"]) -> None:
    """Weight on the key before the query; left NaN where it lies outside the text or is hidden."""
    n_queries, n_keys = tile.raw.shape[-2:]
    column = tile.first_query - 1 - tile.first_key  # of row 0
    start, stop = max(0, -column), min(n_queries, n_keys - column)
    if start >= stop:
        return
    rows, columns = slice(start, stop), slice(start + column, stop + column)
    found = tile.raw[..., rows, columns].diagonal(dim1=-2, dim2=-1)
    seen = _seen(tile)
    if seen is not None:
        found = torch.where(seen[..., rows, columns].diagonal(dim1=-2, dim2=-1), found, torch.nan)
    values[..., rows] = found


def _fill_first(tile: WeightTile, values: Float[Tensor, "batch head query"]) -> None:
    """Weight on the text's first token; left NaN where it is hidden."""
    n_texts, seen = tile.raw.shape[0], _seen(tile)
    starts = tile.text_starts if any(tile.text_starts) else (0,)
    for text, start in enumerate(starts):
        texts, column = slice(text, text + 1) if len(starts) > 1 else slice(0, n_texts), start - tile.first_key
        if not 0 <= column < tile.raw.shape[-1]:
            continue
        found = tile.raw[texts, :, :, column]
        if seen is not None:
            found = torch.where(seen[texts if seen.shape[0] > 1 else slice(0, 1), :, :, column], found, torch.nan)
        values[texts] = found


def _seen(tile: WeightTile) -> Bool[Tensor, "#batch #head query key"] | None:
    """Visibility where it can hide an earlier key: causality alone does so only if rows stand before every key."""
    return tile.visible() if tile.causal_offset is not None and tile.causal_offset < 0 else tile.mask
