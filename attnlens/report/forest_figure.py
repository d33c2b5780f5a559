"""Scores with intervals beside their baselines."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attnlens.heads import Head
from attnlens.report.palette import Theme, theme_of
from attnlens.report.results import HeadResults, Label
from attnlens.report.style import base_layout
from attnlens.report.tables import number
from attnlens.report.text import escaped

__all__ = ["forest"]

# The axis ends here, where the scores stand as text.
_RIGHT = 1.03


def forest(results: HeadResults, head: Head | str | tuple[int, int], *, theme: str = "light") -> go.Figure:
    """A head's scores with their intervals, each beside its baseline; labels that nearly passed are hollow.

    Raises:
        HeadAddressError: the model has no such head.
    """
    colours = theme_of(theme)
    result = results.of(head)
    labels = [*result.labels, *result.weak]
    figure = go.Figure(layout=base_layout(colours))
    figure.add_trace(_baselines(labels, colours))
    figure.add_trace(_scores(labels, len(result.labels), colours))
    figure.add_trace(_score_texts(labels, colours))
    _forest_axes(figure, labels)
    return figure


def _baselines(labels: Sequence[Label], colours: Theme) -> go.Scatter:
    rows = [(i, label) for i, label in enumerate(labels) if label.baseline is not None]
    return go.Scatter(
        x=[label.baseline for _, label in rows],
        y=[i for i, _ in rows],
        mode="markers",
        name="baseline",
        marker={"symbol": "line-ns", "size": 16, "line": {"color": colours.faint, "width": 2.5}},
        text=[f"{escaped(label.baseline_name or 'baseline', 60)}: {number(label.baseline, 4)}" for _, label in rows],
        hovertemplate="%{text}<extra></extra>",
    )


def _scores(labels: Sequence[Label], n_passed: int, colours: Theme) -> go.Scatter:
    tints = [colours.categories[label.category] for label in labels]
    low, high = zip(*(_arms(label) for label in labels), strict=True) if labels else ((), ())
    return go.Scatter(
        x=[label.score for label in labels],
        y=list(range(len(labels))),
        mode="markers",
        name="score, 95 % interval",
        error_x={"array": list(high), "arrayminus": list(low), "color": colours.muted, "thickness": 2, "width": 5},
        cliponaxis=False,
        marker={
            "size": 11,
            "color": [tint if i < n_passed else colours.surface for i, tint in enumerate(tints)],
            "line": {"color": tints, "width": 2},
        },
        text=[f"{escaped(label.name, 60)}: {_score_text(label, 4)}, n = {label.n}" for label in labels],
        hovertemplate="%{text}<extra></extra>",
    )


def _arms(label: Label) -> tuple[float, float]:
    """Lengths of the interval below and above the score."""
    if label.score is None or label.ci is None:
        return 0.0, 0.0
    return label.score - label.ci[0], label.ci[1] - label.score


def _score_texts(labels: Sequence[Label], colours: Theme) -> go.Scatter:
    return go.Scatter(
        x=[_RIGHT] * len(labels),
        y=list(range(len(labels))),
        mode="text",
        text=[_score_text(label, 2) for label in labels],
        textposition="middle right",
        textfont={"size": 12, "color": colours.muted},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _score_text(label: Label, digits: int) -> str:
    interval = f" [{number(label.ci[0], digits)}, {number(label.ci[1], digits)}]" if label.ci else ""
    return f"{number(label.score, digits)}{interval}"


def _forest_axes(figure: go.Figure, labels: Sequence[Label]) -> None:
    figure.update_layout(
        height=34 * max(len(labels), 1) + 66,
        margin={"l": 150, "r": 128, "t": 26, "b": 34},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "itemclick": False},
    )
    figure.update_xaxes(
        range=[-0.02, _RIGHT], dtick=0.25, showgrid=True, fixedrange=True, side="top", tickformat=".2~f"
    )
    aliases = {str(i): escaped(label.short_name, 20) for i, label in enumerate(labels)}
    figure.update_yaxes(
        range=[len(labels) - 0.5, -0.5], tick0=0, dtick=1, tickformat="d", labelalias=aliases, fixedrange=True
    )
