"""One head's pattern: links, matrix, BertViz' view; `assets/explore.js` draws them from packed numbers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, html

from attnlens.report.mixing_maps import MIXINGS
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control
from dashboards.pages.parts import aria, folded, note
from dashboards.state import BERTVIZ, ViewState

__all__ = ["CONTROLS", "MOST_ALSO", "classic_frame", "followed", "head_card", "linked", "register"]

MOST_ALSO = 15  # heads beside the selected one: a palette of 16
_BETWEEN = {"": "both texts", "AA": "A → A", "AB": "A → B", "BA": "B → A", "BB": "B → B"}


def _level(view: ViewState) -> str:
    return "words" if view.words else "pieces"


def _listed(view: ViewState) -> list[str]:
    return [name for name in view.also.split(",") if name][:MOST_ALSO]


def followed(view: ViewState) -> dict[str, Any] | None:
    """The token that is followed, and whether its position counts words."""
    return _stored(view.query, view)


def linked(view: ViewState) -> dict[str, Any] | None:
    """The key of the selected link, in the same way."""
    return _stored(view.key, view)


def _stored(position: int | None, view: ViewState) -> dict[str, Any] | None:
    return None if position is None else {"position": position, "of": view.words}


CONTROLS = (
    Control("words", ids.WORDS, spelled={"words": "1", "pieces": ""}, shown=_level),
    Control("hide_special", ids.HIDE_SPECIAL, "checked"),
    Control("hide_sinks", ids.HIDE_SINKS, "checked"),
    Control("whole_rows", ids.WHOLE_ROWS, "checked"),
    Control("between", ids.BETWEEN),
    Control("threshold", ids.THRESHOLD),
    Control("top", ids.TOP),
    Control("window", ids.WINDOW, "data"),
    Control("also", ids.ALSO, shown=_listed),
    Control("combine", ids.COMBINE),
    Control("measure", ids.MEASURE),
    Control("query", ids.QUERY, "data", shown=followed),
    Control("key", ids.KEY, "data", shown=linked),
    Control("details", ids.DETAILS, "data"),
    Control("bertviz", ids.BERTVIZ),
    Control("tab", ids.TAB),
)

# What the drawing depends on; the browser finds each value by its id.
_DRAWN_FROM = (
    Input(ids.RUN, "data"),
    Input(ids.HEAD, "value"),
    Input(ids.THEME, "data"),
    *(Input(control.id, control.prop) for control in CONTROLS),
)


def register(app: Dash, desk: Desk) -> None:
    """Connect the drawing, which asks `dashboards.data` for numbers, and the frame of BertViz."""
    browser: Any = app.clientside_callback
    browser(ClientsideFunction("attnlens", "drawHeads"), Output(ids.DRAWN, "data"), *_DRAWN_FROM)
    browser(
        ClientsideFunction("attnlens", "drawCells"),
        Output(ids.DRAWN, "data", allow_duplicate=True),
        Input(ids.CELLS, "data"),
        prevent_initial_call=True,
    )
    browser(ClientsideFunction("attnlens", "sameHeads"), Output(ids.ALSO, "data"), Input(ids.HEAD, "data"))
    browser(
        ClientsideFunction("attnlens", "forgetToken"),
        Output(ids.QUERY, "data", allow_duplicate=True),
        Input(ids.WORDS, "value"),
        State(ids.QUERY, "data"),
        prevent_initial_call=True,
    )

    browser(
        ClientsideFunction("attnlens", "askClassic"),
        Output(ids.CLASSIC_ASKED, "data"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
        Input(ids.BERTVIZ, "value"),
        Input(ids.TAB, "value"),
    )

    @app.callback(Output(ids.CLASSIC, "children"), Input(ids.CLASSIC_ASKED, "data"), prevent_initial_call=True)
    def on_classic(asked: list[Any] | None) -> Any:
        need(asked)
        return classic_frame(*(asked or ()))


def head_card(view: ViewState) -> html.Section:
    """The selected head: its labels, and its pattern in several ways."""
    told: dict[str, Any] = aria(expanded=str(view.details).lower(), controls=ids.DRAWER)
    drawer = html.Button("What is selected", id=ids.DRAWER_BUTTON, type="button", className="small-button", **told)
    head = html.Header([html.H2("", id=ids.HEAD_TITLE, className="head-title"), drawer], className="card-head")
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
            _overview(),
            dmc.TabsPanel(_links(), value="links"),
            dmc.TabsPanel(_matrix(), value="matrix"),
            dmc.TabsPanel(_classic(view), value="classic"),
        ],
        id=ids.TAB,
        value=view.tab,
    )
    return html.Section([head, labels, tabs], className="card head-card", **aria(label="The selected head"))


def classic_frame(run: Run, head: str, theme: str, view: str = "head") -> html.Iframe:
    """BertViz' own view, in a frame that can reach neither this page nor the network."""
    query = urlencode(run["request"] | {"view": view, "head": head, "theme": theme})
    return html.Iframe(
        src=f"classic?{query}",
        sandbox="allow-scripts",
        title=f"BertViz {view} view of {head}",
        className="classic",
        style={"--rows": run["n_tokens"]},
    )


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
    main = html.Div([words, special, threshold], className="controls", role="group", **aria(label="What is drawn"))
    return html.Div([main, html.Details([html.Summary("More ways to look"), _more(view)], className="more")])


