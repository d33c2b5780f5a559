"""What every submodule of a layer saw and gave during one call, copied at that moment, for the search to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlens.models.hooks import Listener
from attnlens.models.layers import LayerStack

__all__ = ["Held", "LayerCall", "Reading", "Side", "is_linear", "is_norm", "modules_of", "same_numbers", "watch_layers"]

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Reading:
    """One side of a submodule, `path` within its layer; `Reading("", "output")` is the layer's own output."""

    path: str
    side: Side

    def __str__(self) -> str:
        return f"{self.side} of {self.path or 'the layer'}"


@dataclass(frozen=True)
class Held:
    """A tensor of the model itself, kept by reference until the forward ends.

    Attributes:
        tensor: what the module was given or gave.
        version: its count of writes in place at that moment; None where torch does not count (inference mode).
    """

    tensor: Tensor
    version: int | None

    @property
    def must_be_copied(self) -> bool:
        """True where a reference would not do: the tensor was written into later, or keeps a larger one alive."""
        written = self.version is None or self.tensor._version != self.version
        return written or self.tensor.untyped_storage().nbytes() > self.tensor.nbytes


@dataclass
class LayerCall:
    """One call of one layer.

    Attributes:
        layer: which of the stack's modules.
        number: the how-many-th call of the stack.
        shape, dtype: of the layer's input.
        values: reading -> its numbers at that moment, float64 on the CPU, one row per position.
        times: reading -> when it was read, counted in readings.
        held: reading -> the model's own tensor.
        ran: path -> number of calls of that submodule.
    """

    layer: int
    number: int
    shape: torch.Size = field(default_factory=torch.Size)
    dtype: torch.dtype = torch.float32
    values: dict[Reading, Float[Tensor, "row width"]] = field(default_factory=dict)
    times: dict[Reading, int] = field(default_factory=dict)
    held: dict[Reading, Held] = field(default_factory=dict)
    ran: dict[str, int] = field(default_factory=dict)

    def take(self, reading: Reading, tensor: Tensor | None) -> None:
        """Copy a tensor's numbers; tensors with another number of rows than the layer's input are left out."""
        if reading == Reading("", "input") and tensor is not None:
            self.shape, self.dtype = tensor.shape, tensor.dtype
        self.times[reading] = len(self.times)
        if reading.side == "input":
            self.ran[reading.path] = self.ran.get(reading.path, 0) + 1
        if tensor is None or tensor.is_nested or not tensor.is_floating_point() or not self._has_rows(tensor):
            return
        rows = tensor.detach().reshape(-1, tensor.shape[-1]).cpu()
        self.values[reading] = rows.to(torch.float64, copy=True)
        self.held[reading] = Held(tensor, None if tensor.is_inference() else tensor._version)

    def finish(self) -> None:
        """Forget submodules that ran more than once in this call: one reading cannot stand for several."""
        several = {path for path, calls in self.ran.items() if calls > 1}
        for reading in [reading for reading in self.values if reading.path in several]:
            del self.values[reading]

    def _has_rows(self, tensor: Tensor) -> bool:
        width = tensor.shape[-1] if tensor.ndim else 0
        return width > 0 and bool(self.shape) and tensor.numel() // width == self.shape[:-1].numel()


def watch_layers(listener: Listener, stack: LayerStack, finished: Callable[[LayerCall], None]) -> None:
    """Read both sides of every submodule; hand each call over when its layer returns."""
    running: list[LayerCall] = []
    calls = [0]

    def begin(layer: int) -> Callable[[Tensor | None], None]:
        def receive(tensor: Tensor | None) -> None:
            running.append(LayerCall(layer, calls[0]))
            calls[0] += 1
            running[-1].take(Reading("", "input"), tensor)

        return receive

    def end(tensor: Tensor | None) -> None:
        call = running.pop()
        call.take(Reading("", "output"), tensor)
        call.finish()
        finished(call)

    def read(layer: int, reading: Reading) -> Callable[[Tensor | None], None]:
        def receive(tensor: Tensor | None) -> None:
            if running and running[-1].layer == layer:  # layers may share a submodule
                running[-1].take(reading, tensor)

        return receive

    for index, layer in enumerate(stack.layers):
        listener.on_input(layer, begin(index))
        for path, module in layer.named_modules():
            if path:
                listener.on_input(module, read(index, Reading(path, "input")))
                listener.on_output(module, read(index, Reading(path, "output")))
        listener.on_output(layer, end)


def same_numbers(one: Tensor | None, other: Tensor | None) -> bool:
    """Equal in shape and in every number; NaN, which fully masked padding can be, equals NaN."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def is_norm(module: nn.Module) -> bool:
    """True for layer norms and their relatives, by class name."""
    return "norm" in type(module).__name__.lower()


def is_linear(module: nn.Module) -> bool:
    """True for a linear map with a weight matrix: torch's Linear, transformers' Conv1D, quantised linears."""
    name = type(module).__name__
    return isinstance(module, nn.Linear) or name == "Conv1D" or ("Linear" in name and hasattr(module, "weight"))


def modules_of(layer: nn.Module) -> Mapping[str, nn.Module]:
    """Path -> submodule, the layer itself left out."""
    return {path: module for path, module in layer.named_modules() if path}
