"""How much each token matters for a chosen output, by weights times their gradients, carried through the layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["cross_relevance", "relevant_weights", "self_relevance"]


def relevant_weights(
    pattern: Float[Tensor, "*batch head query key"], gradient: Float[Tensor, "*batch head query key"]
) -> Float64[Tensor, "*batch query key"]:
    """Mean over heads of the positive part of weight times gradient: 0 and above, in the unit of the output.

    Source: Chefer et al. 2021, "Generic Attention-model Explainability" (arXiv:2103.15679), equation 5.

    Args:
        pattern: weights.
        gradient: of the chosen output with respect to them.
    """
    return (pattern.double() * gradient.double()).clamp_min(0).mean(-3)


def self_relevance(weights: Float[Tensor, "layer query query"]) -> Float64[Tensor, "query query"]:
    """Relevance of each input token to each token after the last layer; the row where the output is read tells.

    `R = I`, and layer by layer `R += A R` with the relevant weights A. 0 and above, more is more; rows do not sum to 1.

    Source: Chefer et al. 2021 (arXiv:2103.15679), equation 6. Generic rule, without layer-wise propagation.

    Args:
        weights: `relevant_weights` of each layer.
    """
    relevance = torch.eye(weights.shape[-1], dtype=torch.float64, device=weights.device)
    for layer in weights.double():
        relevance = relevance + layer @ relevance
    return relevance


def cross_relevance(
    own: Sequence[Float[Tensor, "target target"]],
    cross: Sequence[Float[Tensor, "target source"]],
    encoder: Float[Tensor, "source source"],
) -> tuple[Float64[Tensor, "target target"], Float64[Tensor, "target source"]]:
    """Relevance of target tokens and of source tokens to each target token, in an encoder-decoder.

    Self-attention of the decoder: `R_tt += A R_tt`, `R_ts += A R_ts` (equations 6 and 7). Cross-attention:
    `R_ts += N(R_tt)^T A N(R_ss)` (equation 10), where `N` keeps the identity and divides the rest of each row by its
    sum (equations 8 and 9); a row without a rest stays as it is, where the published code divides 0 by 0.

    Source: Chefer et al. 2021 (arXiv:2103.15679), section 3.

    Args:
        own: `relevant_weights` of the decoder's self-attention, layer by layer.
        cross: likewise of its cross-attention.
        encoder: `self_relevance` of the encoder.
    """
    n_target, n_source = cross[0].shape
    target = torch.eye(n_target, dtype=torch.float64, device=encoder.device)
    source = torch.zeros(n_target, n_source, dtype=torch.float64, device=encoder.device)
    for pattern, crossing in zip(own, cross, strict=True):
        target, source = target + pattern.double() @ target, source + pattern.double() @ source
        source = source + _normalised(target).T @ crossing.double() @ _normalised(encoder.double())
    return target, source


def _normalised(relevance: Float64[Tensor, "token token"]) -> Float64[Tensor, "token token"]:
    identity = torch.eye(len(relevance), dtype=torch.float64, device=relevance.device)
    rest = relevance - identity
    total = rest.sum(-1, keepdim=True)
    return identity + torch.where(total > 0, rest / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
