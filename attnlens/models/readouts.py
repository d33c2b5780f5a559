"""Arrays that measures need out of an opened model: values and W_O of heads, norms held fixed, the unembedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER
from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.measures.logits import FrozenNorm
from attnlens.measures.norms import moved_by_heads
from attnlens.models.opening import Opened
from attnlens.models.projections import projection_bias, projection_weight

__all__ = [
    "AttentionBlock",
    "Unembedding",
    "attention_block",
    "attention_layers",
    "blocks",
    "epsilon_of",
    "final_norm",
    "freeze_norm",
    "head_projection",
    "layer_of",
    "point_of_layer",
    "unembedding",
]

# How closely a norm written out has to give what the module gives, relative to its largest number.
_CLOSE = 1e-4
_EPSILONS = ("eps", "variance_epsilon", "epsilon")


@dataclass(frozen=True)
class AttentionBlock:
    """Attention of one layer taken apart: `outputs = outer(inner(sum of what heads move + bias) + residual)`.

    Attributes:
        pattern: weights.
        moved: what each head would write if all its weight were on one key.
        bias: of W_O; None where it has none.
        residual: what goes around attention.
        inner: norm on what attention writes, held fixed (Gemma); None in other families.
        outer: norm behind the sum, held fixed (post-LN); None in other families.
        outputs: the stream after the block.
    """

    pattern: Float[Tensor, "head query key"]
    moved: Float[Tensor, "head key d_model"]
    bias: Float[Tensor, " d_model"] | None
    residual: Float[Tensor, "query d_model"]
    inner: FrozenNorm | None
    outer: FrozenNorm | None
    outputs: Float[Tensor, "query d_model"]

    @property
    def scaled(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pattern, moved, residual and sigma, so that `(pattern @ moved + residual) / sigma` are parts of the outputs.

        A norm's division differs from query to query: that of the inner one goes into the rows of the pattern, that of
        the outer one is left as sigma (ones where there is none).
        """
        pattern, moved, residual = self.pattern, self.moved, self.residual
        sigma = torch.ones_like(residual[:, 0])
        if self.inner is not None:
            pattern, moved = pattern / self.inner.sigma.to(pattern)[:, None], self.inner.undivided(moved)
        if self.outer is not None:
            moved, residual, sigma = self.outer.undivided(moved), self.outer.undivided(residual), self.outer.sigma
        return pattern, moved, residual, sigma


def attention_layers(opened: Opened, letter: str) -> tuple[int, ...]:
    """Layers of a stack that have attention."""
    return opened.anatomy.stack(letter).attention_layers


def layer_of(opened: Opened, letter: str, layer: int) -> nn.Module:
    """The module of a layer; that of the decoder for cross-attention."""
    home = _home(letter)
    return opened.stacks[home].layers[opened.wirings[home].order[layer]]


def head_projection(
    opened: Opened, letter: str, layer: int
) -> tuple[Float[Tensor, "head d_head d_model"], Float[Tensor, " d_model"] | None]:
    """W_O of a layer, cut into heads, and its bias; on the CPU.

    Raises:
        CaptureError: W_O was not found.
        UnsupportedModelError: it is no plain matrix.
    """
    path = opened.wirings[_home(letter)].projections.get("cross" if letter == CROSS else "self")
    if path is None:
        raise CaptureError(f"the output projection (W_O) of {opened.anatomy.model} was not found.")
    projection = layer_of(opened, letter, layer).get_submodule(path)
    weight, bias = projection_weight(projection), projection_bias(projection)
    by_head = weight.cpu().unflatten(0, (opened.anatomy.stack(letter).n_heads, -1))  # type: ignore[no-untyped-call]
    return by_head, None if bias is None else bias.cpu()


