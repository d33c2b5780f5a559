"""Views of a model's own position scheme, of the others beside it, and of a query and a key that turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.heads import Head
from attnlens.measures.positions import (
    alibi_bias,
    alibi_slopes,
    bias_by_distance,
    cosine_by_distance,
    cosines,
    relative_buckets,
    rope_decay,
    rope_frequencies,
    sinusoidal_table,
)
from attnlens.report.inside.curve_view import Curve, CurveView
from attnlens.report.inside.schemes import SCHEMES
from attnlens.report.tables import Table, number, rounding

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.steps.rotation import RotatedPair, Rotation

__all__ = [
    "MOST_POSITIONS",
    "TableView",
    "TurnView",
    "bias_view",
    "cosine_view",
    "scheme_views",
    "schemes_table",
    "score_view",
    "table_view",
    "turn_view",
]

MOST_POSITIONS = 64
"""Positions of a table that a picture shows."""

_FURTHEST = 64
_LONGEST = 512
_TABLED = 12
_DISTANCES = (*range(9), 12, 16, 24, 32, 48, _FURTHEST)  # of the table of all schemes
_FORMULA = 1e-3  # a table within this of the formula is the formula; those in half precision are


@dataclass(frozen=True)
class TableView:
    """A model's table of positions.

    Attributes:
        cosines: between every two of the first positions.
        columns: the table's own numbers at these positions.
        title, caption: plain text.
    """

    cosines: Float[np.ndarray, "position other"]
    columns: Float[np.ndarray, "position column"]
    title: str
    caption: str

    def table(self) -> Table:
        """The cosines of the first positions, a row for each: thousands of cells would be no help to anybody."""
        shown = self.cosines[:_TABLED, :_TABLED]
        rows = tuple((place, *map(float, row)) for place, row in enumerate(shown))
        names = tuple(map(str, range(len(shown))))
        return Table(f"{self.title}: cosine of every two of the first positions.", ("position", *names), rows)


def table_view(table: Float[Tensor, "position d_model"], scheme: str) -> TableView:
    """The first positions of a model's table.

    Args:
        table: from the first position on (see `attnlens.models.position_data.position_vectors`).
        scheme: "sinusoidal" or "learned".
    """
    shown = table[:MOST_POSITIONS]
    by_distance = cosine_by_distance(shown)
    said = f"{len(table):,} positions of {table.shape[1]} numbers each; the picture has the first {len(shown)}."
    if len(shown) > 1:
        said += f" Neighbours have a mean cosine of {number(float(by_distance[1]))}, the first and the last shown "
        said += f"{number(float(by_distance[-1]))}."
    if scheme == "sinusoidal":
        said += _against_formula(table)
    return TableView(cosines(shown).numpy(), shown.double().numpy(), "The model's table", said)


def _against_formula(table: Float[Tensor, "position d_model"]) -> str:
    """How far a table is from the formula, whatever the order of its columns."""
    formula = sinusoidal_table(*table.shape)
    halves = torch.cat([formula[:, ::2], formula[:, 1::2]], -1)
    apart = min(float((table.double() - known).abs().max()) for known in (formula, halves))
    if apart < _FORMULA:
        return f" The formula gives each of its numbers, to {apart:.0e}."
    return " Its numbers are sines and cosines, of other angles than the formula's: the model spaces them its own way."


def cosine_view(table: Float[Tensor, "position d_model"]) -> CurveView:
    """How alike two positions of a table are, by their distance."""
    values = cosine_by_distance(table[:MOST_POSITIONS])
    return CurveView(
        places=tuple(range(len(values))),
        over="distance",
        curves=(Curve("mean cosine", values.numpy()),),
        unit="cosine",
        title="Likeness by distance",
        caption="The mean cosine of all positions that far apart: what a head can read of nearness from the table.",
    )


def bias_view(
    bias: Float[Tensor, "head query key"], visible: Bool[Tensor, "query key"], head: Head, scheme: str
) -> CurveView:
    """What position alone adds to the scores of each head of a layer, by distance.

    Args:
        bias: of the layer (see `attnlens.models.position_data.position_bias`).
        visible: True where the query sees the key.
        head: the chosen one.
        scheme: "alibi" or "relative bias".
    """
    values = bias_by_distance(bias, visible)
    n_query = bias.shape[1]
    held = ~values.isnan().all(0)
    places = (torch.arange(values.shape[1]) - (n_query - 1))[held]
    names = [Head(head.layer, number, head.stack) for number in range(len(values))]
    said = f"What is added to every score of layer {head.layer}, whatever the words are."
    if scheme == "alibi" and n_query > 1:
        slope = -float(values[head.head, n_query - 2])
        said += f" {head} loses {number(slope, 4)} logits for each token of distance."
    return CurveView(
        places=tuple(places.tolist()),
        over="key minus query",
        curves=tuple(
            Curve(str(name), values[name.head, held].numpy(), chosen=name.head == head.head) for name in names
        ),
        unit="logits",
        title="Added to the score, by distance",
        caption=said,
        mark=(0, "itself"),
        steps=scheme == "relative bias",
    )


@dataclass(frozen=True)
class TurnView:
    """A query and a key whose pairs of numbers turn with their positions.

    Attributes:
        pair: the numbers.
        rotation: of the layer.
        labels: of the query's token and the key's.
        longest: tokens that the model was made for, as far as that is drawn.
        title, caption: plain text.
    """

    pair: RotatedPair
    rotation: Rotation
    labels: tuple[str, str]
    longest: int
    title: str
    caption: str

    def to_json(self) -> dict[str, Any]:
        """What the browser needs to turn the pairs and to add the score up by itself."""
        pair = self.pair
        numbers = zip(pair.query.tolist(), pair.key.tolist(), pair.frequencies.tolist(), strict=True)
        return {
            "pairs": [{"q": query, "k": key, "turn": turn} for query, key, turn in numbers],
            "rest": pair.rest,
            "scaling": pair.scaling,
            "positions": list(pair.positions),
            "recorded": pair.recorded,
            "labels": list(self.labels),
        }

    def table(self) -> Table:
        """One row per pair of coordinates."""
        query, key = self.pair.positions
        parts = self.pair.parts(torch.tensor([key - query]))[0]
        columns = ("pair", "radians a token", "query's angle", "key's angle", "tokens for a turn", "adds to the score")
        numbers = zip(self.rotation.frequencies, self.rotation.wavelengths, parts, strict=True)
        rows = tuple(
            (at, *map(float, (turn, turn * query, turn * key, wave, part)))
            for at, (turn, wave, part) in enumerate(numbers)
        )
        return Table(self.title, columns, rows)


def turn_view(run: Capture, pair: RotatedPair, rotation: Rotation, head: Head) -> TurnView:
    """A query and a key of a run, ready to be turned."""
    query, key = pair.positions
    labels = run.tokens[query].label, run.tokens[key].label
    waves = rotation.wavelengths
    still = run.anatomy.d_head - 2 * len(waves)
    said = f"{len(waves)} pairs turn, once in {number(float(waves[0]), 1)} to once in {float(waves[-1]):,.0f} tokens."
    if still:
        said += f" {still} of the {run.anatomy.d_head} numbers of each vector do not."
    if np.isnan(rotation.error):
        said += " The angles are those that the config names for this layer."
    else:
        said += (
            f" The angles are proven on the model: turned back, the queries of one word, many times over, agree to "
            f"{rounding(rotation.error)}."
        )
    return TurnView(
        pair=pair,
        rotation=rotation,
        labels=labels,
        longest=min(run.anatomy.max_length or _LONGEST, _LONGEST),
        title=f"{head}: {labels[0]!r} ({query}) asks, {labels[1]!r} ({key}) answers",
        caption=f"{said} Together, they give the model's own query times key, to {rounding(pair.difference)}.",
    )


def score_view(view: TurnView) -> CurveView:
    """What the same query and key would score at other distances, with the text's own marked."""
    query, key = view.pair.positions
    reach = max(1, min(max(_FURTHEST, 2 * abs(query - key)), view.longest - 1))
    apart = torch.arange(reach + 1)
    side = -1 if key <= query else 1
    return CurveView(
        places=tuple(apart.tolist()),
        over="distance",
        curves=(Curve(" → ".join(view.labels), view.pair.scores(side * apart).numpy()),),
        unit="logits",
        title="The same two vectors, nearer and further apart",
        caption="Nothing but the distance changes, and the score goes with it. Where the two stand does not count.",
        mark=(abs(query - key), "in this text"),
    )


