"""The page `/inside`: the opened model as a whole."""

from __future__ import annotations

from dash import Dash, html

from dashboards.desk import Desk
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Page
from dashboards.pages.parts import card, note
from dashboards.state import ViewState

__all__ = ["PAGE", "layout"]


def layout(desk: Desk, view: ViewState) -> html.Div:
    """What the sections are about."""
    return framed(card("Inside the model", note("Each section above takes the sentence at the left one step apart.")))


def register(app: Dash, desk: Desk) -> None:
    """Nothing is to be connected."""


PAGE = Page(path=HOME, name="Inside", layout=layout, register=register)
