"""The opened model with the position taken away: every token stands at the same place, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnlens.capture.sites import CROSS
from attnlens.errors import CaptureError
from attnlens.models.positions import position_modules

if TYPE_CHECKING:
    from attnlens.models.opening import Opened

__all__ = ["without_positions"]

# Hooks are seen by every thread that runs the model; those of a block act in its own context only.
_live: ContextVar[frozenset[int]] = ContextVar("attnlens_placeless", default=frozenset())

_BIAS_TABLE = "relative_attention_bias"
_BIASES = ("alibi", "position_bias")


@contextmanager
def without_positions(opened: Opened) -> Iterator[str]:
    """Run the model as if every token stood at the same place, while the block runs and in its context alone.

    A table (sinusoidal, learned) gives every token the vector of the first one, a rotary embedding turns all by the
    same angle, a bias by distance (T5, MPNet, ALiBi) is 0 everywhere. The mask stays: in a causal model it still tells
    earlier from later. Nothing is left behind.

    Yields:
        What is done, in words.

    Raises:
        CaptureError: the scheme cannot be taken away from outside the model's own code; on leaving the block, a
            forward pass in which a stack never asked for its positions.
    """
    changed: dict[str, int] = {}
    said: list[str] = []
    with ExitStack() as hooks:
        key = object()
        before = _live.set(_live.get() | {id(key)})
        hooks.callback(_live.reset, before)
        for letter, stack in opened.stacks.items():
            if letter != CROSS:
                changed[letter] = 0
                said += _take_away(opened, letter, stack.owner, _Block(hooks, id(key), changed, letter))
        yield "; ".join(dict.fromkeys(said))
    if idle := [
        letter for letter, times in changed.items() if not times and opened.anatomy.stack(letter).position != "none"
    ]:
        raise CaptureError(
            f"{opened.anatomy.model} gets its positions in a way that cannot be taken away from outside "
            f"(stack {idle[0] or 'of its layers'})."
        )


class _Block:
    """Registers the hooks of one stack, and counts what they change."""

    def __init__(self, hooks: ExitStack, key: int, changed: dict[str, int], letter: str) -> None:
        self._hooks, self._key, self._changed, self._letter = hooks, key, changed, letter

    def after(self, module: nn.Module, change: Callable[[Any], Any]) -> None:
        """Let `change` give what comes out of `module`."""

        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            if self._key not in _live.get():
                return None
            self._changed[self._letter] += 1
            return change(output)

        self._hooks.callback(module.register_forward_hook(hook).remove)

    def before(self, module: nn.Module, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Let `change` give the named arguments that differ."""

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._key not in _live.get():
                return None
            if not (new := change(kwargs)):
                return None
            self._changed[self._letter] += 1
            return args, kwargs | new

        self._hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _take_away(opened: Opened, letter: str, owner: nn.Module, block: _Block) -> list[str]:
    scheme = opened.anatomy.stack(letter).position
    if scheme == "unknown":
        raise CaptureError(
            f"how {opened.anatomy.model} tells positions apart is not known, so nothing can be taken away."
        )
    said = []
    if scheme in ("sinusoidal", "learned", "relative bias"):
        for module in position_modules(owner):
            if isinstance(module, nn.Module) and getattr(module, "weight", None) is not None:
                block.after(module, _first_place)
                said.append("every token gets the vector of the first position")
    if scheme == "relative bias":
        for name, module in owner.named_modules():
            if name.rpartition(".")[2] == _BIAS_TABLE and isinstance(module, nn.Embedding):
                block.after(module, torch.zeros_like)
                said.append("the bias by distance is 0")
    if scheme == "rope":
        for module in owner.modules():
            if "rotary" in type(module).__name__.lower():
                block.after(module, lambda turns: tuple(_first_place(part) for part in turns))
                said.append("queries and keys are all turned alike")
    if scheme == "alibi":
        for module in opened.tap.sites.of_module:
            block.before(module, _without_bias)
        said.append("the bias by distance is 0")
    if not said and scheme != "none":
        raise CaptureError(
            f"{opened.anatomy.architecture} handles its positions ({scheme}) in code of its own, in which they cannot "
            "be taken away from outside."
        )
    return said


def _first_place(values: Any) -> Any:
    """The first position's row for every position: the last axis but one."""
    return values[..., :1, :].expand_as(values) if isinstance(values, Tensor) else values


def _without_bias(given: Mapping[str, Any]) -> dict[str, Any]:
    """A bias by distance that attention is handed, alone or in its mask, without its numbers."""
    new: dict[str, Any] = {
        name: torch.zeros_like(given[name]) for name in _BIASES if isinstance(given.get(name), Tensor)
    }
    mask = given.get("attention_mask")
    if new and isinstance(mask, Tensor) and mask.is_floating_point():
        new["attention_mask"] = mask.masked_fill(mask > torch.finfo(mask.dtype).min / 2, 0.0)
    return new
