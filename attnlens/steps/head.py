"""One head at one query, step by step: from its query vector to what it writes into the stream.

Source of the steps: Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn import functional

from attnlens.capture.run import Capture
from attnlens.errors import HeadAddressError, UsageError
from attnlens.heads import Head
from attnlens.measures.positions import rotate
from attnlens.models.lens import Lens
from attnlens.steps.attending import AttendingLayer, attending_layer
from attnlens.steps.rotation import Rotation
from attnlens.steps.watching import relative_gap

__all__ = ["Check", "HeadSteps", "head_steps", "steps_of_head"]


@dataclass(frozen=True)
class Check:
    """How far something recomputed from the shown steps is from what was computed elsewhere.

    Attributes:
        key: "attention", "torch", "output" or "layer".
        name: what it is compared with.
        gap: largest difference, relative to the largest number of what it is compared with.
    """

    key: str
    name: str
    gap: float


@dataclass(frozen=True, eq=False)
class HeadSteps:
    """The steps of one head at one query, in float64; what the model does not have, or does not show, is None.

    Attributes:
        head: which.
        query: position of the query.
        position: the model's scheme of positions.
        dtype: in which the model computed.
        q, keys: as they are multiplied, after any rotation.
        q_before, keys_before: before the rotation.
        rotation: how they were turned.
        products: `q * keys`, element by element; each row sums to the raw score.
        raw: `q @ key` of every key.
        scaling: factor on the raw scores.
        scaled: raw scores times the factor.
        softcap, capped: the limit, and `softcap * tanh(scaled / softcap)`.
        added: what is added then (relative bias, ALiBi); `added_is_rest` says that it is what the model's scores hold
            beyond the scaled products, and was not seen by itself.
        visible: True where the mask lets the query see the key.
        sink: logit whose weight goes to no key.
        logits: what softmax is given; -inf where the key is hidden.
        weights: the row of the softmax; with a sink it sums to less than 1.
        unscaled: the row if the raw scores were not scaled; None where the factor is 1.
        values, weighted: value of every key, and times its weight.
        z: their sum, what the head puts out.
        output: the head's part of W_O, `[d_value d_model]`.
        write: `z @ output`, what the head adds to the stream.
        bias, layer_output: of W_O, and what all heads and the bias add up to, at this query.
        kv_head, shared_by: number of the key-value head, and the query heads that read it.
        n_heads: query heads of the layer.
        checks: what the steps were compared with.
        limit: what the gaps should be below, in the model's precision.
        absent: which parts are not known, and why.
    """

    head: Head
    query: int
    position: str
    dtype: torch.dtype
    q: Float64[Tensor, " d_head"] | None
    keys: Float64[Tensor, "key d_head"] | None
    q_before: Float64[Tensor, " d_head"] | None
    keys_before: Float64[Tensor, "key d_head"] | None
    rotation: Rotation | None
    products: Float64[Tensor, "key d_head"] | None
    raw: Float64[Tensor, " key"] | None
    scaling: float
    scaled: Float64[Tensor, " key"] | None
    softcap: float | None
    capped: Float64[Tensor, " key"] | None
    added: Float64[Tensor, " key"] | None
    added_is_rest: bool
    visible: Bool[Tensor, " key"]
    sink: float | None
    logits: Float64[Tensor, " key"]
    weights: Float64[Tensor, " key"]
    unscaled: Float64[Tensor, " key"] | None
    values: Float64[Tensor, "key d_value"] | None
    weighted: Float64[Tensor, "key d_value"] | None
    z: Float64[Tensor, " d_value"]
    output: Float64[Tensor, "d_value d_model"] | None
    write: Float64[Tensor, " d_model"] | None
    bias: Float64[Tensor, " d_model"] | None
    layer_output: Float64[Tensor, " d_model"] | None
    kv_head: int
    shared_by: tuple[int, ...]
    n_heads: int
    checks: tuple[Check, ...]
    limit: float
    absent: dict[str, str]

    @property
    def gap(self) -> float:
        """The largest of the gaps."""
        return max((check.gap for check in self.checks), default=0.0)


def head_steps(lens: Lens, run: Capture, head: Head | str, query: int, *, inputs: Any = None) -> HeadSteps:
    """Everything that one head computes for one query of a run.

    Args:
        lens: the model that made `run`.
        run: of a text; its tokens are run once more.
        head: "L3H1"; of an encoder-decoder "EL3H1", "DL3H1" or "XL3H1".
        query: position of the query; counted from the end where it is negative.
        inputs: the tensors that `run` was made of, where it was not made of text.

    Raises:
        HeadAddressError: the model has no such head.
        UsageError: the text has no such position.
        CaptureError: the run cannot be made again, or its model shows too little.
    """
    address = Head.parse(head)
    return steps_of_head(
        attending_layer(lens, run, address.layer, address.stack or None, inputs=inputs), run, address, query
    )


def steps_of_head(layer: AttendingLayer, run: Capture, head: Head, query: int) -> HeadSteps:
    """The steps of one head of a layer that was run again; see `head_steps`."""
    h, n_queries = head.head, layer.shape[0]
    if h >= layer.n_heads:
        raise HeadAddressError(f"{head} does not exist: layer {layer.layer} has heads 0 to {layer.n_heads - 1}.")
    if not -n_queries <= query < n_queries:
        raise UsageError(f"there is no query {query}: the text has positions 0 to {n_queries - 1}.")
    at, kv = query % n_queries, layer.kv_heads[h]
    q = None if layer.query is None else layer.query[h, at]
    keys = None if layer.key is None else layer.key[_stored(layer.key, kv, h, layer)]
    values = None if layer.value is None else layer.value[_stored(layer.value, kv, h, layer)]
    products = None if q is None or keys is None else keys * q
    raw = None if products is None else products.sum(-1)
    scaled = None if raw is None else raw * layer.scaling
    capped = None if scaled is None else _capped(layer, scaled)
    added = None if layer.added is None else layer.added[h, at].masked_fill(~layer.visible[h, at], 0.0)
    visible = layer.visible[h, at]
    sink = None if layer.sinks is None else float(layer.sinks[h])
    logits = _logits(capped, added, visible)
    weights = _softmax(logits, sink)
    unscaled = None
    if raw is not None and layer.scaling != 1:
        unscaled = _softmax(_logits(_capped(layer, raw), added, visible), sink)
    weighted = None if values is None else weights[:, None] * values
    z = layer.z[h, at] if weighted is None else weighted.sum(0)
    output = None if layer.output is None else layer.output[h]
    layer_output = None
    if layer.output is not None:
        mixed = layer.z[:, at].clone()
        mixed[h] = z
        layer_output = torch.einsum("hv,hvm->m", mixed, layer.output)
        layer_output = layer_output if layer.bias is None else layer_output + layer.bias
    turns = layer.rotation is not None and q is not None and keys is not None
    steps = HeadSteps(
        head=head,
        query=at,
        position=layer.position,
        dtype=layer.dtype,
        q=q,
        keys=keys,
        q_before=_turned_back(layer, q[None], at)[0] if turns and q is not None else None,
        keys_before=_turned_back(layer, keys, 0) if turns and keys is not None else None,
        rotation=layer.rotation if turns else None,
        products=products,
        raw=raw,
        scaling=layer.scaling,
        scaled=scaled,
        softcap=layer.softcap,
        capped=None if layer.softcap is None else capped,
        added=added,
        added_is_rest=layer.added_is_rest,
        visible=visible,
        sink=sink,
        logits=logits,
        weights=weights,
        unscaled=unscaled,
        values=values,
        weighted=weighted,
        z=z,
        output=output,
        write=None if output is None else z @ output,
        bias=layer.bias,
        layer_output=layer_output,
        kv_head=kv,
        shared_by=tuple(other for other, of in enumerate(layer.kv_heads) if of == kv),
        n_heads=layer.n_heads,
        checks=(),
        limit=layer.limit,
        absent=dict(layer.absent),
    )
    return HeadSteps(**vars(steps) | {"checks": tuple(_checks(steps, layer, run))})


def _stored(vectors: Tensor, kv_head: int, head: int, layer: AttendingLayer) -> int:
    """Where a head's keys or values stand: once per key-value head, or once per query head."""
    return head if len(vectors) == layer.n_heads else kv_head


