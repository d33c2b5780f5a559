"""The first page, `/`: every head of a model on one text, and one head in detail."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, dcc, html

from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import addressing, drawing, pattern, rail, running, stage
from dashboards.pages.parts import aria

__all__ = ["layout", "register"]

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


def layout(desk: Desk) -> dmc.MantineProvider:
    """The whole page."""
    return dmc.MantineProvider(
        [
            *_stores(),
            html.A("Skip to the head map", href=f"#{ids.MAP_FRAME}", className="skip"),
            _header(),
            html.Div([rail.layout(desk), stage.layout()], className="page"),
        ],
        id=ids.PROVIDER,
        theme=_THEME,
        defaultColorScheme="auto",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect everything on the page."""
    addressing.register(app, desk)
    running.register(app, desk)
    drawing.register(app, desk)
    pattern.register(app, desk)


def _stores() -> list[dcc.Store]:
    names = (ids.ADDRESS, ids.ADDRESS_OUT, ids.ADDRESS_SENT, ids.REQUEST, ids.RUN, ids.QUERY, ids.THEME)
    return [dcc.Store(id=name) for name in names]


def _header() -> html.Header:
    toggle = dmc.ColorSchemeToggle(
        lightIcon=html.Span("☀", **aria(hidden="true")),
        darkIcon=html.Span("☾", **aria(hidden="true")),
        variant="subtle",
        color="gray",
        size="lg",
        **aria(label="Switch between light and dark"),
    )
    return html.Header(
        [
            html.Div(
                [
                    html.H1("attnlens", className="wordmark"),
                    html.Span("what does this head do, and how do we know?", className="tagline"),
                ]
            ),
            toggle,
        ],
        className="top",
    )