def _more(view: ViewState) -> html.Div:
    sinks = dmc.Switch(id=ids.HIDE_SINKS, label="Hide sinks", size="xs", checked=view.hide_sinks)
    whole = dmc.Switch(id=ids.WHOLE_ROWS, label="Divide rows by their sum", size="xs", checked=view.whole_rows)
    top = dmc.NumberInput(
        id=ids.TOP,
        label="Strongest of each token (0: all)",
        value=view.top,
        min=0,
        max=99,
        allowDecimal=False,
        clampBehavior="strict",
        size="xs",
    )
    between = dmc.Select(
        id=ids.BETWEEN,
        label="Of a pair of texts",
        data=[{"value": key, "label": name} for key, name in _BETWEEN.items()],
        value=view.between,
        allowDeselect=False,
        size="xs",
        comboboxProps={"shadow": "md"},
    )
    also = dmc.MultiSelect(
        id=ids.ALSO,
        label="Together with",
        data=_listed(view),
        value=_listed(view),
        maxValues=MOST_ALSO,
        searchable=True,
        clearable=True,
        placeholder="another head",
        size="xs",
        comboboxProps={"shadow": "md"},
        clearButtonProps=aria(label="No other head"),
    )
    combine = dmc.Select(
        id=ids.COMBINE,
        label="Several heads",
        data=[
            {"value": "overlay", "label": "over each other"},
            {"value": "mean", "label": "as their mean"},
            {"value": "max", "label": "the largest weight of each cell"},
        ],
        value=view.combine,
        allowDeselect=False,
        size="xs",
        comboboxProps={"shadow": "md"},
    )
    measure = dmc.Select(
        id=ids.MEASURE,
        label="What is drawn",
        data=[{"value": "", "label": "attention weights"}, *({"value": name, "label": name} for name in MIXINGS)],
        value=view.measure,
        allowDeselect=False,
        size="xs",
        comboboxProps={"shadow": "md"},
    )
    return html.Div(
        [measure, html.Div([sinks, whole], className="switches"), also, combine, top, between],
        className="more-controls",
        role="group",
        **aria(label="More ways to look"),
    )


def _overview() -> html.Div:
    """Of a long text, the whole map in small; the style sheet hides it where there is nothing in it."""
    picture = html.Div(
        id=ids.OVERVIEW,
        className="drawing",
        role="group",
        **aria(label="Overview. Arrow keys move the window that is shown."),
    )
    hint = note("The whole map, each cell its largest weight. Drag or click to choose the part that is shown below.")
    return html.Div([picture, hint], className="overview")


def _classic(view: ViewState) -> html.Div:
    which = dmc.SegmentedControl(
        id=ids.BERTVIZ,
        data=[{"value": name, "label": f"{name.capitalize()} view"} for name in BERTVIZ],
        value=view.bertviz,
        size="xs",
        **aria(label="Which of BertViz' views"),
    )
    return html.Div([html.Div(which, className="bertviz"), html.Div(id=ids.CLASSIC, className="classic-frame")])


def _links() -> html.Div:
    return html.Div(
        [
            html.Div(id=ids.HEAD_LEGEND, className="legend"),
            html.Div(
                id=ids.LINKS,
                className="drawing",
                role="group",
                **aria(label="Token view. Up and down arrow keys follow a token, Escape lets it go."),
            ),
            note(id=ids.LINKS_CAPTION),
        ]
    )


def _matrix() -> html.Div:
    return html.Div(
        [
            html.Div(
                id=ids.MATRIX,
                className="drawing",
                role="group",
                **aria(label="Matrix. Arrow keys move from cell to cell."),
            ),
            note(id=ids.MATRIX_CAPTION),
            folded("The numbers as a table", id=ids.MATRIX_TABLE),
        ]
    )
