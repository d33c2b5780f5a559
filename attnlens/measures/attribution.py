"""How much of a score comes from heads, tokens and layers: captum's methods on functions of arrays, and their results.

Every result holds what the shares should sum to and how far they are from it. With integrated gradients and conductance
that gap is the error of the integration; with ablation it is what heads or tokens do only together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import UsageError

__all__ = [
    "METHODS",
    "GenerationAttribution",
    "HeadAttribution",
    "LayerAttribution",
    "TokenAttribution",
    "attribute_to_changed",
    "attribute_to_gates",
    "attribute_to_vectors",
    "check_method",
    "check_steps",
    "integrated",
]

METHODS = ("gradients", "ablation", "shapley")
"""Integrated gradients; taking away one at a time; the mean over random orders of taking away."""

# Where nobody gives a number of steps: points of each piece of the way, the most in all, and the gap that is small.
_PIECE_STEPS, _MOST_STEPS = 16, 1024
_SMALL_GAP = 5e-5
# In roundings of the score: below that, models of few bits have no difference to speak of.
_ROUNDINGS = 4
_ROWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class HeadAttribution:
    """Contributions of all heads of a stack to one score.

    Attributes:
        values: `[layer head]`, in the unit of the score (a logit, or a difference of two), signed; NaN in layers
            without attention. They sum to `total`.
        total: score of the model minus its score with every head of the stack silenced.
        gap: sum of the values minus `total`.
        score: what was attributed, in words.
        stack: letter of the stack ("" where there is one).
        method: one of `METHODS`.
        steps: points of the integral, or random orders; 0 for ablation.
    """

    values: Float[Tensor, "layer head"]
    total: float
    gap: float
    score: str
    stack: str = ""
    method: str = METHODS[0]
    steps: int = 0


@dataclass(frozen=True, eq=False)
class TokenAttribution:
    """Contributions of the input tokens to one score.

    Attributes:
        values: `[token]`, in the unit of the score, signed; they sum to `total`. Exactly 0 for a token that is the same
            in the text and in the baseline.
        total: score of the text minus score of the baseline.
        gap: `values.sum() - total`: the error of the integration for gradients (captum's convergence delta), rounding
            for Shapley values, what tokens do only together for ablation.
        score: what was attributed, in words.
        tokens: labels of the tokens.
        baseline: what the tokens were compared with, in words.
        stack: letter of the stack that reads them ("" where there is one).
        steps: points of the integral, or random orders; 0 for ablation.
        method: one of `METHODS`.
    """

    values: Float[Tensor, " token"]
    total: float
    gap: float
    score: str
    tokens: tuple[str, ...]
    baseline: str
    stack: str = ""
    steps: int = 0
    method: str = METHODS[0]


@dataclass(frozen=True, eq=False)
class LayerAttribution:
    """Conductance of each position after each layer: how much of the score's change flows through it.

    Attributes:
        values: `[layer token]`, in the unit of the score, signed; those of each layer sum to `total`, since the whole
            change flows through the stream after any one layer.
        total: score of the text minus score of the baseline.
        gap: `[layer]`, sum of the layer's values minus `total`.
        score: what was attributed, in words.
        tokens: labels of the tokens.
        baseline: what the tokens were compared with, in words.
        stack: letter of the stack ("" where there is one).
        steps: points of the integral, the most that a layer took.
    """

    values: Float[Tensor, "layer token"]
    total: float
    gap: Float[Tensor, " layer"]
    score: str
    tokens: tuple[str, ...]
    baseline: str
    stack: str = ""
    steps: int = 0


@dataclass(frozen=True, eq=False)
class GenerationAttribution:
    """Contributions of the tokens of a prompt to each token that was written after it.

    Attributes:
        values: `[written prompt]`, in nats of log probability, signed: what each token of the prompt adds to the log
            probability of the written token after all that stands before it. 0 for tokens that are in the baseline too.
        total: `[written]`, log probability behind the prompt minus log probability behind the baseline prompt.
        gap: `[written]`, sum of the row minus `total`: the error of the integration for gradients, rounding for Shapley
            values, what tokens do only together for ablation.
        score: what was attributed, in words.
        prompt: labels of the prompt's tokens.
        written: labels of the written tokens.
        baseline: what the prompt's tokens were compared with, in words.
        method: one of `METHODS`.
        steps: points of the integral, or random orders; 0 for ablation.
    """

    values: Float[Tensor, "written prompt"]
    total: Float[Tensor, " written"]
    gap: Float[Tensor, " written"]
    score: str
    prompt: tuple[str, ...]
    written: tuple[str, ...]
    baseline: str
    method: str = METHODS[0]
    steps: int = 0


def attribute_to_gates(
    score: Callable[[Float[Tensor, "batch layer head"]], Float[Tensor, " batch"]],
    n_layers: int,
    n_heads: int,
    *,
    name: str,
    method: str = METHODS[0],
    steps: int | None = None,
    stack: str = "",
    seed: int = 0,
) -> HeadAttribution:
    """Contributions of heads to `score`, between all gates 0 and all gates 1.

    Sources: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (arXiv:1703.01365), section 3, with a
    gate per head as the input: completeness makes the contributions sum to `score(1) - score(0)`. Castro et al. 2009,
    "Polynomial calculation of the Shapley value based on sampling" (doi:10.1016/j.cor.2008.04.004), which sum to the
    same. Ablation closes one gate at a time and sums to that only where heads do not act together.

    Args:
        score: gates -> one number per row; differentiable for "gradients".
        n_layers: gates per row, first axis.
        n_heads: gates per row, second axis.
        name: what the score is, in words.
        method: "gradients", "ablation" or "shapley".
        steps: points of the Gauss-Legendre rule, more make `gap` smaller; None takes as many as it needs, up to 1,024.
            Of "shapley" the number of random orders, 25 for None.
        stack: whose heads, for the result.
        seed: of the random orders.

    Raises:
        UsageError: an unknown method, or no step at all.
    """
    from captum.attr import FeatureAblation, IntegratedGradients, ShapleyValueSampling  # slow, and few runs need it

    check_method(method)
    check_steps(steps)
    on = torch.ones(1, n_layers, n_heads)
    off = torch.zeros_like(on)
    with torch.no_grad():
        total = float(score(on) - score(off))
    used = 0
    if method == "gradients":
        gradients = IntegratedGradients(score)

        def integrate(begin: Tensor, end: Tensor, n: int) -> Tensor:
            found: Tensor = gradients.attribute(end, baselines=begin, n_steps=n, internal_batch_size=_ROWS_AT_ONCE)
            return found.detach()

        values, used = integrated(integrate, score, off, on, steps)
    elif method == "ablation":
        with torch.no_grad():
            values = FeatureAblation(score).attribute(on, baselines=off, perturbations_per_eval=_ROWS_AT_ONCE)
    else:
        used = steps or 25
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            values = ShapleyValueSampling(score).attribute(
                on, baselines=off, n_samples=used, perturbations_per_eval=_ROWS_AT_ONCE
            )
    values = values[0].detach()
    gap = float(values.double().sum()) - total
    return HeadAttribution(values, total, gap, name, stack, method, used)


def attribute_to_vectors(
    score: Callable[[Float[Tensor, "batch token d_model"]], Float[Tensor, " batch"]],
    vectors: Float[Tensor, "token d_model"],
    baseline: Float[Tensor, "token d_model"],
    steps: int | None = None,
) -> tuple[Float[Tensor, " token"], float, int]:
    """Integrated gradients of `score` on the vectors of tokens, summed over their numbers.

    Source: Sundararajan et al. 2017 (arXiv:1703.01365), section 3; the sum over the numbers of an embedding is theirs
    too, section 6.3.

    Args:
        score: vectors -> one number per row, differentiable.
        vectors: where the way ends.
        baseline: where it begins.
        steps: as in `attribute_to_gates`.

    Returns:
        The values, in the unit of the score and signed; `score(vectors) - score(baseline)`, which they sum to; and the
        number of steps that was used.
    """
    from captum.attr import IntegratedGradients

    check_steps(steps)
    gradients = IntegratedGradients(score)
    with torch.no_grad():
        total = float(score(vectors[None]) - score(baseline[None]))

    def integrate(begin: Tensor, end: Tensor, n: int) -> Tensor:
        found: Tensor = gradients.attribute(end, baselines=begin, n_steps=n, internal_batch_size=_ROWS_AT_ONCE)
        return found.detach()[0].sum(-1)

    values, used = integrated(integrate, score, baseline[None], vectors[None], steps)
    return values, total, used


def attribute_to_changed(
    score: Callable[[Float[Tensor, "batch token d_model"]], Float[Tensor, " batch"]],
    vectors: Float[Tensor, "token d_model"],
    baseline: Float[Tensor, "token d_model"],
    method: str,
    orders: int | None = None,
    seed: int = 0,
) -> tuple[Float[Tensor, " token"], float, int]:
    """What the score loses where tokens give way to the baseline: one at a time, or in random orders.

    Sources: Zeiler & Fergus 2014 (arXiv:1311.2901), section 4.2, for one at a time; Castro et al. 2009
    (doi:10.1016/j.cor.2008.04.004) for random orders, whose means are Shapley values.

    Args:
        score: vectors -> one number per row.
        vectors: of the text.
        baseline: what stands in their place; tokens that are the same in both are left alone, and get 0.
        method: "ablation" or "shapley".
        orders: random orders, 25 for None.
        seed: of the orders.

    Returns:
        As `attribute_to_vectors`; the third is the number of orders, 0 for ablation.
    """
    from captum.attr import FeatureAblation, ShapleyValueSampling

    check_steps(orders)
    moving = (vectors != baseline).any(-1)
    groups = torch.where(moving, moving.cumsum(0), 0)  # what stays the same is one group, and changes nothing
    shared = {
        "baselines": baseline[None],
        "feature_mask": (groups - groups.min())[None, :, None].expand(1, *vectors.shape).contiguous(),
        "perturbations_per_eval": _ROWS_AT_ONCE,
    }
    used = 0
    with torch.no_grad(), torch.random.fork_rng():
        total = float(score(vectors[None]) - score(baseline[None]))
        if method == METHODS[1]:
            found = FeatureAblation(score).attribute(vectors[None], **shared)
        else:
            used = orders or 25
            torch.manual_seed(seed)
            found = ShapleyValueSampling(score).attribute(vectors[None], n_samples=used, **shared)
    return found[0, :, 0].where(moving, 0), total, used


@dataclass(frozen=True, eq=False)
class _Piece:
    """The integral over a piece of the way, and how far its sum is from the score's difference between its ends."""

    first: float
    last: float
    values: Tensor
    gap: float


def integrated(
    integrate: Callable[[Tensor, Tensor, int], Float[Tensor, ...]],
    score: Callable[[Tensor], Float[Tensor, " batch"]],
    begin: Float[Tensor, "row ..."],
    end: Float[Tensor, "row ..."],
    steps: int | None,
    most: int = _MOST_STEPS,
) -> tuple[Float[Tensor, ...], int]:
    """An integral along the straight way between two inputs, with `steps` points or with as many as it needs.

    Without `steps` the way is cut in two, again and again, where the sum is furthest from the score's difference
    between the ends of a piece: scores can turn sharply close to a baseline (norms) or anywhere (ReLU).

    Args:
        integrate: begin, end, number of points -> values.
        score: input -> what the values should sum the differences of.
        begin: of the way, one row.
        end: of the way.
        steps: points on the whole way; None stops when all gaps sum to 5e-5 (or to four roundings of the score, if
            that is more), or after `most` points.
        most: see `steps`.

    Returns:
        The values, and the number of points.
    """
    if steps is not None:
        return integrate(begin, end, steps), steps

    def at(share: float) -> Tensor:
        return end if share == 1 else begin + share * (end - begin)

    def piece(first: float, last: float) -> _Piece:
        values = integrate(at(first), at(last), _PIECE_STEPS)
        with torch.no_grad():
            difference = float(score(at(last)) - score(at(first)))
        return _Piece(first, last, values, abs(float(values.double().sum()) - difference))

    pieces, n = [piece(0.0, 1.0)], _PIECE_STEPS
    with torch.no_grad():
        height = score(end)
    small = max(_SMALL_GAP, _ROUNDINGS * torch.finfo(height.dtype).eps * float(height.abs()))
    while sum(part.gap for part in pieces) > small and n < most:
        worst = max(pieces, key=lambda part: part.gap)
        middle = (worst.first + worst.last) / 2
        pieces.remove(worst)
        pieces += [piece(worst.first, middle), piece(middle, worst.last)]
        n += 2 * _PIECE_STEPS
    return torch.stack([part.values for part in pieces]).sum(0), n


def check_method(method: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        UsageError: expected one of `METHODS`.
    """
    if method not in METHODS:
        raise UsageError(f"method {method!r} does not exist; expected one of {', '.join(METHODS)}.")


def check_steps(steps: int | None) -> None:
    """Refuse an integral without points.

    Raises:
        UsageError: fewer than one.
    """
    if steps is not None and steps < 1:
        raise UsageError(f"steps is {steps}; expected at least 1, or None for as many as it takes.")
