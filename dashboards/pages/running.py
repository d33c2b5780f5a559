"""Callbacks of the rail: choosing a model and a text, running it, loading results."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dash import ALL, Dash, Input, NoUpdate, Output, State, ctx, html, no_update, set_props
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError
from attnlens.heads import Head
from attnlens.report import views
from attnlens.report.metrics import metric_values
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import rail

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.report.results import HeadResults

__all__ = ["ask", "chosen_model", "head_options", "register", "report_error", "show_run"]

log = logging.getLogger(__name__)


def register(app: Dash, desk: Desk) -> None:
    """Connect the rail."""

    @app.callback(
        Output(ids.REQUEST, "data", allow_duplicate=True),
        Output(ids.TEXT, "value", allow_duplicate=True),
        Input(ids.RUN_BUTTON, "n_clicks"),
        Input({"type": ids.EXAMPLE, "index": ALL}, "n_clicks"),
        State(ids.MODEL, "value"),
        State(ids.OTHER_MODEL, "value"),
        State(ids.TEXT, "value"),
        prevent_initial_call=True,
    )
    def on_run(_clicks: Any, examples: list[int | None], model: str, other: str | None, text: str | None) -> Any:
        source = ctx.triggered_id
        if not any(event["value"] for event in ctx.triggered):
            raise PreventUpdate  # new example buttons appear as triggers, too
        example = source["index"] if isinstance(source, dict) else None
        return ask(desk, chosen_model(model, other), text or "", example)

    @app.callback(
        Output(ids.RUN, "data"),
        Output(ids.STAGE, "className"),
        Output(ids.SUMMARY, "children"),
        Output(ids.HEAD, "data"),
        Output(ids.HEAD, "value", allow_duplicate=True),
        Output(ids.RESULTS_NOTE, "children"),
        Output(ids.NOTICE, "hide"),
        Input(ids.REQUEST, "data"),
        Input(ids.RESULTS, "value"),
        State(ids.HEAD, "value"),
        prevent_initial_call=True,
        running=[
            (Output(ids.STATUS, "className"), "status is-running", "status"),
            (Output(ids.RUN_BUTTON, "loading"), True, False),
        ],
    )
    def on_request(request: dict[str, str] | None, results: str | None, head: str | None) -> Any:
        if request is None:
            raise PreventUpdate
        return show_run(desk, request, results, head)

    @app.callback(
        Output(ids.EXAMPLES, "children"),
        Output(ids.MODEL_NOTE, "children"),
        Output(ids.OTHER_MODEL, "display"),
        Input(ids.MODEL, "value"),
    )
    def on_model(model: str) -> Any:
        other = model == ids.OTHER
        note = "A folder on this machine, or a model on the hub." if other else desk.choices.describe(model).description
        return rail.example_buttons(desk, model), note, "block" if other else "none"

    @app.callback(
        Output(ids.RESULTS, "data"),
        Output(ids.RESULTS, "value", allow_duplicate=True),
        Input(ids.UPLOAD, "contents"),
        prevent_initial_call=True,
    )
    def on_upload(contents: str | None) -> Any:
        if contents is None:
            raise PreventUpdate
        name = desk.shelf.add(contents)
        return rail.result_options(desk, name), name


def chosen_model(model: str, other: str | None) -> str:
    """The model's name: the picked one, or what stands in the free field."""
    return (other or "").strip() if model == ids.OTHER else model


def ask(desk: Desk, model: str, text: str, example: int | None) -> tuple[dict[str, str], str | NoUpdate]:
    """The run to make when Run, or one of the model's examples, is pressed; and what the text field shows then."""
    if example is None:
        return {"model": model, "text": text}, no_update
    text = desk.choices.describe(model).examples[example]
    return {"model": model, "text": text}, text


def show_run(desk: Desk, request: dict[str, str], results_name: str | None, head: str | None) -> tuple[Any, ...]:
    """Capture the run (or find it) and set the stage for it.

    Returns:
        The run for the page's store, the stage's class, the summary, the heads to choose from, the chosen head (the
        present one if the model has it), a sentence about the results, and whether the notice is hidden.

    Raises:
        AttnlensError: the model cannot be opened or the text cannot be run.
    """
    run = desk.run(request)
    results, problem = desk.results_for(run, results_name)
    options = head_options(run.anatomy.heads(), results)
    names = [option["value"] for option in options]
    shown = {
        **request,
        "request": request,
        "n_layers": run.n_layers,
        "n_heads": run.n_heads,
        "n_tokens": len(run.tokens),
    }
    summary = [
        html.Strong(printable(request["model"])),
        html.Span(f"{run.n_layers} layers × {run.n_heads} heads"),
        html.Span(f"{len(run.tokens)} tokens"),
        html.Span("self-check passed", className="passed"),
    ]
    note = problem or (_about(results) if results else rail.PLAIN_NOTE)
    return shown, "stage", summary, options, head if head in names else _first_head(run, results), note, True


def head_options(heads: tuple[Head, ...], results: HeadResults | None) -> list[dict[str, str]]:
    """Every head for the picker, with its label where results say one."""
    labels = (
        {result.head: f" · {printable(result.primary)}" for result in results.heads if result.primary}
        if results
        else {}
    )
    return [{"value": str(head), "label": f"{head}{labels.get(head, '')}"} for head in heads]


def report_error(error: Exception) -> None:
    """Say in the page what went wrong; what is no mistake of the visitor's also goes to the log, with its place."""
    if isinstance(error, AttnlensError):
        message = str(error)
    else:
        log.error("a callback failed", exc_info=error)
        message = "something went wrong in the server; its log says what. The rest of the page keeps working."
    set_props(ids.NOTICE, {"children": printable(message), "hide": False})


def _first_head(run: Capture, results: HeadResults | None) -> str:
    """A head worth seeing first: the one with the most telling label, or that most looks at the token before."""
    if results is not None and results.most_telling is not None:
        return str(results.most_telling.head)
    found = views.standouts({"previous": metric_values(run, "previous")})
    return str(found[0].head if found else run.anatomy.heads()[0])


def _about(results: HeadResults) -> str:
    return f"Labels measured on {printable(str(results.corpus.get('name', 'an unnamed corpus')))}."
