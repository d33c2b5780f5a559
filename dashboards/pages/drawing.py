"""Callbacks of the head map, the evidence and the model card: each asks for one view, and draws it."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from attnlens.report import views
from attnlens.report.head_cells import head_cells, head_labels
from attnlens.report.maps import tokens_of
from attnlens.report.metrics import METRICS
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.evidence import badges, evidence, model_card
from dashboards.pages.parts import data_table
from dashboards.state import ViewState

__all__ = ["LABELS", "cells_of", "head_evidence", "is_open", "map_table", "metric_options", "need", "register"]

LABELS = "labels"  # the "metric" that colours heads by their probe label

Run = dict[str, Any]


def register(app: Dash, desk: Desk) -> None:
    """Connect the stage."""
    _register_map(app, desk)
    _register_head(app, desk)
    _register_choosing(app)


def _register_map(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.CELLS, "data"),
        Output(ids.MAP_CAPTION, "children"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.STACK, "data"),
    )
    def on_cells(run: Run, metric: str, results: str, stack: str | None) -> Any:
        need(run, stack is not None)
        return cells_of(desk, run, metric, results, stack or "")

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "askTable"),
        Output(ids.MAP_TABLE_ASKED, "data"),
        Input(f"{ids.MAP_TABLE}-summary", "n_clicks"),
        Input(ids.RUN, "data"),
        Input(ids.METRIC, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.STACK, "data"),
    )

    @app.callback(Output(ids.MAP_TABLE, "children"), Input(ids.MAP_TABLE_ASKED, "data"), prevent_initial_call=True)
    def on_map_table(asked: list[Any] | None) -> Any:
        need(asked)
        return map_table(desk, *(asked or ()))

    @app.callback(Output(ids.METRIC, "data"), Input(ids.RESULTS, "value"))
    def on_results(results: str | None) -> Any:
        return metric_options(bool(results))


def _register_head(app: Dash, desk: Desk) -> None:
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "askEvidence"),
        Output(ids.HEAD_TITLE, "children"),
        Output(ids.EVIDENCE_ASKED, "data"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.RESULTS, "value"),
        Input(ids.THEME, "data"),
        State(ids.EVIDENCE_ASKED, "data"),
    )

    @app.callback(
        Output(ids.HEAD_LABELS, "children"),
        Output(ids.EVIDENCE, "children"),
        Input(ids.EVIDENCE_ASKED, "data"),
        prevent_initial_call=True,
    )
    def on_head(asked: dict[str, Any] | None) -> Any:
        need(asked)
        return head_evidence(desk, **(asked or {}))

    @app.callback(Output(ids.MODEL_CARD, "children"), Input(ids.RUN_MODEL, "data"), State(ids.RUN, "data"))
    def on_model(_model: Any, run: Run) -> Any:
        need(run)
        return model_card(desk.run(run).anatomy)


def _register_choosing(app: Dash) -> None:
    """What needs no server: an arrow key or a button chooses a head, and a head its stack."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlens", "rememberGrid"),
        Output(ids.MAP_FRAME, "title"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.CELLS, "data"),
    )
    browser(
        ClientsideFunction("attnlens", "stackOf"),
        Output(ids.STACK, "data"),
        Input(ids.HEAD, "value"),
        State(ids.STACK, "data"),
    )


def metric_options(with_labels: bool) -> list[dict[str, Any]]:
    """What the map can be coloured by; labels where a probe result is loaded."""
    metrics = [{"value": key, "label": metric.name} for key, metric in METRICS.items()]
    return [*metrics, {"value": LABELS, "label": "probe label", "disabled": not with_labels}]


def head_evidence(
    desk: Desk, run: Run | None = None, head: str = "", results: str = "", theme: str = "light"
) -> tuple[list[Any], list[Any]]:
    """The head's labels, and what is known about it; of no run, that nothing is."""
    found = None if run is None else desk.results_for(desk.run(run), results)[0]
    return badges(found, head), evidence(found, head, theme)


def cells_of(desk: Desk, run: Run, metric: str, results_name: str, stack: str = "") -> tuple[dict[str, Any], str]:
    """What the map says about each head of a stack, with the run that it is about; and its caption."""
    view = _map_view(desk, run, metric, results_name, stack)
    results, _ = desk.results_for(desk.run(run), results_name)
    labels = {} if results is None else {"labels": head_labels(results)}
    return head_cells(view, stack) | labels | {"of": run["request"], "letter": stack}, view.caption


def map_table(desk: Desk, run: Run, metric: str, results_name: str, stack: str = "") -> html.Div:
    """The numbers of the head map."""
    return data_table(_map_view(desk, run, metric, results_name, stack).table())


def _map_view(desk: Desk, run: Run, metric: str, results_name: str, stack: str) -> views.HeadMapView:
    capture = desk.run(run)
    results, _ = desk.results_for(capture, results_name)
    if metric == LABELS and results is not None:
        return views.results_map_view(results)
    known = metric if metric in METRICS else ViewState.metric
    if max(map(len, tokens_of(capture, stack))) > views.LONGEST_MEASURED:
        return views.unmeasured_map_view(capture, known, results, stack)
    return views.head_map_view(capture, known, results, stack)


def need(*values: Any) -> None:
    """Draw nothing until everything that the picture depends on is there."""
    if any(value is None or value is False or value == "" for value in values):
        raise PreventUpdate


def is_open(clicks: int | None) -> bool:
    """Whether a folded part that was clicked this often is open."""
    return bool(clicks and clicks % 2)
