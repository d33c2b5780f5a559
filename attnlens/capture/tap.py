"""The one attention function and the one mask function that transformers calls while a capture runs.

Both are registered once, under one name. Which recorder they serve is a context variable, so that captures in several
threads do not mix and a forward outside any capture runs plain SDPA. A model is switched to the tap for the duration of
a block and switched back by the last block that uses it, after an exception too. Models whose attention does not go
through transformers' interface are listened to by `attnlens.capture.intercept`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from attnlens.capture.calls import AttentionCall, Recorder
from attnlens.capture.edits import with_edits
from attnlens.capture.intercept import intercepting
from attnlens.capture.sites import SiteCounter, Sites
from attnlens.errors import CaptureError, UnsupportedModelError

__all__ = ["FUNCTIONS", "INTERFACE", "Tap", "needs_eager", "recording", "runs_eagerly"]

# transformers reads meaning into names that contain "sdpa", "flash", "paged|" or "/": this one has none of them.
NAME = "attnlens"
INTERFACE, FUNCTIONS = "interface", "functions"


@dataclass(frozen=True)
class Tap:
    """How one model's attention is reached.

    Attributes:
        model: the model.
        route: `INTERFACE` (transformers calls our attention function) or `FUNCTIONS` (softmax, SDPA and
            multi-head attention are intercepted while an attention module runs).
        sites: what each attention module's calls belong to.
        configs: where modules look up which attention function to call, each once.
    """

    model: nn.Module
    route: str
    sites: Sites
    configs: Sequence[PretrainedConfig] = ()

    @classmethod
    def through_interface(cls, model: nn.Module, sites: Sites) -> Tap:
        """The tap of a model that asks its configs for the attention function."""
        found = {id(config): config for module in model.modules() if (config := _config(module)) is not None}
        return cls(model, INTERFACE, sites, tuple(found.values()))


@dataclass(frozen=True)
class _Running:
    recorder: Recorder
    counter: SiteCounter


_running: ContextVar[_Running | None] = ContextVar("attnlens_running", default=None)


@dataclass(frozen=True)
class _InterfaceCall(AttentionCall):
    """A call through transformers' interface, which brings the family's own eager code along."""

    def run_eager(self) -> tuple[Tensor, Tensor]:
        eager = _eager_code(self.module)
        if eager is None:
            raise UnsupportedModelError(
                f"{type(self.module).__name__} has no eager_attention_forward; only mode='lazy' can capture it."
            )
        return eager(self.module, self.query, self.key, self.value, self.mask, **self.options)

    def run_fused(self) -> Tensor:
        output, _ = sdpa_attention_forward(self.module, self.query, self.key, self.value, self.mask, **self.options)
        return output


def _eager_code(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The plain attention in the file of the module's class, or of the class that a user's own one is built on.

    GPT-2 with `reorder_and_upcast_attn` has another one, which it calls wherever its config says eager.
    """
    if getattr(module, "reorder_and_upcast_attn", False) and hasattr(module, "_upcast_and_reordered_attn"):
        return _reordered
    homes = (sys.modules.get(kind.__module__) for kind in type(module).__mro__)
    return next((found for home in homes if (found := getattr(home, "eager_attention_forward", None))), None)


def _reordered(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_options: Any
) -> tuple[Tensor, Tensor]:
    """Scores scaled within their product and kept in float32; the module knows scaling and dropout itself."""
    attended: tuple[Tensor, Tensor] = module._upcast_and_reordered_attn(query, key, value, mask)
    return attended


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    running = _running.get()
    if running is None:
        return _as_before(module, query, key, value, attention_mask, **options)
    site = running.counter.next(module)
    return running.recorder.on_attention(_InterfaceCall(site, module, query, key, value, attention_mask, options))


def _mask(*args: Any, **options: Any) -> Tensor | None:
    """Pair the mask with the function: the eager code adds a float mask, SDPA takes a bool mask or none at all."""
    running = _running.get()
    if running is None:
        return _mask_as_before(*args, **options)
    mask: Tensor | None = (eager_mask if running.recorder.eager else sdpa_mask)(*args, **options)
    return mask


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)


def needs_eager(model: nn.Module) -> bool:
    """True for families whose attention SDPA cannot compute (softcap, sinks), so that the eager code must run."""
    return isinstance(model, PreTrainedModel) and not bool(getattr(model, "_supports_sdpa", False))


def runs_eagerly(tap: Tap) -> bool:
    """True where the model runs its family's eager code outside any block, because it must or was loaded to."""
    return needs_eager(tap.model) or any(_before(config) == "eager" for config in tap.configs)


@contextmanager
def recording(tap: Tap, recorder: Recorder, counter: SiteCounter | None = None) -> Iterator[None]:
    """Send the attention of `tap.model` through `recorder` while the block runs, in this thread only.

    Interventions that hold for the model now (`attnlens.capture.edits`) come before the recorder.

    Args:
        tap: where the model is listened to.
        recorder: what receives its attention.
        counter: what names the site of each call; None takes the sites of `tap`.

    Raises:
        CaptureError: the model is in training mode, in which the weights would include dropout.
    """
    if tap.model.training:
        raise CaptureError("the model is in training mode, so its weights include dropout; call model.eval() first.")
    counter = SiteCounter(tap.sites) if counter is None else counter
    recorder = with_edits(recorder, tap.model)
    token = _running.set(_Running(recorder, counter))
    try:
        if tap.route == INTERFACE:
            with _switched_on(tap.configs):
                yield
        else:
            with intercepting(tap.sites.of_module, recorder, counter):
                yield
    finally:
        _running.reset(token)


def _as_before(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    """The attention of a forward in another thread, while a capture uses the model's config: the one it had."""
    before = _before(_config(module))
    known: Mapping[str, Any] = AttentionInterface._global_mapping
    function = _eager_code(module) if before == "eager" else known.get(before)
    attended: tuple[Tensor, Tensor | None] = (function or sdpa_attention_forward)(module, *args, **options)
    return attended


def _mask_as_before(*args: Any, **options: Any) -> Tensor | None:
    """The mask that goes with `_as_before`."""
    known: Mapping[str, Any] = AttentionMaskInterface._global_mapping
    mask: Tensor | None = known.get(_before(options.get("config")), sdpa_mask)(*args, **options)
    return mask


def _before(config: PretrainedConfig | None) -> str:
    """What a config said before it was switched to the tap; "sdpa" where it was born so."""
    with _switching:
        switched = _switched.get(id(config))
        said = switched[1] if switched is not None else getattr(config, "_attn_implementation_internal", None)
    return "sdpa" if said in (None, NAME) else str(said)


# Config -> how many blocks use it now and what it said before; configs cannot be hashed, so they are known by id.
_switched: dict[int, tuple[int, str | None, PretrainedConfig]] = {}
_switching = threading.Lock()


def _config(module: nn.Module) -> PretrainedConfig | None:
    config = getattr(module, "config", None)
    return config if isinstance(config, PretrainedConfig) else None


@contextmanager
def _switched_on(configs: Sequence[PretrainedConfig]) -> Iterator[None]:
    """Point `configs` at the tap; the last of several blocks puts back what each said before."""
    with _switching:
        for config in configs:
            users, before, _ = _switched.get(id(config), (0, config._attn_implementation_internal, config))
            _switched[id(config)] = (users + 1, before, config)
            config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        with _switching:
            for config in configs:
                users, before, _ = _switched.pop(id(config))
                if users > 1:
                    _switched[id(config)] = (users - 1, before, config)
                else:
                    config._attn_implementation_internal = before
