"""What attention weights follow from, kept instead of them: queries, keys and every term of the scores.

    weights = softmax(softcap(query @ key.T * scaling) + bias, over the visible keys and the sink)

Any rectangle of the weights is computed from that on demand, in blocks of rows that stay in cache; a map is never
built whole unless it is asked for whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.tiles import CPU_TILE_BYTES, DEVICE_TILE_BYTES, Tile, Workspace, tiles

__all__ = ["RowBlock", "Scores"]

_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Weights of one tile over the keys that any of its rows may see; valid until the next block is computed.

    Attributes:
        tile: which texts, heads and rows.
        keys: which keys; all others have weight 0 in these rows.
        weights: probabilities, a view of reused memory.
        mask: the mask's part of this rectangle; None where there is no mask.
    """

    tile: Tile
    keys: slice
    weights: Float[Tensor, "batch head query key"]
    mask: Bool[Tensor, "#batch #head query key"] | None


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
        tile_bytes: int | None = None,
    ) -> Iterator[RowBlock]:
        """The weights of all keys, block by block of rows; each block's memory is reused for the next."""
        n_batch, n_heads, n_queries, n_keys = self.shape
        if tile_bytes is None:
            tile_bytes = CPU_TILE_BYTES if self.query.device.type == "cpu" else DEVICE_TILE_BYTES
        key = self.key.to(self.dtype)
        for tile in tiles(
            _span(batch, n_batch),
            _span(heads, n_heads),
            _span(queries, n_queries),
            group=n_heads // self.key.shape[1],
            row_bytes=n_keys * self.dtype.itemsize,
            tile_bytes=tile_bytes,
        ):
            yield self._block(tile, key, workspace)

    def _block(self, tile: Tile, key: Tensor, workspace: Workspace) -> RowBlock:
        """Scores into reused memory, then everything in place."""
        n_batch, n_heads, n_queries, _ = self.shape
        b, h, q = _span(tile.batch, n_batch), _span(tile.heads, n_heads), _span(tile.queries, n_queries)
        k, mask = self._reach(b, h, q)
        columns = len(k) + (self.sinks is not None)
        scores = workspace.take("scores", (len(b), len(h), len(q), columns), self.dtype, key.device)
        self._products(scores[..., : len(k)], tile, key, k)
        if self.softcap is not None:
            scores.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.bias is not None:
            bias = _cut(self.bias, b, h, q, k)
            assert bias is not None
            scores[..., : len(k)] += bias
        if self.sinks is not None:
            scores[..., len(k)] = self.sinks[tile.heads, None]
        empty = self._hide(scores, mask, q, k)
        if columns:
            torch.softmax(scores, -1, out=scores)
        if empty is not None:
            scores.masked_fill_(empty, 0.0)
        return RowBlock(tile, _slice(k), scores[..., : len(k)], mask)

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
        columns = key[tile.batch, kv, _slice(reach)].reshape(n, len(reach), query.shape[3]).transpose(1, 2)
        target = scores.view(n, rows.shape[1], len(reach))
        torch.baddbmm(target, rows, columns, beta=0, alpha=self.scaling, out=target)

    def _hide(self, scores: Tensor, mask: Tensor | None, queries: range, keys: range) -> Tensor | None:
        """Give hidden keys -inf; returns which rows see no key at all, None where every row sees one."""
        last = queries.start + self.offset  # the last key that causality shows the first row
        if mask is not None:
            seen = mask
            if self.causal:
                seen = mask & torch.ones_like(mask[0, 0]).tril(last - keys.start)
            if _every(seen):
                return None
            scores[..., : len(keys)] += torch.where(seen, 0.0, -torch.inf)
            blind = ~seen.any(-1, keepdim=True)
            return None if _every(~blind) else blind
        if self.causal:
            first = max(keys.start, last + 1)  # the keys before it are visible to every row
            triangle = torch.full(
                (len(queries), keys.stop - first), -torch.inf, dtype=scores.dtype, device=scores.device
            )
            scores[..., first - keys.start : len(keys)] += triangle.triu_(last - first + 1)
            if last < 0:
                return torch.arange(last, last + len(queries), device=scores.device)[:, None] < 0
        return None


def folded(heads: slice, group: int) -> tuple[slice, int]:
    """The key-value heads that some query heads read, and how many of the query heads read each."""
    if (heads.stop - heads.start) % group or heads.start % group:
        kv_head = heads.start // group
        return slice(kv_head, kv_head + 1), heads.stop - heads.start
    return slice(heads.start // group, heads.stop // group), group


def write_keys(target: Float[Tensor, "batch head query key"], block: RowBlock, keys: range) -> None:
    """Write a block's weights of some keys; those that the block leaves out are 0."""
    first, stop = max(keys.start, block.keys.start), min(keys.stop, block.keys.stop)
    if first >= stop:
        target.zero_()
        return
    target[..., : first - keys.start] = 0.0
    target[..., first - keys.start : stop - keys.start] = block.weights[
        ..., first - block.keys.start : stop - block.keys.start
    ]
    target[..., stop - keys.start :] = 0.0


def _every(seen: Tensor) -> bool:
    """True if all is known to be True; an accelerator is not waited for, and False is always safe."""
    return seen.device.type == "cpu" and bool(seen.all())


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
