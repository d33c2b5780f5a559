"""The token view: queries on the left, keys on the right, a line for each weight, as in BertViz' head view.

A figure holds a fixed number of traces whatever the length of the text: lines are gathered into bins of weight, one
trace each, drawn wider and stronger from bin to bin. The exact number is in the hover text of every line and token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from attnlens.report.palette import Theme, theme_of
from attnlens.report.style import base_layout
from attnlens.report.tables import count, number
from attnlens.report.text import escaped, shortened
from attnlens.report.views import PatternView

__all__ = ["APART", "BINS", "FEW", "MANY", "POINTS", "THRESHOLD", "choose_links", "links_note", "token_links"]

# Lower edge of a bin of weights, line width in pixels, opacity.
BINS = ((0.0, 0.8, 0.14), (0.1, 1.2, 0.26), (0.2, 1.7, 0.4), (0.35, 2.3, 0.56), (0.5, 3.0, 0.74), (0.7, 3.8, 0.92))
THRESHOLD = 0.05
# Texts longer than MANY show at most FEW lines for each query.
MANY, FEW = 64, 6
# Where along a line its hover points lie: off the middle, where the lines cross.
POINTS = (0.36, 0.68)
# Between a token and the ends of its lines, as a share of the width.
APART = 0.012

Indices = Int[np.ndarray, " link"]


def token_links(
    view: PatternView, *, theme: str = "light", threshold: float = THRESHOLD, query: int | None = None
) -> go.Figure:
    """A head's weights as lines from the tokens that attend (left) to those attended to (right).

    Args:
        view: the head's pattern.
        theme: "light" or "dark".
        threshold: weights below it have no line. The figure says how many lines it shows of how many weights.
        query: a row to stress: its lines and their numbers stand out, the others step back.
    """
    colours = theme_of(theme)
    if query is not None and not 0 <= query < len(view.row_labels):
        query = None
    figure = go.Figure(layout=base_layout(colours))
    queries, keys = choose_links(view, threshold)
    if query is not None:
        others = queries != query
        own = np.flatnonzero(view.visible[query] & (view.weights[query] >= min(threshold, 0.01)))
        _add_lines(figure, view, queries[others], keys[others], colours.sequential[7], 0.25)
        _add_lines(figure, view, np.full_like(own, query), own, colours.accent, 1.0)
        queries, keys = np.full_like(own, query), own
    else:
        _add_lines(figure, view, queries, keys, colours.sequential[7], 1.0)
        _add_lines(figure, view, queries[:0], keys[:0], colours.accent, 1.0)
    _add_hover(figure, view, queries, keys)
    _add_tokens(figure, view, query, colours)
    _finish(figure, view, links_note(view, threshold), colours)
    return figure


def choose_links(view: PatternView, threshold: float) -> tuple[Indices, Indices]:
    """Query and key of every line: visible, at least `threshold`, and on long texts the strongest of each query."""
    shown = view.visible & (view.weights >= threshold)
    if _is_long(view):
        order = np.argsort(-view.weights, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
        shown &= rank < FEW
    queries, keys = np.nonzero(shown)
    return queries, keys


def links_note(view: PatternView, threshold: float) -> str:
    """How many lines are drawn of how many weights, and by which rule."""
    n_lines, n_weights = len(choose_links(view, threshold)[0]), int(view.visible.sum())
    rule = f"weight {number(threshold)} or more"
    if _is_long(view):
        rule += f", the {FEW} strongest of each query"
    return f"{count(n_lines, 'line')} of {count(n_weights, 'weight')}: {rule}."


def _is_long(view: PatternView) -> bool:
    return len(view.row_labels) > MANY or len(view.column_labels) > MANY


def _add_lines(
    figure: go.Figure, view: PatternView, queries: Indices, keys: Indices, colour: str, strength: float
) -> None:
    weights: Float[np.ndarray, " link"] = view.weights[queries, keys]
    edges = [edge for edge, _, _ in BINS]
    bins = np.digitize(weights, edges) - 1
    for i, (_, width, opacity) in enumerate(BINS):
        chosen = bins == i
        figure.add_scatter(
            x=[0, 1, None] * int(chosen.sum()),
            y=[end for pair in zip(queries[chosen], keys[chosen], strict=True) for end in (*map(int, pair), None)],
            mode="lines",
            line={"color": colour, "width": width},
            opacity=opacity * strength,
            hoverinfo="skip",
        )


def _add_hover(figure: go.Figure, view: PatternView, queries: Indices, keys: Indices) -> None:
    """Points that nobody sees, on the lines: they carry the numbers."""
    x, y, texts = [], [], []
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        text = (
            f"from <b>{escaped(view.row_labels[query])}</b> ({query})<br>"
            f"to <b>{escaped(view.column_labels[key])}</b> ({key})<br>weight {view.weights[query, key]:.4f}"
        )
        for point in POINTS:
            x.append(point)
            y.append(query + point * (key - query))
            texts.append(text)
    figure.add_scatter(
        x=x,
        y=y,
        text=texts,
        mode="markers",
        marker={"size": 9, "opacity": 0},
        hovertemplate="%{text}<extra></extra>",
    )


def _add_tokens(figure: go.Figure, view: PatternView, query: int | None, colours: Theme) -> None:
    rows = [f"<b>{escaped(label)}</b>" if i == query else escaped(label) for i, label in enumerate(view.row_labels)]
    columns = [escaped(label) for label in view.column_labels]
    inks = [colours.accent if i == query else colours.ink for i in range(len(rows))]
    column_inks = [colours.ink] * len(columns)
    if query is not None:
        for key in np.flatnonzero(view.visible[query]):
            weight = view.weights[query, key]
            columns[key] = f"<b>{weight:.2f}</b>  {columns[key]}" if weight >= THRESHOLD else columns[key]
        column_inks = [
            colours.accent if view.visible[query, key] and view.weights[query, key] >= THRESHOLD else colours.faint
            for key in range(len(columns))
        ]
    size = _row_pixels(view)[1]
    hovers = [_strongest_of(view, row) for row in range(len(rows))]
    _add_column(figure, -APART, rows, hovers, inks, "middle left", size)
    received = [_received_by(view, column) for column in range(len(columns))]
    _add_column(figure, 1 + APART, columns, received, column_inks, "middle right", size)


def _add_column(
    figure: go.Figure, x: float, texts: list[str], hovers: list[str], inks: list[str], position: str, size: int
) -> None:
    """`customdata` holds the token's index: it is what a click on a token reports."""
    figure.add_scatter(
        x=[x] * len(texts),
        y=list(range(len(texts))),
        text=texts,
        mode="text",
        textposition=position,
        textfont={"color": inks, "size": size},
        customdata=list(range(len(texts))),
        hovertext=hovers,
        hovertemplate="%{hovertext}<extra></extra>",
        cliponaxis=False,
    )


