"""Points of the residual stream, read by hooks that live as long as one block and listen to its thread only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.families import Wiring

__all__ = ["ONCE", "PER_LAYER", "recording_residuals"]

PER_LAYER = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
ONCE = ("embed", "final")

Points = dict[str, list[Tensor]]

# Hooks belong to the model, which other threads may run at the same time: a hook listens only to its own block.
_listening: ContextVar[Points | None] = ContextVar("attnlens_listening", default=None)


@contextmanager
def recording_residuals(
    model: PreTrainedModel, layers: Sequence[nn.Module], wiring: Wiring | None, points: Sequence[str]
) -> Iterator[Points]:
    """Collect `points` while the block runs; leave no hook behind.

    Args:
        model: the model that runs.
        layers: its layers, in order.
        wiring: where the family keeps `attn_out`, `resid_mid` and `mlp_out`; needed only for these.
        points: names out of `PER_LAYER` and `ONCE`.

    Yields:
        Point -> one tensor `[batch position d_model]` per layer (a single one for `embed` and `final`), detached,
        in the model's dtype, on its device.

    Raises:
        CaptureError: a point that does not exist, or that this family's wiring does not give.
    """
    kept: Points = {point: [] for point in points}
    with ExitStack() as hooks:
        for point in points:
            for module, side in _places(model, layers, wiring, point):
                hook = _input_hook(kept, point) if side == "input" else _output_hook(kept, point)
                register = (
                    module.register_forward_pre_hook(hook, with_kwargs=True)
                    if side == "input"
                    else module.register_forward_hook(hook)
                )
                hooks.callback(register.remove)
        before = _listening.set(kept)
        hooks.callback(_listening.reset, before)
        yield kept


def _places(
    model: PreTrainedModel, layers: Sequence[nn.Module], wiring: Wiring | None, point: str
) -> list[tuple[nn.Module, str]]:
    """The modules to hook for `point`, each with the side to read."""
    if point == "embed":
        return [(layers[0], "input")]
    if point == "final":
        return [(model.base_model, "output")]
    if point in ("resid_pre", "resid_post"):
        return [(layer, "input" if point == "resid_pre" else "output") for layer in layers]
    if point not in PER_LAYER:
        raise CaptureError(
            f"{point!r} is no point of the residual stream; expected one of {', '.join(ONCE + PER_LAYER)}."
        )
    if wiring is None:
        raise CaptureError(f"{point!r} is not known for {model.config.model_type}; ask for resid_pre or resid_post.")
    side, name = wiring.resid_mid if point == "resid_mid" else ("output", getattr(wiring, point))
    return [(layer.get_submodule(name), side) for layer in layers]


def _input_hook(kept: Points, point: str) -> Any:
    def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _listening.get() is kept:
            kept[point].append(_hidden(args if args else kwargs.get("hidden_states")))

    return record


def _output_hook(kept: Points, point: str) -> Any:
    def record(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if _listening.get() is kept:
            kept[point].append(_hidden(output))

    return record


def _hidden(value: Any) -> Tensor:
    """The hidden states in a module's output or arguments: the tensor itself, or the first of a tuple."""
    if not isinstance(value, Tensor):
        value = value[0] if value is not None else None
    if not isinstance(value, Tensor):
        raise UnsupportedModelError("a layer of this model passes no hidden states where attnlens looks for them.")
    return value.detach()
