"""The page `/inside`: the opened model as a drawing, and what its tokens can see."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from attnlens.report.inside.architecture_view import ArchitectureView, Kind, Sight, architecture_view
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_model", "layout", "register"]

_MAX_TABLE = 128
_HINT = (
    "The text goes in on top, and one vector per token runs down through the layers. Click a box to take it apart: a "
    "head, a block, the mask, the positions. Shapes are those of this text."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The drawing, what tokens see beside it, and the three architectures below."""
    diagram = html.Div(id=ids.MODEL_DIAGRAM, className="diagram-frame")
    return framed(
        dcc.Store(id=ids.SIGHT_AT, data=view.at),
        dcc.Store(id=ids.MODEL_DRAWINGS),
        dcc.Store(id=ids.MODEL_DRAWN),
        html.Div(
            [
                card(
                    "The opened model",
                    html.Div(id=ids.MODEL_SUMMARY, className="block-summary"),
                    note(_HINT),
                    diagram,
                    html.Div(id=ids.MODEL_SHAPES),
                    kind="architecture-card",
                ),
                card("What each token can see", with_loading(html.Div(id=ids.SIGHTS, className="sights"))),
            ],
            className="architecture-page",
        ),
        html.Section(
            [
                html.H2("Three architectures", className="card-title"),
                note("Queries down, keys across; a filled cell can be seen. The opened model's is marked."),
                html.Div(id=ids.KINDS, className="kinds"),
            ],
            className="card",
            **aria(label="Three architectures"),
        ),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page. Choosing a token happens in the browser (`assets/inside_model.js`)."""

    @app.callback(
        Output(ids.MODEL_SUMMARY, "children"),
        Output(ids.MODEL_SHAPES, "children"),
        Output(ids.SIGHTS, "children"),
        Output(ids.KINDS, "children"),
        Output(ids.MODEL_DRAWINGS, "data"),
        Input(ids.RUN, "data"),
    )
    def on_run(run: Run) -> Any:
        need(run)
        return draw_model(desk, run)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("inside_diagram", "drawAll"),
        Output(ids.MODEL_DRAWN, "data"),
        Input(ids.MODEL_DRAWINGS, "data"),
        Input(ids.KINDS, "children"),
    )
    browser(
        ClientsideFunction("inside_model", "markSight"),
        Output(ids.SIGHTS, "title"),
        Input(ids.SIGHT_AT, "data"),
        Input(ids.SIGHTS, "children"),
    )


def draw_model(desk: Desk, run: Run) -> tuple[list[Any], list[Any], list[Any], list[Any], dict[str, Any]]:
    """The line above the drawing, the shapes, the sights, the three architectures, and the drawings as data by id."""
    view = architecture_view(desk.run(run, points=True))  # which tells an encoder's width, and whether it predicts
    drawings = {ids.MODEL_DIAGRAM: view.diagram} | {_kind_id(kind): kind.masks for kind in view.kinds}
    summary = html.P([html.Strong(view.title), html.Span(view.sentence)])
    return (
        [summary],
        [folded("Shapes as a table", data_table(view.shapes))],
        [_sight(sight) for sight in view.sights],
        [_kind(kind, view) for kind in view.kinds],
        {name: drawing.to_json() for name, drawing in drawings.items()},
    )


def _sight(sight: Sight) -> html.Div:
    """Tokens that look, tokens that can be seen, and the same as a table."""
    cross = sight.letter == "X"
    looking = [_chip(label, place, "looks") for place, label in enumerate(sight.rows)]
    rows: list[Any] = [html.Div(looking, className="token-chips", role="group", **aria(label="Token that looks"))]
    if cross:
        seen = [_chip(label, place, "is-seen") for place, label in enumerate(sight.columns)]
        rows += [
            html.P("can see, of the source:", className="note"),
            html.Div(seen, className="token-chips", role="group", **aria(label="Tokens of the source")),
        ]
    more: dict[str, Any] = {"data-stack": sight.letter, "data-seen": _written(sight)}
    table = data_table(sight.table()) if len(sight.rows) <= _MAX_TABLE else note("Too many rows for a page.")
    return html.Div(
        [
            html.H3(sight.title, className="part-title"),
            html.P(sight.sentence, className="sentence"),
            *rows,
            html.P(className="sight-words note", role="status"),
            folded("As a table", table),
        ],
        className="sight",
        **more,
    )


def _written(sight: Sight) -> str:
    """Ranges per row: `0-3,5-6;0-4`; the browser reads them."""
    return ";".join(",".join(f"{start}-{stop}" for start, stop in row) for row in sight.seen)


def _chip(label: str, place: int, kind: str) -> Any:
    data: dict[str, Any] = {"data-at": str(place)}
    if kind == "looks":
        return html.Button(label, type="button", className="token-chip looks", **data)
    return html.Span(label, className="token-chip seen-only", **data)


def _kind_id(kind: Kind) -> str:
    return f"{ids.KINDS}-{kind.name.lower()}"


def _kind(kind: Kind, view: ArchitectureView) -> html.Div:
    title: list[Any] = [kind.name]
    if kind.opened:
        title.append(html.Span("opened", className="badge is-plain"))
    return html.Div(
        [
            html.H3(title, className="kind-title"),
            html.Div(id=_kind_id(kind), className="diagram-frame"),
            html.P(kind.sentence, className="sentence"),
            note(f"Such as {kind.models}."),
        ],
        className="kind is-opened" if kind.opened else "kind",
    )


PAGE = Page(
    path=HOME,
    name="Inside",
    layout=layout,
    register=register,
    controls=(Control("at", ids.SIGHT_AT, "data"),),
)