def attention_block(opened: Opened, run: Capture, letter: str, layer: int) -> AttentionBlock:
    """One layer's attention taken apart.

    Args:
        opened: the model that made `run`.
        run: with the points `v`, `attn_out` and `resid_pre`; for cross-attention `v`, `cross_out` and `resid_mid`.
        letter: of the stack.
        layer: one that has attention.

    Raises:
        CaptureError: a point that was not kept, or that the model does not give.
        UnsupportedModelError: weights or norms of a form that cannot be taken apart.
    """
    cross = letter == CROSS
    home = _home(letter)
    pattern = run.attention(layer, stack=letter)
    weight, bias = head_projection(opened, letter, layer)
    values = point_of_layer(run, "v", letter, layer).to(pattern)
    values = values.repeat_interleave(len(weight) // len(values), dim=0)
    moved = moved_by_heads(values, weight.to(pattern))
    residual = point_of_layer(run, "resid_mid" if cross else "resid_pre", home, layer)
    written = point_of_layer(run, "cross_out" if cross else "attn_out", home, layer)
    module, wiring = layer_of(opened, letter, layer), opened.wirings[home]
    raw = torch.einsum("hqk,hkd->qd", pattern, moved) + (0 if bias is None else bias.to(pattern))
    inner = _norm_on_write(
        module.get_submodule(wiring.readings["cross_out" if cross else "attn_out"].path), raw, written
    )
    total = residual.to(pattern) + written.to(pattern)
    path = wiring.norms.get("resid_cross" if cross else "resid_mid")
    outer = None if path is None else freeze_norm(module.get_submodule(path), total)
    outputs = total if outer is None else outer.linear(total) + (0 if outer.bias is None else outer.bias.to(total))
    return AttentionBlock(pattern, moved, bias, residual.to(pattern), inner, outer, outputs)


def blocks(opened: Opened, run: Capture, letter: str) -> Iterator[tuple[int, AttentionBlock]]:
    """Layer by layer, each taken apart when it is asked for."""
    for layer in attention_layers(opened, letter):
        yield layer, attention_block(opened, run, letter, layer)


def freeze_norm(norm: nn.Module, given: Float[Tensor, "position d_model"]) -> FrozenNorm:
    """A norm layer as the affine map that it is at `given`, proven to give what the module gives.

    Raises:
        UnsupportedModelError: it is neither LayerNorm nor RMSNorm.
    """
    weight = getattr(norm, "weight", None)
    gain = torch.ones(given.shape[-1]) if weight is None else weight.detach().float().cpu()
    bias = getattr(norm, "bias", None)
    bias = bias.detach().float().cpu() if isinstance(bias, Tensor) else None
    epsilon = epsilon_of(norm)
    own = given.to(_like(norm, given))
    with torch.no_grad():
        expected = norm(own).cpu().double()
    for centred in (False, True):
        moved = given.double() - given.double().mean(-1, keepdim=True) if centred else given.double()
        sigma = (moved.square().mean(-1) + epsilon).sqrt()
        for factor in (gain, 1 + gain):  # Gemma's weights are what is added to 1
            frozen = FrozenNorm(factor, bias, sigma, centred)
            found = frozen.linear(given.double()) + (0 if bias is None else bias.double())
            if bool((found - expected).abs().max() <= _tolerance(own) * expected.abs().max()):
                return frozen
    raise UnsupportedModelError(
        f"{type(norm).__name__} is neither a LayerNorm nor an RMSNorm, so its scale cannot be held fixed."
    )


def epsilon_of(norm: nn.Module) -> float:
    """What a norm layer adds under its root; 0 where it names nothing."""
    return next((float(value) for name in _EPSILONS if (value := getattr(norm, name, None)) is not None), 0.0)


def final_norm(opened: Opened, run: Capture) -> FrozenNorm:
    """The norm behind the last layer of the main stack, held fixed at `run`.

    Args:
        opened: the model that made `run`.
        run: with the point `resid_post`.

    Raises:
        CaptureError: the model has none, as post-LN models have.
        UnsupportedModelError: see `freeze_norm`.
    """
    letter = opened.anatomy.main_stack
    path = opened.wirings[letter].final_norm
    if path is None:
        raise CaptureError(f"{opened.anatomy.model} has no norm behind its last layer that could be held fixed")
    last = run.residual("resid_post", len(opened.wirings[letter].order) - 1)
    return freeze_norm(opened.stacks[letter].owner.get_submodule(path), last)


@dataclass(frozen=True)
class Unembedding:
    """A linear prediction head: `logits = scale * (final @ weight.T) + bias`, under a soft cap where there is one.

    Attributes:
        weight: the model's own parameter, not a copy.
        scale: 1 in most families; T5 divides by the square root of d_model.
        bias: None where there is none.
        cap: `cap * tanh(logits / cap)` is what the model gives (Gemma); None where it gives the logits themselves.
    """

    weight: Float[Tensor, "vocab d_model"]
    scale: float
    bias: Float[Tensor, " vocab"] | None
    cap: float | None

    def vector(self, token: int) -> Float[Tensor, " d_model"]:
        """What the final state is multiplied with for the logit of `token`, on the CPU."""
        return self.weight[token].float().cpu() * self.scale

    def constant(self, token: int) -> float:
        """What the bias adds to that logit."""
        return 0.0 if self.bias is None else float(self.bias[token])

    def effects(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """What vectors at the input of the head add to each logit."""
        return vectors.float() @ self.weight.float().cpu().T * self.scale


def unembedding(opened: Opened, run: Capture) -> Unembedding:
    """The prediction head as a linear map, proven on the logits of `run`.

    Args:
        opened: the model that made `run`.
        run: with the point `final` and its logits.

    Raises:
        CaptureError: the model has no language-model head, or one that is more than linear (BERT's has a layer inside).
    """
    model: Any = opened.tap.model
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None  # type: ignore[no-untyped-call]
    if head is None or run.logits is None or run.logits.ndim != 2:
        raise CaptureError(f"{opened.anatomy.model} has no language-model head")
    weight = head.weight.detach()
    bias = getattr(head, "bias", None) if getattr(head, "bias", None) is not None else _final_bias(model)
    bias = None if bias is None else bias.detach().flatten().float().cpu()
    cap = getattr(getattr(model, "config", None), "final_logit_softcapping", None)
    final, logits = run.residual("final")[-1:].float(), run.logits[-1:].float()
    if final.shape[-1] != weight.shape[-1] or len(weight) != logits.shape[-1]:
        raise CaptureError("a layer stands between the last state and the unembedding")
    plain = final @ weight.float().cpu().T
    rest = logits if bias is None else logits - bias
    scale = 1.0 if cap else float((rest * plain).sum() / plain.square().sum())
    found = Unembedding(weight, scale, bias, cap)
    uncapped = scale * plain + (0 if bias is None else bias)
    given = cap * (uncapped / cap).tanh() if cap else uncapped
    if not bool((given - logits).abs().max() <= _tolerance(run.logits) * logits.abs().max()):
        raise CaptureError("the prediction head is more than a linear map of the last state")
    return found


def _final_bias(model: nn.Module) -> Tensor | None:
    bias = getattr(model, "final_logits_bias", None)  # BART's
    return bias if isinstance(bias, Tensor) else None


def _norm_on_write(
    module: nn.Module, raw: Float[Tensor, "query d_model"], written: Float[Tensor, "query d_model"]
) -> FrozenNorm | None:
    """The norm that attention's output goes through before it is added; None where it is added as it is.

    Raises:
        UnsupportedModelError: the heads' shares do not sum to what the layer writes.
    """
    limit = _tolerance(written) * written.double().abs().max()
    if bool((raw.double() - written.double()).abs().max() <= limit):
        return None
    if "norm" in type(module).__name__.lower():
        return freeze_norm(module, raw)
    raise UnsupportedModelError(
        f"values and W_O do not sum to what attention writes ({type(module).__name__}): something stands between them."
    )


def point_of_layer(run: Capture, point: str, letter: str, layer: int) -> Tensor:
    """A point of one layer of the stack with this letter."""
    return run.residual(point, layer, stack=letter or None)


def _home(letter: str) -> str:
    return DECODER if letter == CROSS else letter


def _like(module: nn.Module, given: Tensor) -> Tensor:
    return next((p.detach() for p in module.parameters()), given)


def _tolerance(values: Tensor) -> float:
    """Relative: 1e-4 in float32 and float64, wider where the model itself computes with fewer bits."""
    return max(_CLOSE, 8 * torch.finfo(values.dtype).eps)
