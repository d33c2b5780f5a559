"""`/compare`: the shown run beside another text, another model, or another checkpoint."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from attnlens.compare import RunComparison, compare_runs
from attnlens.errors import ModelNotFoundError, UsageError
from attnlens.heads import Head
from attnlens.report import comparison_view, figures
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import GRAPH_CONFIG, aria, card, data_table, folded, note, room_for, with_loading
from dashboards.request import RunRequest
from dashboards.state import ViewState

__all__ = ["PAGE", "beside", "compared", "draw_heads", "draw_pair", "layout", "register", "with_what"]

SAME_MODEL = "(same)"
_RANGE = "0 is the same attention, 0.69 (ln 2) nothing in common"


def layout(desk: Desk, view: ViewState) -> html.Div:
    """What to compare with, how far every head is from its counterpart, and one head in both runs."""
    return html.Div(
        [
            _form(desk, view),
            card(
                "How far apart the heads are",
                with_loading(html.Div(id=ids.APART, className="apart")),
                kind="apart-card",
            ),
            card("One head in both", with_loading(html.Div(id=ids.PAIR)), kind="pair-card"),
        ],
        className="compare",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""

    @app.callback(
        Output(ids.APART, "children"),
        Input(ids.RUN, "data"),
        Input(ids.AGAINST_MODEL, "value"),
        Input(ids.AGAINST_TEXT, "value"),
        Input(ids.THEME, "data"),
        State(ids.HEAD, "value"),
    )
    def on_runs(run: Run, model: str, text: str | None, theme: str, head: str) -> Any:
        need(run, theme)
        against = with_what(model, text)
        return draw_heads(beside(desk, run, against), head, theme) if any(against.values()) else _nothing_yet()

    @app.callback(
        Output(ids.PAIR, "children"),
        Input(ids.RUN, "data"),
        Input(ids.AGAINST_MODEL, "value"),
        Input(ids.AGAINST_TEXT, "value"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
    )
    def on_head(run: Run, model: str, text: str | None, head: str, theme: str) -> Any:
        need(run, head, theme)
        against = with_what(model, text)
        if not any(against.values()):
            return note("The head's maps in both runs, and their difference, appear here.")
        return draw_pair(beside(desk, run, against), head, theme)

    @app.callback(
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.APART_MAP, "clickData"),
        prevent_initial_call=True,
    )
    def on_click(click: dict[str, Any] | None) -> str:
        if not click or ctx.triggered_id != ids.APART_MAP:
            raise PreventUpdate
        return str(Head.parse(click["points"][0]["customdata"]))


def with_what(model: str | None, text: str | None) -> dict[str, str]:
    """What the fields say to compare with; empty where they leave it as it is."""
    return {"model": "" if model in (None, SAME_MODEL) else str(model), "text": (text or "").strip()}


def compared(run: Run, against: dict[str, str]) -> dict[str, Any]:
    """The request of the second run: what it does not name is as in the first."""
    return {"model": against["model"] or run["model"], "text": against["text"] or run["text"]}


def beside(desk: Desk, run: Run, against: dict[str, str]) -> RunComparison:
    """Both runs, aligned by words.

    Raises:
        UsageError: the second run is the first.
        ModelNotFoundError: the second model is neither listed nor open: an address alone opens no new one.
        AttnlensError: a run cannot be made, or they have nothing in common.
    """
    second = compared(run, against)
    if RunRequest.from_json(second) == RunRequest.from_json(run):
        raise UsageError("both sides are the same text in the same model; change one of them.")
    if not desk.may_open(RunRequest.from_json(second)):
        raise ModelNotFoundError(
            f"{second['model'][:200]!r} is not open here; open it once as the first model, then compare with it."
        )
    return compare_runs(desk.run(run), desk.run(second))


def draw_heads(comparison: RunComparison, head: str, theme: str) -> list[Any]:
    """The map of divergences where the models have the same heads; else the table of best matches."""
    if comparison.heads[0] != comparison.heads[1]:
        table = comparison_view.matched_table(comparison.matched())
        return [
            note(f"{table.caption} {_RANGE}.".replace(". 0 is", "; 0 is")),
            data_table(table),
            *_unshared(comparison),
        ]
    view = comparison_view.divergence_view(comparison)
    figure = figures.head_map(view, theme=theme, selected=Head.parse(head) if head else None)
    picture = html.Div(
        dcc.Graph(id=ids.APART_MAP, figure=figure, config=GRAPH_CONFIG, className="figure", style=room_for(figure)),
        role="figure",
        **aria(label="Divergence of every head between the two runs"),
    )
    return [
        picture,
        note(view.caption),
        *_unshared(comparison),
        folded("The numbers as a table", data_table(view.table())),
    ]


def draw_pair(comparison: RunComparison, address: str, theme: str) -> list[Any]:
    """One head's maps in both runs and their difference, with the largest differences as a table."""
    head = Head.parse(address)
    stack = comparison.stacks[0]
    head = Head(head.layer, head.head, stack)
    other = comparison_view.counterpart(comparison, head)
    view = comparison_view.difference_view(comparison, head, other)
    pictures = [
        ("First", figures.side_heatmap(view, 0, theme=theme)),
        ("Second", figures.side_heatmap(view, 1, theme=theme)),
        ("Second minus first", figures.difference_heatmap(view, theme=theme)),
    ]
    return [
        html.P(view.caption, className="note"),
        html.Div([_picture(name, figure, view.title) for name, figure in pictures], className="side-by-side"),
        folded("The largest differences as a table", data_table(view.table())),
    ]


