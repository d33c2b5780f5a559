"""The page `/stream`: what happens in the residual stream, and what a prediction is made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, html

from attnlens.errors import AttnlensError, CaptureError, UsageError
from attnlens.report import figures
from attnlens.report.shares_view import SharesView, TokenSharesView, direct_view, gates_view, token_shares_view
from attnlens.report.stream_view import STREAM_MEASURES, LensView, StreamView, lens_view, stream_view
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages import reading
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, part_place, picture, refusal
from dashboards.pages.reading import POSITION_CONTROL, TARGET_CONTROL, place_of, position_select, target_input
from dashboards.state import ViewState

__all__ = ["PAGE", "draw_lens", "draw_shares", "draw_stream", "draw_token_shares", "layout", "register"]

T = TypeVar("T")

MAX_TABLE = 128  # rows of the longest table that is written out
MAX_SHAPLEY = 64  # tokens of the longest text that is run in random orders: 25 forward passes per token
MAX_PRECISE = 96  # tokens up to which an integral takes as many points as it needs; longer texts take `FEW_STEPS`
FEW_STEPS = 32
_METHODS = {"gradients": "Integrated gradients", "ablation": "One at a time", "shapley": "Shapley values"}


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The question on top, what each layer predicts, then the sums and the lengths."""
    question = html.Div([position_select(view), target_input(view), note(_HINT)], className="question")
    return html.Div(
        [
            html.Section(question, className="card question-card", **aria(label="Which prediction")),
            card("What each layer would predict", part_place(ids.LENS), kind="lens-card"),
            html.Div([_shares_card()], className="column"),
            html.Div([_tokens_card(view), _stream_card(view)], className="column"),
        ],
        className="stream-page",
    )


_HINT = (
    "The model's prediction at one token: the next token, or the token that stands there. Click a column of a grid to "
    "choose another; name a token of the vocabulary to ask why it is predicted, or not."
)


def _stream_card(view: ViewState) -> html.Section:
    measure = dmc.Select(
        id=ids.STREAM_MEASURE,
        data=[{"value": name, "label": measure.title} for name, measure in STREAM_MEASURES.items()],
        value=view.stream if view.stream in STREAM_MEASURES else ViewState.stream,
        allowDeselect=False,
        size="xs",
        w=230,
        comboboxProps={"shadow": "md"},
        **aria(label="Measure of the stream"),
    )
    return card("The residual stream", part_place(ids.STREAM), actions=measure, kind="stream-card")


def _shares_card() -> html.Section:
    return card("What heads and MLPs add", part_place(ids.SHARES), kind="shares-card")


def _tokens_card(view: ViewState) -> html.Section:
    method = dmc.Select(
        id=ids.METHOD,
        data=[{"value": name, "label": label} for name, label in _METHODS.items()],
        value=view.method,
        allowDeselect=False,
        size="xs",
        w=180,
        comboboxProps={"shadow": "md"},
        **aria(label="Method of attribution"),
    )
    return card("What input tokens add", part_place(ids.FROM_TOKENS), actions=method, kind="tokens-card")


def register(app: Dash, desk: Desk) -> None:
    """Connect the page: one callback per card, so that what a model cannot show leaves the others alone."""

    @app.callback(
        Output(ids.STREAM, "children"),
        Input(ids.RUN, "data"),
        Input(ids.STREAM_MEASURE, "value"),
        Input(ids.POSITION, "value"),
        Input(ids.THEME, "data"),
    )
    def on_stream(run: Run, measure: str, position: str | None, theme: str) -> Any:
        need(run, measure, theme)
        return draw_stream(desk, run, measure, position, theme)

    @app.callback(
        Output(ids.LENS, "children"),
        Input(ids.RUN, "data"),
        Input(ids.POSITION, "value"),
        Input(ids.THEME, "data"),
    )
    def on_lens(run: Run, position: str | None, theme: str) -> Any:
        need(run, theme)
        return draw_lens(desk, run, position, theme)

    asked = (Input(ids.RUN, "data"), Input(ids.POSITION, "value"), Input(ids.TARGET, "value"))

    @app.callback(Output(ids.SHARES, "children"), *asked, Input(ids.THEME, "data"))
    def on_shares(run: Run, position: str | None, target: str | None, theme: str) -> Any:
        need(run, theme)
        return draw_shares(desk, run, position, target, theme)

    @app.callback(Output(ids.FROM_TOKENS, "children"), *asked, Input(ids.METHOD, "value"), Input(ids.THEME, "data"))
    def on_tokens(run: Run, position: str | None, target: str | None, method: str, theme: str) -> Any:
        need(run, method, theme)
        return draw_token_shares(desk, run, position, target, method, theme)

    browser: Any = app.clientside_callback
    for grid in (ids.STREAM_GRID, ids.LENS_GRID):
        browser(
            ClientsideFunction("stream", "choosePosition"),
            Output(ids.POSITION, "value", allow_duplicate=True),
            Input(grid, "clickData"),
            prevent_initial_call=True,
        )
    reading.register(app, desk)


