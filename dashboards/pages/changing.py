"""Callbacks of the page `/intervene`: the map of heads, the effect of each, and the prediction before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from attnlens.errors import AttnlensError, UsageError
from attnlens.heads import Head
from attnlens.report import figures
from attnlens.report.maps import tokens_of
from attnlens.report.outcome_view import (
    MAIN,
    AblationView,
    ChangeView,
    StatesView,
    ablation_view,
    change_view,
    states_view,
)
from dashboards import ids
from dashboards.changes import OTHER, Changes, corpus_of, given_text, heads_in, read_cuts
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, is_open, need
from dashboards.pages.parts import aria, data_table, folded, note, picture, refusal, room_for
from dashboards.pages.reading import place_of

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.capture.tokens import Token
    from attnlens.models.anatomy import Stack

__all__ = ["cut_buttons", "cut_options", "draw_off", "draw_outcome", "off_view", "register", "sweep_layer"]

MAX_ROWS = 4096  # tokens that a batch of ablated copies may have together
_EFFECT = "effect of switching the head off"
_TWO_STACKS = (
    "This model reads one text and writes another. The prediction is of what it writes; heads and edges are those of "
    "the selected head's stack (E encoder, D decoder, X from one to the other); the stream that is patched is the "
    "decoder's, where a second text is read in the first one's place."
)

Sweep = dict[str, Any]


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""
    _register_map(app, desk)
    _register_outcome(app, desk)
    _register_sweep(app, desk)
    _register_choosing(app)


def _register_map(app: Dash, desk: Desk) -> None:
    shown = (Input(ids.RUN, "data"), Input(ids.OFF, "data"), Input(ids.SWEEP, "data"), Input(ids.HOW, "value"))
    place, chosen = Input(ids.CHANGED_AT, "value"), Input(ids.HEAD, "value")

    @app.callback(
        Output(ids.OFF_MAP, "figure"),
        Output(ids.OFF_MAP, "style"),
        Output(ids.OFF_CAPTION, "children"),
        *shown,
        place,
        chosen,
        Input(ids.THEME, "data"),
    )
    def on_map(run: Run, off: str, sweep: Sweep, how: str, position: str, head: str, theme: str) -> Any:
        need(run, head, theme)
        view = off_view(desk, run, off, sweep, how, position, head)
        figure = draw_off(view, head, theme)
        return figure, room_for(figure), view.caption

    opened = Input(f"{ids.OFF_TABLE}-summary", "n_clicks")

    @app.callback(Output(ids.OFF_TABLE, "children"), *shown, place, chosen, opened)
    def on_table(run: Run, off: str, sweep: Sweep, how: str, position: str, head: str, clicks: int | None) -> Any:
        need(run, head, is_open(clicks))
        return data_table(off_view(desk, run, off, sweep, how, position, head).table())


def _register_outcome(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.OUTCOME, "children"),
        Input(ids.RUN, "data"),
        Input(ids.CHANGED_AT, "value"),
        Input(ids.OFF, "data"),
        Input(ids.HOW, "value"),
        Input(ids.CUTS, "data"),
        Input(ids.OTHER_TEXT, "value"),
        Input(ids.PATCH, "value"),
        Input(ids.PATCH_AT, "value"),
        Input(ids.THEME, "data"),
    )
    def on_change(
        run: Run, position: str, off: str, how: str, cuts: str, other: str, layer: str, place: str, theme: str
    ) -> Any:
        need(run, theme)
        changes = Changes(
            off=heads_in(off or ""),
            how=how,
            cuts=read_cuts(cuts or ""),
            other=other or "",
            layer=_number(layer),
            place=_number(place),
        )
        return draw_outcome(desk, run, position, changes, theme)

    @app.callback(Output(ids.CUT_LIST, "children"), Input(ids.RUN, "data"), Input(ids.CUTS, "data"))
    def on_cuts(run: Run, cuts: str | None) -> Any:
        need(run)
        return cut_buttons(desk, run, cuts or "")

    @app.callback(
        Output(ids.CUT_FROM, "data"), Output(ids.CUT_TO, "data"), Input(ids.RUN, "data"), Input(ids.HEAD, "value")
    )
    def on_stack(run: Run, head: str) -> Any:
        need(run, head)
        return cut_options(desk, run, head)

    @app.callback(
        Output(ids.PATCH_AT, "data"),
        Output(ids.PATCH, "data"),
        Output(ids.TWO_STACKS, "children"),
        Input(ids.RUN, "data"),
    )
    def on_run(run: Run) -> Any:
        need(run)
        capture = desk.run(run)
        layers = [{"value": str(layer), "label": f"layer {layer}"} for layer in range(capture.n_layers)]
        every, none = {"value": "", "label": "every token"}, {"value": "", "label": "no layer"}
        told = _TWO_STACKS if capture.anatomy.is_encoder_decoder else ""
        return [every, *_named(capture.tokens)], [none, *layers], told


def _register_sweep(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.SWEEP, "data"),
        Input(ids.SWEEP_STEP, "data"),
        State(ids.RUN, "data"),
        State(ids.HOW, "value"),
        State(ids.CHANGED_AT, "value"),
        State(ids.SWEEP, "data"),
        State(ids.HEAD, "value"),
        prevent_initial_call=True,
    )
    def on_step(step: dict[str, Any] | None, run: Run, how: str, position: str, sweep: Sweep | None, head: str) -> Any:
        need(step, run)
        assert step is not None
        found = sweep_layer(desk, run, how, position, int(step["layer"]), sweep, step.get("key"), head)
        if found is not None:
            return found
        if sweep is None:
            raise PreventUpdate
        return sweep | {"of": sweep["done"]}  # another text, position, way or stack since: the sweep ends here


def _register_choosing(app: Dash) -> None:
    """What needs no server: clicks and keys switch heads and cut edges; a sweep goes on layer by layer."""
    browser: Any = app.clientside_callback
    browser(
        ClientsideFunction("intervene", "toggleHead"),
        Output(ids.OFF, "data", allow_duplicate=True),
        Input(ids.OFF_MAP, "clickData"),
        State(ids.OFF, "data"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("intervene", "allOn"),
        Output(ids.OFF, "data", allow_duplicate=True),
        Input(ids.OFF_CLEAR, "n_clicks"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("intervene", "remember"),
        Output(ids.OFF_FRAME, "title"),
        Input(ids.RUN, "data"),
        Input(ids.HEAD, "value"),
        Input(ids.OFF, "data"),
    )
    browser(
        ClientsideFunction("intervene", "addCut"),
        Output(ids.CUTS, "data", allow_duplicate=True),
        Input(ids.CUT_ADD, "n_clicks"),
        State(ids.CUTS, "data"),
        State(ids.CUT_FROM, "value"),
        State(ids.CUT_TO, "value"),
        State(ids.CUT_HEADS, "value"),
        State(ids.HEAD, "value"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("intervene", "removeCut"),
        Output(ids.CUTS, "data", allow_duplicate=True),
        Input({"type": ids.CUT, "index": ALL}, "n_clicks"),
        State(ids.CUTS, "data"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("intervene", "startSweep"),
        Output(ids.SWEEP_STEP, "data"),
        Input(ids.SWEEP_BUTTON, "n_clicks"),
        prevent_initial_call=True,
    )
    browser(
        ClientsideFunction("intervene", "nextLayer"),
        Output(ids.SWEEP_STATUS, "children"),
        Input(ids.SWEEP, "data"),
        prevent_initial_call=True,
    )


def off_view(
    desk: Desk, run: Run, off: str, sweep: Sweep | None, how: str, position: str | None, head: str = ""
) -> AblationView:
    """The heads that are off in the stack of `head`, with a sweep's effects if it was of this text, place and way."""
    capture = desk.run(run)
    stack = _stack_of(capture, head)
    effects: dict[Head, float] = {}
    name, unit = _EFFECT, ""
    if sweep and sweep["key"] == _sweep_key(desk, run, how, place_of(desk, run, capture, position), stack.letter):
        effects = {Head.parse(head): float(value) for head, value in sweep["effects"].items()}
        name, unit = str(sweep["name"]), str(sweep["unit"])
    return ablation_view(stack.n_layers, stack.n_heads, heads_in(off or ""), effects, name, unit, stack.letter)


