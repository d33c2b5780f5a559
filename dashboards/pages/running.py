"""Callbacks of the rail: choosing a model and a text, running it, loading results."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dash import ALL, ClientsideFunction, Dash, Input, NoUpdate, Output, State, ctx, html, no_update, set_props
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError
from attnlens.heads import Head
from attnlens.report import views
from attnlens.report.metrics import metric_values
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import rail
from dashboards.request import TEXT, RunRequest

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.anatomy import Anatomy
    from attnlens.report.results import HeadResults

__all__ = [
    "all_heads",
    "chosen_model",
    "example_of",
    "head_options",
    "offered_kinds",
    "register",
    "report_error",
    "show_run",
    "without_repeats",
]

log = logging.getLogger(__name__)


def register(app: Dash, desk: Desk) -> None:
    """Connect the rail."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("attnlensRail", "askRun"),
        Output(ids.REQUEST, "data", allow_duplicate=True),
        Input(ids.RUN_BUTTON, "n_clicks"),
        State(ids.MODEL, "value"),
        State(ids.OTHER_MODEL, "value"),
        State(ids.TEXT, "value"),
        State(ids.KIND, "value"),
        State(ids.SECOND, "value"),
        State(ids.NEW_TOKENS, "value"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(ids.REQUEST, "data", allow_duplicate=True),
        Output(ids.TEXT, "value", allow_duplicate=True),
        Output(ids.KIND, "value", allow_duplicate=True),
        Input({"type": ids.EXAMPLE, "index": ALL}, "n_clicks"),
        State(ids.MODEL, "value"),
        State(ids.OTHER_MODEL, "value"),
        prevent_initial_call=True,
    )
    def on_example(_clicks: Any, model: str, other: str | None) -> Any:
        if not any(event["value"] for event in ctx.triggered):
            raise PreventUpdate  # new example buttons appear as triggers, too
        return example_of(desk, chosen_model(model, other), ctx.triggered_id["index"])

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
        State(ids.RUN, "data"),
        prevent_initial_call=True,
        running=[
            (Output(ids.STATUS, "className"), "status is-running", "status"),
            (Output(ids.RUN_BUTTON, "loading"), True, False),
        ],
    )
    def on_request(request: dict[str, str] | None, results: str | None, head: str | None, before: Any) -> Any:
        if request is None:
            raise PreventUpdate
        found = show_run(desk, request, results, head)
        only_text = list(ctx.triggered_prop_ids) == [f"{ids.REQUEST}.data"]
        return without_repeats(found, before, head) if only_text else found

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
        Output(ids.KIND, "data"),
        Output(ids.KIND, "value", allow_duplicate=True),
        Output(ids.KIND, "display"),
        Input(ids.MODEL, "value"),
        Input(ids.OTHER_MODEL, "value"),
        Input(ids.RUN_MODEL, "data"),  # once it is open, more is known of it
        State(ids.KIND, "value"),
        prevent_initial_call="initial_duplicate",
    )
    def on_kinds(model: str, other: str | None, _opened: Any, kind: str) -> Any:
        return offered_kinds(desk, chosen_model(model, other), kind)

    browser(
        ClientsideFunction("attnlensRail", "modelOf"),
        Output(ids.RUN_MODEL, "data"),
        Input(ids.RUN, "data"),
        State(ids.RUN_MODEL, "data"),
    )
    browser(ClientsideFunction("attnlensRail", "remember"), Output(ids.RECENT, "title"), Input(ids.RUN, "data"))
    browser(ClientsideFunction("attnlensCorpus", "reopen"), Output(ids.CORPUS, "title"), Input(ids.RUN, "data"))
    browser(
        ClientsideFunction("attnlensRail", "showFields"),
        Output(ids.TEXT, "label"),
        Output(ids.SECOND, "label"),
        Output(ids.SECOND, "display"),
        Output(ids.NEW_TOKENS, "display"),
        Input(ids.KIND, "value"),
    )

    @app.callback(
        Output(ids.RESULTS, "data"),
        Output(ids.RESULTS, "value", allow_duplicate=True),
        Input(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def on_upload(name: str | None) -> Any:
        if name is None:
            raise PreventUpdate
        return rail.result_options(desk, name), name


def chosen_model(model: str, other: str | None) -> str:
    """The model's name: the picked one, or what stands in the free field."""
    return (other or "").strip() if model == ids.OTHER else model


def example_of(desk: Desk, model: str, example: int) -> tuple[dict[str, Any], str, str]:
    """One of the model's examples, as the run to make and as text and kind that are shown then.

    It runs in the model's usual way.
    """
    text, kind = desk.choices.describe(model).examples[example], desk.kinds(model)[0]
    return RunRequest.from_json({"model": model, "text": text, "kind": kind}).to_json(), text, kind


def offered_kinds(desk: Desk, model: str, kind: str) -> tuple[list[dict[str, str]], str | NoUpdate, str]:
    """The kinds of request that a model takes, the one chosen now, and whether there is anything to choose."""
    kinds = desk.kinds(model)
    options = [{"value": key, "label": rail.KIND_NAMES[key]} for key in kinds]
    return options, no_update if kind in kinds else kinds[0], "block" if kinds != (TEXT,) else "none"


def show_run(desk: Desk, request: dict[str, Any], results_name: str | None, head: str | None) -> tuple[Any, ...]:
    """Capture the run (or find it) and set the stage for it.

    Returns:
        The run for the page's store, the stage's class, the summary, the heads to choose from, the chosen head (the
        present one if the model has it), a sentence about the results, and whether the notice is hidden.

    Raises:
        AttnlensError: the model cannot be opened or the text cannot be run.
    """
    request = RunRequest.from_json(request).to_json()  # the fields of the rail hold more than the kind uses
    run = desk.run(request)
    results, problem = desk.results_for(run, results_name)
    options = head_options(all_heads(run.anatomy), results)
    names = [option["value"] for option in options]
    shown = {
        **request,
        "request": request,
        "n_layers": run.n_layers,
        "n_heads": run.n_heads,
        "n_tokens": len(run.tokens),
        "stacks": [
            {"letter": stack.letter, "n_layers": stack.n_layers, "n_heads": stack.n_heads}
            for stack in run.anatomy.stacks
        ],
    }
    summary = [
        html.Strong(printable(request["model"])),
        html.Span(f"{run.n_layers} layers × {run.n_heads} heads"),
        html.Span(_tokens(run)),
        html.Span("self-check passed", className="passed"),
        *([html.Span("uploaded run")] if request.get("run") else []),
    ]
    note = problem or (_about(results) if results else rail.PLAIN_NOTE)
    return shown, "stage", summary, options, head if head in names else _first_head(run, results), note, True


def without_repeats(found: tuple[Any, ...], before: dict[str, Any] | None, head: str | None) -> tuple[Any, ...]:
    """What `show_run` found, without what a new text leaves as it is: drawing it again takes the browser a while."""
    run, _, summary, _, chosen, _, hidden = found
    parts = ("model", "run", "stacks")
    if before is None or any(run.get(part) != before.get(part) for part in parts):
        return found
    return run, no_update, summary, no_update, no_update if chosen == head else chosen, no_update, hidden


def all_heads(anatomy: Anatomy) -> tuple[Head, ...]:
    """Every head of every stack: of an encoder-decoder the encoder's, the decoder's, those in between."""
    if not anatomy.is_encoder_decoder:
        return anatomy.heads()
    return tuple(head for stack in anatomy.stacks for head in stack.heads())


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
    if len(run.tokens) > views.LONGEST_MEASURED:
        return str(run.anatomy.heads()[0])
    found = views.standouts({"previous": metric_values(run, "previous")})
    if not found:
        return str(run.anatomy.heads()[0])
    return str(replace(found[0].head, stack=run.anatomy.main_stack))


def _tokens(run: Capture) -> str:
    """How many tokens there are, and where they come from."""
    if run.source is not None:
        return f"{len(run.source.tokens)} tokens read, {len(run.tokens)} written"
    written = 0 if run.n_prompt is None else len(run.tokens) - run.n_prompt
    return f"{len(run.tokens)} tokens" + (f", {written} of them written" if written else "")


def _about(results: HeadResults) -> str:
    return f"Labels measured on {printable(str(results.corpus.get('name', 'an unnamed corpus')))}."
