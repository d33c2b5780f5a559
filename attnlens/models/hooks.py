"""Hooks that live as long as one block and hear only forwards of the context that opened it.

Hooks belong to the model, which other threads may run at the same time; a context variable tells whose forward it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Listener", "first_tensor", "listening"]

_open: ContextVar[frozenset[int]] = ContextVar("attnlens_listeners", default=frozenset())


class Listener:
    """Registers hooks; what they receive is None where a module was given or gave no tensor."""

    def __init__(self, hooks: ExitStack) -> None:
        """`hooks` removes what was registered."""
        self._hooks = hooks

    def on_input(self, module: nn.Module, receive: Callable[[Tensor | None], None]) -> None:
        """Before each call: the hidden states among the arguments (the first tensor, else `hidden_states`)."""
        key, is_open = id(self), _open.get

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if key in is_open():
                receive(args[0] if args and isinstance(args[0], Tensor) else _argument(args, kwargs))

        self._hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)

    def on_call(self, module: nn.Module, receive: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> None:
        """Before each call: all of its arguments as they are."""
        key, is_open = id(self), _open.get

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if key in is_open():
                receive(args, kwargs)

        self._hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)

    def on_output(self, module: nn.Module, receive: Callable[[Tensor | None], None]) -> None:
        """After each call: the output, or the first tensor in it."""
        key, is_open = id(self), _open.get

        def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if key in is_open():
                receive(output if isinstance(output, Tensor) else first_tensor(output))

        self._hooks.callback(module.register_forward_hook(after).remove)

    def on_result(self, module: nn.Module, receive: Callable[[Any], None]) -> None:
        """After each call: the output as it is."""
        key, is_open = id(self), _open.get

        def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if key in is_open():
                receive(output)

        self._hooks.callback(module.register_forward_hook(after).remove)


class _Unfused(TorchFunctionMode):
    """Changes nothing; while such a mode is active, torch's encoder packs no padded batch into a nested tensor."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def listening(layers: Sequence[nn.Module] = ()) -> Iterator[Listener]:
    """A listener for the forwards of this context while the block runs; its hooks go when the block ends, errors too.

    Blocks may be nested: both listen. A new thread hears nothing until it opens a block of its own. If torch's own
    encoder layers are among `layers`, the fused path of their encoder is left for this thread and block, since it hands
    them tensors without a position axis.
    """
    with ExitStack() as hooks:
        if any(isinstance(layer, nn.TransformerEncoderLayer) for layer in layers):
            hooks.enter_context(_Unfused())
        listener = Listener(hooks)
        before = _open.set(_open.get() | {id(listener)})
        hooks.callback(_open.reset, before)
        yield listener


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first one in a tuple, list or mapping (a transformers output is one)."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((part for part in value if isinstance(part, Tensor)), None)
    return None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    named = kwargs.get("hidden_states")
    if isinstance(named, Tensor):
        return named
    candidates = (*args, *kwargs.values())
    return next((part for part in candidates if isinstance(part, Tensor) and part.is_floating_point()), None)
