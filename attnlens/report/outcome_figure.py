"""Heads that can be switched off as a map, and predictions before and after as pairs of bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnlens.heads import Head
from attnlens.report.outcome_view import AblationView, ChangeView, StatesView
from attnlens.report.palette import Theme, colorscale, theme_of
from attnlens.report.shares_figure import speaking
from attnlens.report.style import bar, base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["ablation_map", "change_bars", "state_bars"]


def ablation_map(view: AblationView, *, theme: str = "light", selected: Head | None = None) -> go.Figure:
    """The layer x head grid, layer 0 on top: colour is the effect of each head, a cross says that it is off.

    `customdata` of the first trace holds each cell's address ("L3H1"): it is what a click reports.
    """
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    figure.add_trace(_cells(view, colours))
    figure.add_trace(_crosses(view, colours))
    if selected is not None:
        figure.add_shape(
            type="rect",
            x0=selected.head - 0.5,
            x1=selected.head + 0.5,
            y0=selected.layer - 0.5,
            y1=selected.layer + 0.5,
            line={"color": colours.accent, "width": 3},
        )
    cell = 38 if view.n_layers <= 12 else 26
    figure.update_layout(
        height=max(cell * view.n_layers + 56, 150),
        margin={"l": 46, "r": 12, "t": 44, "b": 12},
        plot_bgcolor=colours.line,
        showlegend=False,
        dragmode=False,
    )
    _grid_axes(figure, view)
    return figure


def change_bars(view: ChangeView, *, theme: str = "light") -> go.Figure:
    """Two bars per token: its probability before, and after."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    sides = [("before", view.before, colours.faint)]
    if view.done:
        sides.append(("after", view.after, speaking(colours, 1.0)))
    for name, values, colour in sides:
        figure.add_bar(
            name=name,
            x=list(values),
            y=list(range(len(values))),
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            text=[number(value, 3) for value in values],
            textposition="outside",
            textfont={"size": 11, "color": colours.muted},
            cliponaxis=False,
            customdata=[
                f"{escaped(token, 40)} {name}: {number(value, 4)}"
                for token, value in zip(view.tokens, values, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    largest = max((*view.before, *view.after), default=1.0)
    row = 36 if view.done else 24
    figure.update_layout(
        barmode="group",
        bargap=0.22,
        bargroupgap=0,
        height=row * max(len(view.tokens), 2) + 70,
        margin={"l": 110, "r": 16, "t": 34, "b": 30},
        showlegend=bool(view.done),
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False, "traceorder": "normal"},
    )
    figure.update_xaxes(range=[0, 1.18 * largest], showgrid=True, fixedrange=True, nticks=6)
    figure.update_yaxes(**_names(view.tokens), range=[len(view.tokens) - 0.5, -0.5])
    return figure


def state_bars(view: StatesView, *, theme: str = "light") -> go.Figure:
    """A bar per token: how far its last state turns."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    rows = list(zip(view.labels, view.turn, view.length, strict=True))
    figure.add_bar(
        x=list(view.turn),
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": speaking(colours, 1.0), "line": {"width": 0}},
        text=[number(value, 3) for value in view.turn],
        textposition="outside",
        textfont={"size": 11, "color": colours.muted},
        cliponaxis=False,
        customdata=[
            f"{escaped(label, 40)}: 1 − cosine {number(turn, 4)}<br>length × {number(length, 4)}"
            for label, turn, length in rows
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    largest = max((*view.turn, 1e-3))
    step = -(-len(rows) // 60)
    figure.update_layout(
        height=22 * min(max(len(rows), 2), 60) + 44, margin={"l": 110, "r": 16, "t": 10, "b": 30}, bargap=0.25
    )
    figure.update_xaxes(range=[0, 1.18 * largest], showgrid=True, fixedrange=True, nticks=6)
    figure.update_yaxes(**_names(view.labels) | {"dtick": max(step, 1)}, range=[len(rows) - 0.5, -0.5])
    return figure


def _cells(view: AblationView, colours: Theme) -> go.Heatmap:
    """Coloured by effect; one quiet colour where none was measured."""
    known = np.isfinite(view.values)
    high = float(np.nanmax(view.values)) if view.measured else 1.0
    quiet = [[0.0, colours.unlabelled], [1.0, colours.unlabelled]]
    heads = [[Head(layer, head, view.stack) for head in range(view.n_heads)] for layer in range(view.n_layers)]
    gap = 2 if view.n_heads <= 32 else 1
    return go.Heatmap(
        z=np.where(known, view.values, 0.0),
        zmin=0,
        zmax=high or 1.0,
        colorscale=colorscale(colours) if view.measured else quiet,
        showscale=view.measured,
        colorbar=bar("", colours) | {"nticks": 4},
        customdata=[[str(head) for head in row] for row in heads],
        text=[[_hover(view, head) for head in row] for row in heads],
        hovertemplate="<b>%{customdata}</b>%{text}<extra></extra>",
        xgap=gap,
        ygap=gap,
    )


def _hover(view: AblationView, head: Head) -> str:
    value = float(view.values[head.layer, head.head])
    state = "switched off" if head in view.off else "on"
    effect = "" if np.isnan(value) else f"<br>{view.name}: {number(value, 4)} {view.unit}".rstrip()
    return f"<br>{state}{effect}"


def _crosses(view: AblationView, colours: Theme) -> go.Scatter:
    """What covers a head that is off: a plain square with a cross, seen on any colour."""
    heads = sorted(view.off)
    size = 17 if view.n_heads <= 16 else 11
    return go.Scatter(
        x=[head.head for head in heads],
        y=[head.layer for head in heads],
        mode="markers+text",
        marker={
            "symbol": "square",
            "size": size,
            "color": colours.ink,
            "line": {"color": colours.surface, "width": 1.5},
        },
        text=["✕"] * len(heads),
        textfont={"color": colours.surface, "size": max(size - 5, 8)},
        hoverinfo="skip",
    )


def _grid_axes(figure: go.Figure, view: AblationView) -> None:
    shared: dict[str, Any] = {"tickmode": "linear", "tick0": 0, "tickformat": "d", "fixedrange": True}
    figure.update_xaxes(
        **shared, side="top", title_text="head", dtick=1 if view.n_heads <= 20 else 4, range=[-0.5, view.n_heads - 0.5]
    )
    figure.update_yaxes(
        **shared, title_text="layer", dtick=1 if view.n_layers <= 30 else 4, range=[view.n_layers - 0.5, -0.5]
    )


def _names(labels: Sequence[str]) -> dict[str, Any]:
    aliases = {str(place): escaped(label, 16) for place, label in enumerate(labels)}
    return {
        "tickmode": "linear",
        "tick0": 0,
        "dtick": 1,
        "tickformat": "d",
        "labelalias": aliases,
        "fixedrange": True,
        "ticklabelstandoff": 4,
    }
