"""Running a captured text again: with values taken away, with gradients, or with other states before the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER, Site
from attnlens.capture.tap import recording
from attnlens.capture.tokens import EncodedText
from attnlens.errors import CaptureError
from attnlens.models.hooks import first_tensor
from attnlens.models.inputs import Batch, batch_of_pairs, batch_of_texts
from attnlens.models.made_up import without_cache
from attnlens.models.opening import Opened
from attnlens.models.points import recording_points

__all__ = ["batch_of_run", "pattern_gradients", "read_states", "zeroed_outputs"]

_ROWS_AT_ONCE = 16
# Relative difference that running the same tokens again may make in float32.
_SAME = 1e-3


def batch_of_run(opened: Opened, run: Capture) -> Batch:
    """What the model was called with to make `run`, proven by running it again.

    Raises:
        CaptureError: the run was made of tensors other than ids, or by another model.
    """
    model = opened.tap.model
    if not isinstance(model, PreTrainedModel) or not run.tokens or model.main_input_name != "input_ids":
        raise CaptureError(f"{opened.anatomy.model} cannot be run again from tokens: it reads something else")
    for segments in _segmentations(run):
        text = EncodedText(run.text, run.tokens, run.words, segments, False)
        sources = () if run.source is None else (run.source,)
        batch = batch_of_pairs(model, sources, (text,), 0) if sources else batch_of_texts(model, (text,), 0)
        if _gives_again(opened, batch, run):
            return batch
    raise CaptureError(
        f"running the {len(run.tokens)} tokens again does not give this run; it was made by another model, or of "
        "inputs that are more than tokens"
    )


def zeroed_outputs(
    opened: Opened, batch: Batch, letter: str, head: int | None = None, layers: Sequence[int] | None = None
) -> Iterator[tuple[int, Float[Tensor, "query d_model"], Float[Tensor, "key query d_model"]]]:
    """Output of each layer of one text as it is, and with the value vector at each key set to zero in that layer.

    Setting a value to zero is setting the weights on it to zero after the softmax, which works for every family; rows
    are not normalised again. The layer itself is run, in batches of keys, on what it was given in the model.

    Args:
        opened: the model.
        batch: one text.
        letter: of the stack; `X` takes away values of the source, in cross-attention.
        head: take the value away from this head only; None for all of them.
        layers: those to run; None for all that have this attention.

    Yields:
        Layer (those that have this attention), its output, and its outputs without each value.

    Raises:
        CaptureError: the layer run by itself does not give what it gave in the model.
    """
    home = DECODER if letter == CROSS else letter
    stack, order = opened.stacks[home], opened.wirings[home].order
    calls = _layer_calls(opened, batch, home, order)
    for layer in opened.anatomy.stack(letter).attention_layers if layers is None else layers:
        call = calls[layer]
        outputs = call.run(opened, stack.layers[order[layer]], _Without(letter, None, head))[0][0]
        if not _same(outputs, call.output[0]):
            raise CaptureError(f"layer {layer} of {opened.anatomy.model} gives something else when it is run by itself")
        zeroed, n_keys = [], None
        start = 0
        while n_keys is None or start < n_keys:
            keys = torch.arange(start, start + _ROWS_AT_ONCE)
            rows, n_keys = call.run(opened, stack.layers[order[layer]], _Without(letter, keys, head))
            zeroed.append(rows[: n_keys - start].cpu())
            start += _ROWS_AT_ONCE
        yield layer, outputs.cpu(), torch.cat(zeroed)


def pattern_gradients(
    opened: Opened, batch: Batch, score: Callable[[Tensor], Tensor]
) -> Mapping[Site, tuple[Float[Tensor, "head query key"], Float[Tensor, "head query key"]]]:
    """Weights of every site, and the gradient of a score of the logits with respect to them; on the CPU.

    Args:
        opened: the model.
        batch: one text.
        score: logits `[position vocab]` (of a classifier `[1 class]`) -> one number.
    """
    recorder = _Differentiable()
    with torch.enable_grad(), recording(opened.tap, recorder):
        output = batch.call(opened.tap.model, **without_cache(opened.tap.model))
    logits = _logits(output)
    value = score(logits[0] if logits.ndim == 3 else logits)
    sites = sorted(recorder.weights)
    gradients = torch.autograd.grad(value, [recorder.weights[site] for site in sites], allow_unused=True)
    found = {}
    for site, gradient in zip(sites, gradients, strict=True):
        weights = recorder.weights[site].detach()
        known = torch.zeros_like(weights) if gradient is None else gradient  # the last decoder layer's later rows
        found[site] = weights[0].cpu(), known[0].cpu()
    return found


def read_states(
    opened: Opened, batch: Batch, states: Float[Tensor, "layer position d_model"]
) -> Float[Tensor, "layer position vocab"]:
    """Logits that the model gives if its last layer puts out `states`: the final norm and the whole prediction head.

    One forward of one text: its last layer's output is replaced by all of the states at once, as rows of a batch.

    Raises:
        CaptureError: the model's code behind the last layer does not take more rows than it began with.
    """
    letter = opened.anatomy.main_stack
    order, stack = opened.wirings[letter].order, opened.stacks[letter]
    last, calls = stack.layers[order[-1]], [0]

    mine = get_ident()

    def put_in(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        if get_ident() != mine:
            return output
        calls[0] += 1
        if calls[0] != order.count(order[-1]):
            return output
        before = first_tensor(output)
        assert before is not None
        rows = states.to(before)
        return rows if isinstance(output, Tensor) else (rows, *output[1:])

    with torch.no_grad(), ExitStack() as hooks, recording(opened.tap, _Without(letter, None, None)):
        hooks.callback(last.register_forward_hook(put_in).remove)
        logits = _logits(batch.call(opened.tap.model, **without_cache(opened.tap.model)))
    if logits.ndim != 3 or len(logits) != len(states):
        raise CaptureError(f"the prediction head of {opened.anatomy.model} cannot be given other states than its own")
    return logits.cpu()


class _Without:
    """Sets the weights on some keys to zero, in every layer of a stack that runs: row by row of the batch, one key."""

    eager = True

    def __init__(self, letter: str, keys: Tensor | None, head: int | None) -> None:
        self._letter, self._keys = letter, keys
        self._heads = slice(None) if head is None else slice(head, head + 1)
        self.n_keys = 0

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        weights = self._edited(call.site, call.run_eager()[1])
        return _weigh(weights, call.value), weights

    def on_weights(self, call: WeightsCall) -> Tensor:
        return self._edited(call.site, call.weights)

    def _edited(self, site: Site, weights: Tensor) -> Tensor:
        if site.stack != self._letter or self._keys is None:
            return weights
        self.n_keys = weights.shape[-1]
        edited = weights.clone()
        for row, key in enumerate(self._keys.tolist()):
            if key < self.n_keys:
                edited[row, self._heads, :, key] = 0
        return edited


class _Differentiable:
    """Keeps every site's weights as part of the graph that leads to the model's output."""

    eager = True

    def __init__(self) -> None:
        self.weights: dict[Site, Tensor] = {}

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        weights = self._kept(call.site, call.run_eager()[1])
        return _weigh(weights, call.value), weights

    def on_weights(self, call: WeightsCall) -> Tensor:
        return self._kept(call.site, call.weights)

    def _kept(self, site: Site, weights: Tensor) -> Tensor:
        if not weights.requires_grad:  # frozen weights
            weights = weights.detach().requires_grad_()
        self.weights[site] = weights
        return weights


@dataclass(frozen=True)
class _LayerCall:
    """What a layer was given in the model, in as many rows as are run at a time, and what it gave."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Tensor

    def run(self, opened: Opened, layer: nn.Module, recorder: _Without) -> tuple[Tensor, int]:
        """Its output under `recorder`, and the number of keys that it saw."""
        with torch.no_grad(), recording(opened.tap, recorder):
            output = first_tensor(layer(*self.args, **self.kwargs))
        assert output is not None
        return output, recorder.n_keys