def draw_off(view: AblationView, head: str, theme: str) -> Any:
    """The map of heads with a frame around the selected one."""
    chosen = Head.parse(head)
    shown = chosen.stack == view.stack or {chosen.stack, view.stack} <= set(MAIN)
    return figures.ablation_map(view, theme=theme, selected=chosen if shown else None)


def cut_options(desk: Desk, run: Run, head: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What attends and what is attended to in the stack of a head."""
    capture = desk.run(run)
    queries, keys = tokens_of(capture, _stack_of(capture, head).letter)
    return _named(queries), _named(keys)


def _named(tokens: Sequence[Token]) -> list[dict[str, str]]:
    return [{"value": str(at), "label": f"{at} {token.label}"} for at, token in enumerate(tokens)]


def _stack_of(capture: Capture, head: str) -> Stack:
    """The stack of a head; the main one where the head has no letter, or one of a stack that this model lacks."""
    letter = Head.parse(head).stack if head else ""
    known = {stack.letter: stack for stack in capture.anatomy.stacks}
    return known.get(letter) or known[capture.anatomy.main_stack]


def draw_outcome(desk: Desk, run: Run, position: str | None, changes: Changes, theme: str) -> list[Any]:
    """The prediction before and after, or the last states; what cannot be done is said in its place."""
    try:
        return _outcome(desk, run, position, changes, theme)
    except AttnlensError as error:
        return [refusal(error)]


def _outcome(desk: Desk, run: Run, position: str | None, changes: Changes, theme: str) -> list[Any]:
    from attnlens.interventions.outcomes import compare_predictions, compare_states
    from attnlens.models.running import has_head

    capture, lens = desk.run(run), desk.lens(run)
    place = place_of(desk, run, capture, position)
    key = ("outcome", desk.stamp(run), place, changes)
    if not has_head(lens.model):
        text = given_text(lens, run, capture)
        states = states_view(desk.memo.get(key, lambda: compare_states(lens, text, changes.edit(desk, run, lens))))
        drawn = picture(figures.state_bars(states, theme=theme), f"{states.title}: one bar per token", kind="scrolling")
        return _told(states, drawn)
    asked, masked = _question(desk, run, place)
    found = desk.memo.get(key, lambda: compare_predictions(lens, asked, changes.edit(desk, run, lens), place))
    view = change_view(found, masked=masked, causal=lens.anatomy.causal)
    label = f"{view.title}: probabilities before and after"
    return _told(view, picture(figures.change_bars(view, theme=theme), label))


def _told(view: ChangeView | StatesView, drawn: html.Div) -> list[Any]:
    """A picture under what it shows and what was done, above its numbers."""
    done = [html.P(view.done, className="note done")] if view.done else []
    return [note(view.caption), *done, drawn, folded("The numbers as a table", data_table(view.table()))]


def _question(desk: Desk, run: Run, place: int) -> tuple[Any, bool]:
    """What the model is given, and whether the token at the place is masked for it."""
    from attnlens.interventions.outcomes import masked_text

    capture, lens = desk.run(run), desk.lens(run)
    text = given_text(lens, run, capture)
    if lens.anatomy.causal or not isinstance(text, str) or getattr(lens.tokenizer, "mask_token", None) is None:
        return text, False
    return masked_text(lens, capture, place), True


def cut_buttons(desk: Desk, run: Run, cuts: str) -> list[html.Button]:
    """One button per cut edge, which takes the cut back."""
    capture = desk.run(run)

    def named(place: int, tokens: Sequence[Token]) -> str:
        return f"{place} {tokens[place].label}" if place < len(tokens) else str(place)

    buttons = []
    for index, cut in enumerate(read_cuts(cuts)):
        queries, keys = tokens_of(capture, cut.letter)
        text = f"{named(cut.query, queries)} → {named(cut.key, keys)} in {cut.where}"
        buttons.append(
            html.Button(
                [text, html.Span(" ✕", **aria(hidden="true"))],
                id={"type": ids.CUT, "index": index},
                className="chip",
                type="button",
                **aria(label=f"Take back: {text}"),
            )
        )
    return buttons


def sweep_layer(
    desk: Desk,
    run: Run,
    how: str,
    position: str | None,
    layer: int,
    sweep: Sweep | None,
    key: str | None,
    head: str = "",
) -> Sweep | None:
    """The sweep with one more layer: what each of its heads does when it alone is off.

    Args:
        desk: the server's side.
        run: the page's run.
        how: what the head passes on instead.
        position: whose prediction is looked at.
        layer: which to measure.
        sweep: what was measured before; layer 0 begins anew.
        key: of the sweep that goes on; None begins one.
        head: of the stack whose heads are measured.

    Returns:
        The sweep, or None where the page asks for another one by now.

    Raises:
        AttnlensError: heads cannot be switched off this way.
    """
    from attnlens.interventions.metrics import Divergence, Turn
    from attnlens.interventions.sweeps import ablate_each
    from attnlens.models.running import has_head

    if how == OTHER:
        raise UsageError("every head can be measured with zeros, means or resampled values; choose one of these.")
    capture, lens = desk.run(run), desk.lens(run)
    place = place_of(desk, run, capture, position)
    stack = _stack_of(capture, head)
    now = _sweep_key(desk, run, how, place, stack.letter)
    if key not in (None, now) or (layer and (not sweep or sweep["key"] != now)):
        return None
    headless = not has_head(lens.model)
    text = given_text(lens, run, capture) if headless else _question(desk, run, place)[0]
    heads = [each for each in stack.heads() if each.layer == layer]
    source = "corpus" if how == "zero" else corpus_of(desk, run)
    found = ablate_each(
        lens, text, Turn() if headless else Divergence(place), heads, how=how, source=source,
        batch_size=max(1, min(32, MAX_ROWS // max(len(capture.tokens), 1))),
    )  # fmt: skip
    before = sweep["effects"] if sweep and layer else {}
    effects = dict(zip(map(str, found.heads), found.changes.tolist(), strict=True))
    return {
        "key": now,
        "effects": before | effects,
        "name": found.metric,
        "unit": found.unit,
        "done": layer + 1,
        "of": stack.n_layers,
    }


def _sweep_key(desk: Desk, run: Run, how: str, place: int, letter: str) -> str:
    return "-".join((*desk.stamp(run), how, str(place), letter))


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 7 else None
