"""The measures of positions, as they are registered: how a model tells them apart, and what they explain of scores."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attnlens.capture.patterns import LazyPattern, Pattern
from attnlens.errors import CaptureError
from attnlens.measures import positions
from attnlens.measures.opened import opened_of, refusing
from attnlens.measures.registry import STACK, Measure, MeasureInput, Needs, Option

__all__ = ["POSITION_BIAS", "POSITION_COSINE", "POSITION_SHARE", "ROPE_DECAY", "scores_of"]


def scores_of(pattern: Pattern, head: int) -> Float[Tensor, "query key"]:
    """Scores of one head before the softmax, up to a constant per row; not finite where they are not known.

    From queries and keys where they were kept; else the logarithms of the weights, of which those too small for the
    precision are not known.
    """
    if not isinstance(pattern, LazyPattern):
        return pattern.weights(heads=slice(head, head + 1))[0].log()
    given = pattern.scores
    kv_head = head // (given.query.shape[1] // given.key.shape[1])
    scores = given.query[0, head].to(given.dtype) @ given.key[0, kv_head].to(given.dtype).T * given.scaling
    if given.softcap is not None:
        scores = given.softcap * (scores / given.softcap).tanh()
    return scores if given.bias is None else scores + given.bias[0, head if given.bias.shape[1] > 1 else 0]


def _share(given: MeasureInput) -> Float64[Tensor, ...]:
    run, stack = given.run, given.run.anatomy.stack(given.stack)
    source = run.tokens if given.stack != "E" or run.source is None else run.source.tokens
    keep = torch.tensor([not token.special for token in source])
    values = torch.full((stack.n_layers, stack.n_heads), torch.nan, dtype=torch.float64)
    for layer, pattern in enumerate(run.patterns_of(stack=given.stack or None)):
        if pattern is None or (given.head is not None and given.head.layer != layer):
            continue
        numbers = range(stack.n_heads) if pattern.heads is None else pattern.heads
        for place, head in enumerate(numbers):
            if given.head is None or given.head.head == head:
                scores = scores_of(pattern, place)[None]
                values[layer, head] = positions.position_share(scores, pattern.visible(), keep)[0]
    return values


def _bias(given: MeasureInput) -> Float64[Tensor, "layer head offset"]:
    from attnlens.models.position_data import position_bias

    found = position_bias(opened_of(given), given.run, given.stack)
    stack = given.run.anatomy.stack(given.stack)
    first = next(iter(found.values()))
    values = torch.full((stack.n_layers, stack.n_heads, sum(first.shape[1:]) - 1), torch.nan, dtype=torch.float64)
    for layer, bias in found.items():
        seen = given.run.visible(layer, stack=given.stack or None)
        values[layer] = positions.bias_by_distance(bias, seen)
    return values


def _cosine(given: MeasureInput) -> Float64[Tensor, "position other"]:
    from attnlens.models.position_data import position_vectors

    table = position_vectors(opened_of(given), given.stack)
    source = given.run.source if given.stack == "E" else None
    n_tokens = len(given.run.tokens if source is None else source.tokens)
    return positions.cosines(table[:n_tokens])


def _decay(given: MeasureInput) -> Float64[Tensor, "rotation distance"]:
    from attnlens.models.position_data import rotation_frequencies

    opened, furthest = opened_of(given), given.options["furthest"]
    if furthest < 0:
        raise CaptureError(f"furthest={furthest} is no distance; expected 0 or more")
    d_head = opened.anatomy.stack(given.stack).d_head
    found = rotation_frequencies(opened, given.stack).values()
    return torch.stack([positions.rope_decay(one, torch.arange(furthest + 1), d_head) for one in found])


POSITION_SHARE = Measure(
    name="position-share",
    title="explained by position",
    description="Share of what a head's scores vary by within rows that the distance alone explains (R^2).",
    low=0.0,
    high=1.0,
    more="the head looks at places, whatever stands there; compare texts of one length",
    source="attnlens; to scores what toeplitz-share is to weights",
    axes=("layer", "head"),
    needs=Needs(one_text=True),
    options=(STACK,),
    compute=refusing("position-share", _share),
    instead="toeplitz-share",
)
POSITION_BIAS = Measure(
    name="position-bias",
    title="bias by distance",
    description="What position adds to scores, by distance: ALiBi's slopes, T5's and MPNet's learned biases.",
    unit="logits",
    low=float("-inf"),
    high=None,
    more="keys that far away get more attention",
    source="Press et al. 2021, arXiv:2108.12409; Raffel et al. 2020, arXiv:1910.10683, section 2.1",
    axes=("layer", "head", "offset"),
    needs=Needs(model=True, one_text=True),
    options=(STACK,),
    compute=refusing("position-bias", _bias),
    instead="position-share",
)
POSITION_COSINE = Measure(
    name="position-cosine",
    title="likeness of positions",
    description="Cosine between the vectors of every two positions in the model's table, sinusoidal or learned.",
    low=-1.0,
    high=1.0,
    more="the model sees the two positions as more alike",
    source="Vaswani et al. 2017, arXiv:1706.03762, section 3.5; Wang & Chen 2020, arXiv:2010.04903",
    axes=("position", "other"),
    needs=Needs(model=True, one_text=True),
    options=(STACK,),
    compute=refusing("position-cosine", _cosine),
    instead="position-share",
)
ROPE_DECAY = Measure(
    name="rope-decay",
    title="decay of rotary embeddings",
    description="Score of a constant vector with itself at each distance, under each rotation of the model.",
    low=-1.0,
    high=1.0,
    more="rotation takes less away at that distance",
    source="Su et al. 2021, arXiv:2104.09864, section 3.4.3",
    axes=("rotation", "distance"),
    needs=Needs(model=True, one_text=True),
    options=(STACK, Option("furthest", 256, "the largest distance, in positions")),
    compute=refusing("rope-decay", _decay),
    instead="position-share",
)
