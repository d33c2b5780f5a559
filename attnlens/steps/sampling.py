"""From logits to the token that is written: temperature, top-k and top-p, as transformers applies them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.errors import UsageError

__all__ = ["check_sampling", "next_token_probabilities"]


def next_token_probabilities(
    logits: Float[Tensor, " vocab"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float64[Tensor, " vocab"]:
    """Probability that each token of the vocabulary is drawn next; they sum to 1, and what is cut away has 0.

    Logits are divided by the temperature; then the `top_k` likeliest are kept (Fan et al. 2018, arXiv:1805.04833),
    tokens as likely as the last of them too; then, of what is left, the fewest likeliest whose probabilities sum to
    `top_p` or more (Holtzman et al. 2020, arXiv:1904.09751); what is kept is divided by its sum.

    Args:
        logits: of one position.
        temperature: above 0; below 1 likely tokens become likelier, towards 0 the likeliest is taken.
        top_k: None keeps all.
        top_p: None, or 1, keeps all.

    Raises:
        UsageError: a number out of range.
    """
    check_sampling(temperature, top_k, top_p)
    scaled = logits.double() / temperature
    if top_k is not None and top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k).values[-1], -math.inf)
    probabilities = scaled.softmax(-1)
    if top_p is None or top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(probabilities).scatter(-1, order, torch.where(before < top_p, ordered, 0.0))
    return kept / kept.sum()


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Return if these can be drawn with.

    Raises:
        UsageError: a number out of range.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature is {temperature}; expected a number above 0 (1 changes nothing).")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k is {top_k}; expected at least 1, or None for all tokens.")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; expected a share above 0 and up to 1.")
