"""How much each head contributes to a score of the model, by integrated gradients over gates on the heads (captum)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["HeadAttribution", "attribute_to_gates"]

_ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class HeadAttribution:
    """Contributions of all heads to one score.

    Attributes:
        values: `[layer head]`, in the unit of the score (a logit, or a difference of two); they sum to `total`.
        total: score of the model minus its score with every head silenced.
        gap: `values.sum() - total`, the error of the integration.
        score: what was attributed, in words.
    """

    values: Float[Tensor, "layer head"]
    total: float
    gap: float
    score: str


def attribute_to_gates(
    score: Callable[[Float[Tensor, "batch layer head"]], Float[Tensor, " batch"]],
    n_layers: int,
    n_heads: int,
    *,
    name: str,
    steps: int = 64,
) -> HeadAttribution:
    """Integrate the gradient of `score` along the straight way from all gates 0 to all gates 1.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (arXiv:1703.01365), section 3, with a
    gate per head as the input: completeness makes the contributions sum to `score(1) - score(0)`.

    Args:
        score: gates -> one number per row; differentiable.
        n_layers: gates per row, first axis.
        n_heads: gates per row, second axis.
        name: what the score is, in words.
        steps: points of the Gauss-Legendre rule; more make `gap` smaller.
    """
    from captum.attr import IntegratedGradients  # slow to import, and few runs need it

    on = torch.ones(1, n_layers, n_heads)
    off = torch.zeros_like(on)
    values = IntegratedGradients(score).attribute(on, baselines=off, n_steps=steps, internal_batch_size=_ROWS_AT_ONCE)
    with torch.no_grad():
        total = float(score(on) - score(off))
    values = values[0].detach()
    return HeadAttribution(values=values, total=total, gap=float(values.sum()) - total, score=name)
