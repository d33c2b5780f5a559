"""The layer x head grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnlens.heads import Head
from attnlens.report.palette import CATEGORIES, Theme, colorscale, ink_on, theme_of
from attnlens.report.style import bar, base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped
from attnlens.report.views import HeadMapView

__all__ = ["glyph_of", "head_map"]

# Labels too long for a cell; others lose "-token" and what is beyond seven characters.
_GLYPHS = {
    "previous-token": "prev",
    "leans-previous": "prev~",
    "leans-next": "next~",
    "coreference": "coref",
    "induction": "induct",
    "delimiter": "delim",
}
_GLYPH_LENGTH = 7


def head_map(view: HeadMapView, *, theme: str = "light", selected: Head | None = None) -> go.Figure:
    """The layer x head grid: layer 0 on top, as in BertViz' model view.

    Cells are coloured by the metric (labelled heads outlined in their category's colour), or, without a metric, by
    the category of the primary label. `customdata` of the first trace holds each cell's address ("L3H1"): it is
    what a click reports.
    """
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    figure.add_trace(_metric_cells(view, colours) if view.metric else _label_cells(view, colours))
    for category in CATEGORIES:
        heads = [head for head, note in view.notes.items() if note.category == category]
        if heads:
            figure.add_trace(_category(category, heads, colours, outlined=view.metric is not None))
    if view.n_heads <= 16 and view.notes:
        figure.add_trace(_glyphs(view, colours))
    if selected is not None:
        figure.add_shape(_frame(selected, colours))
    _map_axes(figure, view)
    figure.update_layout(plot_bgcolor=colours.line)
    return figure


def _metric_cells(view: HeadMapView, colours: Theme) -> go.Heatmap:
    assert view.metric is not None
    assert view.values is not None
    metric = view.metric
    high = metric.high if metric.high is not None else float(np.nanmax(view.values, initial=metric.low + 1e-9))
    return go.Heatmap(
        z=view.values,
        zmin=metric.low,
        zmax=high,
        colorscale=colorscale(colours),
        colorbar=bar(metric.name + (f" ({metric.unit})" if metric.unit else ""), colours),
        **_cell_text(view),
    )


def _label_cells(view: HeadMapView, colours: Theme) -> go.Heatmap:
    """Every category is a number; the colour scale has one flat step for each."""
    names = ["", *CATEGORIES]
    steps = [colours.unlabelled, *(colours.categories[name] for name in CATEGORIES)]
    scale = [[edge / len(steps), colour] for i, colour in enumerate(steps) for edge in (i, i + 1)]
    numbers = np.zeros((view.n_layers, view.n_heads))
    for head, note in view.notes.items():
        numbers[head.layer, head.head] = names.index(note.category)
    return go.Heatmap(
        z=numbers, zmin=-0.5, zmax=len(steps) - 0.5, colorscale=scale, showscale=False, **_cell_text(view)
    )


def _cell_text(view: HeadMapView) -> dict[str, Any]:
    """Addresses for clicks, text for hover, gaps between cells."""
    addresses = [[str(Head(layer, head)) for head in range(view.n_heads)] for layer in range(view.n_layers)]
    texts = [[_hover(view, Head(layer, head)) for head in range(view.n_heads)] for layer in range(view.n_layers)]
    gap = 2 if view.n_heads <= 32 else 1
    return {
        "customdata": addresses,
        "text": texts,
        "hovertemplate": "<b>%{customdata}</b>%{text}<extra></extra>",
        "xgap": gap,
        "ygap": gap,
    }


def _hover(view: HeadMapView, head: Head) -> str:
    lines = []
    if view.metric is not None:
        value = view.value(head)
        unit = f" {view.metric.unit}" if view.metric.unit else ""
        shown = f"{number(value, 4)}{unit}" if value is not None else "not defined on this text"
        lines.append(f"{view.metric.name}: {shown}")
    if head in view.notes:
        lines += [escaped(text, 90) for text in view.notes[head].texts[:6]]
    elif view.metric is None:
        lines.append("unclassified")
    return "".join(f"<br>{line}" for line in lines)


def _category(category: str, heads: Sequence[Head], colours: Theme, outlined: bool) -> go.Scatter:
    """The outlines of a category's heads (or nothing to see, for the legend of a map of labels)."""
    colour, x, y = colours.categories[category], [], []
    inset = 0.44
    for head in heads if outlined else ():
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
        x += [*(head.head + inset * right for right, _ in corners), None]
        y += [*(head.layer + inset * down for _, down in corners), None]
    mark = {"line": {"color": colour, "width": 3}, "mode": "lines"}
    if not outlined:
        mark = {"marker": {"color": colour, "symbol": "square", "size": 11}, "mode": "markers"}
    return go.Scatter(x=x or [None], y=y or [None], name=CATEGORIES[category], hoverinfo="skip", **mark)


def _glyphs(view: HeadMapView, colours: Theme) -> go.Scatter:
    """The primary label in short, written in the cell."""
    heads = list(view.notes)
    texts = [escaped(glyph_of(view.notes[head].primary)) for head in heads]
    inks = [ink_on(_cell_colour(view, head, colours)) for head in heads]
    return go.Scatter(
        x=[head.head for head in heads],
        y=[head.layer for head in heads],
        text=texts,
        mode="text",
        textfont={"color": inks, "size": 9},
        hoverinfo="skip",
        showlegend=False,
    )


def glyph_of(label: str) -> str:
    """A label in at most seven characters."""
    return _GLYPHS.get(label, label.removesuffix("-token"))[:_GLYPH_LENGTH]


def _cell_colour(view: HeadMapView, head: Head, colours: Theme) -> str:
    if view.metric is None:
        return colours.categories[view.notes[head].category]
    value = view.value(head)
    if value is None:
        return colours.surface
    low, high = view.scale
    last = len(colours.sequential) - 1
    return colours.sequential[round(last * min(1.0, max(0.0, (value - low) / (high - low))))]


def _frame(head: Head, colours: Theme) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": head.head - 0.5,
        "x1": head.head + 0.5,
        "y0": head.layer - 0.5,
        "y1": head.layer + 0.5,
        "line": {"color": colours.accent, "width": 3},
    }


def _map_axes(figure: go.Figure, view: HeadMapView) -> None:
    cell = 38 if view.n_layers <= 12 else 26
    n_named = sum(trace.name is not None for trace in figure.data)
    # Room for two names in a row: plotly does not move the cells for a legend that it breaks into more rows.
    bottom = 16 + 20 * -(-n_named // 2) if n_named else 12
    figure.update_layout(
        height=cell * view.n_layers + 62 + bottom,
        margin={"l": 52, "r": 12, "t": 44, "b": bottom},
        showlegend=n_named > 0,
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container", "itemclick": False},
    )
    figure.update_layout(legend_itemdoubleclick=False)
    step = {"dtick": 1 if view.n_heads <= 16 else 4, "tick0": 0, "tickformat": "d"}
    figure.update_xaxes(title_text="head", side="top", range=[-0.5, view.n_heads - 0.5], **step)
    figure.update_yaxes(
        title_text="layer", range=[view.n_layers - 0.5, -0.5], **(step | {"dtick": max(1, view.n_layers // 16)})
    )
    figure.update_layout(xaxis_fixedrange=True, yaxis_fixedrange=True)
