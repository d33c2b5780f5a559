"""How much a token's representation changes when another token's value vector is taken away: value zeroing."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.measures.stream import cosine

__all__ = ["shares_of_change", "zeroing_distances"]


def zeroing_distances(
    outputs: Float[Tensor, "query d_model"], zeroed: Float[Tensor, "key query d_model"]
) -> Float64[Tensor, "query key"]:
    """Cosine distance between each token's layer output and the output without the value at each key: 0 to 2.

    Source: Mohebbi et al. 2023, "Quantifying Context Mixing in Transformers" (arXiv:2301.12971), section 3.

    Args:
        outputs: of the whole layer, feed-forward network and its own norms included; in the last layer, before the
            model's final norm.
        zeroed: the same with the value vector at `key` set to zero, one run of the layer per key.
    """
    return (1 - cosine(outputs[None], zeroed)).T.contiguous()


def shares_of_change(distances: Float[Tensor, "*batch query key"]) -> Float64[Tensor, "*batch query key"]:
    """Each row divided by its sum: how a token's context shares in making it; rows sum to 1, more is more.

    NaN in the whole row where no value changed anything: nobody reads there, and equal shares would say otherwise.
    """
    each = distances.double()
    return each / each.sum(-1, keepdim=True)
