"""Attention outside transformers' interface: softmax, SDPA and multi-head attention, caught while a module attends.

Some families build their weights with a softmax of their own (DeBERTa, MPNet, GPT-Neo, GPT-J, BLOOM, ...), and plain
PyTorch calls its own functions. A `TorchFunctionMode` sees these calls, in this thread and block only; hooks on the
attention modules say whose they are. While such a mode is active PyTorch leaves its fused encoder path by itself, so
that `nn.TransformerEncoder` is caught as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own spelling)
from torch.overrides import TorchFunctionMode

from attnlens.capture.calls import AttentionCall, Recorder, WeightsCall
from attnlens.capture.sites import SiteCounter
from attnlens.errors import UnsupportedModelError

__all__ = ["intercepting"]

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}

# The attention modules that are running now, outermost first, beside the block that listens.
_entered: ContextVar[tuple[object, tuple[nn.Module, ...]]] = ContextVar("attnlens_entered", default=(None, ()))


@contextmanager
def intercepting(modules: Iterable[nn.Module], recorder: Recorder, counter: SiteCounter) -> Iterator[None]:
    """Send what attention `modules` compute through `recorder` while the block runs, in this thread only."""
    block = object()
    before = _entered.set((block, ()))
    with ExitStack() as stack:
        stack.callback(_entered.reset, before)
        for module in modules:
            stack.callback(module.register_forward_pre_hook(_enter(block)).remove)
            stack.callback(module.register_forward_hook(_leave(block), always_call=True).remove)
        stack.enter_context(_Interception(block, recorder, counter))
        yield


def _enter(block: object) -> Callable[..., None]:
    def enter(module: nn.Module, _args: Any) -> None:
        listening, modules = _entered.get()
        if listening is block:
            _entered.set((block, (*modules, module)))

    return enter


def _leave(block: object) -> Callable[..., None]:
    def leave(module: nn.Module, _args: Any, _output: Any) -> None:
        listening, modules = _entered.get()
        if listening is block and modules and modules[-1] is module:
            _entered.set((block, modules[:-1]))

    return leave


class _Interception(TorchFunctionMode):
    """Answers the three kinds of call from inside an attention module; lets everything else through."""

    def __init__(self, block: object, recorder: Recorder, counter: SiteCounter) -> None:
        super().__init__()
        self._block, self._recorder, self._counter = block, recorder, counter

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        block, modules = _entered.get()
        if block is not self._block or not modules:  # a block within this one listens for itself
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._sdpa(modules[-1], *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(modules[-1], *args, **kwargs)
        if func in _SOFTMAX and isinstance(args[0], Tensor) and args[0].ndim >= 3:
            return self._softmax(modules[-1], func, args, kwargs)
        return func(*args, **kwargs)

    def _softmax(self, module: nn.Module, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        scores: Tensor = args[0]
        weights: Tensor = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
        if dim not in (-1, scores.ndim - 1):
            raise UnsupportedModelError(
                f"{type(module).__name__} takes its softmax over axis {dim} of {scores.ndim}, not over the keys; "
                "describe it in an adapter (entry point attnlens.families)."
            )
        heads = 1 if scores.ndim > 3 else _n_heads(module)
        shape = scores.shape if scores.ndim == 4 else (-1, heads, *scores.shape[-2:])
        call = WeightsCall(self._counter.next(module), module, scores.view(shape), weights.view(shape))
        return self._recorder.on_weights(call).view(weights.shape)

    def _sdpa(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        mask = attn_mask
        while mask is not None and mask.ndim < 4:
            mask = mask.unsqueeze(0) if mask.ndim < 3 or query.ndim == 3 else mask.unsqueeze(1)
        lone_head = query.ndim == 3
        q, k, v = (part.unsqueeze(1) if lone_head else part for part in (query, key, value))
        options = {"scaling": scale, "is_causal": is_causal, "enable_gqa": enable_gqa}
        call = _FunctionCall(self._counter.next(module), module, q, k, v, mask, options)
        output, _ = self._recorder.on_attention(call)
        output = output.transpose(1, 2)
        return output.squeeze(1) if lone_head else output

    def _multi_head(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        given = _MultiHead.bind(args, kwargs)
        query, key, value, mask = given.heads()
        options = {"scaling": None, "is_causal": False}
        call = _MultiHeadCall(self._counter.next(module), module, query, key, value, mask, options)
        output, weights = self._recorder.on_attention(call)
        if given.need_weights and weights is None:
            weights = call.run_eager()[1]
        return given.result(output, weights)


@dataclass(frozen=True)
class _FunctionCall(AttentionCall):
    """A call of PyTorch's own attention functions."""

    def run_eager(self) -> tuple[Tensor, Tensor]:
        group = self.query.shape[1] // self.key.shape[1]
        key, value = (part.repeat_interleave(group, dim=1) if group > 1 else part for part in (self.key, self.value))
        scores = self.query @ key.transpose(-1, -2) * self.scaling
        if self.mask is not None and self.mask.dtype == torch.bool:
            scores = scores.masked_fill(~self.mask, -math.inf)
        elif self.mask is not None:
            scores = scores + self.mask
        elif self.causal_by_flag:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(hidden, -math.inf)
        sees_nothing = scores.isneginf().all(-1, keepdim=True)  # padding; its NaN would spread to what it is added to
        weights = scores.softmax(-1).masked_fill(sees_nothing, 0.0)
        return (weights @ value).transpose(1, 2), weights

    def run_fused(self) -> Tensor:
        output: Tensor = F.scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=self.mask, is_causal=self.causal_by_flag,
            scale=self.options["scaling"], enable_gqa=self.query.shape[1] != self.key.shape[1],
        )  # fmt: skip
        return output.transpose(1, 2)


