"""The page `/inside/head`: one head at one token, from its query to what it writes, one step at a time."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from attnlens.errors import AttnlensError
from attnlens.report.inside.head_view import HeadStepsView, head_steps_view
from attnlens.steps.head import steps_of_head
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.attending import asked_of, asking_card, layer_of
from dashboards.pages.inside.block_parts import token_chips
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import card, data_table, folded, note, refusal, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_head", "layout", "register"]

_HINT = "Click the word that asks. The head is chosen above; its steps are below."
_LEGEND = (
    "One strip per vector, one cell per dimension: blue is above 0, orange below. The same column, the same scale."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The word that asks, then the steps, then the numbers."""
    return framed(
        dcc.Store(id=ids.STEPS_AT, data=view.at),
        dcc.Store(id=ids.STEPS_STEP, data=view.step),
        dcc.Store(id=ids.STEPS_DATA),
        asking_card(note(_HINT), ids.STEPS_TOKENS, ids.STEPS_SUMMARY, "Which token asks"),
        card("Step by step", with_loading(html.Div(id=ids.STEPS_BOARD, className="steps-board")), note(_LEGEND)),
        html.Div(id=ids.STEPS_TABLE),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page. Going through the steps happens in the browser (`assets/inside_head.js`)."""

    @app.callback(
        Output(ids.STEPS_TOKENS, "children"),
        Output(ids.STEPS_SUMMARY, "children"),
        Output(ids.STEPS_DATA, "data"),
        Output(ids.STEPS_TABLE, "children"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.STEPS_AT, "data"),
    )
    def on_head(run: Run, head: str, at: int | None) -> Any:
        need(run, head)
        return draw_head(desk, run, head, at)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("inside_head", "draw"),
        Output(ids.STEPS_BOARD, "title"),
        Input(ids.STEPS_DATA, "data"),
        Input(ids.STEPS_STEP, "data"),
        Input(ids.THEME, "data"),
    )


def draw_head(
    desk: Desk, run: Run, head: str, at: int | None
) -> tuple[list[html.Button], list[Any], dict[str, Any] | None, list[Any]]:
    """The tokens to choose from, what is shown in a few lines, the steps as data, and their table."""
    asked = asked_of(desk, run, head, at)
    chips = token_chips(asked.queries, asked.place)
    try:
        steps = steps_of_head(layer_of(desk, run, asked), asked.capture, asked.head, asked.place)
    except AttnlensError as error:
        return chips, [refusal(error)], None, []
    view = head_steps_view(steps, asked.queries, asked.keys)
    return chips, _summary(view), view.to_json(digits=4), [folded("In numbers", data_table(view.table()))]


def _summary(view: HeadStepsView) -> list[Any]:
    lines: list[Any] = [
        html.P([html.Strong(view.title), html.Span(view.sharing)]),
        html.P(f"Multiplied out, the steps below meet {view.summary}.", className="passed" if view.exact else "failed"),
    ]
    lines += [html.P(html.Span(f"Not shown: {reason}.")) for reason in view.absent]
    return lines


PAGE = Page(
    path=f"{HOME}/head",
    name="",
    under=HOME,
    layout=layout,
    register=register,
    controls=(Control("at", ids.STEPS_AT, "data"), Control("step", ids.STEPS_STEP, "data")),
)
