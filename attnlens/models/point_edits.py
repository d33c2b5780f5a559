"""Changes to points of the residual stream (and to heads' outputs where W_O reads them), by hooks of one block.

A point that is read at a module's output, or that only one module reads, is replaced there. The stream between
attention and MLP is read by a norm and kept for the sum behind it too: it is changed in place, which reaches both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnlens.capture.edits import HeadEdit, Replacement
from attnlens.capture.sites import CROSS, DECODER, Site
from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.layers import LayerStack
from attnlens.models.wiring import Reading, Wiring

__all__ = ["PointEdit", "editing_points", "restarting", "stream_points"]

Change = Callable[[int, Tensor], Tensor]  # (the how-many-th call of the stack, the tensor) -> the tensor to go on with

_live: ContextVar[frozenset[int]] = ContextVar("attnlens_point_edits", default=frozenset())
_KEPT_FOR_A_SUM = ("resid_mid", "resid_cross")
_CHANGEABLE = (
    *("resid_pre", "attn_out", "resid_mid", "cross_out", "resid_cross", "mlp_act", "mlp_out", "resid_post"),
    *("embed", "final"),
)


@dataclass(frozen=True, eq=False)
class PointEdit:
    """Replaces a point of the stream.

    Attributes:
        stack: letter of the stack.
        point: "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "embed", "final", ...
        replacements: layer -> `where` of `[row position 1]`, `value` of `[row position width]`; `embed` and `final`
            stand under layer 0.
    """

    stack: str
    point: str
    replacements: Mapping[int, Replacement]


def stream_points(wiring: Wiring) -> tuple[str, ...]:
    """The points of a stack that can be changed."""
    return tuple(point for point in _CHANGEABLE if point in wiring.points)


@contextmanager
def editing_points(
    stacks: Mapping[str, LayerStack],
    wirings: Mapping[str, Wiring],
    points: Sequence[PointEdit] = (),
    heads: Sequence[HeadEdit] = (),
) -> Iterator[Callable[[], None]]:
    """Change points, and heads' outputs at the input of W_O, while the block runs, in this context only.

    Args:
        stacks: layers by the letter of the stack.
        wirings: where their points are.
        points: what to change of the stream.
        heads: what to change of the heads, for models that hand over no heads' outputs by themselves.

    Yields:
        What to call when a forward pass begins, so that calls are counted from there.

    Raises:
        CaptureError: the model does not give that point.
    """
    with ExitStack() as hooks:
        hooker = _Hooker(hooks)
        before = _live.set(_live.get() | {id(hooker)})
        hooks.callback(_live.reset, before)
        for edit in points:
            _hook_point(hooker, stacks[edit.stack], wirings[edit.stack], edit)
        for change in heads:
            for letter in {site.stack for site in change.sites}:
                home = DECODER if letter == CROSS else letter
                _hook_heads(hooker, stacks[home], wirings[home], letter, change)
        hooker.count_calls(stacks, wirings)
        yield hooker.restart


@contextmanager
def restarting(model: nn.Module, stacks: Mapping[str, LayerStack], begin: Callable[[bool], None]) -> Iterator[None]:
    """Call `begin` whenever the model or one of its stacks begins a forward pass of this context.

    Its argument tells whether a cache brings earlier positions, so that the rows at hand are not the first ones.
    """
    with ExitStack() as hooks:
        key = object()
        before = _live.set(_live.get() | {id(key)})
        hooks.callback(_live.reset, before)

        def start(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if id(key) in _live.get():
                begin(any(_holds_positions(value) for value in (*args, *kwargs.values())))

        owners = [model, getattr(model, "base_model", model), *(stack.owner for stack in stacks.values())]
        for owner in {id(owner): owner for owner in owners}.values():
            hooks.callback(owner.register_forward_pre_hook(start, with_kwargs=True).remove)
        yield


def _holds_positions(value: Any) -> bool:
    length = getattr(value, "get_seq_length", None)
    return callable(length) and not isinstance(value, nn.Module) and bool(length() > 0)


class _Hooker:
    """Registers hooks that change what passes, and knows the how-many-th call of its stack a layer makes."""

    def __init__(self, hooks: ExitStack) -> None:
        self._hooks = hooks
        self._calls: dict[int, int] = {}

    def count_calls(self, stacks: Mapping[str, LayerStack], wirings: Mapping[str, Wiring]) -> None:
        """Count the calls of layers that one forward calls several times (ALBERT)."""
        for letter, stack in stacks.items():
            order = wirings[letter].order
            for index, layer in enumerate(stack.layers):
                if order.count(index) > 1:
                    self._calls[id(layer)] = -1
                    self._before(layer, self._counter(id(layer), order.count(index)), first=True)

    def _counter(self, layer: int, calls: int) -> Callable[[Tensor], None]:
        def count(_tensor: Tensor) -> None:
            self._calls[layer] = (self._calls[layer] + 1) % calls

        return count

    def restart(self) -> None:
        """Begin a forward pass."""
        self._calls = dict.fromkeys(self._calls, -1)

    def call_of(self, layer: nn.Module, places: Sequence[int]) -> int:
        """Which of the stack's calls this one is, out of those that `layer` makes."""
        return places[max(self._calls.get(id(layer), 0), 0)]

    def at(self, module: nn.Module, side: str, change: Callable[[Tensor], Tensor | None]) -> None:
        """Let `change` see what goes in or comes out; what it returns takes its place."""
        if side == "input":
            self._before(module, change)
        else:
            self._after(module, change)

    def _before(self, module: nn.Module, change: Callable[[Tensor], Tensor | None], first: bool = False) -> None:
        key = id(self)

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if key not in _live.get():
                return None
            if args and isinstance(args[0], Tensor):
                new = change(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)
            if isinstance(given := kwargs.get("hidden_states"), Tensor):
                new = change(given)
                return None if new is None else (args, kwargs | {"hidden_states": new})
            raise UnsupportedModelError(
                f"{type(module).__name__} was called without the tensor that was found on opening the model."
            )

        self._hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True, prepend=first).remove)

    def _after(self, module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> None:
        key = id(self)

        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            if key not in _live.get():
                return None
            if isinstance(output, Tensor):
                return change(output)
            place = next(i for i, part in enumerate(output) if isinstance(part, Tensor))
            new = change(output[place])
            return None if new is None else type(output)((*output[:place], new, *output[place + 1 :]))

        self._hooks.callback(module.register_forward_hook(hook).remove)


def _hook_point(hooker: _Hooker, stack: LayerStack, wiring: Wiring, edit: PointEdit) -> None:
    if edit.point not in stream_points(wiring):
        reason = wiring.absent.get(edit.point)
        listed = ", ".join(stream_points(wiring))
        raise CaptureError(f"{edit.point!r} of this model cannot be changed: {reason or f'it has {listed}'}.")
    if edit.point == "final" and wiring.final_norm is not None:
        only = edit.replacements[0]
        hooker.at(stack.owner.get_submodule(wiring.final_norm), "output", lambda own: _laid_out(stack, own, only))
        return
    layer_of = {"embed": 0, "final": len(wiring.order) - 1}.get(edit.point)
    changes = edit.replacements if layer_of is None else {layer_of: edit.replacements[0]}
    reading = {"embed": Reading("", "input"), "final": Reading("", "output")}.get(edit.point) or wiring.readings[
        edit.point
    ]
    in_place = edit.point in _KEPT_FOR_A_SUM and reading.side == "input"
    shape = _noted_shape(hooker, stack, wiring) if edit.point in wiring.flat else None
    for index in {wiring.order[layer] for layer in changes}:
        layer = stack.layers[index]
        places = [call for call, which in enumerate(wiring.order) if which == index]

        def change(own: Tensor, layer: nn.Module = layer, places: Sequence[int] = tuple(places)) -> Tensor | None:
            replacement = changes.get(hooker.call_of(layer, places))
            if replacement is None:
                return None
            whole = own if shape is None else own.view(*shape[0], own.shape[-1])
            new = _laid_out(stack, whole, replacement).view_as(own)
            if not in_place:
                return new
            own.copy_(new)
            return None

        hooker.at(layer.get_submodule(reading.path), reading.side, change)


def _laid_out(stack: LayerStack, own: Tensor, replacement: Replacement) -> Tensor:
    """Replace, with the batch axis in front."""
    if stack.batch_first or own.ndim != 3:
        return replacement.apply(own)
    return replacement.apply(own.transpose(0, 1)).transpose(0, 1)


def _noted_shape(hooker: _Hooker, stack: LayerStack, wiring: Wiring) -> list[torch.Size]:
    """Batch and position of the running forward, for points that the model keeps as rows."""
    shape = [torch.Size()]

    def note(tensor: Tensor) -> None:
        shape[0] = tensor.shape[:-1]

    hooker.at(stack.layers[wiring.order[0]], "input", note)
    return shape


def _hook_heads(hooker: _Hooker, stack: LayerStack, wiring: Wiring, letter: str, change: HeadEdit) -> None:
    path = wiring.projections.get("cross" if letter == CROSS else "self")
    if path is None:
        raise CaptureError(
            "the output projection (W_O) of this model was not found, so what its heads pass on cannot be changed."
        )
    calls = {site.layer for site in change.sites if site.stack == letter}
    for index in {wiring.order[layer] for layer in calls}:
        layer = stack.layers[index]
        places = [call for call, which in enumerate(wiring.order) if which == index]

        def replaced(own: Tensor, layer: nn.Module = layer, places: Sequence[int] = tuple(places)) -> Tensor:
            site = Site(letter, hooker.call_of(layer, places))
            if site not in change.sites:
                return own
            n_heads = change.replacements[site].where.shape[2]
            return change.output(site, own.unflatten(-1, (n_heads, -1))).flatten(2)  # type: ignore[no-untyped-call]

        hooker.at(layer.get_submodule(path), "input", replaced)
