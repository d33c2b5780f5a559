"""What an attention pattern looks like: pure functions on `[... query key]`, one value per query.

Every function takes a pattern (rows are probabilities over the keys that the query may see) and returns one
value per query, in float64, NaN where the quantity is not defined for that query. `over_queries` turns that
into the mean over the queries for which it is defined. Two masks travel beside a pattern, both True where
something counts:

- `visible` or `candidates`, `[... query key]`: keys that the query may attend to, or that may win an argmax;
- `keep`, `[... query]`: queries that count (no padding, no special tokens).

Functions on positions take `first_query`, the position of the first row, so that a tile of rows can be
measured.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

__all__ = [
    "argmax_share",
    "breadth",
    "distance",
    "distance_variance",
    "entropy",
    "key_mass",
    "max_weight",
    "offset_argmax",
    "offset_mass",
    "over_queries",
    "set_mass",
]


def entropy(pattern: Float[Tensor, "*batch query key"]) -> Float64[Tensor, "*batch query"]:
    """Entropy of each row in nats: 0 is one key, ln(n_keys) is uniform.

    Source: Clark et al. 2019, "What Does BERT Look At?", section 3.3 (arXiv:1906.04341), without the
        smoothing of the published code.
    """
    weights = pattern.double()
    each: Tensor = torch.special.entr(weights)
    return each.sum(-1)


def breadth(
    pattern: Float[Tensor, "*batch query key"],
    visible: Bool[Tensor, "*#batch query key"] | None = None,
) -> Float64[Tensor, "*batch query"]:
    """Entropy over the largest entropy the row could have: 0 is one key, 1 uniform over what is visible.

    NaN where fewer than two keys are visible: one key is all there is to attend to.
    """
    seen = torch.ones(pattern.shape[-2:], dtype=torch.bool, device=pattern.device) if visible is None else visible
    n_visible = seen.sum(-1).double()
    share = entropy(pattern) / n_visible.clamp_min(2).log()
    return torch.where(n_visible >= 2, share, torch.nan)


def distance(pattern: Float[Tensor, "*batch query key"], first_query: int = 0) -> Float64[Tensor, "*batch query"]:
    """Mean distance of query and key under the weights, in tokens, 0 and up."""
    return (pattern.double() * _offsets(pattern, first_query).abs()).sum(-1)


def distance_variance(
    pattern: Float[Tensor, "*batch query key"], first_query: int = 0
) -> Float64[Tensor, "*batch query"]:
    """Variance of the distance of query and key under the weights, in square tokens, 0 and up: 0 is one distance only.

    Where a row sums to less than 1 (sinks), of the part that goes to tokens; NaN for a row without weight.
    """
    gaps, weights = _offsets(pattern, first_query).abs().double(), pattern.double()
    shares = weights / weights.sum(-1, keepdim=True)
    mean = (shares * gaps).sum(-1, keepdim=True)
    return (shares * (gaps - mean).square()).sum(-1)


def max_weight(pattern: Float[Tensor, "*batch query key"]) -> Float64[Tensor, "*batch query"]:
    """The largest weight of each row, 0 to 1."""
    return pattern.amax(-1).double()


def offset_mass(
    pattern: Float[Tensor, "*batch query key"],
    offset: int,
    visible: Bool[Tensor, "*#batch query key"] | None = None,
    first_query: int = 0,
) -> Float64[Tensor, "*batch query"]:
    """Weight on the key `offset` tokens away (-1 is the previous token), 0 to 1; measure P2.

    NaN where there is no such key, or where it is not visible. Clark et al. 2019 divide by all tokens, edges
    included, so that their largest possible mean is (n-1)/n; here only queries with a target count.
    """
    return _at_offset(pattern, offset, visible, first_query).double()


def offset_argmax(
    pattern: Float[Tensor, "*batch query key"],
    offset: int,
    candidates: Bool[Tensor, "*#batch query key"] | None = None,
    first_query: int = 0,
) -> Float64[Tensor, "*batch query"]:
    """1 where the strongest candidate key is `offset` tokens away, else 0, ties split; measure P1.

    NaN where the key at that offset does not exist or is no candidate.
    Source: Voita et al. 2019, "Analyzing Multi-Head Self-Attention", section 5 (arXiv:1905.09418).
    """
    return _at_offset(argmax_share(pattern, candidates), offset, candidates, first_query)


def argmax_share(
    pattern: Float[Tensor, "*batch query key"],
    candidates: Bool[Tensor, "*#batch query key"] | None = None,
) -> Float64[Tensor, "*batch query key"]:
    """Who wins each row: 1 at the strongest candidate key, 1/n_ties at each of several equally strong.

    A split tie is the expected value under random tie-breaking; the lowest index, which argmax takes,
    would report a uniform head as one that attends to the first word. A row without candidates is all 0.
    """
    weights = pattern.double()
    if candidates is not None:
        weights = weights.masked_fill(~candidates, -1.0)
    best = weights.amax(-1, keepdim=True)
    winners = ((weights == best) & (best >= 0)).double()
    return winners / winners.sum(-1, keepdim=True).clamp_min(1)


def key_mass(
    pattern: Float[Tensor, "*batch query key"],
    key: int,
    visible: Bool[Tensor, "*#batch query key"] | None = None,
) -> Float64[Tensor, "*batch query"]:
    """Weight on the key at one fixed position, 0 to 1; measure P4 (`key=0`: the attention sink).

    NaN where that key is not visible. Source: Gu et al. 2025, "When Attention Sink Emerges"
    (arXiv:2410.10781).
    """
    column = pattern[..., key].double()
    if visible is None:
        return column.clone()
    return torch.where(visible[..., key], column, torch.nan)


def set_mass(
    pattern: Float[Tensor, "*batch query key"],
    keys: Bool[Tensor, "*#batch key"],
) -> Float64[Tensor, "*batch query"]:
    """Weight on a set of keys together (delimiters, a word's pieces), 0 to 1; NaN where the set is empty."""
    total = (pattern.double() * keys[..., None, :]).sum(-1)
    return torch.where(keys.any(-1)[..., None], total, torch.nan)


def over_queries(
    values: Float[Tensor, "*batch query"],
    keep: Bool[Tensor, "*#batch query"] | None = None,
) -> Float64[Tensor, "*batch"]:
    """Mean over the queries that are kept and for which the value is defined; NaN where there is none."""
    values = values.double()
    if keep is not None:
        values = values.masked_fill(~keep, torch.nan)
    return values.nanmean(-1)


def _offsets(pattern: Tensor, first_query: int) -> Int[Tensor, "query key"]:
    """Key position minus query position."""
    n_query, n_key = pattern.shape[-2:]
    queries = torch.arange(first_query, first_query + n_query, device=pattern.device)
    return torch.arange(n_key, device=pattern.device)[None, :] - queries[:, None]


def _at_offset(
    values: Float[Tensor, "*batch query key"], offset: int, mask: Tensor | None, first_query: int
) -> Float[Tensor, "*batch query"]:
    """Pick each row's value at `offset`; NaN where the key does not exist or the mask is False there."""
    n_query, n_key = values.shape[-2:]
    target = torch.arange(first_query + offset, first_query + offset + n_query, device=values.device)
    exists = (target >= 0) & (target < n_key)
    row, column = torch.arange(n_query, device=values.device), target.clamp(0, max(n_key - 1, 0))
    picked = values[..., row, column]
    if mask is not None:
        exists = exists & mask[..., row, column]
    return torch.where(exists, picked, torch.nan)