def _refusing(draw: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """What a model or a question does not allow is said in the card's place; the other cards go on."""

    @wraps(draw)
    def drawn(*given: Any, **more: Any) -> list[Any]:
        try:
            return draw(*given, **more)
        except AttnlensError as error:
            return [refusal(error)]

    return drawn


def _kept(desk: Desk, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, from the memo; what the model cannot do is kept, too, since finding that out takes a run.

    Raises:
        CaptureError: it cannot.
    """

    def attempt() -> T | CaptureError:
        try:
            return make()
        except CaptureError as error:
            return error

    found = desk.memo.get(key, attempt)
    if isinstance(found, CaptureError):
        raise found.with_traceback(None)
    return found


@_refusing
def draw_stream(desk: Desk, run: Run, measure: str, position: str | None, theme: str) -> list[Any]:
    """A measure of the stream by layer and position."""
    capture = desk.run(run, points=True)
    view = stream_view(capture, measure)
    figure = figures.stream_grid(view, theme=theme, position=place_of(desk, run, capture, position))
    label = f"{view.title}: one cell per layer and position"
    return [picture(figure, label, id=ids.STREAM_GRID), note(view.caption), _table(view, measure)]


def _table(view: StreamView, measure: str) -> html.Details:
    title = "The numbers as a table"
    if len(view.labels) > MAX_TABLE:
        told = f"{len(view.labels)} rows are too many for a page; attnlens measure {measure} writes them."
        return folded(title, note(told))
    return folded(title, data_table(view.table()))


@_refusing
def draw_lens(desk: Desk, run: Run, position: str | None, theme: str) -> list[Any]:
    """The logit lens as a grid, and as a table at the chosen position."""
    view = desk.memo.get(("lens", desk.stamp(run)), lambda: _read_lens(desk, run))
    place = place_of(desk, run, desk.run(run), position)
    figure = figures.lens_grid(view, theme=theme, position=place)
    grid = picture(figure, "Logit lens: the likeliest token after each layer, at each position", id=ids.LENS_GRID)
    shown = view.around(place, figures.LENS_WIDTH)
    more = "" if len(shown) == len(view.labels) else f" Tokens {shown.start} to {shown.stop - 1} of {len(view.labels)}."
    return [
        html.Div(html.Div(grid, style={"minWidth": f"{58 * len(shown) + 110}px"}), className="wide-frame"),
        note(view.caption + more),
        folded(f"The likeliest five after each layer, at {place} {view.labels[place]}", data_table(view.table(place))),
    ]


def _read_lens(desk: Desk, run: Run) -> LensView:
    capture = desk.run(run, points=True)
    return lens_view(capture, desk.lens(run).logit_lens(capture))


@_refusing
def draw_shares(desk: Desk, run: Run, position: str | None, target: str | None, theme: str) -> list[Any]:
    """A logit as a sum: its largest parts, and layer by layer."""
    place = place_of(desk, run, desk.run(run), position)
    wanted = (target or "").strip() or None
    key = ("shares", desk.stamp(run), place, wanted)
    view = _kept(desk, key, lambda: _shares(desk, run, place, wanted))
    bars = picture(figures.shares_bars(view, theme=theme), f"{view.title}: the largest parts as bars")
    steps = picture(figures.shares_waterfall(view, theme=theme), f"{view.title}: a waterfall over the layers")
    return [
        note(view.caption),
        html.H3("By part", className="part-title"),
        bars,
        html.H3("By layer", className="part-title"),
        html.Div(steps, className="wide-frame"),
        folded(f"All {len(view.shares)} parts as a table", data_table(view.table())),
    ]


def _shares(desk: Desk, run: Run, place: int, target: str | None) -> SharesView:
    """Direct where the stream is a plain sum; else what heads add by whatever way."""
    lens, capture = desk.lens(run), desk.run(run, points=True)
    if lens.anatomy.stack(lens.anatomy.main_stack).layout != "post-LN":
        return direct_view(lens.attribute_directly(capture, target, position=place))
    return gates_view(lens.attribute_heads(capture, target, position=place, steps=_steps(len(capture.tokens))))


@_refusing
def draw_token_shares(
    desk: Desk, run: Run, position: str | None, target: str | None, method: str, theme: str
) -> list[Any]:
    """What each input token adds to a logit, with the gap of the sum."""
    place = place_of(desk, run, desk.run(run), position)
    wanted = (target or "").strip() or None
    key = ("tokens", desk.stamp(run), place, wanted, method)
    view = _kept(desk, key, lambda: _token_shares(desk, run, place, wanted, method))
    figure = figures.token_bars(view, theme=theme)
    return [
        note(view.caption),
        picture(figure, f"{view.title}: one bar per token", kind="scrolling"),
        folded("The numbers as a table", data_table(view.table())),
    ]


def _token_shares(desk: Desk, run: Run, place: int, target: str | None, method: str) -> TokenSharesView:
    lens, capture = desk.lens(run), desk.run(run)
    n_tokens = len(capture.tokens)
    if method == "shapley" and n_tokens > MAX_SHAPLEY:
        raise UsageError(
            f"Shapley values of {n_tokens} tokens take {25 * n_tokens:,} forward passes; this page takes texts of up "
            f"to {MAX_SHAPLEY} tokens. Choose integrated gradients, or shorten the text."
        )
    steps = _steps(n_tokens) if method == "gradients" else None
    return token_shares_view(lens.attribute_tokens(capture, target, position=place, method=method, steps=steps))


def _steps(n_tokens: int) -> int | None:
    return None if n_tokens <= MAX_PRECISE else FEW_STEPS


PAGE = Page(
    path="/stream",
    name="Stream",
    layout=layout,
    register=register,
    controls=(
        POSITION_CONTROL,
        TARGET_CONTROL,
        Control("stream", ids.STREAM_MEASURE),
        Control("method", ids.METHOD),
    ),
)
