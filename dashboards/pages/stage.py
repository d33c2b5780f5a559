"""The stage: the head map, one head in detail, its evidence, and the model card."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from attnlens.report.metrics import METRICS
from dashboards import ids
from dashboards.pages.parts import aria, card, folded, graph, note, with_loading
from dashboards.state import ViewState

__all__ = ["LABELS", "layout", "metric_options"]

LABELS = "labels"  # the "metric" that colours heads by their probe label


def layout() -> html.Main:
    """The stage; empty until a run is shown."""
    notice = dmc.Alert(
        id=ids.NOTICE,
        title="That did not work",
        color="orange",
        variant="light",
        hide=True,
        withCloseButton=True,
        closeButtonLabel="Dismiss",
    )
    left = [_map_card(), card("Strongest links", html.Div(id=ids.STRONGEST), kind="strongest-card")]
    right = [_head_card(), card("What is known about this head", html.Div(id=ids.EVIDENCE), kind="evidence-card")]
    return html.Main(
        [
            html.Div(notice, role="alert", className="notice"),
            html.Div(_status(), className="stage-head"),
            _empty(),
            html.Div(
                [
                    html.Div(left, className="column"),
                    html.Div(right, className="column"),
                    card("The model", html.Div(id=ids.MODEL_CARD), kind="model-card"),
                ],
                className="cards",
            ),
        ],
        id=ids.STAGE,
        className="stage is-empty",
        tabIndex=-1,
    )


def metric_options(with_labels: bool) -> list[dict[str, Any]]:
    """What the map can be coloured by; labels where a probe result is loaded."""
    metrics = [{"value": key, "label": metric.name} for key, metric in METRICS.items()]
    return [*metrics, {"value": LABELS, "label": "probe label", "disabled": not with_labels}]


def _status() -> list[Any]:
    working = html.Div(
        [_dots(), html.Span("Running the text …")],
        id=ids.STATUS,
        className="status",
        role="status",
    )
    return [html.Div(id=ids.SUMMARY, className="summary", role="status"), working]


def _empty() -> html.Div:
    hint = "Pick a model, type a sentence and press Run: every head of every layer appears here as one map."
    idle = html.Div([html.P("Nothing is shown yet.", className="empty-title"), html.P(hint)], className="empty-idle")
    busy = html.Div([_dots(), html.Span("Opening the model and running the text …")], className="empty-busy")
    return html.Div([idle, busy], className="empty")


def _dots() -> dmc.Loader:
    return dmc.Loader(size="xs", type="dots", color="var(--al-accent)")


def _map_card() -> html.Section:
    metric = dmc.Select(
        id=ids.METRIC,
        data=metric_options(False),
        value=ViewState.metric,
        allowDeselect=False,
        size="xs",
        w=210,
        comboboxProps={"shadow": "md"},
        **aria(label="Colour the head map by"),
    )
    frame = html.Div(
        with_loading(graph(ids.MAP, "Head map: one cell per layer and head")),
        id=ids.MAP_FRAME,
        className="map-frame",
        tabIndex=0,
        role="group",
        **aria(label="Head map. Arrow keys move between heads.", describedby=ids.MAP_CAPTION),
    )
    return card(
        "Heads",
        frame,
        note(id=ids.MAP_CAPTION),
        folded("The numbers as a table", id=ids.MAP_TABLE),
        actions=metric,
        kind="map-card",
    )


def _head_card() -> html.Section:
    title = html.H2("", id=ids.HEAD_TITLE, className="head-title")
    head = html.Header([title, _head_picker()], className="card-head")
    labels = html.Div(id=ids.HEAD_LABELS, className="badges")
    tabs = dmc.Tabs(
        [
            dmc.TabsList(
                [
                    dmc.TabsTab("Links", value="links"),
                    dmc.TabsTab("Matrix", value="matrix"),
                    dmc.TabsTab("BertViz", value="classic"),
                ]
            ),
            _controls(),
            dmc.TabsPanel(_links(), value="links"),
            dmc.TabsPanel(_matrix(), value="matrix"),
            dmc.TabsPanel(html.Div(id=ids.CLASSIC, className="classic-frame"), value="classic"),
        ],
        id=ids.TAB,
        value=ViewState.tab,
    )
    return html.Section([head, labels, tabs], className="card head-card", **aria(label="The selected head"))


def _head_picker() -> html.Div:
    select = dmc.Select(
        id=ids.HEAD,
        data=[],
        searchable=True,
        allowDeselect=False,
        size="xs",
        w=150,
        comboboxProps={"shadow": "md"},
        **aria(label="Head"),
    )
    earlier = html.Button("‹", id=ids.PREVIOUS_HEAD, className="step", type="button", **aria(label="Previous head"))
    later = html.Button("›", id=ids.NEXT_HEAD, className="step", type="button", **aria(label="Next head"))
    return html.Div([earlier, select, later], className="head-picker")


def _controls() -> html.Div:
    words = dmc.SegmentedControl(
        id=ids.WORDS,
        data=[{"value": "pieces", "label": "Pieces"}, {"value": "words", "label": "Words"}],
        value="pieces",
        size="xs",
        **aria(label="Rows and columns"),
    )
    special = dmc.Switch(id=ids.HIDE_SPECIAL, label="Hide special tokens", size="xs", checked=False)
    slider = dmc.Slider(
        id=ids.THRESHOLD,
        value=ViewState.threshold,
        min=0,
        max=1,
        step=0.01,
        precision=2,
        updatemode="drag",
        size="sm",
        w=150,
        thumbLabel="Weakest link drawn",
        color="var(--al-accent)",
    )
    threshold = html.Div([html.Span("Weakest link", className="slider-label"), slider], className="threshold")
    return html.Div([words, special, threshold], className="controls", role="group", **aria(label="What is drawn"))


def _links() -> html.Div:
    return html.Div(
        [
            with_loading(
                graph(ids.LINKS, "Links from each token on the left to the tokens it attends to on the right")
            ),
            note(id=ids.LINKS_CAPTION),
        ]
    )


def _matrix() -> html.Div:
    return html.Div(
        [
            with_loading(graph(ids.MATRIX, "Attention matrix: a row per query, a column per key")),
            note(id=ids.MATRIX_CAPTION),
            folded("The numbers as a table", id=ids.MATRIX_TABLE),
        ]
    )
