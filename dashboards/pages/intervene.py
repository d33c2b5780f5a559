"""The page `/intervene`: switch heads off, cut edges, patch from a second text, and see what the model says then."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, dcc, html

from dashboards import ids
from dashboards.changes import OTHER
from dashboards.desk import Desk
from dashboards.pages import changing, reading
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, folded, graph, note, with_loading
from dashboards.pages.reading import CHANGED_AT_CONTROL, position_select
from dashboards.state import ViewState

__all__ = ["PAGE", "layout", "register"]

_WAYS = {
    "zero": "zeros",
    "mean": "its mean over other texts",
    "resample": "what it does in other texts",
    OTHER: "what it does in the second text",
}
_HINT = (
    "A model that fills in masked words is asked with the word at that token masked; one that predicts nothing shows "
    "how far its last states turn."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The map of heads and what else can be done on the left, predictions before and after on the right."""
    question = html.Div(
        [position_select(view, ids.CHANGED_AT), _how(view), note(_HINT), note(id=ids.TWO_STACKS)], className="question"
    )
    return html.Div(
        [
            dcc.Store(id=ids.OFF, data=view.off),
            dcc.Store(id=ids.CUTS, data=view.cut),
            dcc.Store(id=ids.SWEEP),
            dcc.Store(id=ids.SWEEP_STEP),
            html.Section(question, className="card question-card", **aria(label="Which prediction, and how")),
            html.Div([_map_card(), _cut_card(), _patch_card(view)], className="column"),
            card("Before and after", with_loading(html.Div(id=ids.OUTCOME, className="part")), kind="outcome-card"),
        ],
        className="stream-page intervene-page",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""
    changing.register(app, desk)
    reading.register(app, desk, ids.CHANGED_AT)


def _how(view: ViewState) -> dmc.Select:
    return dmc.Select(
        id=ids.HOW,
        label="A head that is off passes on",
        data=[{"value": way, "label": label} for way, label in _WAYS.items()],
        value=view.how,
        allowDeselect=False,
        size="xs",
        w=240,
        comboboxProps={"shadow": "md"},
    )


def _map_card() -> html.Section:
    frame = html.Div(
        with_loading(graph(ids.OFF_MAP, "Heads that are on or off: one cell per layer and head")),
        id=ids.OFF_FRAME,
        className="map-frame",
        tabIndex=0,
        role="group",
        **aria(label="Heads. Arrow keys move between heads, space switches one.", describedby=ids.OFF_CAPTION),
    )
    clear = html.Button("All on", id=ids.OFF_CLEAR, type="button", className="small-button")
    measure = html.Button("Measure every head", id=ids.SWEEP_BUTTON, type="button", className="small-button")
    progress = html.Span(id=ids.SWEEP_STATUS, className="note sweep-status", role="status")
    return card(
        "Heads",
        frame,
        note(id=ids.OFF_CAPTION),
        html.Div([measure, progress], className="button-row"),
        folded("The heads as a table", id=ids.OFF_TABLE),
        actions=clear,
        kind="off-card",
    )


def _cut_card() -> html.Section:
    fields = [
        _token_select(ids.CUT_FROM, "From (query)"),
        _token_select(ids.CUT_TO, "To (key)"),
        dmc.Select(
            id=ids.CUT_HEADS,
            label="In",
            data=[{"value": "one", "label": "selected head"}, {"value": "all", "label": "every head"}],
            value="one",
            allowDeselect=False,
            size="xs",
            w=144,
            comboboxProps={"shadow": "md"},
        ),
        html.Button("Cut", id=ids.CUT_ADD, type="button", className="small-button"),
    ]
    return card(
        "Cut an edge",
        html.Div(fields, className="fields"),
        html.Div(id=ids.CUT_LIST, className="cuts"),
        note("The query can no longer see the key; the weights that are left in its row grow to sum to 1."),
        kind="cut-card",
    )


def _patch_card(view: ViewState) -> html.Section:
    text = dmc.TextInput(
        id=ids.OTHER_TEXT,
        label="Second text",
        placeholder="as many tokens as the first",
        value=view.other,
        debounce=500,
        size="xs",
        spellCheck=False,
    )
    fields = [
        dmc.Select(
            id=ids.PATCH,
            label="Its stream after",
            data=[{"value": "", "label": "no layer"}],
            value=_number(view.patch),
            allowDeselect=False,
            size="xs",
            w=150,
            comboboxProps={"shadow": "md"},
        ),
        _token_select(ids.PATCH_AT, "At", _number(view.patch_at), first="every token"),
    ]
    return card(
        "Patch from a second text",
        text,
        html.Div(fields, className="fields"),
        note("From that layer on, the stream at the token is the one that the second text has there."),
        kind="patch-card",
    )


def _token_select(id: str, label: str, value: str | None = None, first: str | None = None) -> dmc.Select:
    return dmc.Select(
        id=id,
        label=label,
        data=[{"value": "", "label": first}] if first else [],
        value=value,
        searchable=True,
        allowDeselect=False,
        size="xs",
        w=124,
        comboboxProps={"shadow": "md"},
    )


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


PAGE = Page(
    path="/intervene",
    name="Intervene",
    layout=layout,
    register=register,
    controls=(
        CHANGED_AT_CONTROL,
        Control("off", ids.OFF, "data"),
        Control("how", ids.HOW),
        Control("cut", ids.CUTS, "data"),
        Control("other", ids.OTHER_TEXT),
        Control("patch", ids.PATCH, shown=lambda view: _number(view.patch)),
        Control("patch_at", ids.PATCH_AT, shown=lambda view: _number(view.patch_at)),
    ),
)