def _layer_calls(opened: Opened, batch: Batch, letter: str, order: tuple[int, ...]) -> list[_LayerCall]:
    """What each layer of a stack is given, in the order in which they run."""
    calls: list[_LayerCall] = []
    stack = opened.stacks[letter]

    mine = get_ident()

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = first_tensor(output)
        if get_ident() != mine or given is None:
            return
        calls.append(_LayerCall(args, dict(kwargs), given.clone()))

    rows = {
        name: value.expand(_ROWS_AT_ONCE, *value.shape[1:]) if isinstance(value, Tensor) else value
        for name, value in batch.arguments.items()
    }
    entry = opened.tap.model.base_model if isinstance(opened.tap.model, PreTrainedModel) else opened.tap.model
    with torch.no_grad(), ExitStack() as hooks, recording(opened.tap, _Without(letter, None, None)):
        for layer in stack.layers:
            hooks.callback(layer.register_forward_hook(keep, with_kwargs=True).remove)
        replace(batch, arguments=rows).call(entry, **without_cache(opened.tap.model))
    if len(calls) != len(order):
        raise CaptureError(f"{len(calls)} of {len(order)} layers ran; open the model again if it was changed since")
    return calls


def _weigh(weights: Float[Tensor, "batch head query key"], value: Tensor) -> Float[Tensor, "batch query head d_head"]:
    """The heads' outputs, with key heads repeated for the heads that share them."""
    value = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
    return (weights.to(value) @ value).transpose(1, 2).contiguous()


def _segmentations(run: Capture) -> Iterator[tuple[int, ...]]:
    """Segments that the tokens can have: one for all, or a second one after the first text's closing token."""
    yield (0,) * len(run.tokens)
    specials = [place for place, token in enumerate(run.tokens) if token.special and place]
    if len(specials) > 1:
        yield tuple(int(place > specials[0]) for place in range(len(run.tokens)))


def _gives_again(opened: Opened, batch: Batch, run: Capture) -> bool:
    letter = opened.anatomy.main_stack
    front = f"{letter}." if letter else ""
    held = next((point for point in ("final", "embed") if front + point in run.stream), None)
    if held is None and run.logits is None:
        return True
    with torch.no_grad(), ExitStack() as stack:
        points = ("final", "embed")
        kept = stack.enter_context(recording_points(opened.stacks[letter], opened.wirings[letter], points))
        logits = _logits(batch.call(opened.tap.model, **without_cache(opened.tap.model)))
    if held is not None:
        return _same(kept[held][0][0].cpu(), run.stream[front + held])
    assert run.logits is not None
    return _same((logits[0] if logits.ndim == 3 else logits).cpu(), run.logits)


def _same(one: Tensor, other: Tensor) -> bool:
    limit = max(_SAME, 64 * torch.finfo(other.dtype).eps)
    return one.shape == other.shape and bool((one - other).abs().max() <= limit * other.abs().max())


def _logits(output: Any) -> Tensor:
    logits = getattr(output, "logits", None)
    found = logits if isinstance(logits, Tensor) else first_tensor(output)
    assert found is not None
    return found
