"""A logit as a sum: its largest parts as bars, all of it as a waterfall over layers; and what input tokens add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from attnlens.report.palette import Theme, theme_of
from attnlens.report.shares_view import SharesView, TokenSharesView
from attnlens.report.style import base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["N_BARS", "shares_bars", "shares_waterfall", "speaking", "token_bars"]

N_BARS = 16
"""Parts that get a bar of their own."""


def shares_bars(view: SharesView, *, theme: str = "light") -> go.Figure:
    """The largest parts, largest on top; the others are one bar. Blue speaks for the target, orange against it."""
    colours = theme_of(theme)
    largest, rest = view.ranked(N_BARS)
    parts = [*largest, *([rest] if rest else [])]
    names = [part.name for part in parts]
    return _bars(names, [part.value for part in parts], colours, room=8 * max(map(len, names), default=4) + 16)


def token_bars(view: TokenSharesView, *, theme: str = "light") -> go.Figure:
    """What each token adds, in the order of the text."""
    colours = theme_of(theme)
    figure = _bars(view.labels, view.values, colours, room=128)
    if len(view.labels) > 60:  # thin bars, names of some
        figure.update_layout(height=60 * 22 + 40)
        figure.update_yaxes(dtick=-(-len(view.labels) // 60))
    return figure


def shares_waterfall(view: SharesView, *, theme: str = "light") -> go.Figure:
    """How the logit comes about, step by step through the layers."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    names = [*(step.name for step in view.steps), view.total_name]
    values = [*(step.value for step in view.steps), view.total]
    figure.add_waterfall(
        x=list(range(len(names))),
        y=values,
        measure=["relative"] * len(view.steps) + ["total"],
        increasing={"marker": {"color": speaking(colours, 1.0)}},
        decreasing={"marker": {"color": speaking(colours, -1.0)}},
        totals={"marker": {"color": colours.muted}},
        connector={"line": {"color": colours.line, "width": 1}},
        text=[f"{escaped(name, 40)}: {number(value, 4)}" for name, value in zip(names, values, strict=True)],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    turned = len(names) > 6
    bottom = 112 if turned else 34
    figure.update_layout(height=228 + bottom, margin={"l": 44, "r": 12, "t": 12, "b": bottom}, showlegend=False)
    figure.update_xaxes(
        **_named(names), range=[-0.6, len(names) - 0.4], tickangle=-60 if turned else 0, fixedrange=True
    )
    figure.update_yaxes(showgrid=True, zeroline=True, zerolinecolor=colours.faint, fixedrange=True)
    return figure


def speaking(colours: Theme, value: float) -> str:
    """The colour of what speaks for something (value 0 and above), or against it."""
    return colours.sequential[5 if colours.name == "light" else 6] if value >= 0 else colours.accent


def _bars(names: Sequence[str], values: Sequence[float], colours: Theme, *, room: int) -> go.Figure:
    """Horizontal bars from top to bottom, each with its number."""
    figure = go.Figure(layout=base_layout(colours))
    figure.add_bar(
        x=list(values),
        y=list(range(len(names))),
        orientation="h",
        marker={"color": [speaking(colours, value) for value in values], "line": {"width": 0}},
        text=[number(value) for value in values],
        textposition="outside",
        textfont={"size": 11, "color": colours.muted},
        cliponaxis=False,
        customdata=[f"{escaped(name, 40)}: {number(value, 4)}" for name, value in zip(names, values, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
    )
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = 0.2 * ((high - low) or 1.0)  # room for the numbers, on a narrow page too
    figure.update_layout(
        height=22 * max(len(names), 2) + 40, margin={"l": min(room, 150), "r": 16, "t": 8, "b": 30}, bargap=0.25
    )
    figure.update_xaxes(
        range=[low - (margin if low < 0 else 0), high + margin],
        showgrid=True,
        zeroline=True,
        zerolinecolor=colours.faint,
        fixedrange=True,
        nticks=6,
    )
    figure.update_yaxes(**_named(names), range=[len(names) - 0.5, -0.5], fixedrange=True, ticklabelstandoff=4)
    return figure


def _named(names: Sequence[str]) -> dict[str, Any]:
    """Ticks that are numbers with names in their place, since tokens repeat."""
    aliases = {str(place): escaped(name, 20) for place, name in enumerate(names)}
    return {"tickmode": "linear", "tick0": 0, "dtick": 1, "tickformat": "d", "labelalias": aliases}
