"""The shape of an attention map: diagonals, columns, blocks, and how much position alone explains.

Pure functions on `[... query key]`, in float64. `visible` (`[... query key]`) is True where the mask lets a query see a
key, `keep` (`[... query]`) for queries that count; None means all. Where nothing is defined a value is NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from attnlens.measures.patterns import breadth, over_queries

__all__ = [
    "KOVALEVA_CLASSES",
    "band_mass",
    "block_breadth",
    "block_mass",
    "column_means",
    "column_share",
    "kovaleva_class",
    "toeplitz_kernel",
    "toeplitz_pattern",
    "toeplitz_share",
]

KOVALEVA_CLASSES = ("vertical", "diagonal", "vertical + diagonal", "block", "heterogeneous")
"""Names of the classes of `kovaleva_class`, by number."""

_STRONG, _BOTH, _EACH = 0.6, 0.75, 0.2
_BLOCK_MASS, _BLOCK_BREADTH = 0.9, 0.6


def band_mass(
    pattern: Float[Tensor, "*batch query key"],
    width: int = 1,
    visible: Bool[Tensor, "*#batch query key"] | None = None,
    first_query: int = 0,
) -> Float64[Tensor, "*batch query"]:
    """Weight within `width` tokens of the query, itself included, 0 to 1; more is closer to the diagonal.

    NaN where no such key is visible. Source: Kovaleva et al. 2019, "Revealing the Dark Secrets of BERT" (D19-1445), the
    diagonal pattern, with `width=1`. The sum is taken within each row, so that it stays a share at the edges too.
    """
    near = _gaps(pattern, first_query).abs() <= width
    seen = near if visible is None else near & visible
    mass = (pattern.double() * near).sum(-1)
    return torch.where(seen.any(-1), mass, torch.nan)


def column_means(
    pattern: Float[Tensor, "*batch query key"], keep: Bool[Tensor, "*#batch query"] | None = None
) -> Float64[Tensor, "*batch key"]:
    """What share of the queries' whole attention each key takes, 0 to 1; over `key` they sum to 1 (less with sinks).

    Queries that do not see the key count with weight 0: a key that few can see is no column of the map.
    """
    return over_queries(pattern.double().transpose(-1, -2), None if keep is None else keep[..., None, :])


def column_share(
    pattern: Float[Tensor, "*batch query key"], keep: Bool[Tensor, "*#batch query"] | None = None, n_columns: int = 2
) -> Float64[Tensor, "*batch"]:
    """Share of all attention that the `n_columns` most attended keys take together, 0 to 1; more is more vertical.

    n_columns/n_keys for uniform attention. Source: as `band_mass`, the vertical pattern.
    """
    means = column_means(pattern, keep)
    return means.topk(min(n_columns, means.shape[-1]), -1).values.sum(-1)


def block_mass(
    pattern: Float[Tensor, "*batch query key"], query_segments: Int[Tensor, " query"], key_segments: Int[Tensor, " key"]
) -> Float64[Tensor, "*batch query"]:
    """Weight that stays within the query's own segment, 0 to 1; NaN where the keys are of one segment only."""
    mass = (pattern.double() * _same_segment(query_segments, key_segments)).sum(-1)
    return mass if (key_segments != key_segments[:1]).any() else torch.full_like(mass, torch.nan)


def block_breadth(
    pattern: Float[Tensor, "*batch query key"],
    query_segments: Int[Tensor, " query"],
    key_segments: Int[Tensor, " key"],
    visible: Bool[Tensor, "*#batch query key"] | None = None,
) -> Float64[Tensor, "*batch query"]:
    """`patterns.breadth` of what a row gives to its own segment, rescaled to sum to 1; NaN where it gives nothing."""
    same = _same_segment(query_segments, key_segments)
    inside = pattern.double() * same
    return breadth(inside / inside.sum(-1, keepdim=True), same if visible is None else same & visible)


def kovaleva_class(
    vertical: Float[Tensor, "*batch"],
    diagonal: Float[Tensor, "*batch"],
    block: Float[Tensor, "*batch"],
    within: Float[Tensor, "*batch"],
) -> Float64[Tensor, "*batch"]:
    """The class of a head's map on one text, by number: 0 vertical, 1 diagonal, 2 both, 3 block, 4 heterogeneous.

    The first rule that holds decides: vertical >= .6; diagonal >= .6; their sum >= .75 with each >= .2; block >= .9
    with within >= .6 (two segments only). NaN where vertical and diagonal are undefined.

    Args:
        vertical: the larger of the weight on delimiters and `column_share` of two keys.
        diagonal: `band_mass` of width 1.
        block: `block_mass`; NaN for a single segment, which cannot be a block.
        within: `block_breadth`.

    Source: the classes of Kovaleva et al. 2019 (D19-1445), section 4.1, who train a network on some 400 maps labelled
        by hand that were never released; the rules are ours.
    """
    classes = vertical.new_full(vertical.shape, 4.0, dtype=torch.float64)
    both = (vertical + diagonal >= _BOTH) & (torch.minimum(vertical, diagonal) >= _EACH)
    # The first rule is applied last, over the others.
    classes[(block >= _BLOCK_MASS) & (within >= _BLOCK_BREADTH)] = 3.0
    classes[both] = 2.0
    classes[diagonal >= _STRONG] = 1.0
    classes[vertical >= _STRONG] = 0.0
    classes[vertical.isnan() & diagonal.isnan()] = torch.nan
    return classes


