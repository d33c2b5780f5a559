"""Which prediction a page looks at: controls for the position and the target token, shared by several pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output

from attnlens.models.targets import reading_position
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.page import Control
from dashboards.pages.parts import aria
from dashboards.state import ViewState

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = [
    "CHANGED_AT_CONTROL",
    "POSITION_CONTROL",
    "TARGET_CONTROL",
    "place_of",
    "place_text",
    "position_options",
    "position_select",
    "register",
    "target_input",
    "token_select",
]


def position_select(view: ViewState, id: str = ids.POSITION) -> dmc.Select:
    """The tokens of the text to choose from; empty takes the masked or the last one."""
    return token_select(id, "Prediction at", view.at, **aria(label="Token whose prediction is looked at"))


def token_select(id: str, label: str, at: int | None, usual: str = "…", width: int = 210, **named: str) -> dmc.Select:
    """A token of the text to choose, by its place; a callback fills in the tokens, and empty takes the usual one."""
    return dmc.Select(
        id=id,
        label=label,
        data=[{"value": "", "label": usual}],
        value=place_text(at),
        searchable=True,
        allowDeselect=False,
        size="xs",
        w=width,
        comboboxProps={"shadow": "md"},
        nothingFoundMessage="no such token",
        **named,
    )


def target_input(view: ViewState) -> dmc.TextInput:
    """A token of the vocabulary by its spelling."""
    return dmc.TextInput(
        id=ids.TARGET,
        label="Target token",
        placeholder="the model's first choice",
        value=view.target,
        debounce=500,
        size="xs",
        w=210,
        spellCheck=False,
    )


def register(app: Dash, desk: Desk, id: str = ids.POSITION) -> None:
    """Fill the list of positions of the page that has it under this id."""

    @app.callback(Output(id, "data"), Input(ids.RUN, "data"))
    def on_run(run: Run) -> Any:
        need(run)
        return position_options(desk, run)


def position_options(desk: Desk, run: Run) -> list[dict[str, str]]:
    """Every token with its position; first the one that is taken where nobody chooses."""
    capture = desk.run(run)
    tokens = capture.tokens
    usual = place_of(desk, run, capture, "")
    first = {"value": "", "label": f"usual: {usual} {tokens[usual].label}"}
    return [first, *({"value": str(place), "label": f"{place} {token.label}"} for place, token in enumerate(tokens))]


def place_of(desk: Desk, run: Run, capture: Capture, position: str | None) -> int:
    """The position that the control says; the usual one where it says none of this text's."""
    if position and position.isascii() and position.isdigit() and int(position) < len(capture.tokens):
        return int(position)
    tokenizer = None if run.get("run") else desk.lens(run).tokenizer
    return reading_position(capture.tokens, tokenizer, capture.anatomy.causal)


def place_text(at: int | None) -> str:
    """A place as a control that chooses tokens has it; empty for the usual one."""
    return "" if at is None else str(at)


POSITION_CONTROL = Control("at", ids.POSITION, shown=lambda view: place_text(view.at))
CHANGED_AT_CONTROL = Control("at", ids.CHANGED_AT, shown=lambda view: place_text(view.at))
TARGET_CONTROL = Control("target", ids.TARGET)
