"""One layer of a model at work: what each of its submodules was given and gave, for one text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, HeadAddressError
from attnlens.models.hooks import Listener, listening
from attnlens.models.inputs import Batch
from attnlens.models.layers import LayerStack
from attnlens.models.lens import Lens
from attnlens.models.made_up import without_cache
from attnlens.models.reruns import batch_of_run
from attnlens.models.snapshots import LayerCall, Reading, watch_layers
from attnlens.models.wiring import Wiring

__all__ = ["Routed", "WatchedLayer", "relative_gap", "tolerance", "watch_layer"]


@dataclass(frozen=True, eq=False)
class Routed:
    """One call of mixed experts.

    Attributes:
        experts: the module.
        args, kwargs: of the call; what is routed, to whom, and with what weight.
        routing: what the router gave: logits `[token expert]`, then weights and experts `[token choice]`.
    """

    experts: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    routing: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class WatchedLayer:
    """One call of one layer.

    Attributes:
        module: the layer.
        wiring: of its stack.
        n_heads, n_cross_heads: query heads of its self-attention, and of its cross-attention (0 without).
        dtype: in which the model computed.
        values: what submodules were given and gave, one row per position.
        routed: the call of its experts; None in a dense layer.
    """

    module: nn.Module
    wiring: Wiring
    n_heads: int
    n_cross_heads: int
    dtype: torch.dtype
    values: Mapping[Reading, Float64[Tensor, "position width"]]
    routed: Routed | None = None

    def point(self, name: str) -> Float64[Tensor, "position width"] | None:
        """A point of the layer (`attnlens.models.wiring.LAYER_POINTS`); None where it has no such point."""
        reading = self.wiring.readings.get(name)
        return None if reading is None else self.values.get(reading)

    def given(self, path: str) -> Float64[Tensor, "position width"] | None:
        """What the submodule at a path was given."""
        return self.values.get(Reading(path, "input"))

    def gave(self, path: str) -> Float64[Tensor, "position width"] | None:
        """What the submodule at a path gave."""
        return self.values.get(Reading(path, "output"))


@dataclass
class _Heard:
    """What hooks received: one entry per call of the module of the layer."""

    calls: list[LayerCall] = field(default_factory=list)
    experts: list[tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]] = field(default_factory=list)
    routings: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


def watch_layer(lens: Lens, run: Capture, layer: int, stack: str | None = None, *, inputs: Any = None) -> WatchedLayer:
    """Run the tokens of a run again and watch one layer.

    Args:
        lens: the model that made `run`.
        run: of a text; it is run again, which has to give the same.
        layer: which.
        stack: "E" for the encoder of an encoder-decoder; None for the only stack, or the decoder.
        inputs: the tensors that `run` was made of, where it was not made of text.

    Raises:
        HeadAddressError: the model has no such layer.
        CaptureError: the run cannot be made again (an edited model, tensors without `inputs`).
    """
    opened = lens.opened
    letter = opened.anatomy.main_stack if stack in (None, "X") else str(stack).upper()
    part = opened.anatomy.stack(letter)
    if not 0 <= layer < part.n_layers:
        raise HeadAddressError(f"layer {layer} does not exist: {opened.anatomy.model} has 0 to {part.n_layers - 1}.")
    batch: Batch = batch_of_run(opened, run) if inputs is None else lens.reader.tensors(inputs)
    wiring, own = opened.wirings[letter], opened.stacks[letter]
    module = own.layers[wiring.order[layer]]
    heard = _Heard()
    with torch.no_grad(), listening([module]) as listener:
        _listen(listener, replace(own, layers=(module,)), wiring, heard)
        batch.call(opened.tap.model, **without_cache(opened.tap.model))
    which = wiring.order[:layer].count(wiring.order[layer])
    if which >= len(heard.calls):
        raise CaptureError(f"layer {layer} of {opened.anatomy.model} was not called in this run.")
    call = heard.calls[which]
    cross = next((other.n_heads for other in opened.anatomy.stacks if other.letter == "X" and letter != "E"), 0)
    return WatchedLayer(module, wiring, part.n_heads, cross, call.dtype, dict(call.values), _routed(heard, which))


def relative_gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number expected; 0 where both are zero."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    gap = float((found - expected).abs().max()) if expected.numel() else 0.0
    return gap / scale if scale else gap


def tolerance(dtype: torch.dtype) -> float:
    """How far a step written out may be from what the model computed in this precision, relative."""
    return max(1e-5, 16 * torch.finfo(dtype).eps)


def _listen(listener: Listener, alone: LayerStack, wiring: Wiring, heard: _Heard) -> None:
    (module,) = alone.layers
    watch_layers(listener, alone, heard.calls.append)
    if wiring.router is None:
        return
    for name, part in module.get_submodule(wiring.router.rpartition(".")[0]).named_children():
        if type(part).__name__.endswith("Experts") and name != wiring.router.rpartition(".")[2]:
            listener.on_call(part, _noting(part, heard))
    listener.on_result(module.get_submodule(wiring.router), heard.routings.append)


def _noting(part: nn.Module, heard: _Heard) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
    def note(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        heard.experts.append((part, args, kwargs))

    return note


def _routed(heard: _Heard, which: int) -> Routed | None:
    if which >= len(heard.experts) or which >= len(heard.routings):
        return None
    module, args, kwargs = heard.experts[which]
    return Routed(module, args, kwargs, heard.routings[which])