def toeplitz_kernel(
    pattern: Float[Tensor, "*batch query key"],
    visible: Bool[Tensor, "*#batch query key"] | None = None,
    keep: Bool[Tensor, "*#batch query"] | None = None,
) -> Float64[Tensor, "*batch offset"]:
    """Mean weight at each distance from query to key, over the cells that are visible and whose query counts.

    Returns:
        Offsets from `-(n_query-1)` (the key that far before) to `n_key-1`, 0 to 1; NaN where no cell has that offset.
    """
    n_query, n_key = pattern.shape[-2:]
    places = (_gaps(pattern, 0) + n_query - 1).flatten()
    cells = _cells(pattern, visible, keep)
    shape = (*pattern.shape[:-2], n_query + n_key - 1)
    sums, counts = (
        torch.zeros(shape, dtype=torch.float64, device=pattern.device).index_add_(-1, places, values.flatten(-2))
        for values in (torch.where(cells, pattern.double(), 0.0), cells.double())
    )
    return torch.where(counts > 0, sums / counts, torch.nan)


def toeplitz_pattern(
    kernel: Float[Tensor, "*batch offset"],
    visible: Bool[Tensor, "*#batch query key"],
    totals: Float[Tensor, "*#batch query"] | None = None,
) -> Float64[Tensor, "*batch query key"]:
    """The map that a kernel stands for: the weight of each cell by its offset alone, rows rescaled to `totals` (1).

    Offsets that the kernel does not know have weight 0; a row without any that it knows is spread evenly.
    """
    n_query, n_key = visible.shape[-2:]
    places = torch.arange(n_key, device=kernel.device)[None, :] - torch.arange(n_query, device=kernel.device)[:, None]
    cells = kernel.double().nan_to_num()[..., places + n_query - 1] * visible
    sums = cells.sum(-1, keepdim=True)
    even = visible / visible.sum(-1, keepdim=True).clamp_min(1)
    rows = torch.where(sums > 0, cells / sums.clamp_min(torch.finfo(torch.float64).tiny), even)
    return rows if totals is None else rows * totals.double()[..., None]


def toeplitz_share(
    pattern: Float[Tensor, "*batch query key"],
    visible: Bool[Tensor, "*#batch query key"] | None = None,
    keep: Bool[Tensor, "*#batch query"] | None = None,
) -> Float64[Tensor, "*batch"]:
    """How much of a map the distance from query to key explains, at most 1; measure P3.

    1 where each row is the same kernel, moved along; 0 where it explains no more than uniform attention; below 0 where
    it explains less. `1 - sum (A - Af)^2 / sum (A - uniform)^2`, where the kernel of the even queries is scored on the
    odd ones and the other way round, so that no row is explained by itself. NaN where attention is uniform, and for
    fewer than two queries.

    Source: ours; it generalises the positional heads of Voita et al. 2019 (arXiv:1905.09418) to any kernel.
    """
    cells = _cells(pattern, visible, keep)
    seen = torch.ones_like(cells) if visible is None else visible.expand_as(cells)
    weights = torch.where(cells, pattern.double(), 0.0)
    totals = weights.sum(-1)
    even = seen / seen.sum(-1, keepdim=True).clamp_min(1) * totals[..., None]
    halves = torch.arange(pattern.shape[-2], device=pattern.device) % 2 == 0
    missed = torch.zeros(pattern.shape[:-2], dtype=torch.float64, device=pattern.device)
    spread = missed.clone()
    for fitted in (halves, ~halves):
        kernel = toeplitz_kernel(pattern, visible, fitted if keep is None else keep & fitted)
        scored = cells & ~fitted[:, None]
        missed += ((weights - toeplitz_pattern(kernel, seen, totals)).square() * scored).sum((-2, -1))
        spread += ((weights - even).square() * scored).sum((-2, -1))
    # What is left of rounding is no structure.
    return torch.where(spread > 1e-12 * pattern.shape[-2], 1 - missed / spread, torch.nan)


def _gaps(pattern: Tensor, first_query: int) -> Int[Tensor, "query key"]:
    """Key position minus query position."""
    n_query, n_key = pattern.shape[-2:]
    queries = torch.arange(first_query, first_query + n_query, device=pattern.device)
    return torch.arange(n_key, device=pattern.device)[None, :] - queries[:, None]


def _cells(pattern: Tensor, visible: Tensor | None, keep: Tensor | None) -> Bool[Tensor, "*batch query key"]:
    """True for the cells that count."""
    cells = torch.ones(pattern.shape, dtype=torch.bool, device=pattern.device)
    if visible is not None:
        cells = cells & visible
    return cells if keep is None else cells & keep[..., None]


def _same_segment(queries: Int[Tensor, " query"], keys: Int[Tensor, " key"]) -> Bool[Tensor, "query key"]:
    return queries[:, None] == keys[None, :]
