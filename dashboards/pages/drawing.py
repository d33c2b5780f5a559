"""Callbacks of the head map, the evidence and the model card: each asks for one view, and draws it."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, html
from dash.exceptions import PreventUpdate

from attnlens.heads import Head
from attnlens.report import figures, views
from attnlens.report.metrics import METRICS
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.evidence import badges, evidence, model_card
from dashboards.pages.parts import data_table, room_for
from dashboards.state import ViewState

__all__ = ["LABELS", "draw_map", "is_open", "map_table", "metric_options", "need", "register"]

LABELS = "labels"  # the "metric" that colours heads by their probe label

Run = dict[str, Any]


def register(app: Dash, desk: Desk) -> None:
    """Connect the stage."""
    _register_map(app, desk)
    _register_head(app, desk)
    _register_choosing(app)


def _register_map(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.MAP, "figure"),
        Output(ids.MAP_CAPTION, "children"),
        Output(ids.MAP, "style"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
    )
    def on_map(run: Run, metric: str, results: str, head: str, theme: str) -> Any:
        need(run, head, theme)
        figure, caption = draw_map(desk, run, metric, results, head, theme)
        return figure, caption, room_for(figure)

    @app.callback(
        Output(ids.MAP_TABLE, "children"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(f"{ids.MAP_TABLE}-summary", "n_clicks"),
    )
    def on_map_table(run: Run, metric: str, results: str, clicks: int | None) -> Any:
        need(run, is_open(clicks))
        return map_table(desk, run, metric, results)

    @app.callback(Output(ids.METRIC, "data"), Input(ids.RESULTS, "value"))
    def on_results(results: str | None) -> Any:
        return metric_options(bool(results))


def _register_head(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.HEAD_TITLE, "children"),
        Output(ids.HEAD_LABELS, "children"),
        Output(ids.EVIDENCE, "children"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.THEME, "data"),
    )
    def on_head(run: Run, head: str, results_name: str, theme: str) -> Any:
        need(run, head, theme)
        results, _ = desk.results_for(desk.run(run), results_name)
        return head, badges(results, head), evidence(results, head, theme)

    @app.callback(Output(ids.MODEL_CARD, "children"), Input(ids.RUN, "data"))
    def on_model(run: Run) -> Any:
        need(run)
        return model_card(desk.run(run).anatomy)


def _register_choosing(app: Dash) -> None:
    """What needs no server: a click on the map, an arrow key or a button chooses a head."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "chooseHead"),
        Output(ids.HEAD, "value", allow_duplicate=True),
        Input(ids.MAP, "clickData"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("attnlens", "rememberGrid"),
        Output(ids.MAP_FRAME, "title"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
    )


def metric_options(with_labels: bool) -> list[dict[str, Any]]:
    """What the map can be coloured by; labels where a probe result is loaded."""
    metrics = [{"value": key, "label": metric.name} for key, metric in METRICS.items()]
    return [*metrics, {"value": LABELS, "label": "probe label", "disabled": not with_labels}]


def draw_map(desk: Desk, run: Run, metric: str, results_name: str, head: str, theme: str) -> tuple[Any, str]:
    """The head map and its caption."""
    view = _map_view(desk, run, metric, results_name)
    return figures.head_map(view, theme=theme, selected=Head.parse(head)), view.caption


def map_table(desk: Desk, run: Run, metric: str, results_name: str) -> html.Div:
    """The numbers of the head map."""
    return data_table(_map_view(desk, run, metric, results_name).table())


def _map_view(desk: Desk, run: Run, metric: str, results_name: str) -> views.HeadMapView:
    capture = desk.run(run)
    results, _ = desk.results_for(capture, results_name)
    if metric == LABELS and results is not None:
        return views.results_map_view(results)
    return views.head_map_view(capture, metric if metric in METRICS else ViewState.metric, results)


def need(*values: Any) -> None:
    """Draw nothing until everything that the picture depends on is there."""
    if any(value is None or value is False or value == "" for value in values):
        raise PreventUpdate


def is_open(clicks: int | None) -> bool:
    """Whether a folded part that was clicked this often is open."""
    return bool(clicks and clicks % 2)
