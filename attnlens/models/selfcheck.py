"""The proof, on opening a model, that what is captured is what the model computes.

Two made-up texts of different length run through the model as it came and through the tap. The captured pattern, put in
the place of the model's own attention, must give the model's own output; and a changed pattern must change it, site by
site. The points of the residual stream have a proof of their own, in `attnlens.models.wiring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnlens.capture.recorders import PatternRecorder
from attnlens.capture.replacements import ReplayRecorder
from attnlens.capture.sites import Site
from attnlens.capture.tap import Tap, recording
from attnlens.errors import SelfCheckError
from attnlens.models.anatomy import Check
from attnlens.models.made_up import MadeUp, output_of

__all__ = ["Proof", "check_attention", "relative_gap", "tolerance_of"]

# Largest relative difference allowed between two ways of computing the same output, by the weights' precision. Many
# families take their softmax or their norms in float32, so that float64 is not exact to its last digits.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}

Patterns = Mapping[Site, Float[Tensor, "batch head query key"]]


@dataclass(frozen=True)
class Proof:
    """What the check learned beside its verdict.

    Attributes:
        checks: the figures, all passed.
        causal: site -> no query saw a later key.
        sums_to_one: every row of every pattern does; False for models with sinks.
    """

    checks: tuple[Check, ...]
    causal: Mapping[Site, bool]
    sums_to_one: bool


def check_attention(
    tap: Tap, batch: MadeUp, record: Callable[[], PatternRecorder], tolerance: float | None = None
) -> Proof:
    """Run the check.

    Args:
        tap: where the model is listened to.
        batch: what it is run on.
        record: makes the recorder that captures will use.
        tolerance: largest relative difference allowed; None takes the usual one of the model's precision.

    Raises:
        SelfCheckError: a figure is out of its limit; the message names it.
    """
    limit = tolerance_of(tap.model) if tolerance is None else tolerance
    with torch.no_grad():
        own = output_of(tap.model, batch)
        _require(_finite(own), tap.model)
        recorder = record()
        with recording(tap, recorder):
            tapped = output_of(tap.model, batch)
        _require(_calls(recorder, tap), tap.model)
        patterns, seen = _batched(recorder, batch)
        replayed = relative_gap(_replay(tap, batch, patterns), own)
        checks = [
            _finite(own),
            _calls(recorder, tap),
            _tapped_check(relative_gap(tapped, own), limit),
            _row_sums(patterns, seen, limit, _has_sinks(patterns, limit)),
            _replay_check(replayed, limit),
            _alteration(tap, batch, patterns),
        ]
    for check in checks:
        _require(check, tap.model)
    causal = {site: not bool(visible.triu(1).any()) for site, visible in seen.items()}
    return Proof(tuple(checks), causal, not _has_sinks(patterns, limit))


def tolerance_of(model: nn.Module) -> float:
    """Largest relative difference between two ways of computing the same output, in the precision of `model`."""
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return max((_TOLERANCE.get(dtype, 8e-2) for dtype in dtypes), default=1e-4)


def relative_gap(one: Tensor, other: Tensor) -> float:
    """Largest difference relative to the largest value."""
    scale = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float(((one - other).abs().max() / scale).double())


def _require(check: Check, model: nn.Module) -> None:
    if not check.passed:
        raise SelfCheckError(
            f"self-check failed for {type(model).__name__}: {check.name} is {check.value:.3g}, limit {check.limit:.3g} "
            f"({check.meaning}); attnlens shows nothing that it cannot prove."
        )


def _finite(own: Tensor) -> Check:
    finite = bool(own.isfinite().all())
    return Check("finite", float(finite), 1.0, finite, "the model's own output holds finite numbers only (1 = yes)")


def _calls(recorder: PatternRecorder, tap: Tap) -> Check:
    calls, expected = len(recorder.patterns(0)), len(tap.sites)
    meaning = "sites whose attention reached the capture (exactly)"
    return Check("calls", float(calls), float(expected), calls == expected, meaning)


def _tapped_check(gap: float, limit: float) -> Check:
    meaning = "largest relative change of the output while the capture listens (at most)"
    return Check("listening", gap, limit, gap <= limit, meaning)


def _batched(recorder: PatternRecorder, batch: MadeUp) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Each site's weights for the whole batch, zero where there is padding, and what the first text sees."""
    rows = range(len(batch.extents.own))
    texts = [recorder.patterns(row) for row in rows]
    patterns: dict[Site, Tensor] = {}
    for site, first in texts[0].items():
        own = [text[site].weights() for text in texts]
        n_queries, n_keys = (max(weights.shape[axis] for weights in own) for axis in (1, 2))
        whole = own[0].new_zeros(len(own), first.n_heads, n_queries, n_keys)
        for row, weights in zip(rows, own, strict=True):
            whole[row, :, : weights.shape[1], : weights.shape[2]] = weights
        patterns[site] = whole
    return patterns, {site: pattern.visible() for site, pattern in texts[0].items()}


def _has_sinks(patterns: Patterns, limit: float) -> bool:
    """Whether some row keeps a part of its attention to itself, so that it sums to less than 1."""
    return any(bool((weights[0].sum(-1) < 1 - 10 * limit).any()) for weights in patterns.values())


def _row_sums(patterns: Patterns, seen: Mapping[Site, Tensor], limit: float, sinks: bool) -> Check:
    """Rows of the first text, which is not padded; with sinks a row sums to less, but never to more."""
    worst = 0.0
    for site, weights in patterns.items():
        visible: Bool[Tensor, " query"] = seen[site].any(-1)
        excess = weights[0][:, visible].double().sum(-1) - 1
        worst = max(worst, float((excess if sinks else excess.abs()).max()))
    meaning = "largest difference between 1 and the sum of a row of weights (at most)"
    if sinks:
        meaning = "largest excess over 1 of the sum of a row of weights; the rest goes to a sink (at most)"
    return Check("row_sums", worst, limit, worst <= limit, meaning)


def _replay(tap: Tap, batch: MadeUp, patterns: Patterns) -> Tensor:
    with recording(tap, ReplayRecorder(patterns)):
        return output_of(tap.model, batch)


def _replay_check(replayed: float, tolerance: float) -> Check:
    meaning = "largest relative change of the output when the captured patterns replace the model's own (at most)"
    return Check("replay", replayed, tolerance, replayed <= tolerance, meaning)


def _alteration(tap: Tap, batch: MadeUp, patterns: Patterns) -> Check:
    """Let every query of one site look at the first key alone; the site with the smallest effect counts.

    An effect has to exceed what two runs of the same differ by: nothing, but for kernels that add up in any order.
    """
    own = _replay(tap, batch, patterns)
    noise = relative_gap(_replay(tap, batch, patterns), own)
    effects = []
    for site, weights in patterns.items():
        first_only = torch.zeros_like(weights)
        first_only[..., 0] = 1
        effects.append(relative_gap(_replay(tap, batch, {**patterns, site: first_only}), own))
    limit = max(3 * noise, 1e-7)
    meaning = "smallest relative change of the output when one site's pattern is replaced by another (at least)"
    return Check("alteration", min(effects), limit, min(effects) >= limit, meaning)
