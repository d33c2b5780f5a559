"""The page `/inside/block`: one layer at one token, step by step, beside a drawing of how it is wired."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from attnlens.errors import AttnlensError
from attnlens.heads import Head
from attnlens.report.inside.block_view import BlockView, block_view
from attnlens.steps.block import BlockSteps, block_steps
from attnlens.steps.neurons import strongest_neurons
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.attending import asked_at, asking_card, labels_of
from dashboards.pages.inside.block_parts import step_card, token_chips, whole
from dashboards.pages.inside.sections import framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, note, refusal, with_loading
from dashboards.state import ViewState

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy

__all__ = ["PAGE", "PATH", "chosen_block", "draw_block", "layer_options", "layout", "register"]

PATH = "/inside/block"
_LAYER = re.compile(r"([ED]?)(\d{1,4})")
_HINT = "A layer does the same to every token: choose one, and see its own numbers."
_WIRING = "From top to bottom: the stream runs through, each sub-layer reads it and adds to it. Click a box to find it."


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The layer and the token on top, then the wiring beside the steps."""
    question = html.Div([_layer_select(view), note(_HINT)], className="question")
    diagram = html.Div(id=ids.BLOCK_DIAGRAM, className="diagram-frame")
    return framed(
        dcc.Store(id=ids.BLOCK_AT, data=view.at),
        dcc.Store(id=ids.BLOCK_PART, data=view.part),
        dcc.Store(id=ids.BLOCK_DRAWING),
        dcc.Store(id=ids.BLOCK_DRAWN),
        asking_card(question, ids.BLOCK_TOKENS, ids.BLOCK_SUMMARY, "Which layer, at which token"),
        html.Div(
            [
                card("How it is wired", note(_WIRING), diagram, kind="wiring-card"),
                with_loading(html.Div(id=ids.BLOCK_STEPS, className="block-steps")),
            ],
            className="block-page",
        ),
    )


def _layer_select(view: ViewState) -> dmc.Select:
    return dmc.Select(
        id=ids.BLOCK_LAYER,
        label="Layer",
        data=[{"value": "", "label": "…"}],
        value=view.block,
        allowDeselect=False,
        size="xs",
        w=210,
        comboboxProps={"shadow": "md"},
        **aria(label="Layer that is taken apart"),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page. Marking a step and choosing a token happen in the browser (`assets/inside_block.js`)."""

    @app.callback(Output(ids.BLOCK_LAYER, "data"), Input(ids.RUN, "data"), Input(ids.HEAD, "value"))
    def on_run(run: Run, head: str) -> Any:
        need(run, head)
        return layer_options(desk.run(run).anatomy, head)

    @app.callback(
        Output(ids.BLOCK_TOKENS, "children"),
        Output(ids.BLOCK_SUMMARY, "children"),
        Output(ids.BLOCK_STEPS, "children"),
        Output(ids.BLOCK_DRAWING, "data"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.BLOCK_LAYER, "value"),
        Input(ids.BLOCK_AT, "data"),
        Input(ids.THEME, "data"),
    )
    def on_block(run: Run, head: str, chosen: str | None, at: int | None, theme: str) -> Any:
        need(run, head, theme)
        return draw_block(desk, run, chosen, head, at, theme)

    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("inside_diagram", "draw"),
        Output(ids.BLOCK_DRAWN, "data"),
        Input(ids.BLOCK_DRAWING, "data"),
        State(ids.BLOCK_DIAGRAM, "id"),
    )
    browser(
        ClientsideFunction("inside_block", "mark"),
        Output(ids.BLOCK_DIAGRAM, "title"),
        Input(ids.BLOCK_PART, "data"),
        Input(ids.BLOCK_DRAWN, "data"),
        Input(ids.BLOCK_STEPS, "children"),
    )


def layer_options(anatomy: Anatomy, head: str) -> list[dict[str, str]]:
    """Every layer of every stack; first that of the selected head."""
    letter, layer = chosen_block(anatomy, "", head)
    named = {"E": "encoder, ", "D": "decoder, ", "": ""}
    stacks = [stack for stack in anatomy.stacks if stack.letter != "X"]
    first = {"value": "", "label": f"of the selected head: {letter}L{layer}"}
    return [
        first,
        *(
            {"value": f"{stack.letter}{number}", "label": f"{named[stack.letter]}layer {number}"}
            for stack in stacks
            for number in range(stack.n_layers)
        ),
    ]


def chosen_block(anatomy: Anatomy, chosen: str | None, head: str) -> tuple[str, int]:
    """Stack and layer that the control says; those of the selected head where it says none of this model's."""
    sizes = {stack.letter: stack.n_layers for stack in anatomy.stacks if stack.letter != "X"}
    if (match := _LAYER.fullmatch(chosen or "")) and int(match[2]) < sizes.get(match[1], 0):
        return match[1], int(match[2])
    address = Head.parse(head)
    letter = address.stack if address.stack in sizes else anatomy.main_stack
    return letter, min(address.layer, sizes[letter] - 1)


def draw_block(
    desk: Desk, run: Run, chosen: str | None, head: str, at: int | None, theme: str
) -> tuple[list[Any], list[Any], list[Any], dict[str, Any] | None]:
    """The tokens to choose from, what is shown in one line, the steps, and the drawing as data."""
    capture = desk.run(run)
    letter, layer = chosen_block(capture.anatomy, chosen, head)
    labels = labels_of(capture, letter)[0]
    position = asked_at(desk, run, capture, letter, at)
    chips = token_chips(labels, position)
    try:
        view = _view(desk, run, letter, layer, labels, position)
    except AttnlensError as error:
        return chips, [], [refusal(error)], None
    summary = html.P([html.Strong(view.title), html.Span(view.layout), _total(view)])
    parts = [step_card(number, step, theme) for number, step in enumerate(view.steps)]
    return chips, [summary], [whole(view, theme), *parts], view.diagram.to_json()


def _total(view: BlockView) -> html.Span:
    return html.Span(
        f"Multiplied out, the steps below give what the layer gave: {view.total}.",
        className="passed" if view.exact else "failed",
    )


def _view(desk: Desk, run: Run, letter: str, layer: int, labels: tuple[str, ...], position: int) -> BlockView:
    """The layer is taken apart once for all of its tokens."""

    def make() -> BlockView:
        lens, capture = desk.lens(run), desk.run(run, points=True)
        key = (desk.stamp(run), letter, layer)
        steps: BlockSteps = desk.blocks.get(key, lambda: block_steps(lens, capture, layer, letter or None))
        strongest = None if steps.feed_forward is None else strongest_neurons(lens, capture, steps, position)
        return block_view(steps, labels, position, strongest)

    return desk.memo.get(("block", desk.stamp(run), letter, layer, position), make)


PAGE = Page(
    path=PATH,
    name="",
    under="/inside",
    layout=layout,
    register=register,
    controls=(
        Control("block", ids.BLOCK_LAYER),
        Control("at", ids.BLOCK_AT, "data"),
        Control("part", ids.BLOCK_PART, "data"),
    ),
)