def _capped(layer: AttendingLayer, scores: Tensor) -> Tensor:
    return scores if layer.softcap is None else layer.softcap * (scores / layer.softcap).tanh()


def _logits(scores: Tensor | None, added: Tensor | None, visible: Tensor) -> Tensor:
    """What softmax is given; the sum of what is known, which is all of it where `added` are whole scores."""
    parts = [part for part in (scores, added) if part is not None]
    total = torch.stack(parts).sum(0)
    return total.masked_fill(~visible, -torch.inf)


def _softmax(logits: Tensor, sink: float | None) -> Tensor:
    """Weights of the keys; all 0 where none is visible."""
    every = logits if sink is None else torch.cat([logits, logits.new_tensor([sink])])
    if bool(every.isneginf().all()):
        return torch.zeros_like(logits)
    return every.softmax(-1)[: len(logits)]


def _turned_back(layer: AttendingLayer, vectors: Tensor, start: int) -> Tensor:
    """Vectors as they were before the rotation of their positions."""
    rotation = layer.rotation
    assert rotation is not None
    places = torch.arange(start, start + len(vectors), dtype=torch.float64)
    return rotate(vectors, -places[:, None] * rotation.frequencies, halves=rotation.halves)


def _checks(steps: HeadSteps, layer: AttendingLayer, run: Capture) -> Iterator[Check]:
    h, at = steps.head.head, steps.query
    shown = run.attention(head=steps.head, queries=slice(at, at + 1))[0].double()
    yield Check("attention", "the attention that attnlens shows", relative_gap(steps.weights, shown))
    if (expected := _by_torch(steps)) is not None:
        name = "torch's scaled_dot_product_attention"
        yield Check("torch", name, relative_gap(steps.z, expected.double()))
    if steps.weighted is not None:
        yield Check("output", "what the head put out in the model", relative_gap(steps.z, layer.z[h, at]))
    if steps.layer_output is not None and layer.written is not None:
        name = "what the layer's output projection gave in the model"
        yield Check("layer", name, relative_gap(steps.layer_output, layer.written[at]))


def _by_torch(steps: HeadSteps) -> Tensor | None:
    """The mixed value by torch's own function, in its precision; what it has no argument for goes in by its mask.

    A sink is one more key, whose value is 0.
    """
    if steps.q is None or steps.keys is None or steps.values is None or not bool(steps.visible.any()):
        return None
    dtype = torch.promote_types(steps.dtype, torch.float32)
    keys, values = steps.keys, steps.values
    mask = torch.zeros(len(keys), dtype=torch.float64)
    if steps.capped is not None and steps.scaled is not None:
        mask = steps.capped - steps.scaled
    mask = (mask if steps.added is None else mask + steps.added).masked_fill(~steps.visible, -torch.inf)
    if steps.sink is not None:
        keys, values = (torch.cat([part, torch.zeros_like(part[:1])]) for part in (keys, values))
        mask = torch.cat([mask, mask.new_tensor([steps.sink])])
    q, k, v = (part.to(dtype)[None, None] for part in (steps.q[None], keys, values))
    mixed = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask.to(dtype)[None, None, None], scale=steps.scaling
    )
    return mixed[0, 0, 0]
