"""How alike heads are: distances between their maps, a picture of all heads, and which heads of two models correspond.

Pure functions on arrays. Heads are compared by the Jensen-Shannon divergence of their rows, in nats: 0 where two rows
are the same, ln 2 where they have no key in common; less is more alike. Its square root is a metric.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from attnlens.measures.patterns import over_queries

__all__ = [
    "head_distances",
    "head_map",
    "js_divergence",
    "match_heads",
    "mean_divergence",
    "nearest_heads",
    "summed_divergence",
    "with_rest",
]

# What a row must lack for "the rest" to be a key of its own; less is rounding.
_REST = 1e-4


def js_divergence(
    first: Float[Tensor, "*batch query key"], second: Float[Tensor, "*batch query key"]
) -> Float64[Tensor, "*batch query"]:
    """Jensen-Shannon divergence of each pair of rows, in nats, 0 to ln 2; less is more alike.

    What a row lacks to 1 (sinks, keys that were cut away) counts as one more key; a row that is NaN gives NaN.
    Source: Lin 1991, doi:10.1109/18.61115; for heads Clark et al. 2019 (arXiv:1906.04341), section 6, who add up over
    rows what is averaged here (`head_distances`).
    """
    one, other = with_rest(first), with_rest(second)
    entropies = (_entropy(one) + _entropy(other)) / 2
    return (_entropy((one + other) / 2) - entropies).clamp(0, math.log(2))


def with_rest(pattern: Float[Tensor, "*batch query key"]) -> Float64[Tensor, "*batch query key_or_rest"]:
    """Rows as distributions: one more column takes what they lack to 1, where that is more than rounding."""
    weights = pattern.double()
    rest = 1 - weights.sum(-1, keepdim=True)
    return torch.cat([weights, torch.where(rest < _REST, 0.0, rest)], -1)


def summed_divergence(
    first: Float[Tensor, "head query key"],
    second: Float[Tensor, "other query key"] | None = None,
    keep: Bool[Tensor, " query"] | None = None,
) -> Float64[Tensor, "head other"]:
    """Divergence of every head of one list from every head of another, added up over the queries that count.

    Sums of parts of the rows add up to the sum over all: long texts are taken in parts. `second=None` compares a list
    with itself, in half the time.
    """
    rows = slice(None) if keep is None else keep
    heads = with_rest(first[:, rows])
    if second is None:
        return _among_themselves(heads)
    others = with_rest(second[:, rows])
    entropies = _entropy(others)
    return torch.stack([_sums(weights, others, _entropy(weights), entropies) for weights in heads])


def head_distances(
    first: Float[Tensor, "head query key"],
    second: Float[Tensor, "other query key"] | None = None,
    keep: Bool[Tensor, " query"] | None = None,
) -> Float64[Tensor, "head other"]:
    """Mean divergence over queries between every two heads, in nats, 0 to ln 2; less is more alike.

    Args:
        first: maps of heads.
        second: maps of other heads over the same tokens; None compares `first` with itself.
        keep: queries that count.

    Returns:
        NaN where no query counts.
    """
    sums = summed_divergence(first, second, keep)
    n_rows = first.shape[1] if keep is None else int(keep.sum())
    return sums / n_rows if n_rows else torch.full_like(sums, torch.nan)


def nearest_heads(distances: Float[Tensor, "head other"], head: int, n: int | None = None) -> Int[Tensor, " near"]:
    """Indices of the heads most like `head`, the nearest first, without itself; NaN comes last."""
    order = distances[head].nan_to_num(torch.inf).argsort(stable=True)
    return order[order != head][:n]


def head_map(distances: Float[Tensor, "head other"]) -> tuple[Float64[Tensor, "head 2"], float]:
    """Heads as points of a plane whose distances follow `distances`, by metric multidimensional scaling.

    The way down starts from classical scaling and not from chance, so that the same distances give the same picture.

    Args:
        distances: symmetric, 0 on the diagonal; the square root of a divergence is one.

    Returns:
        The points, in the unit of the distances, centred; and Kruskal's stress-1: 0 is a faithful picture, .2 a poor
        one (Kruskal 1964, doi:10.1007/BF02289565). Heads whose distances are NaN are points of NaN.

    Source: SMACOF (de Leeuw 1977), by scikit-learn; for heads Clark et al. 2019 (arXiv:1906.04341), section 6.
    """
    from sklearn.manifold import smacof  # slow to import

    known = ~distances.isnan().all(-1)
    table = distances[known][:, known].double().numpy()
    points = torch.full((len(distances), 2), torch.nan, dtype=torch.float64)
    if len(table) < 2 or not table.any():
        points[known] = 0.0
        return points, 0.0
    table = (table + table.T) / 2
    found, _ = smacof(
        table, n_components=2, init=_classical_scaling(table), n_init=1, max_iter=1000, eps=1e-10, random_state=0
    )
    points[known] = torch.from_numpy(found - found.mean(0))
    shown = np.linalg.norm(found[:, None] - found[None], axis=-1)
    stress = np.sqrt(((shown - table) ** 2).sum() / (table**2).sum())
    return points, float(stress)


def match_heads(distances: Float[Tensor, "head other"]) -> Int[Tensor, "pair 2"]:
    """Pairs of heads, each used once, whose distances sum to the least possible; ordered by the first list.

    The shorter list is used up. A distance of NaN is further than any other.
    Source: the assignment problem (Kuhn 1955), by scipy.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    far = 1e6  # further than all other pairs together, so that NaN is taken only where there is no choice
    rows, columns = linear_sum_assignment(distances.double().nan_to_num(far).numpy())
    return torch.from_numpy(np.stack([rows, columns], 1))


