"""The one attention function and the one mask function that transformers calls while a capture runs.

Both are registered once, under one name. Which recorder they serve is a context variable, so that captures in several
threads do not mix and a forward outside any capture runs plain SDPA. A model is switched to the tap for the duration of
a block and switched back by the last block that uses it, after an exception too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from attnlens.errors import CaptureError, UnsupportedModelError

__all__ = ["AttentionCall", "Recorder", "needs_eager", "recording"]

# transformers reads meaning into names that contain "sdpa", "flash", "paged|" or "/": this one has none of them.
NAME = "attnlens"


@dataclass(frozen=True)
class AttentionCall:
    """What a model's attention module passed to the attention function.

    Attributes:
        module: the attention module.
        query: `[batch head query d_head]`, after the rotary embedding.
        key, value: `[batch kv_head key d_head]`, before they are repeated for grouped queries.
        mask: additive (float) or keep (bool) mask, broadcasts to `[batch head query key]`; None where there is none.
        options: the other arguments of the call (`scaling`, `dropout`, `softcap`, `s_aux`, ...).
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict[str, Any]

    @property
    def scaling(self) -> float:
        """The factor on the scores, read from the call: a module's own attribute is wrong for OPT and Whisper."""
        scaling = self.options.get("scaling")
        return float(self.query.shape[-1] ** -0.5 if scaling is None else scaling)

    @property
    def causal_by_flag(self) -> bool:
        """True where no mask was built because the kernel is told to hide later keys."""
        if self.mask is not None or self.query.shape[2] == 1:
            return False
        flag = self.options.get("is_causal")
        return bool(getattr(self.module, "is_causal", True) if flag is None else flag)

    def run_eager(self) -> tuple[Tensor, Tensor]:
        """The family's own eager code: output `[batch query head d_head]`, weights `[batch head query key]`."""
        home = sys.modules[type(self.module).__module__]
        eager: Callable[..., tuple[Tensor, Tensor]] | None = getattr(home, "eager_attention_forward", None)
        if eager is None:
            raise UnsupportedModelError(
                f"{type(self.module).__name__} has no eager_attention_forward; only mode='lazy' can capture it."
            )
        return eager(self.module, self.query, self.key, self.value, self.mask, **self.options)

    def run_sdpa(self) -> Tensor:
        """Output of SDPA, `[batch query head d_head]`; no weights are ever built."""
        output, _ = sdpa_attention_forward(self.module, self.query, self.key, self.value, self.mask, **self.options)
        return output


@runtime_checkable
class Recorder(Protocol):
    """Receives every attention call of one block; `eager` tells which kind of mask it needs."""

    eager: bool

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Compute the output `[batch query head d_head]` (and weights, if built) and keep what is wanted."""
        ...


_recorder: ContextVar[Recorder | None] = ContextVar("attnlens_recorder", default=None)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    call = AttentionCall(module, query, key, value, attention_mask, options)
    recorder = _recorder.get()
    return (call.run_sdpa(), None) if recorder is None else recorder.on_attention(call)


def _mask(*args: Any, **options: Any) -> Tensor | None:
    """Pair the mask with the function: the eager code adds a float mask, SDPA takes a bool mask or none at all."""
    recorder = _recorder.get()
    build = eager_mask if recorder is not None and recorder.eager else sdpa_mask
    mask: Tensor | None = build(*args, **options)
    return mask


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)


def needs_eager(model: PreTrainedModel) -> bool:
    """True for families whose attention SDPA cannot compute (softcap, sinks), so that the eager code must run."""
    return not bool(getattr(model, "_supports_sdpa", False))


_switched: WeakKeyDictionary[nn.Module, tuple[int, str]] = WeakKeyDictionary()
_switching = threading.Lock()


@contextmanager
def recording(model: PreTrainedModel, recorder: Recorder) -> Iterator[None]:
    """Send the attention of `model` through `recorder` while the block runs, in this thread only.

    Raises:
        UnsupportedModelError: the model's attention cannot be replaced.
        CaptureError: the model is in training mode, in which the weights would include dropout.
    """
    if model.training:
        raise CaptureError("the model is in training mode, so its weights include dropout; call model.eval() first.")
    _switch_on(model)
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)
        _switch_off(model)


def _switch_on(model: PreTrainedModel) -> None:
    with _switching:
        users, before = _switched.get(model, (0, model.config._attn_implementation))
        if users == 0:
            if not model._can_set_attn_implementation():
                raise UnsupportedModelError(
                    f"{type(model).__name__} computes its attention outside transformers' attention interface, "
                    "so its weights cannot be captured; see `attnlens models` for the families that can."
                )
            model.set_attn_implementation(NAME)
        _switched[model] = (users + 1, before)


def _switch_off(model: PreTrainedModel) -> None:
    with _switching:
        users, before = _switched.pop(model)
        if users > 1:
            _switched[model] = (users - 1, before)
        else:
            model.set_attn_implementation(before)
