"""A dense feed-forward layer written out: its first maps, its activation, its gate and its last map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from attnlens.errors import UnsupportedModelError
from attnlens.models.projections import projection_bias, projection_weight
from attnlens.models.snapshots import is_linear
from attnlens.steps.activations import ACTIVATIONS, GATED_NAMES, Activation
from attnlens.steps.watching import WatchedLayer, relative_gap, tolerance

__all__ = ["FeedForward", "FirstMap", "feed_forward"]


@dataclass(frozen=True, eq=False)
class FirstMap:
    """A linear map into the neurons: `x @ weight + bias`; of a fused pair, its own columns.

    Attributes:
        path: of the module within the layer.
        weight, bias: the model's own parameters, not copies; no bias is None.
        values: what it gave for each position.
    """

    path: str
    weight: Float[Tensor, "d_model d_mlp"]
    bias: Float[Tensor, " d_mlp"] | None
    values: Float64[Tensor, "position d_mlp"]

    def apply(self, vectors: Float64[Tensor, "position d_model"]) -> Float64[Tensor, "position d_mlp"]:
        """The map of any vectors."""
        found = vectors @ self.weight.to(vectors)
        return found if self.bias is None else found + self.bias.to(vectors)


@dataclass(frozen=True, eq=False)
class FeedForward:
    """A feed-forward layer at every position: `(f(gate(x)) * up(x)) @ weight + bias`, without `up` where there is none.

    A neuron is a column of the first map and a row of the last one: what it looks for, and what it then writes
    (Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories", arXiv:2012.14913).

    Attributes:
        name: of the activation, or of the gated layer ("SwiGLU").
        activation: name of the function alone.
        function: the function.
        gate: the map that goes through it.
        up: the map that is multiplied with the result; None where there is no gate.
        given: what the layer reads.
        neurons: what the last map reads, `f(gate) * up`.
        path: of the last map within the layer.
        weight, bias: of the last map, likewise the model's own.
        written: what the last map gave.
        gap: of the layer multiplied out from `given` to `written`, relative.
    """

    name: str
    activation: str
    function: Activation
    gate: FirstMap
    up: FirstMap | None
    given: Float64[Tensor, "position d_model"]
    neurons: Float64[Tensor, "position d_mlp"]
    path: str
    weight: Float[Tensor, "d_mlp d_model"]
    bias: Float[Tensor, " d_model"] | None
    written: Float64[Tensor, "position d_model"]
    gap: float

    def apply(self, vectors: Float64[Tensor, "position d_model"]) -> Float64[Tensor, "position d_model"]:
        """The layer of any vectors."""
        neurons = self.function(self.gate.apply(vectors))
        if self.up is not None:
            neurons = neurons * self.up.apply(vectors)
        found = neurons @ self.weight.to(vectors)
        return found if self.bias is None else found + self.bias.to(vectors)


def feed_forward(seen: WatchedLayer) -> FeedForward:
    """The feed-forward layer of a watched layer, found by what its maps gave and not by names.

    Raises:
        UnsupportedModelError: it has none, or none that is a dense one with one or two first maps.
    """
    reading = seen.wiring.readings.get("mlp_act")
    if reading is None:
        raise UnsupportedModelError(seen.wiring.absent.get("mlp_act", "the layer has no feed-forward layer"))
    neurons, written = seen.given(reading.path), seen.gave(reading.path)
    if neurons is None or written is None:
        raise UnsupportedModelError(f"{reading.path} was not seen at work")
    limit, found = tolerance(seen.dtype), None
    for functions in (_known, _own):
        matches = _matches(seen, reading.path, neurons, functions)
        if (found := min(matches, key=lambda match: match[0], default=found)) is not None and found[0] <= limit:
            break
    if found is None or found[0] > limit:
        near = "" if found is None else f"; the nearest, {found[1]}, is off by {found[0]:.1g}"
        raise UnsupportedModelError(f"no known activation of the layer's maps gives what its last map reads{near}")
    _, activation, function, gate, up = found
    last = seen.module.get_submodule(reading.path)
    given = seen.given(gate.path)
    assert given is not None
    step = FeedForward(
        name=activation if up is None else GATED_NAMES.get(activation, f"gated {activation}"),
        activation=activation,
        function=function,
        gate=gate,
        up=up,
        given=given,
        neurons=neurons,
        path=reading.path,
        weight=projection_weight(last),
        bias=projection_bias(last),
        written=written,
        gap=torch.nan,
    )
    return FeedForward(**vars(step) | {"gap": relative_gap(step.apply(given), written)})


_Named = tuple[float, str, Activation]
_Match = tuple[float, str, Activation, FirstMap, FirstMap | None]
_Functions = Callable[[WatchedLayer, FirstMap, Tensor | float, Tensor], Iterator[_Named]]


def _matches(
    seen: WatchedLayer, last: str, neurons: Float64[Tensor, "position d_mlp"], functions: _Functions
) -> Iterator[_Match]:
    """Ways in which maps of the layer may give the neurons, with how far each is off."""
    maps = list(_first_maps(seen, last, neurons.shape[-1]))
    for gate in maps:
        yield from ((*named, gate, None) for named in functions(seen, gate, 1.0, neurons))
    for gate, up in permutations(maps, 2):
        yield from ((*named, gate, up) for named in functions(seen, gate, up.values, neurons))


def _known(seen: WatchedLayer, gate: FirstMap, factor: Tensor | float, neurons: Tensor) -> Iterator[_Named]:
    for name, function in ACTIVATIONS.items():
        yield relative_gap(function(gate.values) * factor, neurons), name, function


def _own(seen: WatchedLayer, gate: FirstMap, factor: Tensor | float, neurons: Tensor) -> Iterator[_Named]:
    """Modules of the layer without weights that were given the map's values."""
    for path, module in seen.module.named_modules():
        given, gave = seen.given(path), seen.gave(path)
        if path and given is not None and gave is not None and torch.equal(given, gate.values) and _is_function(module):
            yield relative_gap(gave * factor, neurons), type(module).__name__, module


def _is_function(module: nn.Module) -> bool:
    return next(module.parameters(), None) is None and not isinstance(module, nn.Identity | nn.Dropout)


def _first_maps(seen: WatchedLayer, last: str, width: int) -> Iterator[FirstMap]:
    """Linear maps that give as many numbers as there are neurons, or twice as many: two maps in one."""
    for path, module in seen.module.named_modules():
        values = seen.gave(path)
        if path == last or values is None or not is_linear(module) or values.shape[-1] not in (width, 2 * width):
            continue
        weight, bias = projection_weight(module), projection_bias(module)
        for start in range(0, values.shape[-1], width):
            part = slice(start, start + width)
            yield FirstMap(path, weight[:, part], None if bias is None else bias[part], values[:, part])
