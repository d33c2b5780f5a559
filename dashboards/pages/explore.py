"""The first page, `/`: every head of a model on one text, and one head in detail."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, dcc, html

from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import drawing, pattern
from dashboards.pages.drawing import metric_options
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, folded, graph, note, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "layout", "register"]


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The map of all heads beside one head, its evidence below, and the model card."""
    left = [_map_card(view), card("Strongest links", html.Div(id=ids.STRONGEST), kind="strongest-card")]
    right = [_head_card(view), card("What is known about this head", html.Div(id=ids.EVIDENCE), kind="evidence-card")]
    return html.Div(
        [
            dcc.Store(id=ids.QUERY, data=followed(view)),
            html.Div(left, className="column"),
            html.Div(right, className="column"),
            card("The model", html.Div(id=ids.MODEL_CARD), kind="model-card"),
        ],
        className="cards",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""
    drawing.register(app, desk)
    pattern.register(app, desk)


def followed(view: ViewState) -> dict[str, Any] | None:
    """The token that is followed, with the kind of rows that its position counts."""
    return None if view.query is None else {"position": view.query, "of": [view.words, view.hide_special]}


def _level(view: ViewState) -> str:
    return "words" if view.words else "pieces"


def _map_card(view: ViewState) -> html.Section:
    metric = dmc.Select(
        id=ids.METRIC,
        data=metric_options(bool(view.results)),
        value=view.metric,
        allowDeselect=False,
        size="xs",
        w=210,
        comboboxProps={"shadow": "md"},
        **aria(label="Colour the head map by"),
    )
    frame = html.Div(
        with_loading(graph(ids.MAP, "Head map: one cell per layer and head")),
        id=ids.MAP_FRAME,
        className="map-frame",
        tabIndex=0,
        role="group",
        **aria(label="Head map. Arrow keys move between heads.", describedby=ids.MAP_CAPTION),
    )
    return card(
        "Heads",
        frame,
        note(id=ids.MAP_CAPTION),
        folded("The numbers as a table", id=ids.MAP_TABLE),
        actions=metric,
        kind="map-card",
    )


def _head_card(view: ViewState) -> html.Section:
    head = html.Header(html.H2("", id=ids.HEAD_TITLE, className="head-title"), className="card-head")
    labels = html.Div(id=ids.HEAD_LABELS, className="badges")
    tabs = dmc.Tabs(
        [
            dmc.TabsList(
                [
                    dmc.TabsTab("Links", value="links"),
                    dmc.TabsTab("Matrix", value="matrix"),
                    dmc.TabsTab("BertViz", value="classic"),
                ]
            ),
            _controls(view),
            dmc.TabsPanel(_links(), value="links"),
            dmc.TabsPanel(_matrix(), value="matrix"),
            dmc.TabsPanel(html.Div(id=ids.CLASSIC, className="classic-frame"), value="classic"),
        ],
        id=ids.TAB,
        value=view.tab,
    )
    return html.Section([head, labels, tabs], className="card head-card", **aria(label="The selected head"))


def _controls(view: ViewState) -> html.Div:
    words = dmc.SegmentedControl(
        id=ids.WORDS,
        data=[{"value": "pieces", "label": "Pieces"}, {"value": "words", "label": "Words"}],
        value=_level(view),
        size="xs",
        **aria(label="Rows and columns"),
    )
    special = dmc.Switch(id=ids.HIDE_SPECIAL, label="Hide special tokens", size="xs", checked=view.hide_special)
    slider = dmc.Slider(
        id=ids.THRESHOLD,
        value=view.threshold,
        min=0,
        max=1,
        step=0.01,
        precision=2,
        updatemode="drag",
        size="sm",
        w=150,
        thumbLabel="Weakest link drawn",
        color="var(--al-accent)",
    )
    threshold = html.Div([html.Span("Weakest link", className="slider-label"), slider], className="threshold")
    return html.Div([words, special, threshold], className="controls", role="group", **aria(label="What is drawn"))


def _links() -> html.Div:
    return html.Div(
        [
            with_loading(
                graph(ids.LINKS, "Links from each token on the left to the tokens it attends to on the right")
            ),
            note(id=ids.LINKS_CAPTION),
        ]
    )


def _matrix() -> html.Div:
    return html.Div(
        [
            with_loading(graph(ids.MATRIX, "Attention matrix: a row per query, a column per key")),
            note(id=ids.MATRIX_CAPTION),
            folded("The numbers as a table", id=ids.MATRIX_TABLE),
        ]
    )


PAGE = Page(
    path="/",
    name="Explore",
    layout=layout,
    register=register,
    controls=(
        Control("metric", ids.METRIC),
        Control("words", ids.WORDS, spelled={"words": "1", "pieces": ""}, shown=_level),
        Control("hide_special", ids.HIDE_SPECIAL, "checked"),
        Control("threshold", ids.THRESHOLD),
        Control("query", ids.QUERY, "data", shown=followed),
        Control("tab", ids.TAB),
    ),
)
