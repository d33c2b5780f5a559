"""How attention weights are cut into tiles that stay in cache, and the memory that the tiles share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tile", "Workspace", "tile_cells", "tiles"]

_CPU_BYTES = 1 << 20  # per thread: the two buffers of a reduction then fit a second-level cache of 2 MiB
_MOST_THREADS = 8  # beyond them, the tiles would take more memory than they save time
_DEVICE_BYTES = 1 << 26  # large enough to keep an accelerator busy
_MOST_ROWS = 128  # of the square on the diagonal of a causal tile, half is computed in vain
_ALIGNED = 16  # rows of a causal tile are as long as its last row's position: whole cache lines
_FEWEST_ROWS = 64  # below this, products of matrices become products of vectors


@dataclass(frozen=True)
class Tile:
    """A block of rows of some heads of some texts; all keys belong to it."""

    batch: slice
    heads: slice
    queries: slice


def tile_cells(dtype: torch.dtype, device: torch.device) -> int:
    """How many weights a tile should hold to be fast on this device."""
    size = _CPU_BYTES * min(torch.get_num_threads(), _MOST_THREADS) if device.type == "cpu" else _DEVICE_BYTES
    return size // dtype.itemsize


def tiles(
    batch: range,
    heads: range,
    queries: range,
    n_keys: int,
    *,
    group: int,
    cells: int,
    causal_offset: int | None = None,
    whole: bool = False,
) -> Iterator[Tile]:
    """Cut a rectangle of the weights into tiles of about `cells` weights.

    Several texts where they fit whole; else one text, all its heads and some rows; else some heads. Heads are cut at
    multiples of `group` where the rectangle allows it, or within one group.

    Args:
        batch: texts of the rectangle.
        heads: heads of the rectangle.
        queries: rows of the rectangle.
        n_keys: keys of a row.
        group: query heads per key-value head.
        cells: what a tile may hold; one row of the heads of one key-value head is the least.
        causal_offset: row `i` sees no key beyond `i + causal_offset`: early rows are shorter. None: all see all.
        whole: keep all rows of a head together.
    """
    text = len(heads) * len(queries) * n_keys
    n_texts = max(1, cells // max(1, text)) if len(queries) <= _MOST_ROWS else 1
    most_heads = cells // max(1, n_keys * (len(queries) if whole else min(_FEWEST_ROWS, len(queries))))
    for run in _head_runs(heads, group, most_heads):
        for first in range(batch.start, batch.stop, n_texts):
            texts = slice(first, min(first + n_texts, batch.stop))
            runs = (
                [slice(queries.start, queries.stop)]
                if whole
                else _row_runs(queries, n_keys, cells // len(run), causal_offset)
            )
            for rows in runs:
                yield Tile(texts, slice(run.start, run.stop), rows)


def _head_runs(heads: range, group: int, most: int) -> Iterator[range]:
    """Runs of heads that are whole groups, or lie in one group; about `most` heads each."""
    head = heads.start
    while head < heads.stop:
        if head % group or heads.stop - head < group:
            stop = min(head - head % group + group, heads.stop)
        else:
            stop = min(head + max(group, most - most % group), heads.stop - heads.stop % group)
        yield range(head, stop)
        head = stop


def _row_runs(queries: range, n_keys: int, cells: int, causal_offset: int | None) -> Iterator[slice]:
    """Runs of rows of about `cells` weights per head."""
    row = queries.start
    while row < queries.stop:
        n_rows = cells // max(1, n_keys)
        if causal_offset is not None:  # n rows reach key row + offset + n: solve n * (row + offset + n) = cells
            known = max(0, row + causal_offset)
            n_rows = max(n_rows, int(math.sqrt(known * known / 4 + cells) - known / 2))
        n_rows = min(n_rows, _MOST_ROWS)
        if n_rows > _ALIGNED:
            n_rows -= n_rows % _ALIGNED
        stop = min(row + max(1, n_rows), queries.stop)
        yield slice(row, stop)
        row = stop


class Workspace:
    """Memory that one recorder's tiles share, one after the other; never shared between threads."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialised memory of this shape; taking the same name again overwrites it."""
        n = math.prod(shape)
        known = self._buffers.get((name, dtype, device))
        if known is None or known.numel() < n:
            known = self._buffers[name, dtype, device] = torch.empty(n, dtype=dtype, device=device)
        return known[:n].view(shape)
