"""The page `/inside/positions`: how the opened model tells places apart, and how others do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from attnlens.errors import AttnlensError, CaptureError
from attnlens.heads import Head
from attnlens.models.position_data import position_bias, position_vectors
from attnlens.report.inside import positions_figure as drawn
from attnlens.report.inside.curve_view import CurveView
from attnlens.report.inside.order_view import order_view, span_view
from attnlens.report.inside.positions_view import (
    TurnView,
    bias_view,
    cosine_view,
    scheme_views,
    schemes_table,
    score_view,
    table_view,
    turn_view,
)
from attnlens.report.inside.schemes import SCHEMES, SchemeText
from attnlens.steps.beyond import beyond_the_limit
from attnlens.steps.order import rows_in_both_orders, usual_words
from attnlens.steps.rotation import find_rotations, rotated_pair, usual_pair
from attnlens.zoo.registry import embedded_sentences
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.sections import framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, part_place, picture, refusal
from dashboards.pages.reading import place_text, token_select
from dashboards.state import ViewState

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = [
    "PAGE",
    "PATH",
    "draw_beyond",
    "draw_order",
    "draw_others",
    "draw_scheme",
    "draw_turn",
    "layout",
    "pair_options",
    "register",
]

PATH = "/inside/positions"
_EXAMPLE_TABLE = "attnlens/tiny-gpt2"  # a learned table for models that have none
_LONG_TEXT = 40_000  # characters
_MOST_CELLS = 1200  # of the largest table that is written out
_DIALS_HINT = (
    "One dial per pair of numbers: the solid hand is the query's, the dotted one the key's. Move both along, and all "
    "hands turn but no number changes; pull them apart, and the score does."
)
_ORDER_HINT = (
    "Attention compares words with words, and a sum does not know its order. So a model has to be told where words "
    "stand: here the words change places, and one token's weights are drawn in both orders."
)


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The opened model's scheme, what it does to a pair and to an order, and the others."""
    words = dmc.TextInput(
        id=ids.PLACES_WORDS,
        label="Words",
        value=view.order,
        placeholder="three words",
        debounce=500,
        size="xs",
        w=260,
        spellCheck=False,
    )
    return framed(
        card("How this model tells places apart", part_place(ids.PLACES_SCHEME)),
        _turn_card(view),
        card(
            "The same words in another order",
            html.Div([words, note(_ORDER_HINT)], className="question"),
            part_place(ids.PLACES_ORDER),
        ),
        card("Longer than it was made for", part_place(ids.PLACES_BEYOND)),
        card("The other ways", part_place(ids.PLACES_OTHERS)),
    )


def _turn_card(view: ViewState) -> html.Section:
    """Only for models that turn queries and keys; the browser turns them."""
    choosing = [
        token_select(ids.PLACES_QUERY, "Query", view.query, "usual", 170),
        token_select(ids.PLACES_KEY, "Key", view.key, "strongest", 170),
        _slider(ids.PLACES_ALONG, "Move both along", view.along),
        _slider(ids.PLACES_APART, "Pull them apart", view.apart),
    ]
    return card(
        "A query and a key, turned",
        dcc.Store(id=ids.PLACES_PAIR),
        html.Div(choosing, className="question"),
        html.P(id=ids.PLACES_SCORE, className="places-score", role="status"),
        html.P(_DIALS_HINT, className="note"),
        html.Div(id=ids.PLACES_DIALS, className="dials", role="img", **aria(label="Pairs of the query and the key")),
        part_place(ids.PLACES_TURN),
        id=ids.PLACES_TURN_CARD,
        kind="is-absent",
    )


def _slider(id: str, label: str, value: int) -> html.Div:
    slider = dmc.Slider(
        id=id, value=value, min=0, max=99, step=1, updatemode="drag", size="sm", w=190, thumbLabel=label,
        color="var(--al-accent)",
    )  # fmt: skip
    return html.Div([html.Span(f"{label} (tokens)", className="slider-label"), slider], className="places-slider")


