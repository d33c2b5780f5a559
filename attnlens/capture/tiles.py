"""How attention weights are cut into tiles that stay in cache, and the memory that the tiles share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tile", "Workspace", "tiles"]

CPU_TILE_BYTES = 1 << 20
"""One tile on the CPU: with what is computed from it, it fits the second-level cache of two cores."""

DEVICE_TILE_BYTES = 1 << 26
"""One tile on an accelerator: large enough to keep it busy."""

_MOST_ROWS = 128  # of a causal tile: half of the square on the diagonal is computed in vain
_FEWEST_ROWS = 32  # below this, products of matrices become products of vectors


@dataclass(frozen=True)
class Tile:
    """A block of rows of some heads of some texts; all keys belong to it."""

    batch: slice
    heads: slice
    queries: slice


def tiles(
    batch: range, heads: range, queries: range, *, group: int, row_bytes: int, tile_bytes: int
) -> Iterator[Tile]:
    """Cut a rectangle of the weights into tiles of about `tile_bytes`.

    Whole texts where they fit; else one text, all its heads and some rows; else some heads. Heads are cut at
    multiples of `group` (the query heads of one key-value head) where the rectangle allows it, or within one group.

    Args:
        batch: texts of the rectangle.
        heads: heads of the rectangle.
        queries: rows of the rectangle.
        group: query heads per key-value head.
        row_bytes: bytes of one row over all keys.
        tile_bytes: what a tile may take; one row of one group is the least.
    """
    rows_in_all = max(1, tile_bytes // max(1, row_bytes))
    n_texts = max(1, rows_in_all // max(1, len(heads) * min(len(queries), _MOST_ROWS)))
    if n_texts > 1 and len(queries) > _MOST_ROWS:
        n_texts = 1
    for runs in _head_runs(heads, group, max(1, rows_in_all // min(_FEWEST_ROWS, max(1, len(queries))))):
        n_rows = min(_MOST_ROWS, max(1, rows_in_all // len(runs)))
        for first in range(batch.start, batch.stop, n_texts):
            texts = slice(first, min(first + n_texts, batch.stop))
            for row in range(queries.start, queries.stop, n_rows):
                yield Tile(texts, slice(runs.start, runs.stop), slice(row, min(row + n_rows, queries.stop)))


def _head_runs(heads: range, group: int, most: int) -> Iterator[range]:
    """Runs of heads that are whole groups, or lie in one group; about `most` heads each."""
    aligned = max(group, most - most % group)
    head = heads.start
    while head < heads.stop:
        if head % group or heads.stop - head < group:
            stop = min(head - head % group + group, heads.stop)
        else:
            whole = heads.stop - heads.stop % group
            stop = min(head + aligned, whole)
        yield range(head, stop)
        head = stop


class Workspace:
    """Memory that one recorder's tiles share, one after the other; never shared between threads."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialised memory of this shape; taking the same name again overwrites it."""
        n = 1
        for size in shape:
            n *= size
        known = self._buffers.get((name, dtype, device))
        if known is None or known.numel() < n:
            known = self._buffers[name, dtype, device] = torch.empty(n, dtype=dtype, device=device)
        return known[:n].view(shape)
