"""Direct logit attribution of a run: a logit as the sum of what embeddings, heads, MLPs and biases wrote."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS
from attnlens.errors import CaptureError
from attnlens.measures.logits import FrozenNorm, direct_shares
from attnlens.models.opening import Opened
from attnlens.models.readouts import (
    attention_layers,
    final_norm,
    freeze_norm,
    head_projection,
    layer_of,
    point_of_layer,
    unembedding,
)
from attnlens.models.targets import Target

__all__ = ["DIRECT_POINTS", "DirectAttribution", "attribute_directly", "head_effects"]

DIRECT_POINTS = ("embed", "z", "mlp_out", "resid_post", "final")


@dataclass(frozen=True)
class DirectAttribution:
    """A logit, or the difference of two, as a sum; every value in logits, signed: positive speaks for the target.

    Attributes:
        target: which logit.
        embedding: share of what the first layer was given (positions included).
        heads: share of each head; NaN where a layer has no attention.
        cross_heads: of cross-attention; None where there is none.
        attention_bias: share of the biases of W_O, of all kinds of attention, by layer.
        mlp: share of each feed-forward network.
        constant: share of the final norm's bias and of the unembedding's.
        logit: what the shares sum to by the model's own last state; before a soft cap, where the model has one.
        gap: the sum minus `logit`.
    """

    target: Target
    embedding: float
    heads: Float64[Tensor, "layer head"]
    cross_heads: Float64[Tensor, "layer head"] | None
    attention_bias: Float64[Tensor, " layer"]
    mlp: Float64[Tensor, " layer"]
    constant: float
    logit: float

    @property
    def gap(self) -> float:
        """How far the shares are from summing to the logit: rounding."""
        crossed = 0.0 if self.cross_heads is None else float(self.cross_heads.nansum())
        layers = float(self.heads.nansum() + self.attention_bias.sum() + self.mlp.sum())
        return self.embedding + layers + crossed + self.constant - self.logit


def attribute_directly(opened: Opened, run: Capture, target: Target) -> DirectAttribution:
    """Split a logit into what was written into the stream at its position, the final norm's divisor held fixed.

    Source: see `attnlens.measures.logits.direct_shares`.

    Args:
        opened: the model that made `run`.
        run: with `DIRECT_POINTS` and its logits.
        target: which logit.

    Raises:
        CaptureError: the stream is not a plain sum (post-LN), the head is not linear, or what was written does not
            sum to the stream.
        UnsupportedModelError: weights or norms of a form that cannot be taken apart.
    """
    letter, position = opened.anatomy.main_stack, target.position
    _require_sum(opened)
    head, norm = unembedding(opened, run), final_norm(opened, run)
    vector = head.vector(target.token) - (0 if target.against is None else head.vector(target.against))
    bias = head.constant(target.token) - (0.0 if target.against is None else head.constant(target.against))
    direction = norm.direction(vector, position)
    embedding, mlp = run.residual("embed")[position], run.residual("mlp_out")[:, position]
    heads, biases = _writes(opened, run, letter, position)
    reached = embedding.double() + mlp.double().sum(0) + heads.nansum((0, 1)) + biases.sum(0)
    crossed = None
    if any(stack.letter == CROSS for stack in opened.anatomy.stacks):
        crossed, more = _writes(opened, run, CROSS, position)
        biases = biases + more
        reached = reached + crossed.nansum((0, 1)) + more.sum(0)
    _check_sum(opened, reached, run.residual("resid_post")[-1, position])
    return DirectAttribution(
        target=target,
        embedding=float(direct_shares(embedding, direction)),
        heads=direct_shares(heads, direction),
        cross_heads=None if crossed is None else direct_shares(crossed, direction),
        attention_bias=direct_shares(biases, direction),
        mlp=direct_shares(mlp, direction),
        constant=norm.constant(vector) + bias,
        logit=float(run.residual("final")[position].double() @ vector.double()) + bias,
    )


def head_effects(opened: Opened, run: Capture, layer: int, head: int, position: int) -> Float[Tensor, " vocab"]:
    """What one head's output at a position adds to every logit directly, the final norm's divisor held fixed.

    Args:
        opened: the model that made `run`.
        run: with `DIRECT_POINTS` and its logits.
        layer: of the main stack.
        head: within the layer.
        position: whose output is read.

    Raises:
        As `attribute_directly`.
    """
    letter = opened.anatomy.main_stack
    _require_sum(opened)
    norm = final_norm(opened, run)
    write = _writes_of_layer(opened, run, letter, layer, position)[0][head]
    return unembedding(opened, run).effects(norm.undivided(write) / norm.sigma[position])


def _writes(
    opened: Opened, run: Capture, letter: str, position: int
) -> tuple[Float64[Tensor, "layer head d_model"], Float64[Tensor, "layer d_model"]]:
    """What heads and the biases of W_O write at a position; NaN and 0 for layers without attention."""
    anatomy = opened.anatomy.stack(letter)
    heads = torch.full((anatomy.n_layers, anatomy.n_heads, opened.anatomy.d_model), torch.nan, dtype=torch.float64)
    biases = torch.zeros(anatomy.n_layers, opened.anatomy.d_model, dtype=torch.float64)
    for layer in attention_layers(opened, letter):
        heads[layer], biases[layer] = _writes_of_layer(opened, run, letter, layer, position)
    return heads, biases


def _writes_of_layer(
    opened: Opened, run: Capture, letter: str, layer: int, position: int
) -> tuple[Float64[Tensor, "head d_model"], Float64[Tensor, " d_model"]]:
    weight, bias = head_projection(opened, letter, layer)
    z = point_of_layer(run, "z", letter, layer)[:, position].double()
    heads = (z[:, None] @ weight.double())[:, 0]
    shift = torch.zeros_like(heads[0]) if bias is None else bias.double()
    norm = _inner_norm(opened, letter, layer, heads.sum(0) + shift)
    if norm is None:
        return heads, shift
    return norm.linear(heads[:, None])[:, 0], norm.linear(shift[None])[0] + (
        0 if norm.bias is None else norm.bias.double()
    )


def _inner_norm(opened: Opened, letter: str, layer: int, raw: Float64[Tensor, " d_model"]) -> FrozenNorm | None:
    """The norm that attention's output goes through before it is added to the stream (Gemma)."""
    if opened.anatomy.stack(letter).layout != "post-norm":
        return None
    wiring = opened.wirings[letter]
    return freeze_norm(layer_of(opened, letter, layer).get_submodule(wiring.readings["attn_out"].path), raw[None])


def _require_sum(opened: Opened) -> None:
    """Refuse models whose stream is scaled anew in every layer.

    Raises:
        CaptureError: why.
    """
    layout = opened.anatomy.stack(opened.anatomy.main_stack).layout
    if layout == "post-LN":
        raise CaptureError(
            f"the stream of {opened.anatomy.model} goes through a norm in every layer, so it is no plain sum; "
            "gradients need none (lens.attribute_heads for heads, 'relevance' for tokens)"
        )
    if layout not in ("pre-LN", "parallel", "post-norm"):
        raise CaptureError(f"how the layers of {opened.anatomy.model} add up is not known")


def _check_sum(opened: Opened, total: Float64[Tensor, " d_model"], stream: Tensor) -> None:
    gap = float((total - stream.double()).abs().max())
    limit = max(1e-4, 32 * torch.finfo(stream.dtype).eps) * float(stream.double().abs().max())
    if not gap <= limit or math.isnan(gap):
        raise CaptureError(
            f"what the layers of {opened.anatomy.model} write does not sum to its stream (off by {gap:.2g}), so no "
            "logit can be split"
        )
