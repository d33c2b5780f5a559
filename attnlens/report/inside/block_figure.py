"""Pictures of a block's steps: vectors as strips of colour, what heads write, neurons on their curve, routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnlens.report.inside.block_view import HeadsView, Strips
from attnlens.report.inside.feed_forward_view import ExpertsView, FeedForwardView
from attnlens.report.palette import Theme, colorscale, diverging, theme_of
from attnlens.report.style import bar, base_layout
from attnlens.report.text import escaped

__all__ = ["activation_curve", "expert_bars", "head_bars", "neuron_bars", "routing_grid", "strips"]

_ROW = 24
_LETTERS = 7.2  # pixels that a letter of a row's name takes
_USUAL = 0.99  # share of the numbers that colours tell apart; the rest has the strongest colour


def strips(view: Strips, *, theme: str = "light") -> go.Figure:
    """One row per vector, one column per dimension; blue is above 0 and orange below."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    n_rows, n_columns = view.values.shape
    reach = float(np.quantile(np.abs(view.values), _USUAL)) or 1.0
    names = [[escaped(name, 40)] * n_columns for name in view.names]
    tints = [colour for _, colour in diverging(colours)]  # from blue to orange
    scale = [[0.0, tints[2]], [0.5, tints[1]], [1.0, tints[0]]]
    figure.add_heatmap(
        z=view.values,
        zmin=-reach,
        zmax=reach,
        colorscale=scale,
        colorbar=bar("", colours) | {"nticks": 3},
        customdata=names,
        hovertemplate="%{customdata}<br>dimension %{x:d}: %{z:.4g}<extra></extra>",
        ygap=3,
    )
    figure.update_xaxes(range=[-0.5, n_columns - 0.5], tickformat="d", nticks=8, fixedrange=False)
    _names(figure, view.names, n_rows)
    room = _room(view.names)
    height = _ROW * n_rows + 34
    figure.update_layout(height=height, margin={"l": room, "r": 8, "t": 4, "b": 28}, plot_bgcolor=colours.surface)
    return figure


def head_bars(view: HeadsView, *, theme: str = "light") -> go.Figure:
    """How long a vector each head writes."""
    colours = theme_of(theme)
    names = [f"{view.front}{head}" for head in range(len(view.lengths))]
    text = [f"{name}: writes a vector of length {value:.4g}" for name, value in zip(names, view.lengths, strict=True)]
    return _bars(names, view.lengths, [colours.sequential[5]] * len(names), text, colours)


def neuron_bars(view: FeedForwardView, *, theme: str = "light") -> go.Figure:
    """The strongest neurons, longest write on top, with the tokens that they speak for."""
    colours = theme_of(theme)
    names = [f"#{neuron.number}" for neuron in view.neurons]
    lengths = [neuron.length for neuron in view.neurons]
    text = [
        f"neuron {neuron.number}: reads {neuron.reads:.4g}, value {neuron.value:.4g}<br>"
        + "<br>".join(f"{token.effect:+.3g} {escaped(token.token, 24)}" for token in neuron.promotes)
        for neuron in view.neurons
    ]
    figure = _bars(names, lengths, [colours.accent] * len(names), text, colours)
    if view.promoted and view.neurons:
        said = ["  " + "  ·  ".join(escaped(token.token, 12) for token in n.promotes[:4]) for n in view.neurons]
        figure.add_scatter(
            x=[0] * len(names),
            y=list(range(len(names))),
            text=said,
            mode="text",
            textposition="middle right",
            textfont={"size": 12, "color": colours.ink},
            hoverinfo="skip",
            xaxis="x2",
        )
        figure.update_layout(
            xaxis={"domain": [0, 0.42]}, xaxis2={"domain": [0.44, 1], "range": [0, 1], "visible": False}
        )
    return figure


