"""Figures of positions: curves by distance, a table of positions, one row in two orders, losses by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from attnlens.report.inside.curve_view import Curve, CurveView
from attnlens.report.inside.order_view import OrderView, SpanView
from attnlens.report.inside.positions_view import TableView
from attnlens.report.palette import Theme, diverging, theme_of
from attnlens.report.style import bar, base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["curves", "likeness", "order_bars", "span_bars", "table_columns"]

_LETTERS = 12


def curves(view: CurveView, *, theme: str = "light", small: bool = False) -> go.Figure:
    """Curves by distance: the chosen ones coloured, all others quiet; a dotted line at the marked place."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    chosen = [curve for curve in view.curves if curve.chosen]
    for curve in view.curves:
        if not curve.chosen:
            figure.add_trace(_line(view, curve, colours.faint, 1))
    for place, curve in enumerate(chosen):
        figure.add_trace(_line(view, curve, _several(colours)[place % 3], 2.5))
    if view.mark is not None:
        figure.add_vline(
            x=view.mark[0],
            line={"color": colours.muted, "width": 1, "dash": "dot"},
            annotation={"text": view.mark[1], "font": {"color": colours.muted, "size": 11}, "showarrow": False},
            annotation_position="top",
        )
    figure.update_layout(
        height=150 if small else 240,
        margin={"l": 50, "r": 12, "t": 26 if view.mark or len(chosen) > 1 else 8, "b": 40},
        showlegend=len(chosen) > 1,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False},
        dragmode=False,
        hovermode="closest",
    )
    figure.update_xaxes(title_text=view.over, fixedrange=True, nticks=7, tickformat="d")
    figure.update_yaxes(title_text=view.unit, showgrid=True, fixedrange=True, nticks=4)
    return figure


def _several(colours: Theme) -> tuple[str, str, str]:
    """Colours of up to three curves, told apart by lightness as well."""
    return colours.accent, colours.sequential[7], colours.sequential[4]


def _line(view: CurveView, curve: Curve, colour: str, width: float) -> go.Scatter:
    name = escaped(curve.name, 40)
    return go.Scatter(
        x=list(view.places),
        y=curve.values,
        name=name,
        mode="lines",
        line={"color": colour, "width": width, "shape": "hvh" if view.steps else "linear"},
        hovertemplate=f"{name}<br>{view.over} %{{x}}: %{{y:.4f}} {view.unit}<extra></extra>",
        showlegend=curve.chosen,
    )


def likeness(view: TableView, *, theme: str = "light") -> go.Figure:
    """Cosine of every two positions: how alike the model's table makes them."""
    hover = "positions %{y} and %{x}<br>cosine %{z:.3f}<extra></extra>"
    return _grid(view.cosines, 1.0, "position", hover, theme)


def table_columns(view: TableView, *, theme: str = "light") -> go.Figure:
    """The table's own numbers, a row per position."""
    reach = float(np.abs(view.columns).max()) or 1.0
    return _grid(view.columns, reach, "column", "position %{y}, column %{x}<br>%{z:.3f}<extra></extra>", theme)


def _grid(values: Float[np.ndarray, "position other"], reach: float, over: str, hover: str, theme: str) -> go.Figure:
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    scale = {"colorscale": diverging(colours), "zmin": -reach, "zmax": reach}
    figure.add_heatmap(z=values, **scale, colorbar=bar("", colours) | {"nticks": 3}, hovertemplate=hover)
    figure.update_layout(height=260, margin={"l": 46, "r": 12, "t": 8, "b": 40}, dragmode=False)
    figure.update_xaxes(title_text=over, fixedrange=True, nticks=6, tickformat="d")
    figure.update_yaxes(title_text="position", fixedrange=True, nticks=5, tickformat="d", autorange="reversed")
    return figure


def order_bars(view: OrderView, *, theme: str = "light") -> go.Figure:
    """Two bars per token, one for each order: with positions on top, without below."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    rows = view.rows
    panels = [("with positions", rows.placed)]
    if rows.placeless is not None:
        panels.append(("without", rows.placeless))
    largest = max(float(weights.max()) for _, weights in panels) or 1.0
    labels = [escaped(label, _LETTERS) for label in rows.labels]
    for panel, (title, weights) in enumerate(panels):
        axis = "y" if panel == 0 else "y2"
        for order, (name, colour) in enumerate(zip(view.orders, _pair(colours), strict=True)):
            figure.add_bar(
                x=list(range(len(labels))),
                y=weights[order].tolist(),
                name=escaped(name, 60),
                marker={"color": colour, "line": {"width": 0}},
                yaxis=axis,
                showlegend=panel == 0,
                customdata=labels,
                hovertemplate=f"<b>%{{customdata}}</b> in “{escaped(name, 60)}”, {title}<br>%{{y:.4f}}<extra></extra>",
            )
        top = 1 - panel / len(panels)
        figure.update_layout({f"yaxis{axis[1:]}": _panel_axis(colours, title, top, 1 / len(panels), largest)})
    turned = len(labels) > 8 and max(map(len, labels)) > 5
    figure.update_xaxes(
        **{"tickmode": "linear", "tick0": 0, "dtick": 1, "fixedrange": True, "tickangle": -60 if turned else 0},
        labelalias={str(at): label for at, label in enumerate(labels)},
        anchor="y2" if len(panels) == 2 else "y",
    )
    figure.update_layout(
        barmode="group",
        bargap=0.35,
        bargroupgap=0.06,
        height=140 * len(panels) + 80,
        margin={"l": 52, "r": 12, "t": 48, "b": 72 if turned else 32},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False},
        dragmode=False,
    )
    return figure


def _panel_axis(colours: Theme, title: str, top: float, room: float, largest: float) -> dict[str, Any]:
    own = {"domain": [top - room + 0.04, top - 0.02], "range": [0, 1.1 * largest], "nticks": 4, "showgrid": True}
    named = {"title": {"text": title, "font": {"color": colours.muted, "size": 12}}}
    return {**base_layout(colours)["yaxis"], **own, **named, "fixedrange": True}


def _pair(colours: Theme) -> tuple[str, str]:
    """The colours of a first and a second of something; told apart by lightness as well."""
    return colours.sequential[7], colours.accent


def span_bars(view: SpanView, *, theme: str = "light") -> go.Figure:
    """A bar per span of positions; those beyond the limit in the accent colour."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    inside, outside = _pair(colours)
    for out, name, colour in ((False, "within the limit", inside), (True, "beyond it", outside)):
        held = [at for at, beyond in enumerate(view.beyond) if beyond == out]
        if held:
            figure.add_bar(
                x=[view.names[at] for at in held],
                y=[view.losses[at] for at in held],
                name=name,
                text=[number(view.losses[at]) for at in held],
                textposition="outside",
                textfont={"size": 11, "color": colours.muted},
                cliponaxis=False,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="positions %{x}<br>loss %{y:.4f} nats<extra></extra>",
            )
    figure.update_layout(
        height=230,
        margin={"l": 50, "r": 12, "t": 34, "b": 44},
        bargap=0.35,
        showlegend=any(view.beyond),
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False},
        dragmode=False,
    )
    figure.update_xaxes(title_text="positions", fixedrange=True, type="category")
    highest = 1.2 * max(view.losses, default=1.0)
    figure.update_yaxes(title_text="loss (nats)", fixedrange=True, showgrid=True, nticks=5, range=[0, highest])
    return figure
