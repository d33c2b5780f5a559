"""The first page, `/`: every head of a model on one text, and one head in detail."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, dcc, html

from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import drawing, pattern
from dashboards.pages.drawing import metric_options
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, folded, note
from dashboards.state import ViewState

__all__ = ["PAGE", "layout", "register"]


_STORES = (ids.STACK, ids.CELLS, ids.DRAWN, ids.EVIDENCE_ASKED, ids.CLASSIC_ASKED, ids.MAP_TABLE_ASKED)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The map of all heads beside one head, its evidence below, and the model card."""
    left = [_map_card(view), card("Strongest links", html.Div(id=ids.STRONGEST), kind="strongest-card")]
    right = [
        pattern.head_card(view),
        card("What is known about this head", html.Div(id=ids.EVIDENCE), kind="evidence-card"),
    ]
    return html.Div(
        [
            dcc.Store(id=ids.QUERY, data=pattern.followed(view)),
            dcc.Store(id=ids.KEY, data=pattern.linked(view)),
            dcc.Store(id=ids.DETAILS, data=view.details),
            dcc.Store(id=ids.WINDOW, data=view.window),
            *[dcc.Store(id=name) for name in _STORES],
            html.Div(left, className="column"),
            html.Div(right, className="column"),
            card("The model", html.Div(id=ids.MODEL_CARD), kind="model-card"),
            html.Aside(id=ids.DRAWER, className="drawer", hidden=True, **aria(label="What is selected", live="polite")),
        ],
        className="cards",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""
    drawing.register(app, desk)
    pattern.register(app, desk)


def _map_card(view: ViewState) -> html.Section:
    metric = dmc.Select(
        id=ids.METRIC,
        data=metric_options(bool(view.results)),
        value=view.metric,
        allowDeselect=False,
        size="xs",
        w=210,
        comboboxProps={"shadow": "md"},
        **aria(label="Colour the frames by"),
    )
    frame = html.Div(
        html.Div(id=ids.MAP, className="drawing"),
        id=ids.MAP_FRAME,
        className="map-frame",
        tabIndex=0,
        role="group",
        **aria(label="Head map. Arrow keys move between heads.", describedby=ids.MAP_CAPTION),
    )
    return card(
        "Heads",
        frame,
        html.Div(id=ids.MAP_LEGEND, className="legend"),
        note(id=ids.MAP_CAPTION),
        folded("The numbers as a table", id=ids.MAP_TABLE),
        actions=metric,
        kind="map-card",
    )


PAGE = Page(
    path="/",
    name="Explore",
    layout=layout,
    register=register,
    controls=(Control("metric", ids.METRIC), *pattern.CONTROLS),
)
