"""Callbacks of one head's pattern: links, matrix, BertViz' view, strongest links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dash import ClientsideFunction, Dash, Input, Output, State, html, no_update

from attnlens.report import figures, views
from attnlens.report.tables import Table
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, is_open, need
from dashboards.pages.parts import data_table, room_for

__all__ = ["Selection", "classic_frame", "draw", "matrix_table", "register", "strongest_links"]

N_STRONGEST = 12
MAX_TABLE = 64  # rows and columns of the largest matrix that is written out as a table

_SELECTION = (
    Input(ids.RUN, "data"),
    Input(ids.HEAD, "value"),
    Input(ids.WORDS, "value"),
    Input(ids.HIDE_SPECIAL, "checked"),
)


@dataclass(frozen=True)
class Selection:
    """What the controls of the pattern say."""

    run: Run
    head: str
    words: bool
    hide_special: bool

    def view(self, desk: Desk) -> views.PatternView:
        """The pattern that they ask for."""
        run = desk.run(self.run)
        return views.pattern_view(run, self.head, words=self.words, hide_special=self.hide_special)


def register(app: Dash, desk: Desk) -> None:
    """Connect the tabs and the table of strongest links."""

    @app.callback(
        Output(ids.LINKS, "figure"),
        Output(ids.LINKS_CAPTION, "children"),
        Output(ids.MATRIX, "figure"),
        Output(ids.MATRIX_CAPTION, "children"),
        Output(ids.MATRIX_TABLE, "children"),
        Output(ids.CLASSIC, "children"),
        Output(ids.LINKS, "style"),
        Output(ids.MATRIX, "style"),
        *_SELECTION,
        Input(ids.THRESHOLD, "value"),
        Input(ids.QUERY, "data"),
        Input(ids.THEME, "data"),
        Input(ids.TAB, "value"),
        Input(f"{ids.MATRIX_TABLE}-summary", "n_clicks"),
    )
    def on_pattern(
        run: Run, head: str, words: str, hide: bool, threshold: float, query: Any, theme: str, tab: str, clicks: int
    ) -> Any:
        need(run, head, theme)
        selection = Selection(run, head, words == "words", bool(hide))
        return draw(desk, selection, tab, theme, threshold, query, with_table=is_open(clicks))

    @app.callback(Output(ids.STRONGEST, "children"), *_SELECTION)
    def on_strongest(run: Run, head: str, words: str, hide: bool) -> Any:
        need(run, head)
        return strongest_links(Selection(run, head, words == "words", bool(hide)).view(desk))

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "followToken"),
        Output(ids.QUERY, "data", allow_duplicate=True),
        Input(ids.LINKS, "clickData"),
        State(ids.QUERY, "data"),
        State(ids.WORDS, "value"),
        State(ids.HIDE_SPECIAL, "checked"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("attnlens", "forgetToken"),
        Output(ids.QUERY, "data", allow_duplicate=True),
        Input(ids.WORDS, "value"),
        Input(ids.HIDE_SPECIAL, "checked"),
        State(ids.QUERY, "data"),
        prevent_initial_call=True,
    )


def draw(
    desk: Desk, selection: Selection, tab: str, theme: str, threshold: float, query: Any, *, with_table: bool = False
) -> tuple[Any, ...]:
    """The figure of the open tab; the others stay as they are until they are opened.

    Returns:
        The links and their caption, the matrix, its caption and its table, the frame of BertViz, and the styles that
        give links and matrix their room.
    """
    if tab == "classic":
        return *[no_update] * 5, classic_frame(selection, theme), no_update, no_update
    view = selection.view(desk)
    if tab == "matrix":
        table = matrix_table(view) if with_table else no_update
        matrix = figures.pattern_heatmap(view, theme=theme)
        return no_update, no_update, matrix, view.caption, table, no_update, no_update, room_for(matrix)
    position = _followed(selection, query, len(view.row_labels))
    links = figures.token_links(view, theme=theme, threshold=float(threshold), query=position)
    return links, view.caption, *[no_update] * 4, room_for(links), no_update


def matrix_table(view: views.PatternView) -> Any:
    """The numbers of the matrix, where a page can hold them."""
    if len(view.row_labels) > MAX_TABLE:
        return html.P(f"{len(view.row_labels)} rows are too many for a page; attnlens capture writes them to a file.")
    return data_table(view.table())


def strongest_links(view: views.PatternView) -> html.Div:
    """The largest weights of a head as a table."""
    rows = tuple((link.source, link.target, link.weight) for link in views.strongest(view, N_STRONGEST))
    return data_table(Table("The strongest links of this head.", ("from", "to", "weight"), rows))


def classic_frame(selection: Selection, theme: str) -> html.Iframe:
    """BertViz' own view, in a frame that can reach neither this page nor the network."""
    run = selection.run
    query = urlencode({"model": run["model"], "text": run["text"], "head": selection.head, "theme": theme})
    return html.Iframe(
        src=f"classic?{query}",
        sandbox="allow-scripts",
        title=f"BertViz head view of {selection.head}",
        className="classic",
        style={"--rows": run["n_tokens"]},
    )


def _followed(selection: Selection, query: Any, n_rows: int) -> int | None:
    """The row that a click chose, if it was chosen on rows like these."""
    if not query or query["of"] != [selection.words, selection.hide_special]:
        return None
    position: int = query["position"]
    return position if position < n_rows else None
