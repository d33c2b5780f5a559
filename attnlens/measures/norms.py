"""How large what a head moves is: norm-weighted attention, which reads weights and moved vectors together.

A head that looks at a token moves `alpha * f(x)` to the query, `f(x) = (x W_V + b_V) W_O`: much weight on a small
vector moves little. `f` here is an array, "moved", made of the heads' values and W_O by `attnlens.models.readouts`. No
function builds `[head query key d_model]`: a head's norm factors, and the norm of a sum over heads follows from inner
products between heads.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["head_norms", "layer_norms", "mixing_ratio", "moved_by_heads"]

# Keys whose heads' inner products are held at a time.
_KEYS_AT_ONCE = 64


def moved_by_heads(
    values: Float[Tensor, "head key d_head"], projection: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head key d_model"]:
    """What each head would write if all its weight were on one key: `f_h(x_k)`, in the unit of the stream.

    Args:
        values: of every query head (key heads repeated), bias included.
        projection: W_O, cut into heads; its bias is left out, since it does not depend on where a head looks.
    """
    return values @ projection


def head_norms(
    pattern: Float[Tensor, "head query key"], moved: Float[Tensor, "head key d_model"]
) -> Float[Tensor, "head query key"]:
    """Norm of what each head moves from key to query, `|alpha f(x)|`: 0 and above, in the unit of the stream.

    Source: Kobayashi et al. 2020, "Attention is Not Only a Weight" (arXiv:2004.10102), section 3.

    Args:
        pattern: weights.
        moved: `moved_by_heads`.
    """
    lengths: Float[Tensor, "head key"] = moved.norm(dim=-1)
    return pattern * lengths.to(pattern)[:, None]


def layer_norms(
    pattern: Float[Tensor, "head query key"],
    moved: Float[Tensor, "head key d_model"],
    residual: Float[Tensor, "query d_model"] | None = None,
) -> Float[Tensor, "query key"]:
    """Norm of what all heads together move from key to query, `|sum_h alpha_h f_h(x)|`; heads may cancel.

    Source: Kobayashi et al. 2020 (arXiv:2004.10102), section 3; with `residual` Kobayashi et al. 2021, "Incorporating
        Residual and Normalization Layers into Analysis of Masked Language Models" (arXiv:2109.07152), section 3.

    Args:
        pattern: weights.
        moved: `moved_by_heads`; to take a norm layer behind into account, sent through its linear part (without the
            division by each query's sigma, which scales a row).
        residual: what each token keeps; it is added on the diagonal, for self-attention.
    """
    squares = torch.empty(pattern.shape[1:], dtype=torch.float64, device=pattern.device)
    for start in range(0, pattern.shape[2], _KEYS_AT_ONCE):
        keys = slice(start, start + _KEYS_AT_ONCE)
        vectors = moved[:, keys].double().transpose(0, 1)
        gram = vectors @ vectors.mT
        weights = pattern[..., keys].double().permute(2, 1, 0)
        squares[:, keys] = ((weights @ gram) * weights).sum(-1).T
    if residual is not None:
        own = torch.einsum("hqq,hqd->qd", pattern.double(), moved.double()) + residual.double()
        squares.diagonal().copy_(own.square().sum(-1))
    return squares.clamp_min_(0).sqrt_().to(pattern)


def mixing_ratio(
    mixed: Float[Tensor, "*batch d_model"], preserved: Float[Tensor, "*batch d_model"]
) -> Float64[Tensor, "*batch"]:
    """Share of what comes from other tokens: `|mixed| / (|mixed| + |preserved|)`, 0 (kept) to 1 (replaced).

    NaN where both are zero.

    Source: Kobayashi et al. 2021 (arXiv:2109.07152), section 3.3.

    Args:
        mixed: what attention brings to a token from the others.
        preserved: what it brings from the token itself, and the residual.
    """
    mixing, keeping = mixed.double().norm(dim=-1), preserved.double().norm(dim=-1)
    share: Tensor = mixing / (mixing + keeping)
    return share
