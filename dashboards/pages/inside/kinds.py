"""The page `/inside/kinds`: what heads learn, each kind with a real head, its sentence and its test."""

from __future__ import annotations

import base64
from typing import Any

from dash import Dash, Input, Output, html

from attnlens.errors import AttnlensError
from attnlens.report import figures, views
from attnlens.report.arc_figure import arcs_svg
from attnlens.report.tables import number
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import need
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Page
from dashboards.pages.parts import card, data_table, folded, note, picture, refusal, with_loading
from dashboards.request import RunRequest
from dashboards.state import ViewState
from probes.kinds.found import KINDS, FoundHead, Kind, read_kinds
from probes.kinds.view import arc_of, category, figures_of, heads_table, short_model

__all__ = ["PAGE", "draw", "head_address", "layout", "register"]

_INTRO = (
    "Nobody tells a head what to do, yet in many models heads turn up that do nameable things. Each kind below has a "
    "head of a model that comes with attnlens, found by a probe on its embedded corpus and scored on the half that did "
    "not choose it, beside the best rule that needs no model. A label says that attention is consistent with a task, "
    "not that the model uses it; Intervene puts that to the test."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """One card per kind."""
    return framed(
        card("What heads learn", note(_INTRO)), with_loading(html.Div(id=ids.KINDS_FOUND, className="inside-cards"))
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""

    @app.callback(Output(ids.KINDS_FOUND, "children"), Input(ids.THEME, "data"))
    def on_theme(theme: str) -> Any:
        need(theme)
        return draw(desk, theme)


def draw(desk: Desk, theme: str) -> list[Any]:
    """The cards of all kinds."""
    return [_card(desk, kind, read_kinds().of(kind.name), theme) for kind in KINDS]


def _card(desk: Desk, kind: Kind, heads: tuple[FoundHead, ...], theme: str) -> html.Section:
    if not heads:
        return card(kind.title, note(kind.meaning), note("No head of the embedded models was measured for it."))
    shown = heads[0]
    return card(
        kind.title,
        html.P(kind.meaning, className="kind-meaning"),
        html.Div([_link(shown), note(figures_of(shown))], className="kind-head"),
        *_picture(desk, shown, theme),
        html.P(["Test it: ", html.Code(shown.command)], className="kind-test"),
        folded("In the other embedded models", _others(heads), data_table(heads_table(heads))),
    )


def _link(found: FoundHead) -> html.A:
    return html.A(f"{short_model(found.model)} {found.head}", href=head_address(found), className="head-link")


def _others(heads: tuple[FoundHead, ...]) -> html.P:
    return html.P(
        [part for head in heads for part in (_link(head), f" {number(head.score)}  ")], className="kind-others"
    )


def head_address(found: FoundHead) -> str:
    """Of the page of this head on its sentence, as seen from this page: right below any prefix."""
    view = ViewState(model=found.model, text=found.sentence)
    return f"../head/{found.head}{view.query_string()}"


def _picture(desk: Desk, found: FoundHead, theme: str) -> list[Any]:
    """The example of the probe under an arc; where it keeps none, the head's map on a sentence, made now."""
    if (sentence := arc_of(found)) is not None:
        svg = base64.b64encode(arcs_svg(sentence, category(found), theme=theme).encode()).decode()
        image = html.Img(src=f"data:image/svg+xml;base64,{svg}", alt=sentence.caption)
        return [html.Div(image, className="kind-arcs", tabIndex=0), note(sentence.caption)]
    if not found.sentence:
        return []
    try:
        capture = desk.runs.open(RunRequest(found.model, found.sentence))
        view = views.pattern_view(capture, found.head)
    except AttnlensError as error:
        return [refusal(error)]
    drawn = picture(figures.pattern_heatmap(view, theme=theme), view.caption)
    return [html.Div(drawn, className="wide-frame", tabIndex=0), note(view.caption)]


PAGE = Page(path=f"{HOME}/kinds", name="", under=HOME, layout=layout, register=register)
