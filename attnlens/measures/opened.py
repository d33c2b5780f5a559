"""What measures of an opened model share: the way to its weights, and refusals that name another measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.measures.registry import MeasureInput, find_measure

if TYPE_CHECKING:
    from attnlens.models.opening import Opened

__all__ = ["Compute", "head_means", "opened_of", "refusing"]

Compute = Callable[[MeasureInput], Float[Tensor, "..."]]

# Rows further below 1 than rounding in bfloat16 makes them: part of the weight goes to a sink.
_WHOLE = 1e-2


def refusing(name: str, compute: Compute) -> Compute:
    """`compute`, with what the run or the model does not have told as a refusal of the measure `name`.

    Raises:
        MeasureError: the reason, and which measure to take instead.
    """

    def taken(given: MeasureInput) -> Float[Tensor, ...]:
        try:
            return compute(given)
        except (CaptureError, UnsupportedModelError) as error:
            raise find_measure(name).refusal(str(error)) from error

    return taken


def opened_of(given: MeasureInput) -> Opened:
    """The opened model; measures that call this say so in their `needs`."""
    assert given.lens is not None
    return given.lens.opened


def head_means(run: Capture, letter: str, *, whole: bool = True) -> Float[Tensor, "layer query key"]:
    """Mean over the heads of each layer's weights, one layer at a time in memory.

    Args:
        run: of what.
        letter: of the stack.
        whole: refuse rows that sum to less than 1, which a product of layers would make ever smaller.

    Raises:
        CaptureError: a layer that has no attention, or rows that sum to less than 1.
    """
    patterns = run.patterns_of(stack=letter or None)
    if missing := [layer for layer, pattern in enumerate(patterns) if pattern is None]:
        raise CaptureError(f"layer {missing[0]} has no attention here, and mixing goes through every layer")
    means = torch.stack([run.attention(layer, stack=letter or None).mean(0) for layer in range(len(patterns))])
    if whole and bool((means.sum(-1) < 1 - _WHOLE).any()):
        raise CaptureError("rows of its attention sum to less than 1 (sinks), so layers do not pass on all of a token")
    return means
