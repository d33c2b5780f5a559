"""One head in two runs: both maps and their difference, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnlens.report.comparison_view import DifferenceView
from attnlens.report.palette import colorscale, diverging, theme_of
from attnlens.report.style import base_layout
from attnlens.report.text import escaped, shortened

__all__ = ["difference_heatmap", "side_heatmap"]

_SIDE = (180, 460)  # pixels, the least and the most
_TICKS = 40
_BAR = {
    "thickness": 8,
    "outlinewidth": 0,
    "x": 1.0,
    "xpad": 6,
    "nticks": 5,
    "lenmode": "pixels",
    "len": _SIDE[0],
    "y": 1,
    "yanchor": "top",
    "ypad": 0,
}


def side_heatmap(view: DifferenceView, side: int, *, theme: str = "light") -> go.Figure:
    """The head's map in the first (0) or the second (1) run; exact weights on hover."""
    colours = theme_of(theme)
    weights = (view.first, view.second)[side]
    figure = go.Figure(layout=base_layout(colours))
    figure.add_heatmap(
        z=weights.astype(np.float32),
        zmin=0,
        zmax=1,
        colorscale=colorscale(colours),
        colorbar=_BAR | {"tickfont": {"color": colours.muted, "size": 11}},
        hovertemplate=f"{_PLACE}<br>weight %{{z:.4f}}<extra></extra>",
    )
    return _with_axes(figure, view)


def difference_heatmap(view: DifferenceView, *, theme: str = "light") -> go.Figure:
    """Second minus first: orange is more in the second, blue is more in the first; the scale ends at the largest."""
    colours = theme_of(theme)
    most = max(float(np.abs(view.difference).max(initial=0)), 0.01)
    figure = go.Figure(layout=base_layout(colours))
    figure.add_heatmap(
        z=view.difference.astype(np.float32),
        customdata=np.stack([view.first, view.second], axis=-1).astype(np.float32),
        zmin=-most,
        zmax=most,
        colorscale=diverging(colours),
        colorbar=_BAR | {"tickfont": {"color": colours.muted, "size": 11}},
        hovertemplate=f"{_PLACE}<br>%{{customdata[0]:.4f}} → %{{customdata[1]:.4f}}: %{{z:+.4f}}<extra></extra>",
    )
    return _with_axes(figure, view)


_PLACE = "from <b>%{y}</b><br>to <b>%{x}</b>"


def _with_axes(figure: go.Figure, view: DifferenceView) -> go.Figure:
    n_rows, n_columns = view.first.shape
    longest = max((len(shortened(label)) for label in (*view.row_labels, *view.column_labels)), default=1)
    room = 14 + 7 * longest
    side = min(_SIDE[1], max(_SIDE[0], 22 * max(n_rows, n_columns)))
    figure.update_layout(height=side + room + 16, margin={"l": room, "r": 12, "t": room, "b": 16})
    figure.update_xaxes(side="top", tickangle=-90, **_ticks(view.column_labels), range=[-0.5, n_columns - 0.5])
    figure.update_yaxes(scaleanchor="x", constraintoward="top", **_ticks(view.row_labels), range=[n_rows - 0.5, -0.5])
    return figure


def _ticks(labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "tickmode": "linear",
        "tick0": 0,
        "dtick": max(1, -(-len(labels) // _TICKS)),
        "tickformat": "d",
        "constrain": "domain",
        "labelalias": {str(index): escaped(label) for index, label in enumerate(labels)},
    }
