"""The page `/inside/masks`: who may see whom in the opened model, how softmax sees it, and the other kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html

from attnlens.errors import AttnlensError
from attnlens.heads import Head
from attnlens.report.inside import masks_figure as drawn
from attnlens.report.inside.masks_view import (
    MaskView,
    group_views,
    kind_views,
    padding_caption,
    padding_views,
    row_view,
)
from attnlens.steps.masks import mask_groups, masked_row, window_of
from attnlens.steps.padding import padded_pair
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.sections import framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import card, data_table, folded, note, part_place, picture, refusal
from dashboards.pages.reading import place_text, token_select
from dashboards.state import ViewState

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["PAGE", "PATH", "draw_kinds", "draw_own", "draw_padding", "draw_row", "layout", "query_options", "register"]

PATH = "/inside/masks"
_LONGEST = 128  # tokens of the longest mask that is drawn
_KINDS = 16  # tokens of the pictures of the other kinds
_OWN_HINT = "Rows ask, columns answer: a coloured cell may be looked at, a hatched one is hidden before softmax."
_ROW_HINT = "Hiding a key means giving it the score −∞. Follow one token's row of the selected head through it."
_PADDING_HINT = "Texts of a batch must be equally long: the shorter one is filled up, and what fills it is hidden."
_KINDS_HINT = "The same tokens under every usual kind of mask."


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The opened model's masks, a row through softmax, a batch with padding, and the other kinds."""
    query = token_select(ids.MASK_QUERY, "Token that asks", view.query)
    beside = dmc.TextInput(
        id=ids.MASK_BESIDE,
        label="Second text of the batch",
        value=view.beside,
        placeholder="the beginning of the first",
        debounce=500,
        size="xs",
        w=260,
        spellCheck=False,
    )
    return framed(
        card("Who may see whom in this model", note(_OWN_HINT), part_place(ids.MASK_OWN)),
        card("How softmax sees it", html.Div([query, note(_ROW_HINT)], className="question"), part_place(ids.MASK_ROW)),
        card("Padding", html.Div([beside, note(_PADDING_HINT)], className="question"), part_place(ids.MASK_PADDING)),
        card("Every kind of mask", note(_KINDS_HINT), part_place(ids.MASK_KINDS)),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page: one callback per card."""
    run, head, theme = Input(ids.RUN, "data"), Input(ids.HEAD, "value"), Input(ids.THEME, "data")

    @app.callback(Output(ids.MASK_OWN, "children"), run, theme)
    def on_own(run: Run, theme: str) -> Any:
        need(run, theme)
        return draw_own(desk, run, theme)

    @app.callback(Output(ids.MASK_QUERY, "data"), run, head)
    def on_tokens(run: Run, head: str) -> Any:
        need(run, head)
        return query_options(desk, run, head)

    @app.callback(Output(ids.MASK_ROW, "children"), run, head, Input(ids.MASK_QUERY, "value"), theme)
    def on_row(run: Run, head: str, query: str | None, theme: str) -> Any:
        need(run, head, theme)
        return draw_row(desk, run, head, query, theme)

    @app.callback(Output(ids.MASK_PADDING, "children"), run, Input(ids.MASK_BESIDE, "value"), theme)
    def on_padding(run: Run, beside: str | None, theme: str) -> Any:
        need(run, theme)
        return draw_padding(desk, run, beside, theme)

    @app.callback(Output(ids.MASK_KINDS, "children"), run, theme)
    def on_kinds(run: Run, theme: str) -> Any:
        need(run, theme)
        return draw_kinds(desk, run, theme)


def draw_own(desk: Desk, run: Run, theme: str) -> list[Any]:
    """The masks of this run, each once, with the layers that have it."""
    capture = desk.run(run)
    if refused := _too_long(capture):
        return [refused]
    lens = None if run.get("run") else desk.lens(run)
    window = None if lens is None else window_of(getattr(lens.model, "config", None))
    views = group_views(capture, mask_groups(capture, window))
    return [html.Div([_mask(view, theme) for view in views], className="masks"), *_tables(views)]


def _mask(view: MaskView, theme: str, *, small: bool = False) -> html.Figure:
    mark = [html.Span("this model", className="badge is-plain")] if view.own and small else []
    return html.Figure(
        [
            html.Figcaption([view.title, *mark]),
            picture(drawn.mask_grid(view, theme=theme, small=small), f"{view.title}: who may see whom"),
            note(view.caption),
        ],
        className="side",
    )


def _tables(views: tuple[MaskView, ...]) -> list[Any]:
    return [folded(f"{view.title}, as a table", data_table(view.table())) for view in views]


def _too_long(capture: Capture) -> html.Div | None:
    n = max(len(capture.tokens), 0 if capture.source is None else len(capture.source.tokens))
    return (
        refusal(f"A mask of {n} tokens is too fine to be seen; shorten the text to {_LONGEST}.")
        if n > _LONGEST
        else None
    )


def query_options(desk: Desk, run: Run, head: str) -> list[dict[str, str]]:
    """The tokens that can ask; first the one that is taken where nobody chooses."""
    capture = desk.run(run)
    labels = _queries(capture, head)
    usual = len(labels) // 2
    first = {"value": "", "label": f"usual: {usual} {labels[usual]}"}
    return [first, *({"value": str(at), "label": f"{at} {label}"} for at, label in enumerate(labels))]


def _queries(capture: Capture, head: str) -> tuple[str, ...]:
    encoder = Head.parse(head).stack == "E" and capture.source is not None
    tokens = capture.source.tokens if encoder and capture.source is not None else capture.tokens
    return tuple(token.label for token in tokens)


def draw_row(desk: Desk, run: Run, head: str, query: str | None, theme: str) -> list[Any]:
    """One row of the head: scores, mask, weights."""
    capture, address = desk.run(run), Head.parse(head)
    n = len(_queries(capture, head))
    at = int(query) if query and query.isascii() and query.isdigit() and int(query) < n else n // 2
    if refused := _too_long(capture):
        return [refused]
    try:
        view = row_view(masked_row(capture, address, at), capture, address, at)
    except AttnlensError as error:
        return [refusal(error)]
    shown = picture(drawn.row_cells(view, theme=theme), view.title)
    room = {"minWidth": f"{54 * len(view.labels) + 140}px"}
    return [
        html.H3(view.title, className="part-title"),
        html.Div(html.Div(shown, style=room), className="wide-frame"),
        note(view.caption),
        folded("The numbers as a table", data_table(view.table())),
    ]


def draw_padding(desk: Desk, run: Run, beside: str | None, theme: str) -> list[Any]:
    """The shown text and a second one as a batch."""
    try:
        lens, capture = desk.lens(run), desk.run(run)
        if refused := _too_long(capture):
            return [refused]
        first = (capture.text if capture.source is None else capture.source.text).replace("\n", " ")
        second = (beside or "").strip() or _beginning(first)
        key = ("padding", run["model"], desk.stamp(run)[1], first, second)
        pair = desk.memo.get(key, lambda: padded_pair(lens, first, second))
    except AttnlensError as error:
        return [refusal(error)]
    views = padding_views(pair)
    said = padding_caption(pair)
    return [html.Div([_mask(view, theme) for view in views], className="masks"), note(said), *_tables(views)]


def _beginning(text: str) -> str:
    """The first half of a text's words."""
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def draw_kinds(desk: Desk, run: Run, theme: str) -> list[Any]:
    """Every kind of mask on the first tokens of the text; the opened model's are marked."""
    capture = desk.run(run)
    labels = [token.label for token in capture.tokens][:_KINDS]
    own = [] if _too_long(capture) else [group.kind for group in mask_groups(capture)]
    views = kind_views(labels, own)
    return [html.Div([_mask(view, theme, small=True) for view in views], className="masks is-small")]


PAGE = Page(
    path=PATH,
    name="",
    under="/inside",
    layout=layout,
    register=register,
    controls=(
        Control("query", ids.MASK_QUERY, shown=lambda view: place_text(view.query)),
        Control("beside", ids.MASK_BESIDE),
    ),
)
