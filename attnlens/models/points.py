"""Points inside a stack of layers, recorded by hooks that live as long as one block and hear its context only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.hooks import Listener, listening
from attnlens.models.layers import LayerStack
from attnlens.models.wiring import LAYER_POINTS, ROUTER_POINTS, STACK_POINTS, Wiring

__all__ = ["Points", "recording_points"]

# Point -> one tensor per call of a layer, in the order of the calls; one per forward for `embed` and `final`.
Points = dict[str, list[Tensor]]

_Receive = Callable[[Tensor | None], None]


@contextmanager
def recording_points(stack: LayerStack, wiring: Wiring, points: Sequence[str]) -> Iterator[Points]:
    """Collect `points` of one stack while the block runs; hook nothing else, and leave no hook behind.

    Blocks of several stacks can be nested. What is kept are references to the model's own tensors, which cost nothing,
    and copies where the wiring says that a reference would change or hold on to more.

    Args:
        stack: the layers.
        wiring: what `find_wiring` found in them.
        points: names out of `wiring.points`: `embed` (input of the first layer), `resid_pre`, `attn_out`, `resid_mid`,
            `cross_out`, `resid_cross`, `mlp_out`, `resid_post`, `final` (after the norm behind the last layer);
            `z`, `cross_z` (the heads' outputs side by side, the input of W_O); `mlp_act` (the input of the MLP's last
            linear map); `router_logits`, `router_weights`, `router_experts`.

    Yields:
        Point -> tensors, detached, in the model's dtype, on its device: `[batch position d_model]`, z
        `[batch position n_heads*d_head]`, activations `[batch position d_mlp]`; of the router, with the positions of
        the whole batch in one row after another, `[token expert]` and twice `[token choice]` (weights; int64 experts).
        A module that one forward calls several times (ALBERT) gives one tensor per call; several forwards (generation)
        append one after another.

    Raises:
        CaptureError: a point that does not exist, or that this model does not give (with the reason).
        UnsupportedModelError: while the model runs, a module passes no tensor where one was found before.
    """
    _require(wiring, points)
    kept: Points = {point: [] for point in points}
    with listening(stack.layers) as listener:
        keep = _Keeper(kept, stack, wiring)
        if wiring.flat.intersection(points):
            listener.on_input(stack.layers[wiring.order[0]], keep.note_shape)
        for point in points:
            _hook(listener, stack, wiring, point, keep)
        _hook_routers(listener, stack, wiring, kept)
        yield kept


class _Keeper:
    """Makes the function that receives the tensors of one point."""

    def __init__(self, kept: Points, stack: LayerStack, wiring: Wiring) -> None:
        self._kept, self._stack, self._wiring = kept, stack, wiring
        self._shape: torch.Size | None = None

    def note_shape(self, tensor: Tensor | None) -> None:
        """Remember batch and position, for points that the model keeps as rows."""
        self._shape = tensor.shape[:-1] if tensor is not None else None

    def receiver(self, point: str) -> _Receive:
        """Keep each tensor; hooks run inside the forward, so this does nothing that can wait or is not needed."""
        kept = self._kept[point].append
        flat, copied = point in self._wiring.flat, point in self._wiring.copies
        plain = not flat and not copied and self._stack.batch_first

        def keep(tensor: Tensor | None) -> None:
            if tensor is None:
                raise UnsupportedModelError(
                    f"a module of {self._stack.name} passes no tensor where {point} was found on opening the model; "
                    "was the model changed since?"
                )
            if tensor.requires_grad:
                tensor = tensor.detach()
            kept(tensor if plain else self._shaped(tensor, flat, copied))

        return keep

    def _shaped(self, tensor: Tensor, flat: bool, copied: bool) -> Tensor:
        if flat and self._shape is not None:
            tensor = tensor.view(*self._shape, tensor.shape[-1])
        if not self._stack.batch_first and tensor.ndim == 3:
            tensor = tensor.transpose(0, 1)
        return tensor.clone() if copied else tensor


def _require(wiring: Wiring, points: Sequence[str]) -> None:
    for point in points:
        if point in wiring.points:
            continue
        if point in wiring.absent:
            raise CaptureError(f"{point!r} is not available for this model: {wiring.absent[point]}.")
        if point in (*LAYER_POINTS, *STACK_POINTS):
            raise CaptureError(f"{point!r} is not available for this model; it has {', '.join(wiring.points)}.")
        raise CaptureError(f"{point!r} is no point of a stack; expected one of {', '.join(wiring.points)}.")


def _hook(listener: Listener, stack: LayerStack, wiring: Wiring, point: str, keep: _Keeper) -> None:
    if point in ROUTER_POINTS:
        return
    receive = keep.receiver(point)
    if point == "embed":
        first = wiring.order[0]
        listener.on_input(stack.layers[first], _every(wiring.order.count(first), 0, receive))
    elif point == "final" and wiring.final_norm is not None:
        listener.on_output(stack.owner.get_submodule(wiring.final_norm), receive)
    elif point == "final":
        last = wiring.order[-1]
        calls = wiring.order.count(last)
        listener.on_output(stack.layers[last], _every(calls, calls - 1, receive))
    else:
        reading = wiring.readings[point]
        register = listener.on_input if reading.side == "input" else listener.on_output
        for layer in stack.layers:
            register(layer.get_submodule(reading.path), receive)


def _every(calls: int, which: int, receive: _Receive) -> _Receive:
    """Let one call out of each forward's `calls` through."""
    if calls == 1:
        return receive
    count = [0]

    def counted(tensor: Tensor | None) -> None:
        if count[0] % calls == which:
            receive(tensor)
        count[0] += 1

    return counted


def _hook_routers(listener: Listener, stack: LayerStack, wiring: Wiring, kept: Points) -> None:
    asked = [(index, kept[point]) for index, point in enumerate(ROUTER_POINTS) if point in kept]
    if not asked or wiring.router is None:
        return

    def receive(output: Any) -> None:
        for index, tensors in asked:
            tensors.append(output[index].detach())

    for layer in stack.layers:
        module: nn.Module = layer.get_submodule(wiring.router)
        listener.on_result(module, receive)