def scheme_views(n_heads: int, d_head: int, learned: Float[Tensor, "position d_model"] | None) -> dict[str, CurveView]:
    """Every scheme by its effect over distance, in the sizes of a model; by the names of `SCHEMES`.

    Args:
        n_heads: heads of a layer, for ALiBi's slopes.
        d_head: width of a head, for rotations.
        learned: a learned table as an example, since those have no formula.
    """
    apart = torch.arange(_FURTHEST + 1)
    width = max(2, d_head - d_head % 2)
    slopes = alibi_slopes(n_heads)
    losses = alibi_bias(slopes, len(apart), len(apart))[:, -1].flip(-1)
    some = sorted({0, n_heads // 2, n_heads - 1})
    buckets = relative_buckets(-apart, 32, 128, both_ways=False)
    found = {
        "sinusoidal": _scheme(
            "sinusoidal", "cosine", "Likeness of two positions, d = 128.",
            {"cosine": cosine_by_distance(sinusoidal_table(len(apart), 128))},
        ),
        "rope": _scheme(
            "rope", "share", f"What turning leaves of a constant vector's score, d = {width}.",
            {"share": rope_decay(rope_frequencies(width), apart)},
        ),
        "alibi": _scheme(
            "alibi", "logits", f"Taken from the score, {n_heads} heads.",
            {f"head {head}": losses[head] for head in some},
        ),
        "relative bias": _scheme(
            "relative bias", "bucket", "Bucket of a key that far behind, of 32; each head learns a number for each.",
            {"bucket": buckets}, steps=True,
        ),
    }  # fmt: skip
    if learned is not None and len(learned) > len(apart):
        values = cosine_by_distance(learned[: len(apart)])
        found["learned"] = _scheme("learned", "cosine", "Likeness of two positions of a table.", {"cosine": values})
    return found


def schemes_table(views: Mapping[str, CurveView]) -> Table:
    """All schemes in one table, a row for some of the distances."""
    curves = [(f"{view.title}, {curve.name}", curve) for view in views.values() for curve in view.curves]
    rows = tuple((place, *(float(curve.values[place]) for _, curve in curves)) for place in _DISTANCES)
    return Table("Every scheme by distance.", ("distance", *(name for name, _ in curves)), rows)


def _scheme(name: str, unit: str, caption: str, values: dict[str, Tensor], *, steps: bool = False) -> CurveView:
    curves = tuple(Curve(label, one.double().numpy()) for label, one in values.items())
    return CurveView(tuple(range(_FURTHEST + 1)), "distance", curves, unit, SCHEMES[name].name, caption, steps=steps)