def _strongest_of(view: PatternView, row: int) -> str:
    """The three keys with most weight."""
    weights = np.where(view.visible[row], view.weights[row], -1)
    best = [key for key in np.argsort(-weights, kind="stable")[:3].tolist() if weights[key] >= 0]
    lines = (f"{view.weights[row, key]:.4f} {escaped(view.column_labels[key])} ({key})" for key in best)
    return "<br>".join([f"<b>{escaped(view.row_labels[row])}</b> ({row}) attends to", *lines])


def _received_by(view: PatternView, column: int) -> str:
    """The three queries that give it most weight."""
    weights = np.where(view.visible[:, column], view.weights[:, column], -1)
    best = [query for query in np.argsort(-weights, kind="stable")[:3].tolist() if weights[query] >= 0]
    lines = (f"{view.weights[query, column]:.4f} {escaped(view.row_labels[query])} ({query})" for query in best)
    return "<br>".join([f"<b>{escaped(view.column_labels[column])}</b> ({column}) is attended to by", *lines])


def _row_pixels(view: PatternView) -> tuple[int, int]:
    """Height of a row and size of its text, in pixels."""
    n = max(view.weights.shape)
    return (24, 13) if n <= 32 else (18, 12) if n <= MANY else (13, 10)


def _finish(figure: go.Figure, view: PatternView, note: str, colours: Theme) -> None:
    height, size = _row_pixels(view)
    longest = max((len(shortened(label)) for label in (*view.row_labels, *view.column_labels)), default=1)
    room = 24 + int(size * 0.62 * longest)
    n = max(view.weights.shape)
    figure.update_layout(
        height=height * n + 74,
        margin={"l": room, "r": room + 34, "t": 34, "b": 40},
        showlegend=False,
        hovermode="closest",
        annotations=[
            _words("from", 0.0, "right", colours),
            _words("to", 1.0, "left", colours),
            _words(note, 0.5, "center", colours, below=True),
        ],
    )
    figure.update_xaxes(range=[-APART, 1 + APART], visible=False, fixedrange=True)
    figure.update_yaxes(range=[n - 0.5, -0.5], visible=False, fixedrange=True)


def _words(text: str, x: float, anchor: str, colours: Theme, below: bool = False) -> dict[str, Any]:
    return {
        "text": text,
        "x": x,
        "y": 0 if below else 1,
        "xref": "paper",
        "yref": "paper",
        "xanchor": anchor,
        "yanchor": "top" if below else "bottom",
        "yshift": -10 if below else 6,
        "showarrow": False,
        "font": {"color": colours.muted, "size": 12},
    }
