"""The proof, on opening a model, that what is captured is what the model computes.

Two made-up texts of different length run through the model as it came and through the tap. The captured pattern, put in
the place of the model's own attention, must give the model's own output; a changed pattern must change it, layer by
layer; and the points of the residual stream must add up as the family's wiring says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.recorders import LazyRecorder, PatternRecorder, ReplayRecorder
from attnlens.capture.residual import PER_LAYER, recording_residuals
from attnlens.capture.tap import recording
from attnlens.errors import SelfCheckError, UnsupportedModelError
from attnlens.models.anatomy import Check, SelfCheck
from attnlens.models.families import Wiring, vocabulary_size

__all__ = ["Findings", "check_model", "output_of", "without_cache"]

_LENGTHS = (12, 8)
# Largest relative difference allowed between two ways of computing the same output, by the weights' precision.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}


@dataclass(frozen=True)
class Findings:
    """What the check learned beside its verdict.

    Attributes:
        self_check: the figures, all passed.
        causal: no query saw a later key in any layer.
        proven: residual points of `PER_LAYER` whose sums hold.
        absent: points that cannot be given -> why.
    """

    self_check: SelfCheck
    causal: bool
    proven: tuple[str, ...]
    absent: dict[str, str]


def check_model(
    model: PreTrainedModel,
    layers: Sequence[nn.Module],
    wiring: Wiring | None,
    recorder: type[PatternRecorder] = LazyRecorder,
) -> Findings:
    """Run the check.

    Raises:
        SelfCheckError: a figure is out of its limit; the message names it.
        UnsupportedModelError: the attention never reaches the tap.
    """
    batch = _made_up_batch(model)
    tolerance = _TOLERANCE.get(model.dtype, 8e-2)
    with torch.no_grad():
        own = output_of(model, batch)
        tapped = recorder(_LENGTHS)
        with recording(model, tapped):
            output_of(model, batch)
        _require(_finite(own), model)
        _require(_calls(tapped, layers), model)
        patterns, seen = _batched(tapped)
        replayed = _gap(_replay(model, batch, patterns), own)
        checks = [
            _finite(own),
            _calls(tapped, layers),
            _row_sums(tapped, tolerance),
            _replay_check(replayed, tolerance),
            _alteration(model, batch, patterns, replayed),
        ]
        for check in checks:
            _require(check, model)
        sums, absent = _residual_sums(model, batch, layers, wiring, tolerance)
    causal = all(not bool(visible.triu(1).any()) for visible in seen)
    proven = ("resid_pre", "resid_post") if absent else PER_LAYER
    return Findings(SelfCheck((*checks, *sums)), causal, proven, absent)


def output_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Float[Tensor, "position width"]:
    """Logits (last hidden states where there is no head) of the real positions of a padded batch, one after another."""
    output = model(**batch, **without_cache(model))
    values: Tensor = output.logits if getattr(output, "logits", None) is not None else output.last_hidden_state
    return values[batch["attention_mask"].bool()] if values.ndim == 3 else values


def without_cache(model: PreTrainedModel) -> dict[str, bool]:
    """The argument that keeps a decoder from building a key-value cache, where the family knows it."""
    return {"use_cache": False} if getattr(model.config, "use_cache", None) is not None else {}


def _made_up_batch(model: PreTrainedModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary_size(model), (2, _LENGTHS[0]), generator=generator)
    keep = torch.arange(_LENGTHS[0])[None] < torch.tensor(_LENGTHS)[:, None]
    return {"input_ids": ids.to(model.device), "attention_mask": keep.long().to(model.device)}


def _require(check: Check, model: PreTrainedModel) -> None:
    if check.passed:
        return
    if check.name == "calls" and check.value == 0:
        raise UnsupportedModelError(
            f"{type(model).__name__} computes its attention outside transformers' attention interface, "
            "so its weights cannot be captured; see `attnlens models` for the families that can."
        )
    raise SelfCheckError(
        f"self-check failed for {type(model).__name__}: {check.name} is {check.value:.3g}, limit {check.limit:.3g} "
        f"({check.meaning}); attnlens shows nothing that it cannot prove."
    )


def _finite(own: Tensor) -> Check:
    share = float(own.isfinite().double().mean())
    return Check("finite", share, 1.0, share == 1.0, "share of the model's own output that is a finite number (all)")


def _calls(tapped: PatternRecorder, layers: Sequence[nn.Module]) -> Check:
    calls, expected = float(len(tapped.layers)), float(len(layers))
    return Check("calls", calls, expected, calls == expected, "attention calls captured, one per layer (exactly)")


def _row_sums(tapped: PatternRecorder, tolerance: float) -> Check:
    gaps = [float((p.weights().sum(-1) - 1).abs().max()) for layer in tapped.layers for p in layer]
    limit = max(tolerance / 10, 1e-9)
    return Check("row_sums", max(gaps), limit, max(gaps) <= limit, "largest distance of a row's sum from 1 (at most)")


def _batched(tapped: PatternRecorder) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer: the patterns of both texts in one zero-padded `[batch head query key]`, and who sees whom."""
    longest = max(_LENGTHS)
    patterns, seen = [], []
    for layer in tapped.layers:
        weights = [pattern.weights() for pattern in layer]
        whole = weights[0].new_zeros(len(layer), layer[0].n_heads, longest, longest)
        for row, own in enumerate(weights):
            whole[row, :, : own.shape[1], : own.shape[2]] = own
        patterns.append(whole)
        seen.append(layer[0].visible())
    return patterns, seen


