"""A head's matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from attnlens.report.palette import colorscale, theme_of
from attnlens.report.style import bar, base_layout
from attnlens.report.text import escaped, shortened
from attnlens.report.views import PatternView

__all__ = ["hatching", "pattern_heatmap"]

# At most this many labels stand along an axis.
_TICKS = 40
# The smallest side of a matrix. On a narrow page a matrix shrinks towards the top; a bar of its full height would not.
_SMALLEST_SIDE = 160
_BAR = {"lenmode": "pixels", "len": _SMALLEST_SIDE, "y": 1, "yanchor": "top", "ypad": 0}


def pattern_heatmap(view: PatternView, *, theme: str = "light") -> go.Figure:
    """A head's matrix, queries as rows: every weight exact on hover; hidden cells are hatched, which 0 is not."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    weights = np.where(view.visible, view.weights, np.nan).astype(np.float32)
    hidden = np.where(view.visible, np.nan, 0).astype(np.float32)
    gap = 1 if max(len(view.row_labels), len(view.column_labels)) <= _TICKS else 0
    place = "from <b>%{y}</b> (%{y:d})<br>to <b>%{x}</b> (%{x:d})"
    figure.add_heatmap(
        z=weights,
        zmin=0,
        zmax=1,
        colorscale=colorscale(colours),
        colorbar=bar("weight", colours) | _BAR,
        hoverongaps=False,
        xgap=gap,
        ygap=gap,
        hovertemplate=f"{place}<br>weight %{{z:.4f}}<extra></extra>",
    )
    figure.add_heatmap(
        z=hidden,
        colorscale=[[0, colours.not_visible], [1, colours.not_visible]],
        showscale=False,
        hoverongaps=False,
        xgap=gap,
        ygap=gap,
        hovertemplate=f"{place}<br>not visible (masked)<extra></extra>",
    )
    x, y = hatching(view.visible)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colours.hatch, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    _matrix_axes(figure, view)
    figure.update_layout(plot_bgcolor=colours.line)
    return figure


def hatching(visible: Bool[np.ndarray, "query key"]) -> tuple[list[float | None], list[float | None]]:
    """Strokes over hidden cells: along each anti-diagonal, one stroke per run of hidden cells; None separates them."""
    n_query, n_key = visible.shape
    step = max(1, max(n_query, n_key) // 32)
    x: list[float | None] = []
    y: list[float | None] = []
    for total in range(0, n_query + n_key - 1, step):
        queries = range(max(0, total - n_key + 1), min(n_query, total + 1))
        start: int | None = None
        for query in [*queries, queries.stop]:
            hidden = query in queries and not visible[query, total - query]
            if hidden and start is None:
                start = query
            elif not hidden and start is not None:
                x += [total - start + 0.5, total - query + 0.5, None]
                y += [start - 0.5, query - 0.5, None]
                start = None
    return x, y


def _matrix_axes(figure: go.Figure, view: PatternView) -> None:
    n = max(len(view.row_labels), len(view.column_labels), 1)
    longest = max((len(shortened(label)) for label in (*view.row_labels, *view.column_labels)), default=1)
    room = 30 + 7 * longest
    side = min(620, max(_SMALLEST_SIDE, n * (34 if n <= 12 else 22)))
    figure.update_layout(height=side + room + 24, margin={"l": room, "r": 12, "t": room, "b": 24})
    figure.update_xaxes(
        title_text="to (key)", side="top", tickangle=-90, labelalias=_aliases(view.column_labels), **_matrix_ticks(n)
    )
    figure.update_yaxes(
        title_text="from (query)",
        labelalias=_aliases(view.row_labels),
        scaleanchor="x",
        constraintoward="top",
        **_matrix_ticks(n) | {"range": [len(view.row_labels) - 0.5, -0.5]},
    )


def _matrix_ticks(n: int) -> dict[str, Any]:
    return {
        "range": [-0.5, n - 0.5],
        "tickmode": "linear",
        "tick0": 0,
        "dtick": -(-n // _TICKS),
        "tickformat": "d",
        "constrain": "domain",
        "ticklabelstandoff": 4,
    }


def _aliases(labels: Sequence[str]) -> dict[str, str]:
    """Tick number -> what is shown in its place, also on hover."""
    return {str(i): escaped(label) for i, label in enumerate(labels)}
