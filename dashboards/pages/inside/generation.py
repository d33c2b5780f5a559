"""The page `/inside/generation`: which token comes next, one step at a time, with the cache that the model keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from attnlens.errors import AttnlensError, CaptureError, UsageError
from attnlens.interventions.outcomes import masked_text
from attnlens.models.generating import check_generation
from attnlens.models.stepping import Written
from attnlens.models.targets import token_spelling
from attnlens.report.inside import generation_figure as figures
from attnlens.report.inside import generation_view as views
from dashboards import ids
from dashboards.desk import Desk
from dashboards.making import chat_prompt, check_text
from dashboards.pages import reading
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, part_place, picture, refusal
from dashboards.pages.reading import POSITION_CONTROL, place_of, position_select
from dashboards.request import CHAT, RunRequest
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_row", "draw_step", "layout", "register", "took_of"]

MAX_TAKEN = 64


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The next token on the left, what it cost and looked at on the right."""
    return framed(
        dcc.Store(id=ids.TOOK, data=view.took),
        dcc.Store(id=ids.CANDIDATES),
        html.Div(
            [
                card("The next token", note(_HOW), _knobs(view), *_story(view), kind="next-card"),
                html.Div(
                    [
                        card("The key-value cache", part_place(ids.GROWN)),
                        card("What the newest token looks at", part_place(ids.NEWEST)),
                    ],
                    className="column",
                ),
            ],
            className="generation",
        ),
    )


_LEAST_TEMPERATURE, _MOST_TEMPERATURE, _LEAST_TOP_P = 0.1, 2.0, 0.05
_HOW = (
    "The model gives every token of its vocabulary a number, a logit. The softmax makes probabilities of them: "
    "p = exp(logit / temperature) / sum of all exp(logit / temperature). Click a token to write it."
)


def _knobs(view: ViewState) -> html.Div:
    """Temperature, top-k and top-p; the browser computes what they change."""
    return html.Div(
        [
            _slider("Temperature", ids.TEMPERATURE, _temperature(view), low=_LEAST_TEMPERATURE, high=_MOST_TEMPERATURE),
            dmc.NumberInput(
                id=ids.TOP_K,
                label="Top k (0: all)",
                value=_top_k(view),
                min=0,
                max=views.LISTED,
                step=1,
                allowDecimal=False,
                size="xs",
            ),
            _slider("Top p (1: all)", ids.TOP_P, _top_p(view), low=_LEAST_TOP_P, high=1.0),
        ],
        className="knobs",
    )


def _slider(label: str, id: str, value: float, *, low: float, high: float) -> html.Div:
    slider = dmc.Slider(
        id=id,
        value=value,
        min=low,
        max=high,
        step=0.05,
        precision=2,
        updatemode="drag",
        size="sm",
        **{"thumbLabel": label},
    )
    return html.Div([html.Span(label, className="field-label"), slider])


def _temperature(view: ViewState) -> float:
    return _within(view.temp, _LEAST_TEMPERATURE, _MOST_TEMPERATURE, 1.0)


def _top_k(view: ViewState) -> float:
    return _within(view.topk, 0, views.LISTED, 0, whole=True)


def _top_p(view: ViewState) -> float:
    return _within(view.topp, _LEAST_TOP_P, 1.0, 1.0)


def _within(given: str, low: float, high: float, usual: float, *, whole: bool = False) -> float:
    """A number of the address if it is one of the control's, else the usual one."""
    try:
        value = float(given)
    except ValueError:
        return usual
    value = value if low <= value <= high else usual
    return int(value) if whole or value == int(value) else value


