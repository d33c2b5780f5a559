"""Views of the residual stream of a run: a number per layer and position, and what each layer would predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UsageError
from attnlens.measures import stream_measures as measured
from attnlens.measures.registry import Measure, measure_run
from attnlens.report.tables import Table, count, share

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy
    from attnlens.models.logit_lens import LogitLens

__all__ = [
    "STREAM_MEASURES",
    "STREAM_POINTS",
    "Choice",
    "LensView",
    "StreamView",
    "lens_view",
    "points_given",
    "stream_view",
]

STREAM_POINTS = ("embed", "z", "attn_out", "mlp_out", "resid_post", "final")
"""Points that the views of a stream, the logit lens and direct attribution are made of."""

STREAM_MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        measured.STREAM_NORM,
        measured.ATTENTION_WRITE_NORM,
        measured.MLP_WRITE_NORM,
        measured.LAYER_COSINE,
        measured.ATTENTION_UPDATE_COSINE,
        measured.MLP_UPDATE_COSINE,
    )
}
# A value beyond this many times the 95th percentile would leave one dark cell and a pale rest.
_OUTLIER = 2.0


def points_given(anatomy: Anatomy) -> tuple[str, ...]:
    """Those of `STREAM_POINTS` that a model gives."""
    given = anatomy.stack(anatomy.main_stack).residual_points
    return tuple(point for point in STREAM_POINTS if point in given)


@dataclass(frozen=True)
class StreamView:
    """One number per layer and position.

    Attributes:
        values: `[layer position]`, NaN where it is not defined.
        low, high: the range that colours run through; values above `high` have its colour.
        labels: printable text of each position's token.
        name, unit: of the number.
        title, caption: plain text.
    """

    values: Float[np.ndarray, "layer position"]
    low: float
    high: float
    labels: tuple[str, ...]
    name: str
    unit: str
    title: str
    caption: str

    def table(self) -> Table:
        """One row per position, one column per layer."""
        columns = ("position", "token", *(f"L{layer}" for layer in range(len(self.values))))
        rows = tuple(
            (place, label, *(None if np.isnan(value) else float(value) for value in self.values[:, place]))
            for place, label in enumerate(self.labels)
        )
        return Table(f"{self.title}, by position and layer.", columns, rows)


@dataclass(frozen=True)
class Choice:
    """A token that a layer would predict, and its probability, 0 to 1."""

    token: str
    probability: float


@dataclass(frozen=True)
class LensView:
    """The likeliest tokens after each layer, likeliest first.

    Attributes:
        choices: by layer, by position.
        labels: printable text of each position's token.
        title, caption: plain text.
    """

    choices: tuple[tuple[tuple[Choice, ...], ...], ...]
    labels: tuple[str, ...]
    title: str
    caption: str

    @property
    def n_layers(self) -> int:
        """Rows of the grid."""
        return len(self.choices)

    def around(self, position: int, width: int) -> range:
        """At most `width` positions with `position` in their middle, or as near to it as the text's ends allow."""
        start = max(0, min(position - width // 2, len(self.labels) - width))
        return range(start, min(len(self.labels), start + width))

    def table(self, position: int) -> Table:
        """What each layer says at one position: a row per layer, likeliest first."""
        layers = [layer[position] for layer in self.choices]
        depth = len(layers[0]) if layers else 0
        columns = ("layer", *(name for place in range(1, depth + 1) for name in (f"{place}.", "share")))
        rows = tuple(
            (f"L{number}", *(part for choice in row for part in (choice.token, choice.probability)))
            for number, row in enumerate(layers)
        )
        return Table(f"The likeliest tokens after each layer, at {self.labels[position]!r}.", columns, rows)


def stream_view(run: Capture, name: str) -> StreamView:
    """A measure of the stream of a run.

    Args:
        run: with those of `STREAM_POINTS` that its model gives.
        name: a key of `STREAM_MEASURES`.

    Raises:
        UsageError: no such measure.
        MeasureError: the model does not give the points that it needs.
    """
    if name not in STREAM_MEASURES:
        raise UsageError(f"{name!r} is no measure of the stream; choose one of {', '.join(STREAM_MEASURES)}.")
    measure = STREAM_MEASURES[name]
    values = measure_run(measure, run).values.double().numpy()
    low, high, said = _range(values, measure)
    return StreamView(
        values=values,
        low=low,
        high=high,
        labels=tuple(token.label for token in run.tokens),
        name=measure.title,
        unit=measure.unit,
        title=measure.title.capitalize(),
        caption=f"{measure.description} More means: {measure.more}.{said}",
    )


def lens_view(run: Capture, found: LogitLens) -> LensView:
    """What each layer of a run would predict; the last one says what the model says."""
    if found.ids.shape[1] != len(run.tokens):
        raise CaptureError(f"the readings are of {found.ids.shape[1]} tokens, this run has {len(run.tokens)}.")
    choices = tuple(
        tuple(
            tuple(Choice(found.spelled[token], chance) for token, chance in zip(*cell, strict=True))
            for cell in zip(layer_ids, layer_chances, strict=True)
        )
        for layer_ids, layer_chances in zip(found.ids.tolist(), found.probability.tolist(), strict=True)
    )
    what = "the token that comes next" if run.anatomy.causal else "the token that stands there"
    settled = _settled(choices)
    return LensView(
        choices=choices,
        labels=tuple(token.label for token in run.tokens),
        title="Logit lens",
        caption=(
            f"If the model stopped after a layer, it would predict this for {what}. Colour is the probability. "
            f"{share(settled)} of the positions have their final first choice one layer before the end already."
            if len(choices) > 1
            else f"What the model predicts for {what}; colour is the probability."
        ),
    )


def _settled(choices: tuple[tuple[tuple[Choice, ...], ...], ...]) -> float:
    """Share of the positions whose first choice is the same after the last two layers."""
    if len(choices) < 2 or not choices[-1]:
        return 1.0
    same = [before[0].token == after[0].token for before, after in zip(choices[-2], choices[-1], strict=True)]
    return sum(same) / len(same)


def _range(values: Float[np.ndarray, "layer position"], measure: Measure) -> tuple[float, float, str]:
    """Where colours begin and end, and a sentence where they end before the largest value."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0, ""
    if measure.high is not None:
        return min(0.0, float(finite.min())), measure.high, ""
    smallest, largest, usual = float(finite.min()), float(finite.max()), float(np.quantile(finite, 0.95))
    if usual > 0 and largest > _OUTLIER * usual:
        beyond = int((finite > usual).sum())
        return 0.0, usual, f" Colours end at {usual:.3g}; {count(beyond, 'cell')} lie beyond, up to {largest:.3g}."
    if 2 * smallest > largest > smallest:  # all alike, seen from 0
        return smallest, largest, f" Colours run from {smallest:.3g} to {largest:.3g}."
    return 0.0, largest or 1.0, ""