def activation_curve(view: FeedForwardView, *, theme: str = "light") -> go.Figure:
    """The activation as a curve, with every neuron of this token on it; the strongest ones in the accent colour."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    figure.add_scatter(x=view.x, y=view.y, mode="lines", line={"color": colours.muted, "width": 1.5}, hoverinfo="skip")
    strong = {neuron.number for neuron in view.neurons}
    others = [number for number in range(len(view.reads)) if number not in strong]
    for numbers, colour, size in ((others, colours.sequential[5], 6), (sorted(strong), colours.accent, 9)):
        figure.add_scatter(
            x=view.reads[numbers],
            y=view.bent[numbers],
            mode="markers",
            marker={"color": colour, "size": size, "opacity": 0.5 if size == 6 else 0.95},
            text=[_neuron(view, number) for number in numbers],
            hovertemplate="%{text}<extra></extra>",
        )
    reach = float(view.x[-1])
    figure.update_xaxes(range=[-reach, reach], title_text="what a neuron reads", nticks=7, showgrid=True, zeroline=True)
    figure.update_yaxes(title_text=f"after {view.activation}", nticks=6, showgrid=True, zeroline=True)
    zero = {"zerolinecolor": colours.faint, "zerolinewidth": 1}
    figure.update_xaxes(**zero)
    figure.update_yaxes(**zero)
    figure.update_layout(height=280, margin={"l": 56, "r": 8, "t": 8, "b": 48}, showlegend=False)
    return figure


def expert_bars(view: ExpertsView, *, theme: str = "light") -> go.Figure:
    """The router's probability of each expert at the token; those that are run in the accent colour."""
    colours = theme_of(theme)
    asked = view.chosen[view.position].tolist()
    share = view.probability[view.position].tolist()
    names = [f"expert {number}" for number in range(len(share))]
    tints = [colours.accent if number in asked else colours.faint for number in range(len(share))]
    text = [
        f"expert {number}: probability {value:.4f}"
        + (f", run with weight {view.weights[asked.index(number)]:.4f}" if number in asked else ", not run")
        for number, value in enumerate(share)
    ]
    return _bars(names, share, tints, text, colours)


def routing_grid(view: ExpertsView, *, theme: str = "light") -> go.Figure:
    """Every token's probabilities of all experts; a dot on each expert that is run, a frame around the token."""
    colours = theme_of(theme)
    figure = go.Figure(layout=base_layout(colours))
    n_positions, n_experts = view.probability.shape
    hover = [[f"{escaped(label)}, expert {expert}" for label in view.labels] for expert in range(n_experts)]
    figure.add_heatmap(
        z=view.probability.T,
        zmin=0,
        zmax=1,
        colorscale=colorscale(colours),
        colorbar=bar("", colours) | {"nticks": 3},
        customdata=hover,
        hovertemplate="%{customdata}: %{z:.4f}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    places = [(place, int(expert)) for place in range(n_positions) for expert in view.chosen[place]]
    figure.add_scatter(
        x=[place for place, _ in places],
        y=[expert for _, expert in places],
        mode="markers",
        marker={"color": colours.accent, "size": 7},
        hoverinfo="skip",
    )
    frame = {"type": "rect", "x0": view.position - 0.5, "x1": view.position + 0.5, "y0": -0.5, "y1": n_experts - 0.5}
    figure.add_shape(**frame, line={"color": colours.accent, "width": 2})
    step = -(-n_positions // 40)
    figure.update_xaxes(
        side="top", range=[-0.5, n_positions - 0.5], tickmode="linear", tick0=0, dtick=step, tickformat="d",
        tickangle=-90, fixedrange=True,
        labelalias={str(place): escaped(label, 14) for place, label in enumerate(view.labels)},
    )  # fmt: skip
    names = [f"expert {number}" for number in range(n_experts)]
    _names(figure, names, n_experts)
    top = 22 + round(_LETTERS * max(min(len(label), 14) for label in view.labels[::step]))
    height = max(_ROW * n_experts, 80) + top + 8
    figure.update_layout(height=height, margin={"l": _room(names), "r": 8, "t": top, "b": 8}, showlegend=False)
    return figure


def _bars(
    names: Sequence[str], values: Sequence[float], tints: Sequence[str], text: Sequence[str], colours: Theme
) -> go.Figure:
    figure = go.Figure(layout=base_layout(colours))
    figure.add_bar(
        x=list(values),
        y=list(range(len(names))),
        orientation="h",
        marker={"color": list(tints)},
        text=list(text),
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    _names(figure, names, len(names))
    figure.update_xaxes(rangemode="tozero", nticks=5, fixedrange=True, showgrid=True)
    margin: dict[str, Any] = {"l": _room(names), "r": 12, "t": 4, "b": 28}
    figure.update_layout(height=_ROW * max(len(names), 1) + 34, margin=margin, bargap=0.3, showlegend=False)
    return figure


def _names(figure: go.Figure, names: Sequence[str], n_rows: int) -> None:
    figure.update_yaxes(
        range=[n_rows - 0.5, -0.5],
        tickmode="linear",
        tick0=0,
        dtick=1,
        tickformat="d",
        labelalias={str(place): escaped(name, 40) for place, name in enumerate(names)},
        ticklabelstandoff=6,
        fixedrange=True,
    )


def _room(names: Sequence[str]) -> int:
    return 16 + round(_LETTERS * max(map(len, names), default=4))


def _neuron(view: FeedForwardView, number: int) -> str:
    said = f"neuron {number}: reads {view.reads[number]:.4g}, gives {view.bent[number]:.4g}"
    return said if view.up is None else f"{said}, times {view.up[number]:.4g}"
