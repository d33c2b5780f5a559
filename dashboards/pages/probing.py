"""Probes started from the page: the form, the list of those that run or ran, and what its buttons do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from attnlens.capture.tokens import printable
from attnlens.errors import UsageError
from dashboards import ids
from dashboards.desk import Desk
from dashboards.jobs.asking import allowed_corpus, allowed_families, families, uploaded_corpus
from dashboards.jobs.job import Job, JobRequest
from dashboards.pages.drawing import Run, need
from dashboards.pages.parts import aria, card, note
from dashboards.state import ViewState

__all__ = ["Form", "act", "draw_jobs", "layout", "register", "start"]

EMBEDDED = "attnlens/grammar"
_CORPORA = {"embedded": "Embedded grammar", "file": "A file", "upload": "An upload"}
_TICK_MS = 1000
_LIMIT = 500
_CAUSAL = "Take heads away, too: is the label what the model needs them for? (minutes)"


@dataclass(frozen=True)
class Form:
    """What a visitor filled in."""

    corpus: str
    path: str | None
    upload: str | None
    upload_name: str | None
    families: tuple[str, ...]
    limit: int | str | None
    causal: bool
    skip_bad: bool


def layout(desk: Desk) -> html.Section:
    """The form and the list."""
    return card(
        "Probe this model",
        dcc.Store(id=ids.JOBS_CHANGED),
        dcc.Interval(id=ids.JOBS_TICK, interval=_TICK_MS, disabled=True),
        _form(desk)
        if desk.jobs.is_on
        else note("Probes cannot be started on this server (--jobs DIR switches it on)."),
        html.Div(id=ids.JOBS, className="jobs"),
        kind="jobs-card",
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect form and list."""
    prefix = str(app.config.requests_pathname_prefix or "/")

    @app.callback(
        Output(ids.JOB_PATH, "display"),
        Output(ids.JOB_UPLOAD, "className"),
        Output(ids.JOB_UPLOAD_NOTE, "children"),
        Input(ids.JOB_CORPUS, "value"),
        Input(ids.JOB_UPLOAD, "filename"),
    )
    def on_corpus(corpus: str, filename: str | None) -> Any:
        chosen = printable(filename or "")[:120] if corpus == "upload" else ""
        return "block" if corpus == "file" else "none", "upload" if corpus == "upload" else "upload is-hidden", chosen

    @app.callback(
        Output(ids.JOBS_CHANGED, "data"),
        Input(ids.JOB_START, "n_clicks"),
        State(ids.RUN, "data"),
        State(ids.JOB_CORPUS, "value"),
        State(ids.JOB_PATH, "value"),
        State(ids.JOB_UPLOAD, "contents"),
        State(ids.JOB_UPLOAD, "filename"),
        State(ids.JOB_FAMILIES, "value"),
        State(ids.JOB_LIMIT, "value"),
        State(ids.JOB_CAUSAL, "checked"),
        State(ids.JOB_SKIP, "checked"),
        prevent_initial_call=True,
        running=[(Output(ids.JOB_START, "loading"), True, False)],
    )
    def on_start(
        clicks: int | None,
        run: Run,
        corpus: str,
        path: str,
        upload: str,
        name: str,
        chosen: list[str],
        limit: Any,
        causal: bool,
        skip: bool,
    ) -> Any:
        need(clicks, run)
        form = Form(corpus, path, upload, name, tuple(chosen or ()), limit, bool(causal), bool(skip))
        return start(desk, str(run["model"]), form)

    @app.callback(
        Output(ids.JOBS_CHANGED, "data", allow_duplicate=True),
        Input({"type": ids.JOB_ACTION, "do": ALL, "index": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def on_action(_clicks: list[int | None]) -> Any:
        asked = ctx.triggered_id
        if not asked or not any(event["value"] for event in ctx.triggered):
            raise PreventUpdate  # buttons that just appeared are triggers, too
        return act(desk, asked["do"], asked["index"], int(ctx.triggered[0]["value"]))

    @app.callback(
        Output(ids.JOBS, "children"),
        Output(ids.JOBS_TICK, "disabled"),
        Output(ids.RESULTS, "data", allow_duplicate=True),
        Input(ids.JOBS_TICK, "n_intervals"),
        Input(ids.JOBS_CHANGED, "data"),
        State(ids.RESULTS, "data"),
        prevent_initial_call="initial_duplicate",
    )
    def on_tick(_n: int | None, _changed: Any, options: list[dict[str, str]] | None) -> Any:
        return *draw_jobs(desk, prefix), with_results(desk, options)


def start(desk: Desk, model: str, form: Form) -> str:
    """Start the probe that a visitor asks for, and return its name.

    Raises:
        AttnlensError: the model, the corpus, a family or a number is not allowed, or there is no room for the job.
    """
    desk.choices.check(model)
    upload = None
    if form.corpus == "upload":
        corpus, upload = uploaded_corpus(form.upload, form.upload_name, desk.config.max_upload_bytes)
    elif form.corpus == "file":
        corpus = allowed_corpus(desk.config, form.path or "")
    else:
        corpus = EMBEDDED
    request = JobRequest(
        model=model,
        corpus=corpus,
        uploaded=upload is not None,
        families=allowed_families(form.families),
        limit=_limit(form.limit),
        skip_bad=form.skip_bad,
        causal=form.causal,
    )
    return desk.jobs.start(request, upload)


def act(desk: Desk, do: str, name: str, click: int) -> list[Any]:
    """What a button beside a job does: cancel, continue or remove it.

    Raises:
        AttnlensError: there is no such job, or it cannot be done now.
    """
    actions = {"cancel": desk.jobs.cancel, "continue": desk.jobs.resume, "remove": desk.jobs.remove}
    if do not in actions:
        raise UsageError("a job can be cancelled, continued or removed.")
    actions[do](name)
    return [do, name, click]


def draw_jobs(desk: Desk, prefix: str = "/") -> tuple[Any, bool]:
    """The list of jobs, and whether nothing in it can change by itself."""
    jobs = desk.jobs.all()
    if not jobs:
        return (note("Probes that you start appear here, and stay after a restart.") if desk.jobs.is_on else None), True
    return html.Ul([_job(job, prefix) for job in jobs], className="job-list"), not any(job.is_active for job in jobs)


def with_results(desk: Desk, options: list[dict[str, str]] | None) -> Any:
    """The choices of the results picker, with those that came up since and without those that were removed."""
    kept = [option for option in options or [] if not _is_job(option["value"]) or desk.jobs.results(option["value"])]
    known = {option["value"] for option in kept}
    new = [{"value": name, "label": name} for name in desk.jobs.finished() if name not in known]
    return no_update if kept == options and not new else [*kept, *new]


def _is_job(name: str) -> bool:
    """Whether a name is made as those of jobs are: `model-corpus-1a2b3c`."""
    return name.count("-") >= 2 and len(name.rpartition("-")[2]) == 6 and not name.startswith("upload-")


def _limit(value: int | str | None) -> int | None:
    """The number of sentences; None for all."""
    if value in (None, ""):
        return None
    try:
        limit = int(str(value))
    except ValueError:
        limit = 0
    if limit < 1:
        raise UsageError("the number of sentences is at least 1; leave the field empty for all.")
    return limit


def _form(desk: Desk) -> html.Div:
    corpus = dmc.SegmentedControl(
        id=ids.JOB_CORPUS,
        data=[{"value": value, "label": label} for value, label in _CORPORA.items()],
        value="embedded",
        size="xs",
        **aria(label="Corpus"),
    )
    path = dmc.TextInput(
        id=ids.JOB_PATH, placeholder="corpora/dev.conllu", size="xs", display="none", **aria(label="Path of the corpus")
    )
    upload = dcc.Upload(
        html.Button("Choose a CoNLL-U file …", type="button", className="plain-button"),
        id=ids.JOB_UPLOAD,
        max_size=desk.config.max_body_bytes // 2,
        className="upload is-hidden",
    )
    probed = dmc.MultiSelect(
        id=ids.JOB_FAMILIES,
        label="Families of probes",
        data=list(families()),
        value=[],
        placeholder="all that the corpus has annotation for",
        size="xs",
        clearable=True,
        comboboxProps={"shadow": "md"},
    )
    limit = dmc.NumberInput(
        id=ids.JOB_LIMIT, label="Sentences at most", value=_LIMIT, min=1, step=100, size="xs", allowDecimal=False
    )
    causal = dmc.Switch(id=ids.JOB_CAUSAL, label=_CAUSAL, size="xs", checked=False)
    skip = dmc.Switch(id=ids.JOB_SKIP, label="Leave out sentences with a fault", size="xs", checked=False)
    begin = dmc.Button("Start the probe", id=ids.JOB_START, size="sm")
    where = html.Div([html.Span("Corpus", className="job-label"), corpus, path, upload, _upload_note()])
    return html.Div(
        [
            html.Div([where, probed, limit], className="job-fields"),
            html.Div([causal, skip], className="job-switches"),
            html.Div([begin, note("It runs in the background; you can leave this page.")], className="job-begin"),
        ],
        className="job-form",
        role="group",
        **aria(label="Start a probe"),
    )


def _upload_note() -> html.Span:
    return html.Span(id=ids.JOB_UPLOAD_NOTE, className="note")


def _job(job: Job, prefix: str) -> html.Li:
    request, state = job.request, job.state
    asked = ", ".join(request.families) or "all families"
    some = f", first {request.limit:,} sentences" if request.limit else ""
    title = html.Div(
        [
            html.Strong(printable(request.model)),
            html.Span(printable(f"on {request.corpus_name}{some}: {asked}"), className="job-asked"),
        ]
    )
    says = html.P(printable(job.says), className=f"job-says is-{state.state}", role="status")
    bar = [_bar(job)] if job.is_active or (job.share is not None and state.state != "done") else []
    return html.Li([title, *bar, says, html.Div(_buttons(job, prefix), className="job-buttons")], className="job")


def _bar(job: Job) -> html.Progress:
    """How much is counted; without a value, which browsers show as a moving bar, where that is not what is going on."""
    share = None if job.is_active and job.share == 1 else job.share
    known: dict[str, Any] = {} if share is None else {"value": f"{share:.3f}"}
    return html.Progress(max="1", className="job-bar", **known, **aria(label=f"Progress of {job.name}"))


def _buttons(job: Job, prefix: str) -> list[Any]:
    if job.is_active:
        return [] if job.is_cancelling else [_button(job, "cancel", "Cancel")]
    shown: list[Any] = []
    if job.has_results:
        query = ViewState(model=job.request.model, results=job.name).query_string()
        shown.append(html.A("Show its heads", href=f"{prefix}heads{query}", className="job-link"))
    if job.state.state != "done":
        shown.append(_button(job, "continue", "Continue"))
    return [*shown, _button(job, "remove", "Remove")]


def _button(job: Job, do: str, label: str) -> html.Button:
    return html.Button(
        label,
        id={"type": ids.JOB_ACTION, "do": do, "index": job.name},
        type="button",
        className="plain-button is-small",
        **aria(label=f"{label} {job.name}"),
    )
