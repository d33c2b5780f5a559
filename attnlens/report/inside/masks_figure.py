"""Figures of masks: who may see whom as a grid, and one row on its way through softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnlens.report.inside.masks_view import MaskView, RowView
from attnlens.report.palette import Theme, colorscale, ink_on, theme_of
from attnlens.report.pattern_figure import hatching
from attnlens.report.style import base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped, shortened

__all__ = ["mask_grid", "row_cells"]

_MOST_NAMED = 40
_LETTERS = 12
_SHOWN = 5  # which step of the sequential scale a visible cell has


def mask_grid(view: MaskView, *, theme: str = "light", small: bool = False) -> go.Figure:
    """A cell per query (row) and key: coloured where the query sees the key, hatched where it is hidden."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    n_rows, n_columns = view.visible.shape
    named = not small and max(n_rows, n_columns) <= _MOST_NAMED
    gap = 1 if max(n_rows, n_columns) <= _MOST_NAMED else 0
    said = np.where(view.visible, "sees", "does not see")
    figure.add_heatmap(
        z=view.visible.astype(int),
        zmin=0,
        zmax=1,
        colorscale=[[0, colours.not_visible], [0.5, colours.not_visible], [0.5, colours.sequential[_SHOWN]],
                    [1, colours.sequential[_SHOWN]]],
        showscale=False,
        xgap=gap,
        ygap=gap,
        customdata=said,
        hovertemplate="<b>%{y}</b> (%{y:d}) %{customdata} <b>%{x}</b> (%{x:d})<extra></extra>",
    )  # fmt: skip
    x, y = hatching(view.visible)
    line = {"color": colours.hatch, "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    _axes(figure, view, named)
    figure.update_layout(plot_bgcolor=colours.line, dragmode=False)
    return figure


def _axes(figure: go.Figure, view: MaskView, named: bool) -> None:
    n_rows, n_columns = view.visible.shape
    longest = max((len(shortened(label, _LETTERS)) for label in (*view.rows, *view.columns)), default=1)
    room = 14 + 7 * longest if named else 8
    cell = 20 if named else 12
    side = min(480, max(110, cell * max(n_rows, n_columns)))
    figure.update_layout(height=side + room + 8, margin={"l": room, "r": 8, "t": room, "b": 8})
    shared: dict[str, Any] = {"tickmode": "linear", "tick0": 0, "dtick": 1, "fixedrange": True, "constrain": "domain"}
    shared |= {"showticklabels": named, "ticklabelstandoff": 3}
    figure.update_xaxes(
        **shared,
        side="top",
        tickangle=-90,
        range=[-0.5, n_columns - 0.5],
        constraintoward="left",
        labelalias={str(at): escaped(label, _LETTERS) for at, label in enumerate(view.columns)},
    )
    figure.update_yaxes(
        **shared,
        range=[n_rows - 0.5, -0.5],
        scaleanchor="x",
        constraintoward="top",
        labelalias={str(at): escaped(label, _LETTERS) for at, label in enumerate(view.rows)},
    )


def row_cells(view: RowView, *, theme: str = "light") -> go.Figure:
    """A column per key and a line per step: the score, −∞ where the mask hides it, the weight; exact on hover."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    steps, n = view.steps, len(view.labels)
    shades = [_shades(values, digits == 2, view) for _, values, digits in steps]
    figure.add_heatmap(
        z=[[np.nan if hidden else shade for shade, hidden in zip(row, view.row.masked.isneginf().tolist(), strict=True)]
           if at == 1 else row for at, row in enumerate(shades)],
        zmin=0,
        zmax=1,
        colorscale=colorscale(colours),
        showscale=False,
        xgap=2,
        ygap=4,
        hoverongaps=True,
        text=[[_exact(value) for value in values.tolist()] for _, values, _ in steps],
        customdata=[[escaped(label, 30) for label in view.labels]] * len(steps),
        hovertemplate="<b>%{customdata}</b><br>%{text}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(_words(view, shades, colours))
    longest = max((len(shortened(label, _LETTERS)) for label in view.labels), default=1)
    turned = longest > 6
    room = 16 + 7 * longest if turned else 30
    figure.update_layout(
        height=46 * len(steps) + room + 8,
        margin={"l": 152, "r": 8, "t": room, "b": 8},
        plot_bgcolor=colours.not_visible,
        showlegend=False,
        dragmode=False,
    )
    figure.update_xaxes(
        **{"side": "top", "tickmode": "linear", "tick0": 0, "dtick": 1, "fixedrange": True},
        tickangle=-90 if turned else 0,
        range=[-0.5, n - 0.5],
        labelalias={str(at): escaped(label, _LETTERS) for at, label in enumerate(view.labels)},
    )
    figure.update_yaxes(
        **{"tickmode": "linear", "tick0": 0, "dtick": 1, "fixedrange": True, "range": [len(steps) - 0.5, -0.5]},
        labelalias={str(at): name for at, (name, _, _) in enumerate(steps)},
        ticklabelstandoff=6,
    )
    return figure


def _shades(values: Any, logits: bool, view: RowView) -> list[float]:
    """Where each number stands on the colour scale: weights as they are, scores between the row's least and most."""
    if not logits:
        return [float(value) for value in np.nan_to_num(values)]
    known = view.row.scores.numpy()
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = (high - low) or 1.0
    return [0.75 * float(np.clip((value - low) / room, 0, 1)) if np.isfinite(value) else 0.0 for value in values]


def _words(view: RowView, shades: list[list[float]], colours: Theme) -> go.Scatter:
    """Every number written in its cell, in an ink that shows on its colour."""
    last = len(colours.sequential) - 1
    x, y, texts, inks = [], [], [], []
    for line, ((_, values, digits), row) in enumerate(zip(view.steps, shades, strict=True)):
        for at, (value, shade) in enumerate(zip(values.tolist(), row, strict=True)):
            x.append(at)
            y.append(line)
            texts.append("−∞" if np.isneginf(value) else number(value, digits))
            inks.append(colours.muted if np.isneginf(value) else ink_on(colours.sequential[round(last * shade)]))
    return go.Scatter(x=x, y=y, text=texts, mode="text", textfont={"size": 11, "color": inks}, hoverinfo="skip")


def _exact(value: float) -> str:
    return "not known" if np.isnan(value) else "−∞" if np.isneginf(value) else number(value, 6)
