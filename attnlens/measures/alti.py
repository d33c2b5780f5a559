"""How much of a token's vector after attention is made of each token before it: ALTI, by layer and over layers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["alti_contributions", "alti_rollout"]

# Numbers of `[query key d_model]` that are held at a time.
_NUMBERS_AT_ONCE = 1 << 24


def alti_contributions(
    pattern: Float[Tensor, "head query key"],
    moved: Float[Tensor, "head key d_model"],
    residual: Float[Tensor, "query d_model"],
    outputs: Float[Tensor, "query d_model"],
    sigma: Float[Tensor, " query"] | None = None,
) -> Float64[Tensor, "query key"]:
    """Share of each token in each token's vector after an attention block; rows sum to 1, more is more.

    `c_ij = max(0, |y_i|_1 - |y_i - T_i(x_j)|_1)`, each row divided by its sum, where the vectors `T_i(x_j)` and the
    biases sum to `y_i`: the nearer a part is to the whole, the more it contributes. NaN where no part is near.

    Source: Ferrando et al. 2022, "Measuring the Mixing of Contextual Information in the Transformer"
        (arXiv:2203.04212), section 3.

    Args:
        pattern: weights of self-attention.
        moved: what each head would write (`attnlens.measures.norms.moved_by_heads`), sent through the linear part of
            the norm behind the block where there is one (post-LN).
        residual: what each token keeps, likewise.
        outputs: the stream after the block, `y`.
        sigma: each query's divisor of that norm, frozen; None where there is none.
    """
    n_queries, n_keys = pattern.shape[1:]
    shares = torch.empty(n_queries, n_keys, dtype=torch.float64, device=pattern.device)
    vectors, kept, reached = moved.double(), residual.double(), outputs.double()
    step = max(1, _NUMBERS_AT_ONCE // (n_keys * moved.shape[-1]))
    for start in range(0, n_queries, step):
        rows = torch.arange(start, min(start + step, n_queries), device=pattern.device)
        parts = torch.einsum("hqk,hkd->qkd", pattern[:, rows].double(), vectors)
        parts[torch.arange(len(rows), device=pattern.device), rows] += kept[rows]
        if sigma is not None:
            parts /= sigma.double()[rows, None, None]
        own = reached[rows]
        shares[rows] = own.abs().sum(-1, keepdim=True) - (own[:, None] - parts).abs().sum(-1)
    shares = shares.clamp_min_(0)
    return shares / shares.sum(-1, keepdim=True)


def alti_rollout(contributions: Float[Tensor, "layer query query"]) -> Float64[Tensor, "layer query query"]:
    """Share of each input token in each token after each layer: the product of the layers' contributions.

    Rows sum to 1; more is more. Unlike rollout it needs no guess at the residual's share, which the contributions hold.

    Source: Ferrando et al. 2022 (arXiv:2203.04212), section 3.3.
    """
    mixed = contributions.double().clone()
    for layer in range(1, len(mixed)):
        mixed[layer] = mixed[layer] @ mixed[layer - 1]
    return mixed
