"""Small pieces of layout that several parts of a page use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import dcc, html

from attnlens.capture.tokens import printable
from attnlens.report import figures
from attnlens.report.tables import number

if TYPE_CHECKING:
    from attnlens.report.tables import Table

__all__ = [
    "GRAPH_CONFIG",
    "aria",
    "card",
    "data_table",
    "field_label",
    "folded",
    "graph",
    "note",
    "part_place",
    "picture",
    "refusal",
    "room_for",
    "with_loading",
]

GRAPH_CONFIG: Any = dict(figures.CONFIG)


def aria(**values: str) -> dict[str, Any]:
    """`aria-` attributes, which are no names that Python can spell: `**aria(label="Heads")`."""
    return {f"aria-{name}": value for name, value in values.items()}


def named(id: str | None) -> dict[str, Any]:
    """`id=...` where there is one: Dash takes None for a value."""
    return {} if id is None else {"id": id}


def card(title: str, *children: Any, id: str | None = None, kind: str = "", actions: Any = None) -> html.Section:
    """A titled panel."""
    head = html.Header([html.H2(title, className="card-title"), actions], className="card-head")
    return html.Section([head, *children], className=f"card {kind}".strip(), **aria(label=title), **named(id))


def graph(id: str, label: str) -> html.Div:
    """A figure with the project's settings, named for screen readers."""
    picture = dcc.Graph(id=id, config=GRAPH_CONFIG, className="figure")
    return html.Div(picture, role="figure", **aria(label=label))


def picture(figure: Any, label: str, *, id: str | None = None, kind: str = "") -> html.Div:
    """A drawn figure in its room, named for screen readers."""
    drawn = dcc.Graph(figure=figure, config=GRAPH_CONFIG, style=room_for(figure), className="figure", **named(id))
    return html.Div(drawn, role="figure", className=f"picture {kind}".strip(), **aria(label=label))


def refusal(error: Exception | str) -> html.Div:
    """Why a part of the page shows nothing, in its place."""
    text = printable(str(error)).strip()
    first = text.split(" ", 1)[0]
    sentence = (text[:1].upper() + text[1:] if first.isalpha() else text) + ("" if text.endswith(".") else ".")
    return html.Div(html.P(sentence, className="refusal"), className="refusal-frame", role="note")


def room_for(figure: Any) -> dict[str, str]:
    """The style of a graph as tall as its figure: plotly alone sometimes leaves the place lower than what it draws."""
    return {"height": f"{figure.layout.height}px"}


def with_loading(child: Any) -> dcc.Loading:
    """`child`, dimmed while it is being made, if that takes longer than one notices."""
    return dcc.Loading(
        child,
        delay_show=400,
        overlay_style={"visibility": "visible", "opacity": 0.45},
        custom_spinner=dmc.Loader(type="dots", color="var(--al-accent)"),
    )


def part_place(id: str) -> dcc.Loading:
    """Where a callback puts a part of the page, dimmed while it is made anew."""
    return with_loading(html.Div(id=id, className="part"))


def note(text: str = "", *, id: str | None = None) -> html.P:
    """One sentence under a figure or a field."""
    return html.P(text, className="note", **named(id))


def field_label(text: str, target: str) -> html.Label:
    """The label of a field that brings none of its own."""
    return html.Label(text, htmlFor=target, className="field-label")


def folded(summary: str, *children: Any, id: str | None = None) -> html.Details:
    """Children that show when asked for; with an `id`, `{id}-summary` counts the clicks that open and close it."""
    content = html.Div(list(children), className="folded", **named(id))
    return html.Details([html.Summary(summary, **named(id and f"{id}-summary")), content])


def data_table(table: Table) -> html.Div:
    """A view's table, its first column naming the row; the view's caption stands beside it already."""
    kinds = [_kind(value) for value in table.rows[0]] if table.rows else [""] * len(table.columns)
    names = [html.Th(name, scope="col", className=kind) for name, kind in zip(table.columns, kinds, strict=True)]
    head = html.Thead(html.Tr(names))
    body = html.Tbody([_row(row) for row in table.rows])
    return html.Div(
        html.Table([head, body], className="data"),
        className="table-frame",
        tabIndex=0,
        role="region",
        **aria(label=table.caption),
    )


def _row(row: Sequence[Any]) -> html.Tr:
    first, *rest = row
    return html.Tr(
        [html.Th(_cell(first), scope="row"), *(html.Td(_cell(value), className=_kind(value)) for value in rest)]
    )


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) else ""


def _cell(value: Any) -> str:
    """A value as a reader wants it; what was not measured is a dash."""
    return number(value, 4) if value is None or isinstance(value, float) else str(value)
