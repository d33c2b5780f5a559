"""`/heads`: what a probe found out about every head, as a map and as a grid; and probes started from the page."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, html

from attnlens.capture.tokens import printable
from attnlens.heads import Head
from attnlens.report import figures, views
from attnlens.report.heads_view import HeadRow, HeadsView, heads_view
from attnlens.report.tables import cell_text, count, share
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import probing
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, graph, note, room_for, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_heads", "grid_rows", "layout", "register"]

_NUMBER = {"function": "params.value == null ? '–' : d3.format('.2f')(params.value)"}
_WHOLE = {"function": "params.value == null ? '–' : d3.format(',')(params.value)"}
_SHOWN = {"all": "All", "labelled": "Labelled", "nearly": "Nearly", "unclassified": "Unclassified"}
_CELLS = (("tried", "n_cells"), ("tested", "n_tested"))


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The map by label beside the figures of the run, the grid of all heads below, what was nearly a label."""
    graph_ = with_loading(graph(ids.HEADS_MAP, "Heads by label: one cell per layer and head; a click opens its page"))
    return html.Div(
        [
            html.Div(
                [
                    card("What the probe found", html.Div(id=ids.HEADS_FACTS), kind="facts-card"),
                    card("Heads by label", graph_, note(id=ids.HEADS_MAP_CAPTION), kind="label-map-card"),
                    _grid_card(view),
                    card("Nearly a label", html.Div(id=ids.HEADS_WEAK), kind="weak-card"),
                    probing.layout(desk),
                ],
                id=ids.HEADS_BODY,
                className="heads",
            ),
        ]
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""
    probing.register(app, desk)

    @app.callback(
        Output(ids.HEADS_BODY, "className"),
        Output(ids.HEADS_FACTS, "children"),
        Output(ids.HEADS_MAP, "figure"),
        Output(ids.HEADS_MAP, "style"),
        Output(ids.HEADS_MAP_CAPTION, "children"),
        Output(ids.HEADS_WEAK, "children"),
        Input(ids.RUN, "data"),
        Input(ids.RESULTS, "value"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
    )
    def on_results(run: Run, results: str | None, head: str, theme: str) -> Any:
        need(run, theme)
        return draw_heads(desk, run, results, head, theme)

    @app.callback(
        Output(ids.HEADS_GRID, "rowData"),
        Input(ids.RUN, "data"),
        Input(ids.RESULTS, "value"),
        Input(ids.HEADS_SHOW, "value"),
    )
    def on_rows(run: Run, results: str | None, show: str) -> Any:
        need(run)
        return grid_rows(desk, run, results, show)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("heads", "find"),
        Output(ids.HEADS_GRID, "dashGridOptions"),
        Input(ids.HEADS_FIND, "value"),
    )
    browser(
        ClientsideFunction("heads", "exportGrid"),
        Output(ids.HEADS_GRID, "exportDataAsCsv"),
        Input(ids.HEADS_EXPORT, "n_clicks"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("heads", "openFromMap"),
        Output(ids.HEADS_MAP, "id"),
        Input(ids.HEADS_MAP, "clickData"),
        prevent_initial_call=True,
    )


def draw_heads(desk: Desk, run: Run, name: str | None, head: str | None, theme: str) -> tuple[Any, ...]:
    """What a probe result says: the page's class, figures, the map with its style and caption, what was nearly a label.

    Without a result the class is "heads is-untested", and the figures say what to do.
    """
    capture = desk.run(run)
    results, problem = desk.results_for(capture, name)
    if results is None:
        return "heads is-untested", _untested(problem), {}, {}, "", None
    view, by_label = heads_view(results), views.results_map_view(results)
    figure = figures.head_map(by_label, theme=theme, selected=Head.parse(head) if head else None)
    return "heads", _facts(view, results.corpus), figure, room_for(figure), by_label.caption, _weak(view)


def grid_rows(desk: Desk, run: Run, name: str | None, show: str) -> list[dict[str, Any]]:
    """The grid's rows; those of one verdict unless `show` is "all"."""
    results, _ = desk.results_for(desk.run(run), name)
    rows = () if results is None else heads_view(results).rows
    return [_row(row) for row in rows if show in ("all", row.verdict)]


def _row(row: HeadRow) -> dict[str, Any]:
    """A row as the browser gets it; it also saves it, so that no text may be a formula."""
    labels = ", ".join(printable(name) for name in row.labels)
    texts = {
        "labels": labels if row.verdict == "labelled" else "",
        "rule": printable(row.baseline_name),
        "causal": printable(row.causal),
        "verdict": row.verdict if not row.missed else f"nearly {labels}: {printable(row.missed)}",
    }
    return {
        "head": str(row.head),
        "layer": row.head.layer,
        "confidence": row.confidence,
        "score": row.score,
        "interval": row.interval,
        "baseline": row.baseline,
        "n": row.n,
        **{name: cell_text(text) for name, text in texts.items()},
    }


def _grid_card(view: ViewState) -> html.Section:
    show = dmc.SegmentedControl(
        id=ids.HEADS_SHOW,
        data=[{"value": value, "label": label} for value, label in _SHOWN.items()],
        value=view.show,
        size="xs",
        **aria(label="Heads listed"),
    )
    find = dmc.TextInput(
        id=ids.HEADS_FIND,
        value=view.find,
        placeholder="Find a label, a head, a rule …",
        size="xs",
        w=220,
        debounce=250,
        **aria(label="Find in the table"),
    )
    export = html.Button("Save as CSV", id=ids.HEADS_EXPORT, type="button", className="plain-button is-small")
    return card(
        "Every head",
        html.Div([find, show, export], className="grid-controls"),
        _grid(view),
        note("Click a row, or press Enter on it, for the head's own page. Click a column to sort, its menu to filter."),
        kind="grid-card",
    )


def _grid(view: ViewState) -> html.Div:
    grid = dag.AgGrid(
        id=ids.HEADS_GRID,
        rowData=[],
        columnDefs=_columns(),
        defaultColDef={"sortable": True, "filter": True, "resizable": True},
        getRowId="params.data.head",
        csvExportParams={"fileName": "heads.csv"},
        dashGridOptions={"quickFilterText": view.find},
        className="heads-grid",
        style={"height": "30rem"},
    )
    return html.Div(grid, role="region", **aria(label="Every head with its labels"))


def _columns() -> list[dict[str, Any]]:
    def numeric(field: str, name: str, width: int, **more: Any) -> dict[str, Any]:
        right = {"type": "rightAligned", "filter": "agNumberColumnFilter", "width": width}
        return {"field": field, "headerName": name, **right, **more}

    def named(field: str, name: str, width: int, **more: Any) -> dict[str, Any]:
        return {"field": field, "headerName": name, "width": width, "tooltipField": field, **more}

    plain = {"filter": False}
    return [
        named("head", "Head", 76, pinned="left", **plain),
        numeric("layer", "Layer", 76, **plain),
        named("labels", "Labels", 230, flex=3, minWidth=230),
        numeric("score", "Score", 92, valueFormatter=_NUMBER),
        named("interval", "95 % interval", 122, type="rightAligned", **plain),
        numeric("baseline", "Baseline", 96, valueFormatter=_NUMBER, tooltipField="rule", **plain),
        numeric("confidence", "Confidence", 126, valueFormatter=_NUMBER),
        named("causal", "Causal", 104),
        numeric("n", "n", 76, valueFormatter=_WHOLE, **plain),
        named("verdict", "Verdict", 190, flex=2, minWidth=190),
        named("rule", "Rule of the baseline", 170),
    ]


def _facts(view: HeadsView, corpus: Any) -> list[Any]:
    unclassified = view.n_heads - view.n_labelled
    figures_ = [
        ("with a label", f"{view.n_labelled}", f"of {count(view.n_heads, 'head')}"),
        ("without", f"{unclassified}", f"{share(unclassified / max(1, view.n_heads))}: a normal answer"),
        *((name, f"{value:,}", "heads × relations") for name, field in _CELLS if (value := getattr(view, field))),
    ]
    stats = html.Dl([part for name, value, more in figures_ for part in _fact(name, value, more)], className="stats")
    measured = f"Measured on {printable(str(corpus.get('name', 'an unnamed corpus')))}."
    said = [] if not view.scope else [folded("How it was measured", html.P(printable(view.scope), className="scope"))]
    return [stats, note(measured), *said]


def _fact(name: str, value: str, more: str) -> list[Any]:
    return [html.Div([html.Dt(name), html.Dd([html.Strong(value), " ", html.Span(more)])])]


def _weak(view: HeadsView) -> Any:
    if not view.weak:
        return note("No head came near a label without getting it.")
    return [
        note("Clear of chance, but one condition was missed, so these are no labels."),
        folded(count(len(view.weak), "near miss", "near misses"), data_table(view.weak_table())),
    ]


def _untested(problem: str) -> list[Any]:
    return [
        html.P("Nothing has been tested on these heads yet.", className="empty-title"),
        html.P(
            printable(problem)
            or "Choose a probe result at the left, load a heads.json, or start a probe below: it measures every head "
            "against annotated text and says which labels hold."
        ),
    ]


PAGE = Page(
    path="/heads",
    name="Heads",
    layout=layout,
    register=register,
    controls=(Control("show", ids.HEADS_SHOW), Control("find", ids.HEADS_FIND)),
)