def register(app: Dash, desk: Desk) -> None:
    """Connect the page: one callback per card. Turning happens in the browser (`assets/inside_positions.js`)."""
    run, head, theme = Input(ids.RUN, "data"), Input(ids.HEAD, "value"), Input(ids.THEME, "data")

    @app.callback(Output(ids.PLACES_SCHEME, "children"), run, head, theme)
    def on_scheme(run: Run, head: str, theme: str) -> Any:
        need(run, head, theme)
        return draw_scheme(desk, run, head, theme)

    @app.callback(Output(ids.PLACES_QUERY, "data"), Output(ids.PLACES_KEY, "data"), run)
    def on_tokens(run: Run) -> Any:
        need(run)
        return pair_options(desk, run)

    @app.callback(
        Output(ids.PLACES_PAIR, "data"),
        Output(ids.PLACES_TURN, "children"),
        Output(ids.PLACES_TURN_CARD, "className"),
        run,
        head,
        Input(ids.PLACES_QUERY, "value"),
        Input(ids.PLACES_KEY, "value"),
        theme,
    )
    def on_turn(run: Run, head: str, query: str | None, key: str | None, theme: str) -> Any:
        need(run, head, theme)
        return draw_turn(desk, run, head, query, key, theme)

    @app.callback(Output(ids.PLACES_ORDER, "children"), run, head, Input(ids.PLACES_WORDS, "value"), theme)
    def on_order(run: Run, head: str, words: str | None, theme: str) -> Any:
        need(run, head, theme)
        return draw_order(desk, run, head, words, theme)

    @app.callback(Output(ids.PLACES_BEYOND, "children"), run, theme)
    def on_beyond(run: Run, theme: str) -> Any:
        need(run, theme)
        return draw_beyond(desk, run, theme)

    @app.callback(Output(ids.PLACES_OTHERS, "children"), run, head, theme)
    def on_others(run: Run, head: str, theme: str) -> Any:
        need(run, head, theme)
        return draw_others(desk, run, head, theme)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("inside_positions", "turn"),
        Output(ids.PLACES_SCORE, "children"),
        Input(ids.PLACES_PAIR, "data"),
        Input(ids.PLACES_ALONG, "value"),
        Input(ids.PLACES_APART, "value"),
    )


def draw_scheme(desk: Desk, run: Run, head: str, theme: str) -> list[Any]:
    """The opened model's scheme in words, and its own numbers."""
    capture, address = desk.run(run), Head.parse(head)
    scheme = capture.anatomy.stack(address.stack).position
    if address.stack == "X":
        return [note("Cross-attention looks from one text into another: no place of one is near a place of the other.")]
    said = _described(SCHEMES[scheme])
    try:
        return [*said, *_own_numbers(desk, run, capture, address, scheme, theme)]
    except AttnlensError as error:
        return [*said, refusal(error)]


def _described(scheme: SchemeText) -> list[Any]:
    facts = [("Models", scheme.users), ("Source", scheme.source)]
    return [
        html.P([html.Strong(f"{scheme.name}. "), scheme.sentence], className="sentence"),
        *([html.P(scheme.formula, className="formula")] if scheme.formula else []),
        html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts if value], className="figures"),
    ]


def _own_numbers(desk: Desk, run: Run, capture: Capture, head: Head, scheme: str, theme: str) -> list[Any]:
    if scheme in ("none", "unknown", "rope"):
        return []
    opened = desk.lens(run).opened
    if scheme in ("alibi", "relative bias"):
        bias = position_bias(opened, capture, head.stack)[head.layer]
        view = bias_view(bias, capture.visible(head.layer, stack=head.stack or None), head, scheme)
        return _curve(view, theme)
    vectors = position_vectors(opened, head.stack)
    table, cosine = table_view(vectors, scheme), cosine_view(vectors)
    pictures = [
        _titled("The numbers", picture(drawn.table_columns(table, theme=theme), "The table of positions")),
        _titled("Likeness of positions", picture(drawn.likeness(table, theme=theme), "Cosine of every two positions")),
        _titled(cosine.title, picture(drawn.curves(cosine, theme=theme), cosine.title)),
    ]
    return [
        html.Div(pictures, className="side-by-side"),
        note(f"{table.caption} {cosine.caption}"),
        folded("Likeness by distance as a table", data_table(cosine.table())),
        folded("Likeness of every two of the first positions as a table", data_table(table.table())),
    ]


def _titled(title: str, child: Any) -> html.Figure:
    return html.Figure([html.Figcaption(title), child], className="side")


def _curve(view: CurveView, theme: str) -> list[Any]:
    return [
        html.H3(view.title, className="part-title"),
        picture(drawn.curves(view, theme=theme), view.title),
        note(view.caption),
        folded("The numbers as a table", _table(view)),
    ]


def _table(view: CurveView) -> Any:
    """The numbers, where a page can carry so many cells."""
    table = view.table()
    if len(table.rows) * len(table.columns) > _MOST_CELLS:
        return note(
            f"{len(table.rows)} rows of {len(table.columns)} numbers are too many for a page; shorten the text."
        )
    return data_table(table)


