"""All heads of a layer at one query: whom each looks at, and what each adds to the layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError
from attnlens.heads import Head
from attnlens.models.lens import Lens
from attnlens.steps.attending import AttendingLayer, attending_layer
from attnlens.steps.head import HeadSteps, steps_of_head
from attnlens.steps.watching import relative_gap

__all__ = ["ManyHeads", "many_heads", "many_heads_of"]


@dataclass(frozen=True, eq=False)
class ManyHeads:
    """The heads of a layer at one query; all tensors in float64.

    Attributes:
        heads: the steps of each.
        writes: what each adds to the stream.
        bias: what W_O adds once; None without.
        total: their sum, the output of the layer's attention.
        gap: of the sum to what the model's output projection gave, relative; None where that was not seen.
        limit: what the gap should be below.
    """

    heads: tuple[HeadSteps, ...]
    writes: Float64[Tensor, "head d_model"]
    bias: Float64[Tensor, " d_model"] | None
    total: Float64[Tensor, " d_model"]
    gap: float | None
    limit: float

    @property
    def lengths(self) -> Float64[Tensor, " head"]:
        """Length (Euclidean norm) of what each head writes."""
        lengths: Tensor = self.writes.norm(dim=-1)
        return lengths

    @property
    def cosines(self) -> Float64[Tensor, " head"]:
        """Cosine of each head's write and the sum, -1 to 1; 0 where one of them is 0."""
        lengths = self.lengths * self.total.norm()
        cosines: Tensor = self.writes @ self.total / lengths.clamp_min(1e-300)
        return cosines.masked_fill(lengths == 0, 0.0)

    @property
    def shares(self) -> Float64[Tensor, " part"]:
        """Projection of each part on the sum, as a share of its length: the heads', then the bias' where there is one.

        They sum to 1; a part that points against the sum has a share below 0. All 0 where the sum is 0.
        """
        parts = self.writes if self.bias is None else torch.cat([self.writes, self.bias[None]])
        square = self.total.square().sum()
        return parts @ self.total / square if float(square) else torch.zeros(len(parts), dtype=torch.float64)


def many_heads(
    lens: Lens, run: Capture, layer: int, query: int, stack: str | None = None, *, inputs: Any = None
) -> ManyHeads:
    """Every head of one layer at one query.

    Args:
        lens: the model that made `run`.
        run: of a text; its tokens are run once more.
        layer: which.
        query: position of the query; counted from the end where it is negative.
        stack: "E" or "X" in an encoder-decoder; None for the only stack, or the decoder.
        inputs: the tensors that `run` was made of, where it was not made of text.

    Raises:
        HeadAddressError, UsageError, CaptureError: as `attnlens.steps.head.head_steps`; W_O was not found.
    """
    return many_heads_of(attending_layer(lens, run, layer, stack, inputs=inputs), run, query)


def many_heads_of(layer: AttendingLayer, run: Capture, query: int) -> ManyHeads:
    """The heads of a layer that was run again; see `many_heads`."""
    if layer.output is None:
        raise CaptureError(f"what each head writes is not known: {layer.absent['output']}")
    addresses = (Head(layer.layer, head, layer.letter) for head in range(layer.n_heads))
    heads = tuple(steps_of_head(layer, run, address, query) for address in addresses)
    writes = torch.stack([head.write for head in heads if head.write is not None])
    total = writes.sum(0) if layer.bias is None else writes.sum(0) + layer.bias
    written = None if layer.written is None else layer.written[heads[0].query]
    gap = None if written is None else relative_gap(total, written)
    return ManyHeads(heads, writes, layer.bias, total, gap, layer.limit)
