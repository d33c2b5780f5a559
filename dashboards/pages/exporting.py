"""The menu that exports what is shown; the browser keeps its links at the present view."""

from __future__ import annotations

from typing import Any

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


def layout() -> html.Details:
    """The menu: links to files, and buttons for pictures."""
    files = [
        html.A(text, id={"type": ids.EXPORT, "index": name}, href="#", download=f"attnlens-{name}")
        for name, text in _FILES.items()
    ]
    pictures = [
        html.Button(text, id={"type": ids.EXPORT_PICTURES, "index": kind}, type="button")
        for kind, text in _PICTURES.items()
    ]
    items = html.Div([*files, html.Hr(), *pictures, dcc.Store(id=ids.EXPORT_DONE)], className="menu-items")
    return html.Details([html.Summary("Export"), items], className="menu")


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
