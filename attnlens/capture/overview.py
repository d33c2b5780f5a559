"""A map too large for a screen, pooled to a grid that fits one; the whole map is never built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.tiles import Workspace
from attnlens.errors import UsageError

__all__ = ["Overview", "pooled"]

_POOLS = ("max", "mean")
_BLOCK = 256  # rows of weights that were built during the run, looked at together


@dataclass(frozen=True, eq=False)
class Overview:
    """A map pooled to cells: cell `[r, c]` stands for queries `[query_edges[r], query_edges[r + 1])` and likewise keys.

    Attributes:
        weights: the largest weight of each cell, or the mean over its visible entries; NaN where none is visible.
        visible: the share of each cell's entries that the mask lets see, from 0 to 1.
        query_edges, key_edges: where the cells begin, and the number of positions at the end.
        pool: which of the two: "max" or "mean".
    """

    weights: Float[Tensor, "*head row column"]
    visible: Float[Tensor, "row column"]
    query_edges: Int64[Tensor, " row_edge"]
    key_edges: Int64[Tensor, " column_edge"]
    pool: str


def pooled(
    pattern: Pattern, heads: slice = slice(None), rows: int = 256, columns: int = 256, pool: str = "max"
) -> Overview:
    """Pool the maps of some heads.

    Args:
        pattern: whose weights.
        heads: which of them.
        rows: cells along the queries; at most one per query.
        columns: cells along the keys; at most one per key.
        pool: "max", or "mean" over what is visible.

    Returns:
        With `weights` `[head row column]`, in float32 (float64 for a float64 model), on the CPU.

    Raises:
        UsageError: a grid without cells, or another way of pooling.
    """
    if rows < 1 or columns < 1:
        raise UsageError(f"an overview of {rows} x {columns} cells is no picture; expected at least 1 x 1.")
    if pool not in _POOLS:
        raise UsageError(f"pool {pool!r} does not exist; expected one of {', '.join(_POOLS)}.")
    n_queries, n_keys = pattern.shape
    query_edges, key_edges = _edges(n_queries, rows), _edges(n_keys, columns)
    cells, shares = [], []
    lines = _Lines(pattern, heads, pool)
    for first, stop in pairwise(query_edges):
        line, counts = lines.of(slice(int(first), int(stop)))
        n_visible = np.add.reduceat(counts.numpy(), key_edges[:-1])
        cells.append(_cells(line.numpy(), key_edges[:-1], n_visible, pool))
        shares.append(n_visible / ((stop - first) * np.diff(key_edges)))
    return Overview(
        torch.from_numpy(np.stack(cells, 1)),
        torch.from_numpy(np.stack(shares)).float(),
        torch.from_numpy(query_edges),
        torch.from_numpy(key_edges),
        pool,
    )


def _edges(n: int, cells: int) -> np.ndarray:
    """Where `n` positions are cut into cells whose sizes differ by one at most."""
    cells = min(cells, n)
    return np.arange(cells + 1, dtype=np.int64) * n // max(cells, 1)


def _cells(line: np.ndarray, starts: np.ndarray, n_visible: np.ndarray, pool: str) -> np.ndarray:
    """One row of cells `[head column]` from what is already pooled over its queries."""
    if pool == "max":
        found = np.maximum.reduceat(line, starts, axis=-1)
    else:
        sums = np.add.reduceat(line, starts, axis=-1, dtype=np.float64)
        found = (sums / np.maximum(n_visible, 1)).astype(line.dtype)
    found[:, n_visible == 0] = np.nan
    return found


class _Lines:
    """Weights pooled over some rows, and how many of these see each key; hidden weights are 0, so they add nothing."""

    def __init__(self, pattern: Pattern, heads: slice, pool: str) -> None:
        self._pattern, self._pool = pattern, pool
        self._heads = slice(*heads.indices(pattern.n_heads))
        self._workspace = Workspace()
        if isinstance(pattern, LazyPattern):
            scores = pattern.scores  # in the precision of the weights once, and not for each row of cells
            self._scores = replace(scores, key=scores.key.to(scores.dtype))

    def of(self, queries: slice) -> tuple[Float[Tensor, "head key"], Int64[Tensor, " key"]]:
        """Pooled over `queries`."""
        if isinstance(self._pattern, DensePattern):
            return self._of_dense(self._pattern, queries)
        first, stop = self._heads.start, self._heads.stop
        line = torch.zeros(stop - first, self._pattern.shape[1], dtype=self._scores.dtype)
        for block in self._scores.blocks(self._workspace, heads=self._heads, queries=queries):
            here = block.tile.heads
            self._add(line[here.start - first : here.stop - first, block.keys], block.weights[0])
        return line, self._counts(queries)

    def _add(self, line: Float[Tensor, "head key"], weights: Float[Tensor, "head query key"]) -> None:
        if self._pool == "max":
            torch.maximum(line, weights.amax(1), out=line)
        else:
            line += weights.sum(1)

    def _counts(self, queries: slice) -> Int64[Tensor, " key"]:
        """How many of the queries see each key, block by block of rows; by arithmetic where only causality hides."""
        scores, n_keys = self._scores, self._pattern.shape[1]
        if scores.mask is None:
            seen = torch.full((n_keys,), queries.stop - queries.start)
            if scores.causal:
                first_seeing = (torch.arange(n_keys) - scores.offset).clamp_min(queries.start)
                seen = (queries.stop - first_seeing).clamp_min(0)
            return seen
        counts = torch.zeros(n_keys, dtype=torch.int64)
        for start in range(queries.start, queries.stop, _BLOCK):
            rows = slice(start, min(start + _BLOCK, queries.stop))
            counts += self._seen(rows).sum(0)
        return counts

    def _seen(self, queries: slice) -> Bool[Tensor, "query key"]:
        """What some head sees of the keys; all heads see the same, but for rare masks."""
        shared = self._scores.mask is None or self._scores.mask.shape[1] == 1
        return self._scores.visible(heads=slice(0, 1) if shared else slice(None), queries=queries)[0].any(0)

    def _of_dense(
        self, pattern: DensePattern, queries: slice
    ) -> tuple[Float[Tensor, "head key"], Int64[Tensor, " key"]]:
        chosen = pattern.weights(self._heads, slice(0, 0))
        line = chosen.new_zeros(chosen.shape[0], pattern.shape[1])
        for start in range(queries.start, queries.stop, _BLOCK):
            rows = slice(start, min(start + _BLOCK, queries.stop))
            self._add(line, pattern.weights(self._heads, rows))
        return line, pattern.seen[queries].sum(0)
