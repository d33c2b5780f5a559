"""The measures of mixing, as they are registered: how much of each token goes into each, by nine methods."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import CaptureError
from attnlens.measures import alti, mixing, norms, relevance, zeroing
from attnlens.measures.opened import Compute, head_means, opened_of, refusing
from attnlens.measures.registry import STACK, Measure, MeasureInput, Needs, Option

__all__ = [
    "ALTI",
    "ALTI_ROLLOUT",
    "ATTENTION_FLOW",
    "BLOCK_NORM_ATTENTION",
    "HEAD_ROLLOUT",
    "HEAD_VALUE_ZEROING",
    "LAYER_NORM_ATTENTION",
    "MIXING_RATIO",
    "NORM_ATTENTION",
    "RELEVANCE",
    "ROLLOUT",
    "VALUE_ZEROING",
]

_ABNAR = "Abnar & Zuidema 2020, arXiv:2005.00928, section 3"
_KOBAYASHI = "Kobayashi et al. 2020, arXiv:2004.10102, section 3"
_KOBAYASHI_21 = "Kobayashi et al. 2021, arXiv:2109.07152, section 3"
_MOHEBBI = "Mohebbi et al. 2023, arXiv:2301.12971, section 3"
_FERRANDO = "Ferrando et al. 2022, arXiv:2203.04212, section 3"
_CHEFER = "Chefer et al. 2021, arXiv:2103.15679, section 3"

_BLOCK_POINTS = ("v", "attn_out", "resid_pre")
_LAYER_MAP, _HEAD_MAP = ("layer", "query", "key"), ("layer", "head", "query", "key")


def _measure(name: str, title: str, description: str, compute: Compute, **more: Any) -> Measure:
    """A measure of mixing: a share between 0 and 1 of every stack unless `more` says otherwise."""
    shared: dict[str, Any] = {"low": 0.0, "high": 1.0, "options": (STACK,), "axes": _LAYER_MAP}
    return Measure(
        name=name, title=title, description=description, compute=refusing(name, compute), **shared | more
    )  # fmt: skip


def _rollouts(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    run, letter = given.run, given.stack
    if letter in ("", "E"):
        return mixing.rollout(head_means(run, letter))
    encoder = mixing.rollout(head_means(run, "E"))[-1]
    own, cross = head_means(run, "D"), head_means(run, "X")
    return mixing.cross_rollout(own, cross, encoder)[letter == "X"]


def _head_rollouts(given: MeasureInput) -> Float[Tensor, ...]:
    run, letter = given.run, given.stack
    if letter == "X":
        encoder = mixing.rollout(head_means(run, "E"))[-1]
        below = encoder.expand(len(run.patterns_of(stack=letter)), -1, -1)
        return torch.stack([run.attention(n, stack="X").double() @ one for n, one in enumerate(below)])
    if letter == "D":
        raise CaptureError("a decoder's heads read both texts, so that a head's map would be of two")
    layers = range(run.n_layers if letter == "" else len(run.encoder))
    patterns = torch.stack([run.attention(layer, stack=letter or None) for layer in layers])
    return mixing.head_rollout(patterns, mixing.rollout(head_means(run, letter)))


def _flow(given: MeasureInput) -> Float[Tensor, "query key"]:
    if given.stack not in ("", "E"):
        raise CaptureError("a decoder that reads an encoder is no graph of one text")
    return mixing.attention_flow(head_means(given.run, given.stack, whole=False), given.options["longest"])


def _moved(given: MeasureInput, layer: int) -> Float[Tensor, "head key d_model"]:
    from attnlens.models.readouts import head_projection, point_of_layer

    weight, _ = head_projection(opened_of(given), given.stack, layer)
    values = point_of_layer(given.run, "v", given.stack, layer).float()
    return norms.moved_by_heads(values.repeat_interleave(len(weight) // len(values), dim=0), weight.float())


def _per_layer(given: MeasureInput, n_axes: int) -> tuple[tuple[int, ...], Tensor]:
    """Layers that have this attention, and room for the values of all layers, NaN where there are none."""
    stack = given.run.anatomy.stack(given.stack)
    shape = given.run.patterns_of(stack=given.stack or None)[stack.attention_layers[0]]
    assert shape is not None
    sizes = {1: shape.shape[:1], 2: shape.shape, 3: (stack.n_heads, *shape.shape)}[n_axes]
    full = len(stack.attention_layers) == stack.n_layers
    room = torch.empty if full else torch.zeros
    values = room(stack.n_layers, *sizes)
    if not full:
        values.fill_(torch.nan)
    return stack.attention_layers, values


def _norm_attention(given: MeasureInput) -> Float[Tensor, "*layers_heads query key"]:
    stack = given.stack or None
    if given.head is not None:
        layer, head = given.head.layer, given.head.head
        return norms.head_norms(given.run.attention(layer, head, stack=stack)[None], _moved(given, layer)[head][None])[
            0
        ]
    layers, values = _per_layer(given, 3)
    for layer in layers:
        values[layer] = norms.head_norms(given.run.attention(layer, stack=stack), _moved(given, layer))
    return values


def _layer_norm_attention(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    layers, values = _per_layer(given, 2)
    for layer in layers:
        pattern = given.run.attention(layer, stack=given.stack or None)
        values[layer] = norms.layer_norms(pattern, _moved(given, layer))
    return values


def _blocks(given: MeasureInput) -> Any:
    from attnlens.models.readouts import blocks

    if given.stack == "X":
        raise CaptureError("what goes around cross-attention is of the target, what it brings is of the source")
    return blocks(opened_of(given), given.run, given.stack)


def _block_norm_attention(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    _, values = _per_layer(given, 2)
    for layer, block in _blocks(given):
        pattern, moved, residual, sigma = block.scaled
        values[layer] = norms.layer_norms(pattern, moved, residual) / sigma.to(pattern)[:, None]
    return values


def _mixing_ratio(given: MeasureInput) -> Float[Tensor, "layer query"]:
    _, values = _per_layer(given, 1)
    for layer, block in _blocks(given):
        pattern, moved, residual, _ = block.scaled  # sigma divides both, so that the ratio has none
        own = torch.einsum("hqq,hqd->qd", pattern, moved)
        mixed = torch.einsum("hqk,hkd->qd", pattern, moved) - own
        values[layer] = norms.mixing_ratio(mixed, own + residual)
    return values


def _alti(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    _, values = _per_layer(given, 2)
    for layer, block in _blocks(given):
        pattern, moved, residual, sigma = block.scaled
        values[layer] = alti.alti_contributions(pattern, moved, residual, block.outputs, sigma)
    return values


def _alti_rollout(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    if given.stack == "D":
        raise CaptureError("a decoder's tokens are made of the source too, which these shares leave out")
    return alti.alti_rollout(_alti(given))


def _value_zeroing(given: MeasureInput) -> Float[Tensor, "layer query key"]:
    _, values = _per_layer(given, 2)
    _fill_zeroed(given, values, None)
    return values


def _head_value_zeroing(given: MeasureInput) -> Float[Tensor, "*layers_heads query key"]:
    if given.head is not None:
        _, one = _per_layer(given, 2)
        _fill_zeroed(given, one, given.head.head, given.head.layer)
        return one[given.head.layer]
    _, values = _per_layer(given, 3)
    for head in range(values.shape[1]):
        _fill_zeroed(given, values[:, head], head)
    return values


def _fill_zeroed(given: MeasureInput, values: Tensor, head: int | None, only: int | None = None) -> None:
    from attnlens.models.reruns import batch_of_run, zeroed_outputs

    opened = opened_of(given)
    batch, layers = batch_of_run(opened, given.run), None if only is None else (only,)
    for layer, outputs, zeroed in zeroed_outputs(opened, batch, given.stack, head, layers):
        distances = zeroing.zeroing_distances(outputs, zeroed)
        values[layer] = zeroing.shares_of_change(distances) if given.options["shares"] else distances


def _relevance(given: MeasureInput) -> Float[Tensor, " key"]:
    from attnlens.models.reruns import batch_of_run, pattern_gradients
    from attnlens.models.targets import choose_target

    assert given.lens is not None
    opened = opened_of(given)
    target = choose_target(given.run, given.lens.tokenizer, given.options)
    found = pattern_gradients(opened, batch_of_run(opened, given.run), target.of)
    weights: dict[str, list[Tensor]] = {}
    for site, (pattern, gradient) in found.items():
        weights.setdefault(site.stack, []).append(relevance.relevant_weights(pattern, gradient))
    if "X" not in weights:
        return relevance.self_relevance(torch.stack(weights[given.stack]))[target.position]
    encoder = relevance.self_relevance(torch.stack(weights["E"]))
    own, source = relevance.cross_relevance(weights["D"], weights["X"], encoder)
    return (own if given.stack == "D" else source)[target.position]


_TARGETS = (
    Option("target", None, "the token whose logit is explained; the model's first choice where nothing is said"),
    Option("against", None, "a token whose logit is taken away from it"),
    Option("position", None, "token whose output is read; the masked one where there is one, else the last"),
)
_SHARES = Option("shares", True, "divide each row by its sum; without it values are cosine distances, 0 to 2")

ROLLOUT = _measure(
    "rollout",
    "rollout",
    "Share of each input token in each token after each layer, if layers did nothing but mix (head-mean weights).",
    _rollouts,
    more="more of the input token is there",
    source=_ABNAR,
    instead="value-zeroing",
)
HEAD_ROLLOUT = _measure(
    "head-rollout",
    "rollout of a head",
    "Share of each input token in what a head attends to, with the layers below it rolled out.",
    _head_rollouts,
    axes=_HEAD_MAP,
    more="the head reads more of the input token",
    source=f"{_ABNAR}, with one head in the last factor",
    instead="norm-attention",
)
ATTENTION_FLOW = _measure(
    "attention-flow",
    "attention flow",
    "Most that could flow from each input token to each token after the last layer, each pair by itself (max-flow).",
    _flow,
    axes=("query", "key"),
    options=(STACK, Option("longest", mixing.LONGEST_FLOW, "tokens beyond which it is refused; time grows with n^4")),
    more="more could come from the input token",
    source=_ABNAR,
    instead="rollout",
)
NORM_ATTENTION = _measure(
    "norm-attention",
    "norm-weighted attention",
    "Length of the vector that a head moves from key to query.",
    _norm_attention,
    axes=_HEAD_MAP,
    needs=Needs(points=("v",), model=True),
    unit="stream",
    high=None,
    more="the head moves a larger vector",
    source=_KOBAYASHI,
    instead="head-value-zeroing",
)
LAYER_NORM_ATTENTION = _measure(
    "layer-norm-attention",
    "norm-weighted attention of a layer",
    "Length of the sum of the vectors that all heads of a layer move from key to query.",
    _layer_norm_attention,
    needs=Needs(points=("v",), model=True),
    unit="stream",
    high=None,
    more="the layer moves a larger vector",
    source=_KOBAYASHI,
    instead="value-zeroing",
)
BLOCK_NORM_ATTENTION = _measure(
    "block-norm-attention",
    "norm-weighted attention with residual",
    "Length of each token's part in the vector behind an attention block: heads, residual and the norm behind them.",
    _block_norm_attention,
    needs=Needs(points=_BLOCK_POINTS, model=True),
    unit="stream",
    high=None,
    more="the token's part is larger",
    source=_KOBAYASHI_21,
    instead="value-zeroing",
)
MIXING_RATIO = _measure(
    "mixing-ratio",
    "mixing ratio",
    "Share of other tokens in the vector behind an attention block, against the token itself and the residual.",
    _mixing_ratio,
    axes=("layer", "query"),
    needs=Needs(points=_BLOCK_POINTS, model=True),
    more="more of the token is replaced by its context",
    source=_KOBAYASHI_21,
    instead="value-zeroing",
)
VALUE_ZEROING = _measure(
    "value-zeroing",
    "value zeroing",
    "How much a token's vector after a layer turns when another token's value is taken away in that layer.",
    _value_zeroing,
    needs=Needs(model=True),
    options=(STACK, _SHARES),
    more="the token depends more on the key",
    source=_MOHEBBI,
    instead="rollout",
)
HEAD_VALUE_ZEROING = _measure(
    "head-value-zeroing",
    "value zeroing of a head",
    "How much a token's vector after a layer turns when one head does not get another token's value.",
    _head_value_zeroing,
    axes=_HEAD_MAP,
    needs=Needs(model=True),
    options=(STACK, _SHARES),
    more="the token depends more on the key by way of this head",
    source=f"{_MOHEBBI}, for one head at a time",
    instead="norm-attention",
)
ALTI = _measure(
    "alti",
    "ALTI",
    "Share of each token in each token's vector behind an attention block, by how near its part is to the whole.",
    _alti,
    needs=Needs(points=_BLOCK_POINTS, model=True),
    more="more of the vector is made of the key",
    source=_FERRANDO,
    instead="value-zeroing",
)
ALTI_ROLLOUT = _measure(
    "alti-rollout",
    "ALTI over layers",
    "Share of each input token in each token after each layer: the product of the layers' ALTI shares.",
    _alti_rollout,
    needs=Needs(points=_BLOCK_POINTS, model=True),
    more="more of the input token is there",
    source=_FERRANDO,
    instead="rollout",
)
RELEVANCE = _measure(
    "relevance",
    "gradient relevance",
    "How much each token matters for a logit: weights times gradients, carried through the layers.",
    _relevance,
    axes=("token",),
    needs=Needs(logits=True, gradient=True, model=True),
    options=(STACK, *_TARGETS),
    unit="logits",
    high=None,
    more="the token speaks more for the target",
    source=_CHEFER,
    instead="rollout",
)
