"""From what an attention call was given to what its scores are made of: what is hidden, what is added, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.calls import AttentionCall
from attnlens.capture.scores import Scores

__all__ = ["Terms", "own_memory", "some_heads"]


@dataclass
class Terms:
    """Turns the masks and biases of calls into what scores are made of; one that layers share is turned once."""

    _split: dict[tuple[int, object], tuple[Tensor, Tensor | None, Tensor | None]] = field(default_factory=dict)

    def scores(self, call: AttentionCall, heads: tuple[int, ...] | None, own: Callable[[Tensor], Tensor]) -> Scores:
        """What the weights of `heads` follow from; `own` makes each tensor safe to keep."""
        query, key = call.query, call.key
        mask, bias = self._mask_and_bias(call.mask, heads, own)
        relative = self._bias(call.options.get("position_bias"), heads, own)
        sinks = call.options.get("s_aux")
        if heads is not None:
            group = query.shape[1] // key.shape[1]
            query, key = query[:, list(heads)], key[:, [head // group for head in heads]]
            sinks = None if sinks is None else sinks[list(heads)]
        return Scores(
            query=own(query),
            key=own(key),
            scaling=call.scaling,
            mask=mask,
            causal=call.causal_by_flag,
            softcap=call.options.get("softcap"),
            bias=relative if bias is None else bias if relative is None else bias + relative,
            sinks=None if sinks is None else own(sinks),
        )

    def _bias(
        self, bias: Tensor | None, heads: tuple[int, ...] | None, own: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        if bias is None:
            return None
        known = self._split.get((id(bias), heads))
        if known is None:
            known = self._split[id(bias), heads] = (bias, None, own(some_heads(bias, heads)))
        return known[2]

    def _mask_and_bias(
        self, mask: Tensor | None, heads: tuple[int, ...] | None, own: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """What a mask hides, and what it adds to the scores of the keys that it leaves."""
        if mask is None:
            return None, None
        known = self._split.get((id(mask), heads))
        if known is None:
            keep, bias = _split(mask, heads)
            known = self._split[id(mask), heads] = (mask, own(keep), None if bias is None else own(bias))
        return known[1], known[2]


def _split(
    mask: Tensor, heads: tuple[int, ...] | None
) -> tuple[Bool[Tensor, "batch head query key"], Float[Tensor, "batch some_heads query key"] | None]:
    """A mask of the batch, bool (keep) or additive, as what is visible and what is added.

    A mask that hides the same from every head is kept once.
    """
    if mask.dtype == torch.bool:
        return _for_all_heads(mask, heads), None
    seen = mask > torch.finfo(mask.dtype).min / 2
    bias = None
    if bool((mask[seen] != 0).any()):
        bias = some_heads(mask.masked_fill(~seen, 0), heads)
    return _for_all_heads(seen, heads), bias


def _for_all_heads(
    seen: Bool[Tensor, "batch head query key"], heads: tuple[int, ...] | None
) -> Bool[Tensor, "batch some_heads query key"]:
    if seen.shape[1] == 1 or bool((seen == seen[:, :1]).all()):
        return seen[:, :1]
    return some_heads(seen, heads)


def some_heads(tensor: Tensor, heads: tuple[int, ...] | None) -> Tensor:
    """The rows of `heads` along axis 1; a tensor that all heads share stays as it is."""
    return tensor if heads is None or tensor.shape[1] == 1 else tensor[:, list(heads)]


def own_memory(tensor: Tensor) -> Tensor:
    """`tensor` detached and on the CPU, in memory that nothing else keeps alive.

    A fused projection's queries are views that would keep the values alive, so such a view is copied.
    """
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        return tensor.cpu()
    if tensor.untyped_storage().nbytes() > tensor.nbytes + tensor.element_size():
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor
