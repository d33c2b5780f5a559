"""The output projection of attention (W_O): what each head writes into the stream, as a sum that can be checked."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlens.errors import UnsupportedModelError

__all__ = ["head_writes", "projection_bias", "projection_weight"]


def head_writes(
    z: Float[Tensor, "*batch position heads_d_head"], projection: nn.Module, n_heads: int
) -> Float[Tensor, "*batch head position d_model"]:
    """What each head adds to the projection's output; summed over heads, plus `projection_bias`, it is that output.

    Args:
        z: the heads' outputs side by side, in head order: the projection's input.
        projection: W_O.
        n_heads: query heads.

    Raises:
        UnsupportedModelError: the weight is no plain matrix (quantised), or its rows do not divide among the heads.
    """
    weight = projection_weight(projection)
    if z.shape[-1] != weight.shape[0] or weight.shape[0] % n_heads:
        raise UnsupportedModelError(
            f"{type(projection).__name__} takes {weight.shape[0]} numbers per position, which {n_heads} heads and a z "
            f"of width {z.shape[-1]} do not fit; expected z of n_heads x d_head."
        )
    by_head = z.reshape(*z.shape[:-1], n_heads, -1).transpose(-2, -3)
    return torch.matmul(by_head, weight.reshape(n_heads, -1, weight.shape[-1]).to(z))


def projection_weight(projection: nn.Module) -> Float[Tensor, "width d_model"]:
    """The matrix that multiplies from the right: a Linear's weight transposed, a Conv1D's as it is.

    Raises:
        UnsupportedModelError: the weight is stored in another form.
    """
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise UnsupportedModelError(
            f"the weight of {type(projection).__name__} is not a plain matrix of floating-point numbers (quantised?), "
            "so the heads' shares in its output cannot be told apart; load the model unquantised."
        )
    weight = weight.detach()
    return weight if type(projection).__name__ == "Conv1D" else weight.T


def projection_bias(projection: nn.Module) -> Float[Tensor, " d_model"] | None:
    """What the projection adds once, whatever the heads do; None where it has no bias."""
    bias = getattr(projection, "bias", None)
    return bias.detach() if isinstance(bias, torch.Tensor) else None
