"""The measures of likeness, as they are registered: every head of a run against every other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.measures.likeness import head_map, summed_divergence
from attnlens.measures.registry import STACK, Measure, MeasureInput
from attnlens.measures.rows import TILE, n_heads_of

__all__ = ["HEAD_DISTANCE", "HEAD_MAP", "held_heads", "likeness_of"]


def held_heads(run: Capture, stack: str) -> tuple[Head, ...]:
    """The heads of a stack whose attention a run holds, layer by layer."""
    n_heads = n_heads_of(run, stack)
    return tuple(
        Head(layer, head, stack)
        for layer, pattern in enumerate(run.patterns_of(stack=stack))
        if pattern is not None
        for head in (range(n_heads) if pattern.heads is None else pattern.heads)
    )


def likeness_of(
    run: Capture, stack: str, heads: Sequence[Head], others: Sequence[Head] | None = None
) -> Float64[Tensor, "head other"]:
    """Mean divergence, over the queries that are no special tokens, of some heads of a run from others (or themselves).

    Weights are taken a part of the queries at a time: memory does not grow with the square of the text.
    """
    sums = torch.zeros(len(heads), len(heads if others is None else others), dtype=torch.float64)
    n_rows = 0
    for weights, keep in _parts(run, stack, [*heads, *(others or ())]):
        sums += summed_divergence(weights[: len(heads)], None if others is None else weights[len(heads) :], keep)
        n_rows += int(keep.sum())
    return sums / n_rows if n_rows else torch.full_like(sums, torch.nan)


def _parts(
    run: Capture, stack: str, heads: Sequence[Head]
) -> Iterator[tuple[Float[Tensor, "head query key"], Bool[Tensor, " query"]]]:
    """The rows of some heads, a part of the queries at a time, and which of them count."""
    tokens = run.source.tokens if stack == "E" and run.source is not None else run.tokens
    keep = torch.tensor([not token.special for token in tokens])
    n_keys = len(run.source.tokens if stack in ("E", "X") and run.source is not None else run.tokens)
    step = max(1, TILE // max(1, len(heads) * n_keys))
    for start in range(0, len(tokens), step):
        rows = slice(start, start + step)
        yield torch.stack([run.attention(head=head, queries=rows) for head in heads]), keep[rows]


def _distance(given: MeasureInput) -> Float64[Tensor, "*head layer_to head_to"]:
    """Of every head, or of the one asked for; NaN for heads that the run does not hold."""
    run, stack = given.run, given.stack
    held = held_heads(run, stack)
    if given.head is not None:
        run.attention(head=given.head, queries=slice(1))  # refuses a head that was not kept
    asked = held if given.head is None else (given.head,)
    found = likeness_of(run, stack, asked, None if given.head is None else held)
    sizes = len(run.patterns_of(stack=stack)), n_heads_of(run, stack)
    table = found.new_full((*sizes, *sizes), torch.nan)
    for row, head in zip(found, asked, strict=True):
        for value, other in zip(row, held, strict=True):
            table[head.layer, head.head, other.layer, other.head] = value
    return table if given.head is None else table[given.head.layer, given.head.head]


def _map(given: MeasureInput) -> Float64[Tensor, "layer head 2"]:
    """All heads in one plane, whichever is asked for: a point means nothing without the others."""
    everyone = MeasureInput(given.run, given.lens, None, {**given.options, STACK.name: given.stack or None})
    distances = _distance(everyone)
    n_layers, n_heads = distances.shape[:2]
    points, _ = head_map(distances.reshape(n_layers * n_heads, -1).sqrt())
    return points.reshape(n_layers, n_heads, 2)


HEAD_DISTANCE = Measure(
    name="head-distance",
    title="distance between heads",
    description="Jensen-Shannon divergence between the rows of every two heads, averaged: 0 is the same map.",
    unit="nats",
    low=0.0,
    high=math.log(2),
    more="the two heads look at different tokens",
    source="Clark et al. 2019, arXiv:1906.04341, section 6 (who add up over rows)",
    axes=("layer", "head", "layer_to", "head_to"),
    options=(STACK,),
    compute=_distance,
)
HEAD_MAP = Measure(
    name="head-map",
    title="map of all heads",
    description="Heads as points of a plane: near ones attend alike (multidimensional scaling).",
    unit="sqrt(nats)",
    low=None,
    high=None,
    more="nothing: only distances between points mean something",
    source="Clark et al. 2019, arXiv:1906.04341, section 6; on the root, which is a metric",
    axes=("layer", "head", "coordinate"),
    options=(STACK,),
    instead="head-distance",
    compute=_map,
)
