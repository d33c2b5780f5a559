"""Which columns of a linear map's output make up the vectors of heads, told by the numbers and not by any name.

A fused projection hands its columns out in an order of its own: one third after another (GPT-2), head by head
(GPT-NeoX, BLOOM), by groups (Falcon). The columns of queries, keys and values are copies of columns of the output, so
the order is read off them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Followed", "Matched", "match_columns", "relative_gap", "scores_follow"]


@dataclass(frozen=True)
class Matched:
    """Where the columns of one matrix stand in another.

    Attributes:
        columns: for each wanted column, its number in what was offered.
        factor: the wanted columns are the offered ones times this.
    """

    columns: Int[Tensor, " wanted"]
    factor: float


@dataclass(frozen=True)
class Followed:
    """How scores are made of queries and keys.

    Attributes:
        factor: between their inner product and a token's score for itself.
        rotated: the score for the token before is no inner product, but one of vectors rotated by position.
        gap: what is left over of the scores, relative to how much they vary (norms).
    """

    factor: float
    rotated: bool
    gap: float


def match_columns(
    wanted: Float[Tensor, "row wanted"], offered: Float[Tensor, "row offered"], tolerance: float
) -> Matched | None:
    """For every wanted column the offered one that is the same up to one common factor; None where one has none.

    Args:
        wanted: columns to find.
        offered: where to look.
        tolerance: largest difference, relative to the largest wanted number.
    """
    wanted, offered = wanted.double(), offered.double()
    if not len(wanted) or not offered.shape[1] or not bool(wanted.isfinite().all() and offered.isfinite().all()):
        return None
    lengths = offered.norm(dim=0)
    products = wanted.T @ offered
    cosines = products / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    columns = cosines.abs().argmax(-1)
    found = offered[:, columns]
    if relative_gap(found, wanted) <= tolerance:
        return Matched(columns, 1.0)
    factor = float((found * wanted).sum() / found.square().sum().clamp_min(torch.finfo(torch.float64).tiny))
    if factor <= 0 or relative_gap(factor * found, wanted) > tolerance:
        return None
    return Matched(columns, factor)


def relative_gap(one: Float[Tensor, "*shape"], other: Float[Tensor, "*shape"]) -> float:
    """Largest difference, relative to the largest number of `other`."""
    scale = other.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return float((one - other).abs().max() / scale)


def scores_follow(
    own: Float[Tensor, "row position"],
    before: Float[Tensor, "row earlier"] | None,
    query: Float[Tensor, "row position d_head"],
    key: Float[Tensor, "row position d_head"],
    tolerance: float,
) -> Followed | None:
    """How a head's scores follow from `query @ key`; None where they do not prove that these are the vectors.

    A token's score for itself must be a multiple of the inner product, and its score for the token before a sum of the
    products that a rotation by position mixes (of halves or of neighbours; partial rotations too). Both may have terms
    of the query alone, of the key alone (DeBERTa), and linear in the position (ALiBi). Fitted by least squares with
    fewer unknowns than scores, so that other vectors leave a rest.

    Args:
        own: scores of one head, each token for itself.
        before: each token but the first for the token before it, which also tells queries from keys; None where that is
            known from another head of the same map.
        query: vectors before any rotation.
        key: likewise.
        tolerance: largest rest, relative to how much the scores vary.
    """
    alone = _fit(own, [(query * key).sum(-1, keepdim=True), query, key])
    if alone is None or alone[1] > tolerance or alone[0] <= 0:
        return None
    if before is None:
        return Followed(alone[0], False, alone[1])
    later, earlier = query[:, 1:], key[:, :-1]
    products = later * earlier
    plain = _fit(before, [products.sum(-1, keepdim=True), later, earlier])
    if plain is not None and plain[1] <= tolerance:
        return Followed(alone[0], False, max(alone[1], plain[1]))
    crossed = [
        later[..., one] * earlier[..., other] - later[..., other] * earlier[..., one]
        for one, other in _rotated_pairs(later.shape[-1])
    ]
    turned = _fit(before, [products, *crossed, later, earlier])
    if turned is None or turned[1] > tolerance:
        return None
    return Followed(alone[0], True, max(alone[1], turned[1]))


def _rotated_pairs(d_head: int) -> list[tuple[Tensor, Tensor]]:
    """Pairs of coordinates that rotary embeddings turn: the halves of a vector, or neighbours."""
    half, even = d_head // 2, torch.arange(0, d_head - 1, 2)
    return [(torch.arange(half), torch.arange(half) + d_head - half), (even, even + 1)]


def _fit(scores: Tensor, parts: list[Tensor]) -> tuple[float, float] | None:
    """The first coefficient of the least-squares fit and the rest; None where too few scores could show one."""
    place = torch.arange(scores.shape[-1], dtype=torch.float64).expand(scores.shape)
    columns = [part.double().flatten(0, 1) for part in parts]
    wanted = scores.double().reshape(-1, 1)
    design = torch.cat([place.reshape(-1, 1), *columns[::-1]], 1)  # what is asked for stands last, before the scores
    if len(wanted) < design.shape[1] + design.shape[1] // 4 + 1:
        return None
    both = torch.cat([design, wanted], 1)
    both = both - both.mean(0)  # instead of a constant among the unknowns
    triangle = torch.linalg.qr(both / both.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny), mode="r").R
    size = both[:, -1].norm() / both[:, -2].norm()
    return float(triangle[-2, -1] / triangle[-2, -2] * size), float(triangle[-1, -1].abs())