def _picture(name: str, figure: Any, title: str) -> html.Figure:
    graph_ = dcc.Graph(figure=figure, config=GRAPH_CONFIG, className="figure", style=room_for(figure))
    return html.Figure(
        [html.Figcaption(name), html.Div(graph_, role="figure", **aria(label=f"{title}: {name}"))], className="side"
    )


def _unshared(comparison: RunComparison) -> list[Any]:
    """The words that only one text has, which the maps leave out."""
    said = [
        f"only in the {side}: {' '.join(printable(label) for label in labels[:24])}{' …' if len(labels) > 24 else ''}"
        for side, labels in (("first", comparison.rows.only_first), ("second", comparison.rows.only_second))
        if labels
    ]
    return [note(f"Left out, {'; '.join(said)}.")] if said else []


def _nothing_yet() -> html.Div:
    return html.Div(
        [
            html.P("Nothing is compared yet.", className="empty-title"),
            html.P("Type another text above, or pick another model.", className="note"),
        ]
    )


def _second_model(view: ViewState) -> str:
    return view.against_model or SAME_MODEL


def _form(desk: Desk, view: ViewState) -> html.Section:
    same = {"value": SAME_MODEL, "label": "the same model"}
    others = [{"value": choice.name, "label": choice.name} for choice in desk.choices.listed]
    if view.against_model and not desk.choices.is_listed(view.against_model):
        others.append({"value": view.against_model, "label": view.against_model})
    model = dmc.Select(
        id=ids.AGAINST_MODEL,
        label="Second model",
        data=[same, *others],
        value=_second_model(view),
        allowDeselect=False,
        searchable=True,
        comboboxProps={"shadow": "md"},
    )
    text = dmc.Textarea(
        id=ids.AGAINST_TEXT,
        label="Second text",
        description="Empty is the same text. Compared when you leave the field.",
        debounce=True,
        value=view.against_text,
        autosize=True,
        minRows=1,
        maxRows=6,
        spellCheck=False,
    )
    return card("Compare the run with", html.Div([model, text], className="against"), kind="against-card")


PAGE = Page(
    path="/compare",
    name="Compare",
    layout=layout,
    register=register,
    controls=(
        Control("against_model", ids.AGAINST_MODEL, spelled={SAME_MODEL: ""}, shown=_second_model),
        Control("against_text", ids.AGAINST_TEXT),
    ),
)
