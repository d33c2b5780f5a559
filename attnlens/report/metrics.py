"""One number per head of a run: what a head map can be coloured by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.measures import patterns

__all__ = ["METRICS", "Metric", "metric_values", "metric_values_of"]

# Weights held at once while measuring: 16 million float32 are 64 MB.
TILE = 16_000_000


@dataclass(frozen=True)
class Metric:
    """A number per head.

    Attributes:
        key: short name, stable across versions.
        name: for a reader.
        unit: of the number; empty for a share between 0 and 1.
        low, high: the range of possible values; `high` is None where it grows with the text.
        description: one sentence: what is averaged over what.
    """

    key: str
    name: str
    unit: str
    low: float
    high: float | None
    description: str


@dataclass(frozen=True)
class _Rows:
    """Some heads of one layer with their masks."""

    weights: Float[Tensor, "head query key"]
    visible: Bool[Tensor, "query key"]
    special: Bool[Tensor, " key"]


Measure = Callable[[_Rows], Tensor]

_MEASURES: Mapping[str, tuple[Metric, Measure]] = {
    metric.key: (metric, measure)
    for metric, measure in (
        (
            Metric("max", "largest weight", "", 0.0, 1.0, "The largest weight of a query, averaged."),
            lambda rows: patterns.max_weight(rows.weights),
        ),
        (
            Metric("entropy", "entropy", "nats", 0.0, None, "Entropy of a query's weights, averaged: 0 is one key."),
            lambda rows: patterns.entropy(rows.weights),
        ),
        (
            Metric(
                "breadth",
                "breadth",
                "",
                0.0,
                1.0,
                "Entropy as a share of the largest possible one: 0 is one key, 1 is all visible keys alike.",
            ),
            lambda rows: patterns.breadth(rows.weights, rows.visible),
        ),
        (
            Metric("distance", "distance", "tokens", 0.0, None, "Mean distance between query and key, by weight."),
            lambda rows: patterns.distance(rows.weights),
        ),
        (
            Metric("previous", "previous token", "", 0.0, 1.0, "Weight on the token before, averaged."),
            lambda rows: patterns.offset_mass(rows.weights, -1, rows.visible),
        ),
        (
            Metric("next", "next token", "", 0.0, 1.0, "Weight on the token after, averaged."),
            lambda rows: patterns.offset_mass(rows.weights, 1, rows.visible),
        ),
        (
            Metric("self", "same token", "", 0.0, 1.0, "Weight of a token on itself, averaged."),
            lambda rows: patterns.offset_mass(rows.weights, 0, rows.visible),
        ),
        (
            Metric("first", "first position", "", 0.0, 1.0, "Weight on the first position of the text, averaged."),
            lambda rows: patterns.key_mass(rows.weights, 0, rows.visible),
        ),
        (
            Metric("special", "special tokens", "", 0.0, 1.0, "Weight on special tokens together, averaged."),
            lambda rows: patterns.set_mass(rows.weights, rows.special),
        ),
    )
}

METRICS: Mapping[str, Metric] = {key: metric for key, (metric, _) in _MEASURES.items()}


def metric_values(run: Capture, key: str) -> Float[np.ndarray, "layer head"]:
    """A metric of every head: the mean over queries that are no special tokens and for which it is defined.

    NaN where it is defined for none of them (the next token of a causal model).

    Raises:
        UsageError: no such metric.
    """
    return metric_values_of(run, (key,))[key]


def metric_values_of(
    run: Capture, keys: tuple[str, ...] = tuple(METRICS)
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Several metrics in one pass over the patterns; see `metric_values`."""
    if unknown := [key for key in keys if key not in METRICS]:
        raise UsageError(f"{unknown[0]!r} is no metric of a run; choose one of {', '.join(METRICS)}.")
    special = torch.tensor([token.special for token in run.tokens])
    values = {key: np.full((run.n_layers, run.n_heads), np.nan) for key in keys}
    for layer in range(run.n_layers):
        visible = run.visible(layer)
        for heads, weights in _tiles(run, layer):
            rows = _Rows(weights, visible, special)
            for key in keys:
                per_query = _MEASURES[key][1](rows)
                values[key][layer, heads] = patterns.over_queries(per_query, ~special).numpy()
    return values


def _tiles(run: Capture, layer: int) -> Iterator[tuple[slice, Tensor]]:
    """The layer's heads with their weights: all at once where they fit, else one head at a time."""
    if run.n_heads * len(run.tokens) ** 2 <= TILE:
        yield slice(None), run.attention(layer)
        return
    for head in range(run.n_heads):
        yield slice(head, head + 1), run.attention(layer, head)[None]
