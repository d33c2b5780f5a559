"""Pieces of the page of a block: the tokens to choose from, and a card for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dash import html

from attnlens.report.inside import block_figure as drawn
from attnlens.report.inside.block_view import BlockView, HeadsView, StepView, Strips
from attnlens.report.inside.feed_forward_view import ExpertsView, FeedForwardView
from dashboards.pages.parts import aria, card, data_table, folded, note, picture

__all__ = ["step_card", "token_chips", "whole"]

_MAX_TABLE = 128  # rows of the longest table that is written out


def token_chips(labels: Sequence[str], position: int) -> list[html.Button]:
    """A button per token; the browser hears the clicks."""
    return [_chip(label, place, place == position) for place, label in enumerate(labels)]


def _chip(label: str, place: int, chosen: bool) -> html.Button:
    more: dict[str, Any] = {"data-at": str(place)} | aria(pressed="true" if chosen else "false")
    return html.Button(label, type="button", className="token-chip is-chosen" if chosen else "token-chip", **more)


def whole(view: BlockView, theme: str) -> html.Section:
    """The token's vector at every step that leaves one."""
    told = "One row per vector, one column per dimension of the stream; blue is above 0, orange below."
    return card("The token's vector through the block", *_strips(view.strips, theme), note(told))


def step_card(number: int, step: StepView, theme: str) -> html.Section:
    """One step: what happens, the formula, the token's numbers, pictures and what they add up to."""
    checked = html.Span(step.gap, className="gap passed" if step.gap.startswith("recomputes") else "gap failed")
    head = html.Header(
        [
            html.H2([html.Span(str(number), className="step-number"), step.title], className="card-title"),
            checked if step.gap else None,
        ],
        className="card-head",
    )
    body: list[Any] = [html.P(step.sentence, className="sentence")]
    if step.formula:
        body.append(html.P(step.formula, className="formula"))
    if step.facts:
        body.append(html.Dl([part for name, value in step.facts for part in _fact(name, value)], className="figures"))
    if step.strips is not None:
        body += _strips(step.strips, theme)
    body += list(_inside(step, theme))
    return html.Section(
        [head, *body],
        id=f"step-{step.key}",
        className="card step-card",
        tabIndex=-1,
        **aria(label=f"Step {number}: {step.title}"),
    )


def _fact(name: str, value: str) -> tuple[html.Div]:
    return (html.Div([html.Dt(name), html.Dd(value)]),)


def _strips(view: Strips, theme: str) -> list[Any]:
    figure = drawn.strips(view, theme=theme)
    return [picture(figure, view.title, kind="wide-picture"), folded("In numbers", data_table(view.table()))]


def _inside(step: StepView, theme: str) -> Iterator[Any]:
    view = step.inside
    if isinstance(view, HeadsView):
        yield html.H3("How long a vector each head writes", className="part-title")
        yield picture(drawn.head_bars(view, theme=theme), "Length of what each head writes: one bar per head")
        yield folded("In numbers", data_table(view.table()))
        more: dict[str, Any] = {"data-to": "/inside/head"}
        yield html.Button("One head, step by step →", type="button", className="small-button section-link", **more)
    elif isinstance(view, FeedForwardView):
        yield from _neurons(view, theme)
    elif isinstance(view, ExpertsView):
        yield from _experts(view, theme)


def _neurons(view: FeedForwardView, theme: str) -> Iterator[Any]:
    yield html.H3(f"{view.name}: every neuron of this token on the curve", className="part-title")
    yield picture(drawn.activation_curve(view, theme=theme), f"The function {view.activation} with a dot per neuron")
    yield note(f"{view.summary} The strongest are in colour.")
    if not view.neurons:
        return
    says = " and the tokens that each speaks for" if view.promoted else ""
    yield html.H3(f"The neurons that write the longest vectors{says}", className="part-title")
    yield picture(drawn.neuron_bars(view, theme=theme), "Length of what the strongest neurons write: one bar each")
    if view.promoted:
        yield note(
            "Tokens: what the neuron's row of the last map, read by the unembedding, makes likelier, as if no layer "
            "came behind (Geva et al. 2021)."
        )
    else:
        yield note(f"No tokens are named for them: {view.absent}.")
    yield folded("In numbers", data_table(view.table()))


def _experts(view: ExpertsView, theme: str) -> Iterator[Any]:
    yield html.H3(f"The router at {view.labels[view.position]}", className="part-title")
    yield picture(drawn.expert_bars(view, theme=theme), "The router's probability of each expert: one bar per expert")
    yield folded("In numbers", data_table(view.table()))
    yield html.H3("Whom every token is sent to", className="part-title")
    yield picture(drawn.routing_grid(view, theme=theme), "Routing: one cell per expert and token", kind="wide-picture")
    if len(view.labels) <= _MAX_TABLE:
        yield folded("As a table", data_table(view.routing_table()))