def _replay(model: PreTrainedModel, batch: dict[str, Tensor], patterns: Sequence[Tensor]) -> Tensor:
    with recording(model, ReplayRecorder(patterns)):
        return output_of(model, batch)


def _gap(one: Tensor, other: Tensor) -> float:
    """Largest difference relative to the largest value."""
    scale = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float(((one - other).abs().max() / scale).double())


def _replay_check(replayed: float, tolerance: float) -> Check:
    meaning = "largest relative change of the output when the captured patterns replace the model's own (at most)"
    return Check("replay", replayed, tolerance, replayed <= tolerance, meaning)


def _alteration(model: PreTrainedModel, batch: dict[str, Tensor], patterns: Sequence[Tensor], replayed: float) -> Check:
    """Let every query of one layer look at the first key alone; the layer with the smallest effect counts."""
    own = _replay(model, batch, patterns)
    effects = []
    for layer in range(len(patterns)):
        first_only = torch.zeros_like(patterns[layer])
        first_only[..., 0] = 1
        changed = [*patterns[:layer], first_only, *patterns[layer + 1 :]]
        effects.append(_gap(_replay(model, batch, changed), own))
    limit = max(3 * replayed, 1e-7)
    meaning = "smallest relative change of the output when one layer's pattern is replaced by another (at least)"
    return Check("alteration", min(effects), limit, min(effects) >= limit, meaning)


def _residual_sums(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    layers: Sequence[nn.Module],
    wiring: Wiring | None,
    tolerance: float,
) -> tuple[list[Check], dict[str, str]]:
    """The sums of the wiring, worst layer; a family whose sums are unknown or wrong loses the points, not the model."""
    inner = ("attn_out", "resid_mid", "mlp_out")
    if wiring is None:
        reason = f"the wiring of {model.config.model_type} blocks is not known to this version"
        return [], dict.fromkeys(inner, reason)
    with recording_residuals(model, layers, wiring, PER_LAYER) as stream:
        output_of(model, batch)
    gaps = [wiring.gaps(layer, {p: stream[p][i] for p in PER_LAYER}) for i, layer in enumerate(layers)]
    checks = []
    for point in ("resid_mid", "resid_post"):
        worst = max(gap[point] for gap in gaps)
        meaning = f"largest relative difference between {point} and the sum of what was written into it (at most)"
        checks.append(Check(point, worst, tolerance, worst <= tolerance, meaning))
    failed = [check for check in checks if not check.passed]
    if failed:
        reason = (
            f"{failed[0].name} differs from its sum by {failed[0].value:.3g}, so the wiring is not the expected one"
        )
        return [], dict.fromkeys(inner, reason)
    return checks, {}
