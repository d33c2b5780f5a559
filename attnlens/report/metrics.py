"""One number per head of a run: what a head map can be coloured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.measures import pattern_measures as measured
from attnlens.measures.registry import Measure, MeasureInput
from attnlens.measures.rows import TILE, OverHeads, measure_heads

__all__ = ["METRICS", "TILE", "Metric", "metric_values", "metric_values_of", "metrics_of_stack"]


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

    @classmethod
    def of(cls, key: str, measure: Measure) -> Metric:
        """A registered measure, under the key that heads are coloured by."""
        return cls(key, measure.title, measure.unit, measure.low or 0.0, measure.high, measure.description)


_MEASURES: Mapping[str, Measure] = {
    "max": measured.MAX_WEIGHT,
    "entropy": measured.ENTROPY,
    "breadth": measured.BREADTH,
    "distance": measured.DISTANCE,
    "previous": measured.PREVIOUS,
    "next": measured.NEXT,
    "self": measured.SELF,
    "first": measured.FIRST,
    "special": measured.DELIMITERS,
}

METRICS: Mapping[str, Metric] = {key: Metric.of(key, measure) for key, measure in _MEASURES.items()}


def metrics_of_stack(letter: str) -> tuple[str, ...]:
    """Keys of the metrics that a stack's heads have: places are compared within one text, which cross-attention leaves.

    `letter` is "E", "D", "X", or empty where there is one stack only.
    """
    return tuple(key for key, measure in _MEASURES.items() if letter != "X" or not measure.needs.one_text)


def metric_values(run: Capture, key: str, stack: str = "") -> Float[np.ndarray, "layer head"]:
    """A metric of every head: the mean over queries that are no special tokens and for which it is defined.

    NaN where it is defined for none of them (the next token of a causal model), and for heads that were not kept.
    `stack` is "E", "D" or "X" in an encoder-decoder; its decoder where nothing is said.

    Raises:
        UsageError: no such metric.
    """
    return metric_values_of(run, (key,), stack)[key]


def metric_values_of(
    run: Capture, keys: tuple[str, ...] = tuple(METRICS), stack: str = ""
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Several metrics in one pass over the patterns; see `metric_values`."""
    if unknown := [key for key in keys if key not in METRICS]:
        raise UsageError(f"{unknown[0]!r} is no metric of a run; choose one of {', '.join(METRICS)}.")
    found = measure_heads(
        {key: _over_heads(_MEASURES[key]) for key in keys}, MeasureInput(run, options={"stack": stack})
    )
    return {key: values.numpy() for key, values in found.items()}


def _over_heads(measure: Measure) -> OverHeads:
    assert isinstance(measure.compute, OverHeads)
    return measure.compute
