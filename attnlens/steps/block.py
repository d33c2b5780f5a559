"""One block (layer) taken apart: the stream before and after each sub-layer, with every norm and map in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.lens import Lens
from attnlens.models.projections import head_writes, projection_bias
from attnlens.models.snapshots import is_norm, same_numbers
from attnlens.steps.experts import Experts, mixed_experts
from attnlens.steps.feed_forward import FeedForward, feed_forward
from attnlens.steps.norms import NormStep, norm_step
from attnlens.steps.watching import WatchedLayer, relative_gap, tolerance, watch_layer

__all__ = ["BlockSteps", "Kind", "SubLayer", "block_steps"]

Kind = Literal["attention", "cross", "feed-forward"]

# Kind of sub-layer -> what it adds, where the stream is afterwards, and what the heads put out.
_POINTS: dict[Kind, tuple[str, str, str]] = {
    "attention": ("attn_out", "resid_mid", "z"),
    "cross": ("cross_out", "resid_cross", "cross_z"),
    "feed-forward": ("mlp_out", "resid_post", ""),
}


@dataclass(frozen=True, eq=False)
class SubLayer:
    """One sub-layer and its way back into the stream; all tensors are the model's own, in float64.

    Attributes:
        kind: what it is.
        before: the stream that its output is added to.
        norm_before: the norm in front of it (pre-LN); None where it reads the stream itself.
        given: what it reads.
        norm_on_write: the norm that its output goes through before it is added (Gemma).
        write: what is added.
        norm_after: the norm behind the sum (post-LN).
        after: the stream afterwards.
        gap: of `before + write`, through `norm_after` where there is one, to `after`, relative; None in a parallel
            block, in which both sub-layers are added at once.
        heads: what each head writes, through W_O; None for the feed-forward layer, and where W_O was not found.
        bias: of W_O.
    """

    kind: Kind
    before: Float64[Tensor, "position d_model"]
    norm_before: NormStep | None
    given: Float64[Tensor, "position d_model"]
    norm_on_write: NormStep | None
    write: Float64[Tensor, "position d_model"]
    norm_after: NormStep | None
    after: Float64[Tensor, "position d_model"]
    gap: float | None
    heads: Float64[Tensor, "head position d_model"] | None = None
    bias: Float64[Tensor, " d_model"] | None = None

    @property
    def norms(self) -> tuple[NormStep, ...]:
        """Its norms, in the order in which they are computed."""
        return tuple(norm for norm in (self.norm_before, self.norm_on_write, self.norm_after) if norm is not None)


@dataclass(frozen=True, eq=False)
class BlockSteps:
    """One layer, step by step.

    Attributes:
        layer, letter: which layer of which stack.
        layout: "pre-LN", "post-LN", "parallel" or "post-norm" (see `attnlens.models.wiring.Wiring`).
        dtype: in which the model computed.
        before, after: the residual stream in front of and behind the layer.
        sublayers: in the order in which they are computed.
        feed_forward: the feed-forward layer written out; None with the reason in `feed_forward_absent`.
        experts: likewise, where the layer routes its tokens to experts.
        gap: of the whole layer multiplied out, from the stream and what the heads put out to the stream behind it,
            relative to its largest number.
        limit: what the gap should be below, in this precision.
    """

    layer: int
    letter: str
    layout: str
    dtype: torch.dtype
    before: Float64[Tensor, "position d_model"]
    after: Float64[Tensor, "position d_model"]
    sublayers: tuple[SubLayer, ...]
    feed_forward: FeedForward | None
    experts: Experts | None
    feed_forward_absent: str
    gap: float
    limit: float

    def sublayer(self, kind: Kind) -> SubLayer | None:
        """The sub-layer of a kind; None where the layer has none."""
        return next((part for part in self.sublayers if part.kind == kind), None)


def block_steps(lens: Lens, run: Capture, layer: int, stack: str | None = None, *, inputs: Any = None) -> BlockSteps:
    """Take one layer of a run apart.

    The tokens are run once more, with the layer watched; what norms and maps do is then computed from their weights in
    float64 and compared with what the model gave.

    Args:
        lens: the model that made `run`.
        run: of a text.
        layer: which.
        stack: "E" for the encoder of an encoder-decoder; None for the only stack, or the decoder.
        inputs: the tensors that `run` was made of, where it was not made of text.

    Raises:
        HeadAddressError: the model has no such layer.
        CaptureError: the run cannot be made again, or no sums were found in this model's layers (with the reason).
        UnsupportedModelError: a norm is neither LayerNorm nor RMSNorm.
    """
    seen = watch_layer(lens, run, layer, stack, inputs=inputs)
    before, after = seen.point("resid_pre"), seen.point("resid_post")
    if seen.wiring.layout is None or before is None or after is None:
        reason = next(iter(seen.wiring.absent.values()), "no sums were found in its layers")
        raise CaptureError(f"the block of {lens.anatomy.model} cannot be taken apart: {reason}.")
    sublayers = _sublayers(seen, before, after)
    dense, experts, absent = _feed_forward(seen)
    letter = lens.anatomy.main_stack if stack in (None, "X") else str(stack).upper()
    total = _multiplied_out(seen.wiring.layout, before, sublayers, dense, experts)
    return BlockSteps(
        layer=layer,
        letter=letter,
        layout=seen.wiring.layout,
        dtype=seen.dtype,
        before=before,
        after=after,
        sublayers=sublayers,
        feed_forward=dense,
        experts=experts,
        feed_forward_absent=absent,
        gap=relative_gap(total, after),
        limit=tolerance(seen.dtype),
    )


def _sublayers(seen: WatchedLayer, before: Tensor, after: Tensor) -> tuple[SubLayer, ...]:
    kinds = [kind for kind, (write, _, _) in _POINTS.items() if seen.point(write) is not None]
    parallel = seen.wiring.layout == "parallel"
    parts: list[SubLayer] = []
    stream = before
    for kind in kinds:
        part = _sublayer(seen, kind, stream, after, last=kind == kinds[-1], parallel=parallel)
        parts.append(part)
        stream = before if parallel else part.after
    return tuple(parts)


def _sublayer(seen: WatchedLayer, kind: Kind, stream: Tensor, end: Tensor, *, last: bool, parallel: bool) -> SubLayer:
    write_point, after_point, z_point = _POINTS[kind]
    write = seen.point(write_point)
    assert write is not None
    reached = "resid_post" if last else after_point
    norm_path = seen.wiring.norms.get(reached)
    norm_after = None if norm_path is None else norm_step(seen, norm_path)
    total = stream + write if norm_after is None else norm_after.apply(stream + write)
    found = end if last or parallel else seen.point(after_point)
    front = _norm_in_front(seen, kind, stream)
    write_path = seen.wiring.readings[write_point].path
    on_write = norm_step(seen, write_path) if is_norm(seen.module.get_submodule(write_path)) else None
    heads, bias = _heads(seen, kind, z_point)
    return SubLayer(
        kind=kind,
        before=stream,
        norm_before=front,
        given=stream if front is None else front.gives,
        norm_on_write=on_write,
        write=write,
        norm_after=norm_after,
        after=total if found is None else found,
        gap=None if parallel else 0.0 if found is None else relative_gap(total, found),
        heads=heads,
        bias=bias,
    )


def _norm_in_front(seen: WatchedLayer, kind: Kind, stream: Tensor) -> NormStep | None:
    """The norm that reads the stream at this point; of two of a parallel block, the one that this sub-layer reads."""
    behind = set(seen.wiring.norms.values())
    found = [
        path
        for path, module in seen.module.named_modules()
        if path and path not in behind and is_norm(module) and same_numbers(seen.given(path), stream)
    ]
    if len(found) > 1:
        first = _first_read(seen)
        reads = [path for path in found if same_numbers(seen.gave(path), first)]
        found = reads if kind == "feed-forward" else [path for path in found if path not in reads]
    return norm_step(seen, found[0]) if found else None


def _first_read(seen: WatchedLayer) -> Tensor | None:
    """What the feed-forward layer reads, dense or routed."""
    if seen.wiring.router is not None:
        return seen.given(seen.wiring.router)
    try:
        return feed_forward(seen).given
    except UnsupportedModelError:
        return None


def _heads(seen: WatchedLayer, kind: Kind, point: str) -> tuple[Tensor | None, Tensor | None]:
    """What each head writes through W_O, and the bias of W_O."""
    path = None if kind == "feed-forward" else seen.wiring.projections.get("cross" if kind == "cross" else "self")
    z = None if path is None else seen.point(point)
    if path is None or z is None:
        return None, None
    projection = seen.module.get_submodule(path)
    try:
        device = next(projection.parameters()).device
        written = head_writes(z.to(device), projection, seen.n_cross_heads if kind == "cross" else seen.n_heads)
    except UnsupportedModelError:
        return None, None
    bias = projection_bias(projection)
    return written.cpu(), None if bias is None else bias.double().cpu()


def _feed_forward(seen: WatchedLayer) -> tuple[FeedForward | None, Experts | None, str]:
    if seen.point("mlp_out") is None:
        return None, None, seen.wiring.absent.get("mlp_out", "the layer has no feed-forward layer")
    try:
        if seen.wiring.router is not None:
            return None, mixed_experts(seen), "this layer routes its tokens to experts"
        return feed_forward(seen), None, ""
    except UnsupportedModelError as error:
        return None, None, str(error)


def _multiplied_out(
    layout: str, before: Tensor, sublayers: tuple[SubLayer, ...], dense: FeedForward | None, experts: Experts | None
) -> Tensor:
    """The stream behind the layer, from the stream in front of it and what the heads put out, by the steps alone."""
    stream = before
    for part in sublayers:
        read = before if layout == "parallel" else stream
        write = _written(part, read, dense, experts)
        if part.norm_on_write is not None and write is not part.write:
            write = part.norm_on_write.apply(write)
        stream = stream + write
        if part.norm_after is not None:
            stream = part.norm_after.apply(stream)
    return stream


def _written(part: SubLayer, read: Tensor, dense: FeedForward | None, experts: Experts | None) -> Tensor:
    """What a sub-layer writes, before a norm of its own; the model's own write where it cannot be recomputed."""
    if part.heads is not None:
        written = part.heads.sum(0)
        return written if part.bias is None else written + part.bias
    if part.kind == "feed-forward" and dense is not None:
        return dense.apply(read if part.norm_before is None else part.norm_before.apply(read))
    if part.kind == "feed-forward" and experts is not None and experts.rest is None:
        return experts.outputs.sum(1)
    return part.write
