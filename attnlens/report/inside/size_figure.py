"""Sizes and costs as pictures: wholes as bars of shares, and growth on two logarithmic axes."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from attnlens.report.inside.size_view import GrowthView, WholesView
from attnlens.report.palette import Theme, theme_of
from attnlens.report.style import base_layout
from attnlens.report.tables import share
from attnlens.report.text import escaped

__all__ = ["growth_lines", "shares_of_wholes"]

_DASHES = ("solid", "dash", "dot")
_INK = 0.09  # least share of a bar that has room for its number


def shares_of_wholes(view: WholesView, *, theme: str = "light") -> go.Figure:
    """One bar per whole, as long as the others, divided by share; its total stands above it."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    fills = _fills(colours)
    places = list(range(len(view.rows)))
    for part, name in enumerate(view.parts):
        shares = [
            amounts[part] / total if total else 0.0 for amounts, total in zip(view.amounts, view.totals, strict=True)
        ]
        figure.add_bar(
            name=name,
            x=shares,
            y=places,
            orientation="h",
            width=0.42,
            marker={"color": fills[part % len(fills)], "line": {"width": 1, "color": colours.surface}},
            text=[share(value) if value >= _INK else "" for value in shares],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"size": 11},
            customdata=[
                f"{escaped(row, 40)}<br>{name}: {view.written(amounts[part])} ({share(value, 1)})"
                for row, amounts, value in zip(view.rows, view.amounts, shares, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    for place, (row, total) in enumerate(zip(view.rows, view.totals, strict=True)):
        figure.add_annotation(
            x=0, y=place - 0.36, xanchor="left", yanchor="middle", showarrow=False,
            text=f"{escaped(row, 40)}: <b>{view.written(total)}</b>", font={"size": 12, "color": colours.ink},
        )  # fmt: skip
    legend_rows = -(-len(view.parts) // 3)
    figure.update_layout(
        barmode="stack", height=62 * len(view.rows) + 24 * legend_rows + 20,
        margin={"l": 4, "r": 4, "t": 4, "b": 24 * legend_rows + 8},
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "traceorder": "normal"},
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, 1], fixedrange=True)
    figure.update_yaxes(visible=False, range=[len(view.rows) - 0.65, -0.6], fixedrange=True)
    return figure


def growth_lines(view: GrowthView, *, theme: str = "light") -> go.Figure:
    """Lines over the length, both axes logarithmic: a slope of two is a square."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    for line in view.lines:
        figure.add_scatter(
            name=escaped(line.name, 44), x=list(view.lengths), y=list(line.values), mode="lines+markers",
            line={"color": _ink(colours, line.model), "width": 2, "dash": _DASHES[line.kind % len(_DASHES)]},
            marker={"size": 6, "color": _ink(colours, line.model)},
            customdata=[view.written(value) for value in line.values],
            hovertemplate="%{x:,} tokens: %{customdata}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    values = [value for line in view.lines for value in line.values if value > 0] or [1]
    figure.update_layout(
        height=250 + 22 * len(view.lines), margin={"l": 74, "r": 14, "t": 8, "b": 44 + 22 * len(view.lines)},
        legend={"orientation": "v", "x": 0, "y": -0.2, "yanchor": "top", "xanchor": "left"},
    )  # fmt: skip
    figure.update_xaxes(
        type="log", tickvals=list(view.lengths), ticktext=[f"{n:,}" for n in view.lengths], fixedrange=True,
        title={"text": "tokens"},
    )  # fmt: skip
    ticks = _ticks(min(values), max(values), 1024 if view.unit == "bytes" else 1000)
    figure.update_yaxes(
        type="log", tickvals=ticks, ticktext=[view.written(tick).replace(".0 ", " ") for tick in ticks],
        showgrid=True, fixedrange=True,
    )  # fmt: skip
    return figure


def _ticks(low: int, high: int, base: int) -> list[int]:
    """Powers of the unit's base within the values, or of ten where that leaves too few."""
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    ticks = [base**power for power in range(first, last + 1) if low / base <= base**power <= high * base]
    if len(ticks) < 4:
        ticks = sorted({tick * step for tick in ticks for step in (1, 32)})
    return [tick for tick in ticks if low / 40 <= tick <= high * 40]


def _fills(colours: Theme) -> list[str]:
    names = ("position", "syntax", "sink", "other", "coreference", "induction", "broad")
    return [colours.categories[name] for name in names]


def _ink(colours: Theme, model: int) -> str:
    return colours.accent if model == 0 else colours.sequential[6]
