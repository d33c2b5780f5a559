"""What attention weights follow from, kept instead of them: queries, keys and every term of the scores.

    weights = softmax(softcap(query @ key.T * scaling) + bias, over the visible keys and the sink)

Any rectangle of the weights is computed from that on demand, in blocks of rows that stay in cache; a map is never
built whole unless it is asked for whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.tiles import Tile, Workspace, tile_cells, tiles

__all__ = ["RowBlock", "Scores"]

_ALL = slice(None)
_PENALTY = torch.finfo(torch.float32).min  # finite, so that a row without a visible key is not NaN
_LOWEST_LOG = -80.0  # exp of anything below the smallest normal number takes many times longer; e-80 is nothing as well
_MANY_ROWS = 128  # from here on it pays to turn the keys once


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Weights of one tile over the keys that any of its rows may see; valid until the next block is computed.

    Attributes:
        tile: which texts, heads and rows.
        keys: which keys; all others have weight 0 in these rows.
        raw: the weights, times the row's total where there are totals; a view of reused memory.
        mask: the mask's part of this rectangle; None where there is no mask.
        totals: the weights are `raw / totals`; None where they are `raw`.
        logs: `log(raw)`, finite where `raw` is 0; None where it was not asked for.
        mass: what each row of weights sums to; None where that is 1, or 0 for a row that sees no key.
        written: `raw` is the place in `into` where the weights were wanted.
    """

    tile: Tile
    keys: slice
    raw: Float[Tensor, "batch head query key"]
    mask: Bool[Tensor, "#batch #head query key"] | None
    totals: Float[Tensor, "batch head query 1"] | None = None
    logs: Float[Tensor, "batch head query key"] | None = None
    mass: Float[Tensor, "batch head query"] | None = None
    written: bool = False

    @property
    def weights(self) -> Float[Tensor, "batch head query key"]:
        """Probabilities over `keys`."""
        return self.raw if self.totals is None else self.raw / self.totals


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one attention module in one forward pass, on the device and in the dtype of the model.

    Attributes:
        query: after the rotary embedding.
        key: likewise, not repeated: query head `h` reads key-value head `h // (heads // kv_heads)`.
        scaling: factor on the scores.
        mask: True where the query sees the key; None where no mask hides any. Any axis may have size 1.
        causal: key `j` is hidden from query row `i` when `j > i + offset`.
        offset: position of the first query row on the key axis, as causality counts it.
        softcap: scores become `softcap * tanh(score / softcap)`; None for most families.
        bias: added after the softcap (relative position bias, ALiBi, an additive mask). Any axis may have size 1.
        sinks: a further logit per head whose weight is dropped, so that rows sum to less than 1.
    """

    query: Float[Tensor, "batch head query d_head"]
    key: Float[Tensor, "batch kv_head key d_head"]
    scaling: float
    mask: Bool[Tensor, "#batch #head #query #key"] | None = None
    causal: bool = False
    offset: int = 0
    softcap: float | None = None
    bias: Float[Tensor, "#batch #head #query #key"] | None = None
    sinks: Float[Tensor, " head"] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes of the weights, `batch head query key`."""
        batch, heads, queries, _ = self.query.shape
        return batch, heads, queries, self.key.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights: float64 for float64 scores, float32 for all others."""
        return torch.promote_types(self.query.dtype, torch.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors named; a mask that layers share counts in each."""
        return sum(part.nbytes for part in (self.query, self.key, self.mask, self.bias, self.sinks) if part is not None)

    def of(self, row: int, queries: slice = _ALL, keys: slice = _ALL) -> Scores:
        """The scores of one text of the batch, cut to its own positions; views, not copies.

        The cut has the model's weights where every key outside it is hidden from its rows, as padding is.
        """
        n_batch, _, n_queries, n_keys = self.shape
        text, q, k = _span(slice(row, row + 1), n_batch), _span(queries, n_queries), _span(keys, n_keys)
        return replace(
            self,
            query=self.query[_slice(text), :, _slice(q)],
            key=self.key[_slice(text), :, _slice(k)],
            mask=_cut(self.mask, text, None, q, k),
            offset=self.offset + q.start - k.start,
            bias=_cut(self.bias, text, None, q, k),
        )

    def visible(
        self, batch: slice = _ALL, heads: slice = _ALL, queries: slice = _ALL, keys: slice = _ALL
    ) -> Bool[Tensor, "batch head query key"]:
        """True where the query sees the key, in the rectangle that `weights` gives; equal axes are views of one."""
        b, h, q, k = (_span(part, n) for part, n in zip((batch, heads, queries, keys), self.shape, strict=True))
        seen = torch.ones(1, 1, len(q), len(k), dtype=torch.bool, device=self.query.device)
        if self.causal:
            seen = seen.tril(q.start + self.offset - k.start)
        mask = _cut(self.mask, b, h, q, k)
        return (seen if mask is None else seen & mask).expand(len(b), len(h), len(q), len(k))

    def visible_to_any_head(self) -> Bool[Tensor, "batch query key"]:
        """True where some head sees the key; masks that differ between heads are rare."""
        shared = self.mask is None or self.mask.shape[1] == 1
        return self.visible(heads=slice(0, 1) if shared else _ALL).any(1)

    @torch.no_grad()
    def weights(
        self,
        batch: slice = _ALL,
        heads: slice = _ALL,
        queries: slice = _ALL,
        keys: slice = _ALL,
        out: Float[Tensor, "batch head query key"] | None = None,
        workspace: Workspace | None = None,
    ) -> Float[Tensor, "batch head query key"]:
        """Exact probabilities of a rectangle: the softmax runs over all visible keys, and then the keys are cut.

        Slices have step 1. A row sums to 1 over all keys, to less with sinks, and is all 0 where no key is visible.

        Args:
            batch: texts of the rectangle; all by default, as on each axis.
            heads: heads of the rectangle.
            queries: rows of the rectangle.
            keys: columns of the rectangle.
            out: where to write; made when None.
            workspace: memory to reuse between calls.
        """
        b, h, q, k = (_span(part, n) for part, n in zip((batch, heads, queries, keys), self.shape, strict=True))
        if out is None:
            out = torch.empty(len(b), len(h), len(q), len(k), dtype=self.dtype, device=self.query.device)
        for block in self.blocks(workspace or Workspace(), _slice(b), _slice(h), _slice(q)):
            here = block.tile
            target = out[_moved(here.batch, b), _moved(here.heads, h), _moved(here.queries, q)]
            write_keys(target, block, k)
        return out

    def blocks(
        self,
        workspace: Workspace,
        batch: slice = _ALL,
        heads: slice = _ALL,
        queries: slice = _ALL,
        logs: bool = False,
        into: Float[Tensor, "batch head query key"] | None = None,
        cells: int | None = None,
    ) -> Iterator[RowBlock]:
        """The weights of all keys, block by block of rows; each block's memory is reused for the next.

        Args:
            workspace: the memory.
            batch: texts of the rectangle; all by default, as on each axis.
            heads: heads of the rectangle.
            queries: rows of the rectangle.
            logs: give rows that are not divided yet, with their logarithms, for sums that use both.
            into: memory of the whole rectangle, in which blocks are computed where that is possible and faster.
            cells: weights per block; by default what is fast on the device.
        """
        n_batch, n_heads, n_queries, n_keys = self.shape
        key = self.key.transpose(-1, -2).to(self.dtype)
        if n_queries >= _MANY_ROWS:
            key = key.contiguous()
        b, h, q = _span(batch, n_batch), _span(heads, n_heads), _span(queries, n_queries)
        cells, group = cells or tile_cells(self.dtype, self.query.device), n_heads // self.key.shape[1]
        whole = into is not None and not self.causal and group * n_queries * n_keys <= cells
        offset = self.offset if self.causal else None
        for tile in tiles(b, h, q, n_keys, group=group, cells=cells, causal_offset=offset, whole=whole):
            place = (
                None if into is None else into[_moved(tile.batch, b), _moved(tile.heads, h), _moved(tile.queries, q)]
            )
            yield self._block(tile, key, workspace, logs, place)

    @torch.no_grad()
    def _block(self, tile: Tile, key: Tensor, workspace: Workspace, logs: bool, place: Tensor | None) -> RowBlock:
        """Scores into reused memory, then everything in place."""
        b, h, q = (range(part.start, part.stop) for part in (tile.batch, tile.heads, tile.queries))
        k, mask = self._reach(b, h, q)
        n = len(k)
        shape = (len(b), len(h), len(q), n + (self.sinks is not None))
        fits = self.sinks is None and n == self.shape[-1]  # no column more or less than the place has
        written = fits and place is not None and place.is_contiguous() and place.dtype == self.dtype
        scores = place if place is not None and written else workspace.take("scores", shape, self.dtype, key.device)
        if not n:
            return RowBlock(tile, _slice(k), scores[..., :0], mask)
        self._products(scores[..., :n], tile, key, k)
        self._add_terms(scores, b, h, q, k)
        hidden = self._hidden(mask, q, k)
        if hidden is not None:
            scores[..., hidden.columns] += hidden.penalty
        if not logs:
            torch.softmax(scores, -1, out=scores)
            if hidden is not None and hidden.blind:
                scores[..., hidden.columns] *= hidden.shown
            return RowBlock(tile, _slice(k), scores[..., :n], mask, written=written)
        scores -= scores.amax(-1, keepdim=True)
        scores.clamp_min_(_LOWEST_LOG)
        raw = torch.exp(scores, out=workspace.take("raw", shape, self.dtype, key.device))
        if hidden is not None:
            raw[..., hidden.columns] *= hidden.shown
        totals = raw.sum(-1, keepdim=True)
        if hidden is not None and hidden.blind:
            totals.clamp_min_(1.0)  # the largest of a row is 1, unless the row sees no key
        if self.sinks is None:
            return RowBlock(tile, _slice(k), raw, mask, totals, scores)
        mass = 1 - raw[..., n] / totals[..., 0]
        return RowBlock(tile, _slice(k), raw[..., :n], mask, totals, scores[..., :n], mass)

    def _add_terms(self, scores: Tensor, batch: range, heads: range, queries: range, keys: range) -> None:
        """Softcap, bias and sinks, in place."""
        if self.softcap is not None:
            scores.div_(self.softcap).tanh_().mul_(self.softcap)
        bias = _cut(self.bias, batch, heads, queries, keys)
        if bias is not None:
            scores[..., : len(keys)] += bias
        if self.sinks is not None:
            scores[..., len(keys)] = self.sinks[_slice(heads), None]

    def _reach(self, batch: range, heads: range, queries: range) -> tuple[range, Tensor | None]:
        """The keys that some row may see, and the mask's part of that rectangle."""
        n_keys = self.shape[-1]
        reach = range(n_keys)
        if self.causal:
            reach = range(max(0, min(n_keys, queries.stop + self.offset)))
        mask = _cut(self.mask, batch, heads, queries, reach)
        if mask is None:
            return reach, None
        mask = mask.expand(*mask.shape[:2], len(queries), len(reach))
        if mask.device.type != "cpu":  # elsewhere, reading the mask would wait for the device
            return reach, mask
        seen = mask.flatten(0, -2).any(0).nonzero()
        if not len(seen):
            return range(0), mask[..., :0]
        reach = range(int(seen[0]), int(seen[-1]) + 1)
        return reach, mask[..., _slice(reach)]

    def _products(self, scores: Tensor, tile: Tile, key: Tensor, reach: range) -> None:
        """`query @ key.T * scaling`; the heads of one key-value head are rows of one product."""
        kv, fold = folded(tile.heads, self.shape[1] // self.key.shape[1])
        query = self.query[tile.batch, tile.heads, tile.queries].to(self.dtype)
        n = query.shape[0] * (kv.stop - kv.start)
        rows = query.reshape(n, fold * query.shape[2], query.shape[3])
        columns = key[tile.batch, kv, :, _slice(reach)].reshape(n, query.shape[3], len(reach))
        target = scores.view(n, rows.shape[1], len(reach))
        torch.baddbmm(target, rows, columns, beta=0, alpha=self.scaling, out=target)

    def _hidden(self, mask: Tensor | None, queries: range, keys: range) -> _Hidden | None:
        """How to hide keys of a tile; None where every row sees every key."""
        last = queries.start + self.offset  # the last key that causality shows the first row
        if mask is not None:
            seen = mask & torch.ones_like(mask[0, 0]).tril(last - keys.start) if self.causal else mask
            known = seen.device.type == "cpu"  # elsewhere, looking would wait for the device
            if known and bool(seen.all()):
                return None
            blind = not known or not bool(seen.any(-1).all())
            return _Hidden(slice(0, len(keys)), torch.where(seen, 0.0, _PENALTY), seen.float(), blind)
        first = max(keys.start, last + 1)  # the keys before it are visible to every row
        if not self.causal or first >= keys.stop:
            return None
        columns = slice(first - keys.start, len(keys))
        return _Hidden(columns, *_triangle(len(queries), keys.stop - first, last - first, self.query.device), last < 0)


@dataclass(frozen=True, eq=False)
class _Hidden:
    """How hidden keys are left out of a tile.

    Attributes:
        columns: the keys concerned.
        penalty: added to the scores: far below any score at hidden keys, 0 elsewhere.
        shown: 0 at hidden keys, 1 elsewhere.
        blind: some row may see no key at all.
    """

    columns: slice
    penalty: Float[Tensor, "... query key"]
    shown: Float[Tensor, "... query key"]
    blind: bool


@lru_cache(maxsize=64)
def _triangle(n_rows: int, n_columns: int, diagonal: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Penalty and shown of `_Hidden` where causality cuts a tile: the same few for every layer."""
    seen = torch.ones(n_rows, n_columns, dtype=torch.bool, device=device).tril(diagonal)
    return torch.where(seen, 0.0, _PENALTY), seen.float()


def folded(heads: slice, group: int) -> tuple[slice, int]:
    """The key-value heads that some query heads read, and how many of the query heads read each."""
    if (heads.stop - heads.start) % group or heads.start % group:
        kv_head = heads.start // group
        return slice(kv_head, kv_head + 1), heads.stop - heads.start
    return slice(heads.start // group, heads.stop // group), group


def write_keys(target: Float[Tensor, "batch head query key"], block: RowBlock, keys: range) -> None:
    """Write the weights of some keys of a block made without `logs`; those that it leaves out are 0."""
    first, stop = max(keys.start, block.keys.start), min(keys.stop, block.keys.stop)
    if first >= stop:
        target.zero_()
        return
    target[..., : first - keys.start] = 0.0
    target[..., first - keys.start : stop - keys.start] = block.raw[
        ..., first - block.keys.start : stop - block.keys.start
    ]
    target[..., stop - keys.start :] = 0.0


def _span(part: slice, n: int) -> range:
    """The positions of a slice with step 1."""
    start, stop, step = part.indices(n)
    if step != 1:
        raise ValueError(f"a rectangle of attention weights is cut in steps of 1, not of {step}")
    return range(start, max(start, stop))


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)


def _moved(part: slice, span: range) -> slice:
    """A slice counted from the start of a span."""
    return slice(part.start - span.start, part.stop - span.start)


def _cut(part: Tensor | None, batch: range, heads: range | None, queries: range, keys: range) -> Tensor | None:
    """A rectangle of a mask or bias, whose axes of size 1 stay as they are."""
    if part is None:
        return None
    for axis, span in enumerate((batch, heads, queries, keys)):
        if span is not None and part.shape[axis] > 1:
            part = part.narrow(axis, span.start, len(span))
    return part