def pair_options(desk: Desk, run: Run) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Every token of the text, for the query and for the key."""
    tokens = [{"value": str(at), "label": f"{at} {token.label}"} for at, token in enumerate(desk.run(run).tokens)]
    return [{"value": "", "label": "usual: the last"}, *tokens], [{"value": "", "label": "usual: strongest"}, *tokens]


def draw_turn(
    desk: Desk, run: Run, head: str, query: str | None, key: str | None, theme: str
) -> tuple[dict[str, Any] | None, list[Any], str]:
    """The pair as data for the browser, what its score is at other distances, and whether the card is there at all."""
    capture, address = desk.run(run), Head.parse(head)
    if capture.anatomy.stack(address.stack).position != "rope":
        return None, [], "card is-absent"
    try:
        view = _turn_view(desk, run, capture, address, query, key)
    except AttnlensError as error:
        return None, [refusal(error)], "card is-still"
    curve = score_view(view)
    shown = [
        note(view.caption),
        *_curve(curve, theme),
        folded("The pairs as a table", data_table(view.table())),
    ]
    return view.to_json(), shown, "card"


def _turn_view(desk: Desk, run: Run, capture: Capture, head: Head, query: str | None, key: str | None) -> TurnView:
    lens = desk.lens(run)
    rotations = desk.memo.get(("rotations", run["model"], desk.stamp(run)[1]), lambda: find_rotations(lens))
    rotation = rotations[head.layer]
    if rotation is None:
        raise CaptureError(f"layer {head.layer} of this model turns nothing; choose a head of another layer.")
    asks, strongest = usual_pair(capture, head, _chosen(query, len(capture.tokens)))
    answers = _chosen(key, len(capture.tokens))
    pair = rotated_pair(capture, head, asks, strongest if answers is None else answers, rotation)
    return turn_view(capture, pair, rotation, head)


def _chosen(at: str | None, n_tokens: int) -> int | None:
    return int(at) if at and at.isascii() and at.isdigit() and int(at) < n_tokens else None


def draw_order(desk: Desk, run: Run, head: str, words: str | None, theme: str) -> list[Any]:
    """One row of attention over the words in two orders, with positions and without."""
    address = Head.parse(head)
    try:
        lens = desk.lens(run)
        text = (words or "").strip() or usual_words(lens)
        key = ("order", run["model"], desk.stamp(run)[1], address, text)
        view = desk.memo.get(key, lambda: order_view(rows_in_both_orders(lens, address, text)))
    except AttnlensError as error:
        return [refusal(error)]
    return [
        html.H3(view.title, className="part-title"),
        picture(drawn.order_bars(view, theme=theme), view.title),
        note(view.caption),
        folded("The numbers as a table", data_table(view.table())),
    ]


def draw_beyond(desk: Desk, run: Run, theme: str) -> list[Any]:
    """What happens to a text longer than the model was made for."""
    try:
        lens = desk.lens(run)
        text = embedded_sentences(_LONG_TEXT)
        key = ("beyond", run["model"], desk.stamp(run)[1])
        view = desk.memo.get(key, lambda: span_view(beyond_the_limit(lens, text)))
    except AttnlensError as error:
        return [refusal(error)]
    said = note(view.caption)
    if not view.losses:
        return [said]
    table = folded("The numbers as a table", data_table(view.table()))
    return [said, picture(drawn.span_bars(view, theme=theme), view.title), table]


def draw_others(desk: Desk, run: Run, head: str, theme: str) -> list[Any]:
    """Every scheme beside each other, in the sizes of the opened model; its own is marked."""
    anatomy = desk.run(run).anatomy
    stack = anatomy.stack(Head.parse(head).stack)
    views = scheme_views(stack.n_heads, stack.d_head, _learned(desk, run, stack.position, stack.letter))
    cards = [_scheme_card(name, views, theme, own=name == stack.position) for name in SCHEMES if name in views]
    cards.append(_scheme_card("none", views, theme, own=stack.position == "none"))
    return [html.Div(cards, className="schemes"), folded("The numbers as a table", data_table(schemes_table(views)))]


def _scheme_card(name: str, views: Mapping[str, CurveView], theme: str, *, own: bool) -> html.Article:
    scheme = SCHEMES[name]
    mark = [html.Span("this model", className="badge is-plain")] if own else []
    drawing = []
    if name in views:
        view = views[name]
        drawing = [
            picture(drawn.curves(view, theme=theme, small=True), f"{scheme.name}: {view.caption}"),
            note(view.caption),
        ]
    return html.Article(
        [html.H3([scheme.name, *mark], className="part-title"), html.P(scheme.sentence, className="note"), *drawing],
        className="scheme is-own" if own else "scheme",
    )


def _learned(desk: Desk, run: Run, scheme: str, letter: str) -> Any:
    """The model's own learned table, or an embedded model's as an example; None where neither is at hand."""
    try:
        if scheme == "learned":
            return position_vectors(desk.lens(run).opened, letter)
        return position_vectors(desk.runs.lens(_EXAMPLE_TABLE).opened)
    except AttnlensError:
        return None


PAGE = Page(
    path=PATH,
    name="",
    under="/inside",
    layout=layout,
    register=register,
    controls=(
        Control("query", ids.PLACES_QUERY, shown=lambda view: place_text(view.query)),
        Control("key", ids.PLACES_KEY, shown=lambda view: place_text(view.key)),
        Control("along", ids.PLACES_ALONG),
        Control("apart", ids.PLACES_APART),
        Control("order", ids.PLACES_WORDS),
    ),
)
