"""Where everything is in the layers of a stack: a plain description, and the sums that it must fulfil."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from attnlens.models.layers import AttentionKind
from attnlens.models.snapshots import Reading

__all__ = ["LAYER_POINTS", "ROUTER_POINTS", "STACK_POINTS", "STREAM_WRITES", "Layout", "Reading", "Wiring"]

Layout = Literal["pre-LN", "post-LN", "parallel", "post-norm"]

STACK_POINTS = ("embed", "final")
ROUTER_POINTS = ("router_logits", "router_weights", "router_experts")
LAYER_POINTS = (
    "resid_pre",
    "z",
    "attn_out",
    "resid_mid",
    "cross_z",
    "cross_out",
    "resid_cross",
    "mlp_act",
    "mlp_out",
    "resid_post",
    *ROUTER_POINTS,
)
# What is written, and the point that the stream is at afterwards.
STREAM_WRITES = (("attn_out", "resid_mid"), ("cross_out", "resid_cross"), ("mlp_out", "resid_post"))


@dataclass(frozen=True)
class Wiring:
    """What was found in every layer of a stack, and proven by numbers in one forward.

    Attributes:
        layout: "pre-LN": the stream is the plain sum of what is written. "post-LN": a norm follows each sum.
            "post-norm": what is written has gone through a norm of its own (Gemma). "parallel": attention and MLP
            read the same stream and are added at once. None where no sums were found.
        order: which of the stack's layers runs, call by call, in one forward: `(0, 0, 0)` for an ALBERT of 3 layers.
        readings: point -> where it is read, within a layer.
        norms: point -> the norm that the sum goes through to become it (post-LN).
        projections: kind of attention -> its W_O, a path within the layer.
        router: path of the router within a layer of mixed experts; None in a dense layer.
        final_norm: path, within the stack's owner, of the norm after the last layer; None where there is none.
        flat: points that the model keeps as rows `[batch*position d_model]`.
        copies: points whose tensor the model overwrites later, or that is a part of a larger one: keep a copy.
        absent: points that cannot be given -> why.
    """

    layout: Layout | None
    order: tuple[int, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)
    projections: Mapping[AttentionKind, str] = field(default_factory=dict)
    router: str | None = None
    final_norm: str | None = None
    flat: frozenset[str] = frozenset()
    copies: frozenset[str] = frozenset()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def points(self) -> tuple[str, ...]:
        """What can be recorded."""
        once = STACK_POINTS if self.order else ()
        routed = ROUTER_POINTS if self.router is not None else ()
        per_layer = tuple(point for point in LAYER_POINTS if point in self.readings or point in routed)
        return tuple(point for point in (once[:1] + per_layer + once[1:]) if point not in self.absent)

    def gaps(self, layer: nn.Module, points: Mapping[str, Tensor]) -> dict[str, float]:
        """Largest difference between each point of the stream and the sum that it should be, relative to its largest.

        Numbers that are not finite, as fully masked padding can be, are left out; without any other the gap is NaN.

        Args:
            layer: the layer whose points these are.
            points: the points of one call, each `[batch position d_model]`: `resid_pre`, `resid_post`, and what
                `readings` has of `attn_out resid_mid cross_out resid_cross mlp_out`.
        """
        gaps: dict[str, float] = {}
        stream = points["resid_pre"]
        writes = [(write, after) for write, after in STREAM_WRITES if write in self.readings]
        for index, (write, after) in enumerate(writes):
            total = stream + points[write]
            reached = "resid_post" if index == len(writes) - 1 else after
            if reached in self.norms:
                with torch.no_grad():
                    total = layer.get_submodule(self.norms[reached])(total)
            if reached in self.readings:
                gaps[reached] = _relative_gap(total, points[reached])
            stream = points[reached] if reached in self.readings else total
        return gaps


def _relative_gap(one: Tensor, other: Tensor) -> float:
    known = one.isfinite() & other.isfinite()
    if not bool(known.any()):
        return float("nan")
    scale = other[known].abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float(((one - other)[known].abs().max() / scale).double())