def _story(view: ViewState) -> list[Any]:
    moves = [
        html.Button("Take the likeliest", id=ids.TAKE_LIKELIEST, type="button", className="chip"),
        html.Button("Draw one", id=ids.TAKE_DRAWN, type="button", className="chip"),
        html.Button("One back", id=ids.TAKE_BACK, type="button", className="chip"),
        html.Button("Start over", id=ids.TAKE_NONE, type="button", className="chip"),
    ]
    return [
        html.Div(id=ids.STORY),
        html.Div(moves, className="moves", id=ids.MOVES),
        html.Div(position_select(view, ids.MASKED_AT), id=ids.ASKED_AT, hidden=True),
        html.Div(id=ids.CANDIDATE_LIST, role="group", **aria(label="Candidates for the next token")),
        note(id=ids.SAMPLED),
        html.Div(id=ids.CANDIDATE_TABLE),
    ]


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""

    @app.callback(
        Output(ids.STORY, "children"),
        Output(ids.CANDIDATES, "data"),
        Output(ids.CANDIDATE_TABLE, "children"),
        Output(ids.GROWN, "children"),
        Output(ids.MOVES, "hidden"),
        Output(ids.ASKED_AT, "hidden"),
        Input(ids.RUN, "data"),
        Input(ids.TOOK, "data"),
        Input(ids.MASKED_AT, "value"),
        Input(ids.THEME, "data"),
    )
    def on_step(run: Run, took: str | None, position: str | None, theme: str) -> Any:
        need(run, theme)
        return draw_step(desk, run, took or "", position, theme)

    @app.callback(
        Output(ids.NEWEST, "children"),
        Input(ids.RUN, "data"),
        Input(ids.TOOK, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.THEME, "data"),
    )
    def on_row(run: Run, took: str | None, head: str, theme: str) -> Any:
        need(run, head, theme)
        return draw_row(desk, run, took or "", head, theme)

    reading.register(app, desk, ids.MASKED_AT)
    _register_browser(app)


def _register_browser(app: Dash) -> None:
    """What the browser does by itself: probabilities, and tokens that are taken."""
    browser: Any = app.clientside_callback
    knobs = [Input(ids.TEMPERATURE, "value"), Input(ids.TOP_K, "value"), Input(ids.TOP_P, "value")]
    browser(
        ClientsideFunction("generation", "draw"),
        Output(ids.SAMPLED, "children"),
        Input(ids.CANDIDATES, "data"),
        *knobs,
        State(ids.TOOK, "data"),
    )
    took = Output(ids.TOOK, "data", allow_duplicate=True)
    for function, button in (
        ("likeliest", ids.TAKE_LIKELIEST),
        ("sample", ids.TAKE_DRAWN),
        ("back", ids.TAKE_BACK),
        ("over", ids.TAKE_NONE),
    ):
        state = [State(ids.TOOK, "data")] if function in ("back", "over") else []
        browser(
            ClientsideFunction("generation", function),
            took,
            Input(button, "n_clicks"),
            *state,
            prevent_initial_call=True,
        )
    browser(
        ClientsideFunction("generation", "ofRun"),
        took,
        Input(ids.RUN, "data"),
        State(ids.TOOK, "data"),
        prevent_initial_call="initial_duplicate",
    )


Step = tuple[Any, dict[str, Any] | None, Any, Any, bool, bool]


def draw_step(desk: Desk, run: Run, took: str, position: str | None, theme: str) -> Step:
    """The text so far, its candidates, their table, the cache, and which controls are hidden (moves, position).

    A model that writes is asked for its next token; another one for the token that is masked.
    """
    try:
        lens = desk.lens(run)
        check_generation(lens.opened)
    except CaptureError as error:
        return _filling(desk, run, position, error)
    except AttnlensError as error:
        return refusal(error), None, None, refusal(error), True, True
    try:
        written = _written(desk, run, took_of(took))
    except AttnlensError as error:
        return refusal(error), None, None, refusal(error), not took, True
    view = views.candidates_view(written.logits, lambda token: token_spelling(lens.tokenizer, token))
    return (
        _text(written, len(took_of(took))),
        view.to_json() | {"writes": len(took_of(took)) < MAX_TAKEN},
        folded("The likeliest as a table: temperature 1, nothing cut", data_table(view.table())),
        _cache(written, theme),
        False,
        True,
    )


