"""Grids of layers and positions: a number of the stream, and the logit lens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from attnlens.report.palette import Theme, colorscale, ink_on, theme_of
from attnlens.report.stream_view import Choice, LensView, StreamView
from attnlens.report.style import bar, base_layout
from attnlens.report.text import escaped, shortened

__all__ = ["LENS_WIDTH", "lens_grid", "stream_grid"]

LENS_WIDTH = 24
"""Positions that the grid of the logit lens shows at a time."""

_TICKS = 40
_CELL_LETTERS = 9


def stream_grid(view: StreamView, *, theme: str = "light", position: int | None = None) -> go.Figure:
    """A number per layer (rows, layer 0 on top) and position; a frame around the chosen position."""
    colours = theme_of(theme)
    n_layers, n_positions = view.values.shape
    figure = go.Figure(layout=base_layout(colours))
    unit = f" {view.unit}" if view.unit in ("logits", "nats") else ""
    figure.add_heatmap(
        z=view.values,
        zmin=view.low,
        zmax=view.high,
        colorscale=colorscale(colours),
        colorbar=bar("", colours) | {"nticks": 4},
        customdata=[list(range(n_positions))] * n_layers,
        hovertemplate=f"<b>%{{x}}</b> (%{{x:d}}), layer %{{y:d}}<br>{view.name} %{{z:.4g}}{unit}<extra></extra>",
        hoverongaps=False,
        xgap=1 if n_positions <= _TICKS else 0,
        ygap=1,
    )
    if position is not None and position < n_positions:
        figure.add_shape(_column(position, n_layers, colours))
    room = _axes(figure, view.labels, n_layers, -(-n_positions // _TICKS))
    figure.update_layout(height=max(22 * n_layers, 130) + room + 12)
    figure.update_layout(margin={"l": 40, "r": 12, "t": room, "b": 12}, plot_bgcolor=colours.line)
    return figure


def lens_grid(view: LensView, *, theme: str = "light", position: int = 0) -> go.Figure:
    """The likeliest token after each layer, at up to `LENS_WIDTH` positions around the chosen one; others on hover."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    places = view.around(position, LENS_WIDTH)
    cells = [[layer[place] for place in places] for layer in view.choices]
    values = [[cell[0].probability for cell in row] for row in cells]
    figure.add_heatmap(
        x=list(range(len(places))),
        z=values,
        zmin=0,
        zmax=1,
        colorscale=colorscale(colours),
        colorbar=bar("", colours) | {"nticks": 3},
        customdata=[list(places)] * len(cells),
        text=[[_hover(cell, view.labels[place], layer, place) for place, cell in zip(places, row, strict=True)]
              for layer, row in enumerate(cells)],
        hovertemplate="%{text}<extra></extra>",
        xgap=1,
        ygap=1,
    )  # fmt: skip
    figure.add_trace(_words(cells, values, colours))
    if position in places:
        figure.add_shape(_column(position - places.start, view.n_layers, colours))
    room = _axes(figure, [view.labels[place] for place in places], view.n_layers, 1)
    height = 26 * view.n_layers + room + 12
    figure.update_layout(
        height=max(height, 150),
        margin={"l": 40, "r": 12, "t": room, "b": 12},
        plot_bgcolor=colours.line,
        showlegend=False,
        dragmode=False,
    )
    return figure


def _hover(cell: Sequence[Choice], label: str, layer: int, place: int) -> str:
    head = f"<b>{escaped(label)}</b> ({place}), after layer {layer}"
    return "<br>".join([head, *(f"{choice.probability:.4f} {escaped(choice.token)}" for choice in cell)])


def _words(cells: list[list[tuple[Choice, ...]]], values: list[list[float]], colours: Theme) -> go.Scatter:
    """The first choice written in each cell, in an ink that shows on its colour."""
    last = len(colours.sequential) - 1
    places = [(layer, column) for layer, row in enumerate(cells) for column in range(len(row))]
    return go.Scatter(
        x=[column for _, column in places],
        y=[layer for layer, _ in places],
        text=[escaped(shortened(cells[layer][column][0].token, _CELL_LETTERS)) for layer, column in places],
        mode="text",
        textfont={
            "size": 11,
            "color": [ink_on(colours.sequential[round(last * values[layer][column])]) for layer, column in places],
        },
        hoverinfo="skip",
    )


def _column(place: int, n_layers: int, colours: Theme) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": place - 0.5,
        "x1": place + 0.5,
        "y0": -0.5,
        "y1": n_layers - 0.5,
        "line": {"color": colours.accent, "width": 2},
    }


def _axes(figure: go.Figure, labels: Sequence[str], n_layers: int, step: int) -> int:
    """Tokens on top, layers down the left; gives the room that the tokens take, in pixels."""
    longest = max((len(shortened(label, 14)) for label in labels[::step]), default=1)
    aliases = {str(place): escaped(label, 14) for place, label in enumerate(labels)}
    figure.update_xaxes(
        side="top",
        range=[-0.5, max(len(labels), 1) - 0.5],
        tickmode="linear",
        tick0=0,
        dtick=step,
        tickformat="d",
        tickangle=-90,
        labelalias=aliases,
        ticklabelstandoff=3,
        fixedrange=True,
    )
    figure.update_yaxes(
        range=[n_layers - 0.5, -0.5],
        tickmode="linear",
        tick0=0,
        dtick=1 if n_layers <= 30 else 2,
        tickformat="d",
        labelalias={str(layer): f"L{layer}" for layer in range(n_layers)},
        ticklabelstandoff=4,
        fixedrange=True,
    )
    return 16 + 7 * longest
