"""The residual stream at its points: how long its vectors are, and how far they point the same way."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["cosine", "norms"]


def norms(vectors: Float[Tensor, "*batch d_model"]) -> Float64[Tensor, "*batch"]:
    """Euclidean length of each vector, 0 and above, in the unit of the stream."""
    length: Tensor = vectors.double().norm(dim=-1)
    return length


def cosine(one: Float[Tensor, "*#batch d_model"], other: Float[Tensor, "*#batch d_model"]) -> Float64[Tensor, "*out"]:
    """Cosine between two points of the stream, vector by vector: -1 (opposite) to 1 (same way); NaN for a zero vector.

    Equal vectors give exactly 1, and nearly equal ones lose no digits: it is `1 - |a - b|**2 / 2` of the unit vectors.
    """
    unit, other_unit = (vectors.double() / vectors.double().norm(dim=-1, keepdim=True) for vectors in (one, other))
    gap: Tensor = (unit - other_unit).square().sum(-1)
    return 1 - gap / 2