def _text(written: Written, n_taken: int) -> html.P:
    tokens = written.run.tokens
    begun = len(tokens) - n_taken
    new = [html.Span(token.label, className="taken") for token in tokens[begun:]]
    said: list[Any] = [html.Span(token.label + " ") for token in tokens[:begun]]
    if written.run.source is not None:
        said = [html.Span(" ".join(token.label for token in written.run.source.tokens)), " → ", *said]
    return html.P([*said, *(part for span in new for part in (span, " ")), "▁"], className="written")


def _cache(written: Written, theme: str) -> list[Any]:
    if not written.cache_bytes:
        return [note("This model keeps no cache: every step runs the whole text again.")]
    view = views.cache_view(written.run, written.cache_bytes)
    check = (
        f"Checked: the last step, computed with the cache, gives the same logits as one run over the whole text, "
        f"within {written.gap:.0e}."
    )
    return [
        note(view.caption),
        picture(figures.cache_bars(view, theme=theme), "The cache after each step, in bytes", kind="scrolling"),
        note(check),
        folded("The bytes as a table", data_table(view.table())),
    ]


def _filling(desk: Desk, run: Run, position: str | None, error: CaptureError) -> Step:
    """An encoder writes nothing; it is asked what stands at a place that is masked."""
    first = refusal(error)
    none = note("Nothing is kept: an encoder reads the whole text at once, in one pass.")
    try:
        lens, capture = desk.lens(run), desk.run(run)
        if lens.anatomy.causal or lens.anatomy.is_encoder_decoder:
            return first, None, None, none, True, True
        place = place_of(desk, run, capture, position)
        text = masked_text(lens, capture, place)
        logits = lens.capture(text, points=()).logits
        if logits is None:
            raise UsageError(f"{lens.anatomy.model} has no head that predicts masked tokens either.")
    except AttnlensError as reason:
        return html.Div([first, refusal(reason)]), None, None, none, True, False
    view = views.candidates_view(logits[place], lambda token: token_spelling(lens.tokenizer, token))
    told = [
        note("This model writes nothing: its tokens see later ones. It fills blanks instead; here is its masked word."),
        html.P(text, className="written"),
    ]
    table = folded("The likeliest as a table: temperature 1, nothing cut", data_table(view.table()))
    return html.Div(told), view.to_json() | {"writes": False}, table, none, True, False


def draw_row(desk: Desk, run: Run, took: str, head: str, theme: str) -> list[Any]:
    """What the newest token looks at, by the selected head."""
    try:
        check_generation(desk.lens(run).opened)
        view = views.row_view(_written(desk, run, took_of(took)).run, head)
    except CaptureError:
        return [note("An encoder has no newest token: every token sees every other. See Positions and Explore.")]
    except AttnlensError as error:
        return [refusal(error)]
    return [
        note(view.caption),
        picture(figures.row_bars(view, theme=theme), view.caption, kind="scrolling"),
        folded("The weights as a table", data_table(view.table())),
    ]


def took_of(took: str) -> tuple[int, ...]:
    """The tokens that an address says were taken; what is no number is left out, and so is what is too much."""
    numbers = [part for part in took.split(",") if part.isascii() and part.isdigit() and len(part) < 8]
    return tuple(map(int, numbers[:MAX_TAKEN]))


def _written(desk: Desk, run: Run, took: tuple[int, ...]) -> Written:
    lens, request = desk.lens(run), RunRequest.from_json(run)
    check_text(request, desk.config.max_characters)
    desk.run(run)  # refuses what is too long for this server

    def make() -> Written:
        text = chat_prompt(lens, request.text) if request.kind == CHAT else request.text
        written: Written = lens.write(text, took)
        return written

    return desk.memo.get(("written", desk.stamp(run), took), make)


PAGE = Page(
    path=f"{HOME}/generation",
    name="",
    under=HOME,
    layout=layout,
    register=register,
    controls=(
        replace(POSITION_CONTROL, id=ids.MASKED_AT),
        Control("took", ids.TOOK, "data"),
        Control("temp", ids.TEMPERATURE, shown=_temperature),
        Control("topk", ids.TOP_K, shown=_top_k),
        Control("topp", ids.TOP_P, shown=_top_p),
    ),
)
