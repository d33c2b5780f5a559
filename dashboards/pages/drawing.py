"""Callbacks of the stage: each reads its inputs, asks for one view, and draws it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from dash import ClientsideFunction, Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from attnlens.heads import Head
from attnlens.report import figures, views
from attnlens.report.metrics import METRICS
from attnlens.report.tables import Table
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.evidence import badges, evidence, model_card
from dashboards.pages.parts import data_table
from dashboards.pages.stage import LABELS, metric_options
from dashboards.state import ViewState

__all__ = [
    "classic_frame",
    "draw_links",
    "draw_map",
    "draw_matrix",
    "map_table",
    "matrix_table",
    "register",
    "strongest_links",
]

Run = dict[str, Any]
N_STRONGEST = 12
MAX_TABLE = 64  # rows and columns of the largest matrix that is written out as a table

_SHOWN = (Input(ids.RUN, "data"), Input(ids.HEAD, "value"))
_LEVEL = (Input(ids.WORDS, "value"), Input(ids.HIDE_SPECIAL, "checked"))


def register(app: Dash, desk: Desk) -> None:
    """Connect the stage."""
    _register_map(app, desk)
    _register_pattern(app, desk)
    _register_head(app, desk)
    _register_clicks(app)


def _register_map(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.MAP, "figure"),
        Output(ids.MAP_CAPTION, "children"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def on_map(run: Run, metric: str, results: str, head: str, theme: str) -> Any:
        _need(run, head, theme)
        return draw_map(desk, run, metric, results, head, theme)

    @app.callback(
        Output(ids.MAP_TABLE, "children"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(f"{ids.MAP_TABLE}-summary", "n_clicks"),
        prevent_initial_call=True,
    )
    def on_map_table(run: Run, metric: str, results: str, clicks: int | None) -> Any:
        _need(run, _is_open(clicks))
        return map_table(desk, run, metric, results)

    @app.callback(Output(ids.METRIC, "data"), Input(ids.RESULTS, "value"))
    def on_results(results: str | None) -> Any:
        return metric_options(bool(results))


def _register_pattern(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.LINKS, "figure"),
        Output(ids.LINKS_CAPTION, "children"),
        *_SHOWN,
        *_LEVEL,
        Input(ids.THRESHOLD, "value"),
        Input(ids.QUERY, "data"),
        Input(ids.THEME, "data"),
        Input(ids.TAB, "value"),
        prevent_initial_call=True,
    )
    def on_links(
        run: Run, head: str, words: str, hide: bool, threshold: float, query: Any, theme: str, tab: str
    ) -> Any:
        _need(run, head, theme, tab == "links")
        return draw_links(desk, run, head, words, hide, threshold, query, theme)

    @app.callback(
        Output(ids.MATRIX, "figure"),
        Output(ids.MATRIX_CAPTION, "children"),
        *_SHOWN,
        *_LEVEL,
        Input(ids.THEME, "data"),
        Input(ids.TAB, "value"),
        prevent_initial_call=True,
    )
    def on_matrix(run: Run, head: str, words: str, hide: bool, theme: str, tab: str) -> Any:
        _need(run, head, theme, tab == "matrix")
        return draw_matrix(desk, run, head, words, hide, theme)

    @app.callback(
        Output(ids.MATRIX_TABLE, "children"),
        *_SHOWN,
        *_LEVEL,
        Input(f"{ids.MATRIX_TABLE}-summary", "n_clicks"),
        prevent_initial_call=True,
    )
    def on_matrix_table(run: Run, head: str, words: str, hide: bool, clicks: int | None) -> Any:
        _need(run, head, _is_open(clicks))
        return matrix_table(desk, run, head, words, hide)

    @app.callback(
        Output(ids.CLASSIC, "children"),
        *_SHOWN,
        Input(ids.TAB, "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def on_classic(run: Run, head: str, tab: str, theme: str) -> Any:
        _need(run, head, theme, tab == "classic")
        return classic_frame(run, head, theme)

    @app.callback(Output(ids.STRONGEST, "children"), *_SHOWN, *_LEVEL, prevent_initial_call=True)
    def on_strongest(run: Run, head: str, words: str, hide: bool) -> Any:
        _need(run, head)
        return strongest_links(desk, run, head, words, hide)


def _register_head(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.HEAD_TITLE, "children"),
        Output(ids.HEAD_LABELS, "children"),
        Output(ids.EVIDENCE, "children"),
        *_SHOWN,
        Input(ids.RESULTS, "value"),
        Input(ids.THEME, "data"),
        prevent_initial_call=True,
    )
    def on_head(run: Run, head: str, results_name: str, theme: str) -> Any:
        _need(run, head, theme)
        results, _ = desk.results_for(desk.run(run), results_name)
        return head, badges(results, head), evidence(results, head, theme)

    @app.callback(Output(ids.MODEL_CARD, "children"), Input(ids.RUN, "data"), prevent_initial_call=True)
    def on_model(run: Run) -> Any:
        _need(run)
        return model_card(desk.run(run).anatomy)


def _register_clicks(app: Dash) -> None:
    """What needs no server: a click on the map chooses a head, one on a token follows it alone."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "chooseHead"),
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.MAP, "clickData"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("attnlens", "stepHead"),
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.PREVIOUS_HEAD, "n_clicks"),
        Input(ids.NEXT_HEAD, "n_clicks"),
        State(ids.HEAD, "value"),
        State(ids.HEAD, "data"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("attnlens", "rememberGrid"),
        Output(ids.MAP_FRAME, "title"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("attnlens", "followToken"),
        Output(ids.QUERY, "data", allow_duplicate=True),
        Input(ids.LINKS, "clickData"),
        State(ids.QUERY, "data"),
        State(ids.WORDS, "value"),
        State(ids.HIDE_SPECIAL, "checked"),
        prevent_initial_call=True,
    )


def draw_map(desk: Desk, run: Run, metric: str, results_name: str, head: str, theme: str) -> tuple[Any, str]:
    """The head map and its caption."""
    view = _map_view(desk, run, metric, results_name)
    return figures.head_map(view, theme=theme, selected=Head.parse(head)), view.caption


def map_table(desk: Desk, run: Run, metric: str, results_name: str) -> html.Div:
    """The numbers of the head map."""
    return data_table(_map_view(desk, run, metric, results_name).table())


def draw_links(
    desk: Desk, run: Run, head: str, words: str, hide: bool, threshold: float, query: Any, theme: str
) -> tuple[Any, str]:
    """The token-to-token view and its caption; `query` holds for the rows that it was chosen on."""
    view = views.pattern_view(desk.run(run), head, words=words == "words", hide_special=hide)
    position = query["position"] if query and query["of"] == [words == "words", hide] else None
    position = position if position is not None and position < len(view.row_labels) else None
    return figures.token_links(view, theme=theme, threshold=threshold, query=position), view.caption


def draw_matrix(desk: Desk, run: Run, head: str, words: str, hide: bool, theme: str) -> tuple[Any, str]:
    """The matrix of one head and its caption."""
    view = views.pattern_view(desk.run(run), head, words=words == "words", hide_special=hide)
    return figures.pattern_heatmap(view, theme=theme), view.caption


def matrix_table(desk: Desk, run: Run, head: str, words: str, hide: bool) -> Any:
    """The numbers of the matrix, where a page can hold them."""
    view = views.pattern_view(desk.run(run), head, words=words == "words", hide_special=hide)
    if len(view.row_labels) > MAX_TABLE:
        return html.P(
            f"{len(view.row_labels)} rows are too many for a page; attnlens show and attnlens capture write them."
        )
    return data_table(view.table())


def strongest_links(desk: Desk, run: Run, head: str, words: str, hide: bool) -> html.Div:
    """The largest weights of a head as a table."""
    view = views.pattern_view(desk.run(run), head, words=words == "words", hide_special=hide)
    links = views.strongest(view, N_STRONGEST)
    rows = tuple((link.source, link.target, link.weight) for link in links)
    return data_table(Table(view.caption, ("from", "to", "weight"), rows))


def classic_frame(run: Run, head: str, theme: str) -> html.Iframe:
    """BertViz' own view, in a frame that can reach neither this page nor the network."""
    query = urlencode({"model": run["model"], "text": run["text"], "head": head, "theme": theme})
    return html.Iframe(
        src=f"classic?{query}", sandbox="allow-scripts", title=f"BertViz head view of {head}", className="classic"
    )


def _map_view(desk: Desk, run: Run, metric: str, results_name: str) -> views.HeadMapView:
    capture = desk.run(run)
    results, _ = desk.results_for(capture, results_name)
    if metric == LABELS and results is not None:
        return views.results_map_view(results)
    return views.head_map_view(capture, metric if metric in METRICS else ViewState.metric, results)


def _need(*values: Any) -> None:
    """Draw nothing until everything that the picture depends on is there."""
    if any(value is None or value is False or value == "" for value in values):
        raise PreventUpdate


def _is_open(clicks: int | None) -> bool:
    return bool(clicks and clicks % 2)