class _MultiHeadCall(_FunctionCall):
    """A call of `nn.MultiheadAttention`, cut into heads."""


_MULTI_HEAD_ARGUMENTS = (
    "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v add_zero_attn dropout_p "
    "out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask use_separate_proj_weight "
    "q_proj_weight k_proj_weight v_proj_weight static_k static_v average_attn_weights is_causal"
).split()
_MULTI_HEAD_DEFAULTS = {
    "key_padding_mask": None, "need_weights": True, "attn_mask": None, "use_separate_proj_weight": False,
    "static_k": None, "static_v": None, "average_attn_weights": True,
}  # fmt: skip


@dataclass(frozen=True)
class _MultiHead:
    """The arguments of `torch.nn.functional.multi_head_attention_forward`, cut into heads and put together again."""

    arguments: Mapping[str, Any]

    @classmethod
    def bind(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _MultiHead:
        """Name the arguments.

        Raises:
            UnsupportedModelError: keys that stand for no position.
        """
        named = _MULTI_HEAD_DEFAULTS | dict(zip(_MULTI_HEAD_ARGUMENTS, args, strict=False)) | dict(kwargs)
        extra = [name for name in ("bias_k", "static_k", "static_v") if named[name] is not None]
        if extra or named["add_zero_attn"]:
            what = extra[0] if extra else "add_zero_attn"
            raise UnsupportedModelError(f"nn.MultiheadAttention with {what} attends to keys that are no position.")
        return cls(named)

    @property
    def need_weights(self) -> bool:
        """Whether the caller wants the weights as well."""
        return bool(self.arguments["need_weights"])

    @property
    def _batched(self) -> bool:
        return bool(self.arguments["query"].ndim == 3)

    def heads(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Query, key and value `[batch head position d_head]` and one additive mask `[batch|1 head|1 query key]`."""
        given, n_heads = self.arguments, self.arguments["num_heads"]
        if given["use_separate_proj_weight"]:
            matrices = [given[f"{part}_proj_weight"] for part in "qkv"]
        else:
            matrices = list(given["in_proj_weight"].chunk(3))
        biases = [None] * 3 if given["in_proj_bias"] is None else list(given["in_proj_bias"].chunk(3))
        parts = []
        for name, matrix, bias in zip(("query", "key", "value"), matrices, biases, strict=True):
            stream: Tensor = given[name] if self._batched else given[name].unsqueeze(1)
            length, batch, _ = stream.shape
            parts.append(F.linear(stream, matrix, bias).view(length, batch, n_heads, -1).permute(1, 2, 0, 3))
        return parts[0], parts[1], parts[2], self._mask(parts[0].shape[0], n_heads, parts[0].dtype)

    def _mask(self, batch: int, n_heads: int, dtype: torch.dtype) -> Tensor | None:
        """Key padding and attention mask, both additive, in one; True in a bool mask means hidden here."""
        pad, mask = self.arguments["key_padding_mask"], self.arguments["attn_mask"]
        added = None
        if pad is not None:
            added = _additive(pad.reshape(batch, -1), dtype)[:, None, None, :]
        if mask is not None:
            mask = _additive(mask, dtype)
            own = mask[None, None] if mask.ndim == 2 else mask.view(batch, n_heads, *mask.shape[-2:])
            added = own if added is None else own + added
        return added

    def result(self, output: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the function returns, from the heads' output `[batch query head d_head]` and their weights."""
        given = self.arguments
        written = F.linear(output.flatten(2), given["out_proj_weight"], given["out_proj_bias"]).transpose(0, 1)
        shown = None if weights is None or not self.need_weights else weights
        if shown is not None and given["average_attn_weights"]:
            shown = shown.mean(1)
        if self._batched:
            return written, shown
        return written.squeeze(1), None if shown is None else shown.squeeze(0)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask


def _n_heads(module: nn.Module) -> int:
    """Heads of a module that folds them into the batch axis."""
    names = ("num_heads", "n_heads", "num_attention_heads", "n_head", "nhead")
    found = next((getattr(module, name) for name in names if isinstance(getattr(module, name, None), int)), None)
    if found is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} folds its heads into the batch axis and does not say how many there are; "
            "describe it in an adapter (entry point attnlens.families)."
        )
    return int(found)
