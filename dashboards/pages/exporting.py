"""The menu that exports what is shown; the browser keeps its links at the present view."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html

from dashboards import ids

__all__ = ["layout", "register"]

_FILES = {
    "report.html": "This run as a report (HTML)",
    "run.attn": "The run (.attn)",
    "head.csv": "This head's weights (CSV)",
    "head.json": "This head's weights (JSON)",
    "heads.csv": "All heads by the chosen measure (CSV)",
}
_PICTURES = {"svg": "The pictures on this page (SVG)", "png": "The pictures on this page (PNG)"}


def layout() -> html.Div:
    """The menu."""
    files = [
        dmc.MenuItem(text, id={"type": ids.EXPORT, "index": name}, href="#", refresh=True)
        for name, text in _FILES.items()
    ]
    pictures = [dmc.MenuItem(text, id={"type": ids.EXPORT_PICTURES, "index": kind}) for kind, text in _PICTURES.items()]
    button = html.Button("Export", type="button", className="export-button")
    menu = dmc.Menu(
        [dmc.MenuTarget(button), dmc.MenuDropdown([*files, dmc.MenuDivider(), *pictures])],
        id=ids.EXPORT_MENU,
        position="bottom-end",
        shadow="md",
        keepMounted=True,
    )
    return html.Div([menu, dcc.Store(id=ids.EXPORT_DONE)], className="export")


def register(app: Dash) -> None:
    """Connect the menu; pictures are taken in the browser."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "linkExports"),
        Output({"type": ids.EXPORT, "index": ALL}, "href"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.PAGE_VIEW, "data"),
        State({"type": ids.EXPORT, "index": ALL}, "id"),
        State(ids.SITE, "data"),
    )
    browser(
        ClientsideFunction("attnlens", "savePictures"),
        Output(ids.EXPORT_DONE, "data"),
        Input({"type": ids.EXPORT_PICTURES, "index": ALL}, "n_clicks"),
        State(ids.HEAD, "value"),
        prevent_initial_call=True,
    )