def mean_divergence(
    first: Float[Tensor, "*batch query key"],
    second: Float[Tensor, "*batch query key"],
    keep: Bool[Tensor, "*#batch query"] | None = None,
) -> Float64[Tensor, "*batch"]:
    """`js_divergence` of each head with its counterpart, averaged over the queries that count."""
    return over_queries(js_divergence(first, second), keep)


def _among_themselves(heads: Float64[Tensor, "head query key"]) -> Float64[Tensor, "head head"]:
    sums = heads.new_zeros(len(heads), len(heads))
    entropies = _entropy(heads)
    for head in range(len(heads) - 1):
        after = slice(head + 1, None)
        sums[head, after] = _sums(heads[head], heads[after], entropies[head], entropies[after])
        sums[after, head] = sums[head, after]
    return sums


def _sums(
    one: Float64[Tensor, "query key"],
    others: Float64[Tensor, "head query key"],
    its_entropy: Float64[Tensor, " query"],
    their_entropies: Float64[Tensor, "head query"],
) -> Float64[Tensor, " head"]:
    """Divergence of a head's rows from those of others, summed over the rows."""
    return (_entropy((one + others) / 2) - (its_entropy + their_entropies) / 2).clamp_min(0).sum(-1)


def _entropy(rows: Float64[Tensor, "*batch key"]) -> Float64[Tensor, "*batch"]:
    entropies: Tensor = torch.special.entr(rows).sum(-1)
    return entropies


def _classical_scaling(distances: Float[np.ndarray, "head head"]) -> Float[np.ndarray, "head 2"]:
    """Points by the two largest eigenvalues of the doubly centred squares (Torgerson 1952), with signs fixed."""
    n_heads = len(distances)
    centring = np.eye(n_heads) - 1 / n_heads
    values, vectors = np.linalg.eigh(-centring @ (distances**2) @ centring / 2)
    chosen = vectors[:, -2:][:, ::-1] * np.sqrt(values[-2:][::-1].clip(min=0))
    signs = np.sign(chosen[np.abs(chosen).argmax(0), [0, 1]])
    return np.ascontiguousarray(chosen * np.where(signs == 0, 1, signs))
