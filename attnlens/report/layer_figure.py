"""What a probe reads off the residual stream, from the embeddings to the last layer, beside its controls."""

from __future__ import annotations

import plotly.graph_objects as go

from attnlens.report.layers import LayerPanel, LayerScore
from attnlens.report.palette import Theme, theme_of
from attnlens.report.style import base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["layer_lines"]

# Controls are told apart by dashes and by the colours of categories, which differ in lightness too.
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
_TINTS = ("sink", "coreference", "induction", "broad", "other")


def layer_lines(panel: LayerPanel, *, theme: str = "light") -> go.Figure:
    """The main measure of a task by depth, with its interval; a line per control, a ring around the chosen depth."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    for number_of, name in enumerate(panel.controls):
        figure.add_trace(_control(panel, name, number_of, colours))
    figure.add_trace(_line(panel.main, colours))
    figure.add_trace(_chosen(panel.main, colours))
    _axes(figure, panel)
    return figure


def _control(panel: LayerPanel, name: str, index: int, colours: Theme) -> go.Scatter:
    return go.Scatter(
        x=[score.depth for score in panel.main],
        y=[score.controls.get(name) for score in panel.main],
        mode="lines",
        name=escaped(name, 40),
        line={
            "color": colours.categories[_TINTS[index % len(_TINTS)]],
            "width": 1.5,
            "dash": _DASHES[index % len(_DASHES)],
        },
        text=[score.place for score in panel.main],
        hovertemplate=f"%{{text}}<br>{escaped(name, 40)}: %{{y:.4f}}<extra></extra>",
    )


def _line(scores: tuple[LayerScore, ...], colours: Theme) -> go.Scatter:
    arms = [_arms(score) for score in scores]
    return go.Scatter(
        x=[score.depth for score in scores],
        y=[score.score for score in scores],
        mode="lines+markers",
        name="score, 95 % interval",
        line={"color": colours.sequential[7], "width": 2.5},
        marker={"size": 7, "color": colours.sequential[7]},
        error_y={
            "array": [high for _, high in arms],
            "arrayminus": [low for low, _ in arms],
            "color": colours.muted,
            "thickness": 1.5,
            "width": 4,
        },
        text=[f"{score.place}: {number(score.score, 4)}, n = {score.n:,}" for score in scores],
        hovertemplate="%{text}<extra></extra>",
    )


def _chosen(scores: tuple[LayerScore, ...], colours: Theme) -> go.Scatter:
    chosen = [score for score in scores if score.chosen]
    return go.Scatter(
        x=[score.depth for score in chosen],
        y=[score.score for score in chosen],
        mode="markers",
        name="chosen on the other half",
        marker={"size": 15, "color": "rgba(0,0,0,0)", "line": {"color": colours.accent, "width": 2}},
        hoverinfo="skip",
    )


def _arms(score: LayerScore) -> tuple[float, float]:
    """Lengths of the interval below and above the score; an interval may lie beside its score, never behind 0."""
    if score.score is None or score.ci is None:
        return 0.0, 0.0
    return max(score.score - score.ci[0], 0.0), max(score.ci[1] - score.score, 0.0)


def _axes(figure: go.Figure, panel: LayerPanel) -> None:
    lowest = min((score.score for score in panel.main if score.score is not None), default=0.0)
    shortest = max(len(panel.main) // 13, 1)
    figure.update_layout(
        height=300,
        margin={"l": 48, "r": 12, "t": 12, "b": 84},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "itemclick": False},
    )
    aliases = {str(score.depth): score.place for score in panel.main}
    figure.update_xaxes(tick0=0, dtick=shortest, tickformat="d", labelalias=aliases, fixedrange=True)
    figure.update_yaxes(range=[min(0.0, lowest) - 0.02, 1.03], showgrid=True, fixedrange=True, tickformat=".2~f")
