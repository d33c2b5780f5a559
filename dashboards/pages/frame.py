"""What stands around every page: title, navigation, the rail, the run that is shown and the selected head."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import addressing, exporting, rail, running
from dashboards.pages.addressing import completed
from dashboards.pages.listing import PAGES, find_page
from dashboards.pages.parts import aria
from dashboards.state import ViewState

__all__ = ["layout", "open_page", "register"]

_THEME = {
    "fontFamily": "var(--al-font)",
    "fontFamilyMonospace": "var(--al-mono)",
    "headings": {"fontFamily": "var(--al-font)"},
    "primaryColor": "orange",
    "primaryShade": {"light": 8, "dark": 4},
    "defaultRadius": "md",
    "focusRing": "auto",
    "cursorType": "pointer",
    "respectReducedMotion": True,
}
_STORES = (ids.ADDRESS, ids.ADDRESS_SENT, ids.REQUEST, ids.RUN, ids.RUN_MODEL, ids.THEME, ids.PAGE_VIEW)


def layout(app: Dash, desk: Desk) -> dmc.MantineProvider:
    """The frame; the page that the address names is put into it by the browser's first question."""
    site = {
        "prefix": app.config.requests_pathname_prefix,
        "defaults": ViewState.defaults(),
        "parents": {page.path: page.under for page in PAGES if page.under},
    }
    return dmc.MantineProvider(
        [
            dcc.Location(id=ids.LOCATION, refresh="callback-nav"),
            dcc.Store(id=ids.SITE, data=site),
            *[dcc.Store(id=name) for name in _STORES],
            html.A("Skip to the page", href=f"#{ids.STAGE}", className="skip"),
            _header(site["prefix"]),
            html.Div([rail.layout(desk, site["prefix"]), _stage()], className="page"),
        ],
        id=ids.PROVIDER,
        theme=_THEME,
        defaultColorScheme="auto",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the frame and every page."""

    @app.callback(
        Output(ids.PAGE, "children"),
        Output(ids.PAGE_VIEW, "data"),
        Input(ids.LOCATION, "pathname"),
        State(ids.LOCATION, "search"),
    )
    def on_path(path: str | None, search: str | None) -> Any:
        return open_page(desk, app.strip_relative_path(path or "/") or "", search or "")

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "stepHead"),
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.PREVIOUS_HEAD, "n_clicks"),
        Input(ids.NEXT_HEAD, "n_clicks"),
        State(ids.HEAD, "value"),
        State(ids.HEAD, "data"),
        prevent_initial_call=True,
    )
    addressing.register(app, desk)
    running.register(app, desk)
    exporting.register(app)
    for page in PAGES:
        page.register(app, desk)


def open_page(desk: Desk, path: str, search: str) -> tuple[Any, dict[str, Any]]:
    """The page at a path (without the server's prefix) in the view of an address' query part.

    Returns:
        The page, and which page it is for the store of the page's view.
    """
    found = find_page(f"/{path.strip('/')}", completed(desk, ViewState.read(search)))
    if found is None:
        return _not_found(), {"path": None, "given": {}}
    page, view = found
    controls = dcc.Store(id=ids.PAGE_CONTROLS, data=page.to_json())
    return [controls, page.layout(desk, view)], {"path": page.path, "given": {}}


def _header(prefix: str) -> html.Header:
    toggle = dmc.ColorSchemeToggle(
        lightIcon=html.Span("☀", **aria(hidden="true")),
        darkIcon=html.Span("☾", **aria(hidden="true")),
        variant="subtle",
        color="gray",
        size="lg",
        **aria(label="Switch between light and dark"),
    )
    brand = html.Div(
        [
            html.H1("attnlens", className="wordmark"),
            html.Span("what does this head do, and how do we know?", className="tagline"),
        ]
    )
    return html.Header([brand, _navigation(prefix), toggle], className="top")


def _navigation(prefix: str) -> html.Nav:
    links = [
        dcc.Link(
            page.name,
            id={"type": ids.NAVIGATION, "index": page.path},
            href=prefix + page.path[1:],
            className="nav-link",
        )
        for page in PAGES
        if page.name
    ]
    return html.Nav(links, className="nav", **aria(label="Pages"))


def _stage() -> html.Main:
    notice = dmc.Alert(
        id=ids.NOTICE,
        title="That did not work",
        color="orange",
        variant="light",
        hide=True,
        withCloseButton=True,
        closeButtonLabel="Dismiss",
    )
    return html.Main(
        [
            html.Div(notice, role="alert", className="notice"),
            html.Div(_stage_head(), className="stage-head"),
            _empty(),
            html.Div(id=ids.PAGE, className="page-body"),
        ],
        id=ids.STAGE,
        className="stage is-empty",
        tabIndex=-1,
    )


def _stage_head() -> list[Any]:
    working = html.Div(
        [_dots(), html.Span("Running the text …")],
        id=ids.STATUS,
        className="status",
        role="status",
    )
    return [
        html.Div(id=ids.SUMMARY, className="summary", role="status"),
        working,
        html.Div([_head_picker(), exporting.layout()], className="stage-tools"),
    ]


def _head_picker() -> html.Div:
    select = dmc.Select(
        id=ids.HEAD,
        data=[],
        searchable=True,
        allowDeselect=False,
        size="xs",
        w=170,
        comboboxProps={"shadow": "md"},
        **aria(label="Head"),
    )
    earlier = html.Button("‹", id=ids.PREVIOUS_HEAD, className="step", type="button", **aria(label="Previous head"))
    later = html.Button("›", id=ids.NEXT_HEAD, className="step", type="button", **aria(label="Next head"))
    page = html.A("Details", id=ids.HEAD_PAGE, className="is-hidden", title="Everything about this head, on one page")
    group = [earlier, select, later, page]
    return html.Div(group, className="head-picker", role="group", **aria(label="The selected head"))


def _empty() -> html.Div:
    hint = "Pick a model, type a sentence and press Run: every head of every layer appears here as one map."
    idle = html.Div([html.P("Nothing is shown yet.", className="empty-title"), html.P(hint)], className="empty-idle")
    busy = html.Div([_dots(), html.Span("Opening the model and running the text …")], className="empty-busy")
    return html.Div([idle, busy], className="empty")


def _not_found() -> html.Section:
    return html.Section(
        [html.P("There is no such page.", className="empty-title"), html.P("The links above lead to those there are.")],
        className="card",
    )


def _dots() -> dmc.Loader:
    return dmc.Loader(size="xs", type="dots", color="var(--al-accent)")
