"""The page `/inside/heads`: the heads of one layer side by side for one word, and what each adds to the output."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from attnlens.errors import AttnlensError
from attnlens.report.inside.heads_view import ManyHeadsView, many_heads_view
from attnlens.steps.heads import many_heads_of
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.attending import asked_of, asking_card, layer_of
from dashboards.pages.inside.block_parts import token_chips
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import card, data_table, folded, note, refusal, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_heads", "layout", "register"]

_HINT = "Click a word, and see whom every head of the layer looks at. The layer is that of the head chosen above."
_SIDE = "The stronger a word's colour, the more of its value the head takes. Click a head to choose it."
_ADDS = (
    "Length: of what the head writes through W_O. Share: of the layer's output, by projection on it; the shares and "
    "that of the bias sum to 1, and one below 0 writes against the sum."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The word that asks, the heads side by side, and how they are put together."""
    return framed(
        dcc.Store(id=ids.BESIDE_AT, data=view.at),
        dcc.Store(id=ids.BESIDE_DATA),
        asking_card(note(_HINT), ids.BESIDE_TOKENS, ids.BESIDE_SUMMARY, "Which token asks"),
        card(
            "Whom every head looks at",
            with_loading(html.Div(id=ids.BESIDE_BOARD, className="beside-board")),
            note(_SIDE),
            note(_ADDS),
            html.Div(id=ids.BESIDE_TABLE),
        ),
        card("Split and put together", html.Div(id=ids.BESIDE_SPLIT, className="split-board")),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page. Choosing a word or a head happens in the browser (`assets/inside_heads.js`)."""

    @app.callback(
        Output(ids.BESIDE_TOKENS, "children"),
        Output(ids.BESIDE_SUMMARY, "children"),
        Output(ids.BESIDE_DATA, "data"),
        Output(ids.BESIDE_TABLE, "children"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.BESIDE_AT, "data"),
    )
    def on_heads(run: Run, head: str, at: int | None) -> Any:
        need(run, head)
        return draw_heads(desk, run, head, at)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("inside_heads", "draw"),
        Output(ids.BESIDE_BOARD, "title"),
        Input(ids.BESIDE_DATA, "data"),
        Input(ids.THEME, "data"),
    )


def draw_heads(
    desk: Desk, run: Run, head: str, at: int | None
) -> tuple[list[html.Button], list[Any], dict[str, Any] | None, list[Any]]:
    """The tokens to choose from, what is shown in a few lines, the heads as data, and their table."""
    asked = asked_of(desk, run, head, at)
    chips = token_chips(asked.queries, asked.place)
    try:
        many = many_heads_of(layer_of(desk, run, asked), asked.capture, asked.place)
    except AttnlensError as error:
        return chips, [refusal(error)], None, []
    view = many_heads_view(many, asked.queries, asked.keys)
    data = view.to_json() | {"chosen": asked.head.head}
    return chips, _summary(view), data, [folded("In numbers", data_table(view.table()))]


def _summary(view: ManyHeadsView) -> list[Any]:
    return [
        html.P([html.Strong(view.title), html.Span(view.split)]),
        *(html.P(html.Span(line)) for line in (view.groups, view.left_out) if line),
        html.P(html.Span(view.summary), className="passed" if view.exact else "failed"),
    ]


PAGE = Page(
    path=f"{HOME}/heads",
    name="",
    under=HOME,
    layout=layout,
    register=register,
    controls=(Control("at", ids.BESIDE_AT, "data"),),
)
