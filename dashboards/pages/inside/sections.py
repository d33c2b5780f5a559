"""The sections of `/inside`, and what stands around each of them."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from dashboards import ids
from dashboards.pages.parts import aria

__all__ = ["HOME", "SECTIONS", "framed"]

HOME = "/inside"
# Address and name, in the order in which a first reader goes through them.
SECTIONS: tuple[tuple[str, str], ...] = (
    (HOME, "The model"),
    (f"{HOME}/head", "One head"),
    (f"{HOME}/heads", "All heads"),
    (f"{HOME}/positions", "Positions"),
    (f"{HOME}/masks", "Masks"),
    (f"{HOME}/block", "The block"),
    (f"{HOME}/generation", "Generation"),
    (f"{HOME}/size", "Size and cost"),
    (f"{HOME}/kinds", "What heads learn"),
)


def framed(*children: Any) -> html.Div:
    """A section's content under the links to all sections; the browser gives those their addresses."""
    links = [
        dcc.Link(name, id={"type": ids.SECTION, "index": path}, href="", className="nav-link")
        for path, name in SECTIONS
    ]
    return html.Div(
        [html.Nav(links, className="nav sections", **aria(label="Sections")), *children], className="inside-page"
    )
