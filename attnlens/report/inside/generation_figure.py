"""One step of writing as pictures: the cache as it grows, and the newest token's row of attention."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attnlens.report.inside.generation_view import CacheView, RowView
from attnlens.report.inside.size_view import bytes_text
from attnlens.report.palette import theme_of
from attnlens.report.style import base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["cache_bars", "row_bars"]


def cache_bars(view: CacheView, *, theme: str = "light") -> go.Figure:
    """One bar per step, as long as the cache is large."""
    return _bars(view.labels, view.n_bytes, [bytes_text(n) for n in view.n_bytes], theme)


def row_bars(view: RowView, *, theme: str = "light") -> go.Figure:
    """One bar per token that is looked at, from weight 0 to 1."""
    return _bars(view.labels, view.weights, [number(weight, 3) for weight in view.weights], theme, most=1.0)


def _bars(
    labels: Sequence[str], values: Sequence[float], texts: Sequence[str], theme: str, most: float | None = None
) -> go.Figure:
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    places = list(range(len(labels)))
    figure.add_bar(
        x=list(values), y=places, orientation="h", text=list(texts), textposition="outside", cliponaxis=False,
        textfont={"size": 11, "color": colours.muted}, marker={"color": colours.sequential[6], "line": {"width": 0}},
        customdata=[f"{escaped(label, 40)}: {text}" for label, text in zip(labels, texts, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    room = 8 * max(min(len(label), 18) for label in labels) + 14
    figure.update_layout(
        height=22 * max(len(labels), 2) + 24, margin={"l": min(room, 150), "r": 70, "t": 6, "b": 12}, bargap=0.3
    )
    figure.update_xaxes(range=[0, most or max(values) or 1], visible=False, fixedrange=True)
    aliases = {str(place): escaped(label, 20) for place, label in enumerate(labels)}
    figure.update_yaxes(
        tickmode="linear", tick0=0, dtick=1, tickformat="d", labelalias=aliases, range=[len(labels) - 0.5, -0.5],
        fixedrange=True, ticklabelstandoff=4,
    )  # fmt: skip
    return figure
