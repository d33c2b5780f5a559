"""What the pages of a head, of all heads and of a block share: the tokens, the one that asks, the layer run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dash import html

from attnlens.heads import Head
from attnlens.report.maps import tokens_of
from attnlens.steps.attending import AttendingLayer, attending_layer
from dashboards.desk import Desk
from dashboards.pages.drawing import Run
from dashboards.pages.parts import aria
from dashboards.pages.reading import place_of

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["Asked", "asked_at", "asked_of", "asking_card", "labels_of", "layer_of"]


@dataclass(frozen=True, eq=False)
class Asked:
    """A head of a run and the token that asks.

    Attributes:
        capture: the run.
        head: the head.
        queries, keys: labels of the tokens that ask, and of those that are asked.
        place: the one that asks.
    """

    capture: Capture
    head: Head
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    place: int


def asking_card(lead: Any, tokens: str, summary: str, label: str) -> html.Section:
    """The panel on top: what is to be chosen, the tokens as buttons, and what is shown in a few lines."""
    chips = html.Div(id=tokens, className="token-chips", role="group", **aria(label="Token that asks"))
    said = html.Div(id=summary, className="block-summary", role="status")
    return html.Section([lead, chips, said], className="card", **aria(label=label))


def asked_of(desk: Desk, run: Run, head: str, at: int | None) -> Asked:
    """What the controls say of this run."""
    capture, address = desk.run(run), Head.parse(head)
    letter = _letter_of(capture, address)
    queries, keys = labels_of(capture, letter)
    return Asked(capture, address, queries, keys, asked_at(desk, run, capture, letter, at))


def labels_of(capture: Capture, letter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens that ask, and tokens that are asked."""
    queries, keys = tokens_of(capture, letter)
    return tuple(token.label for token in queries), tuple(token.label for token in keys)


def layer_of(desk: Desk, run: Run, asked: Asked) -> AttendingLayer:
    """The head's layer, run again; the last ones are kept, since a reader clicks many words of one layer."""
    letter, layer = _letter_of(asked.capture, asked.head), asked.head.layer

    def make() -> AttendingLayer:
        lens = desk.lens(run)
        return attending_layer(lens, desk.run(run, points=True), layer, letter or None)

    return desk.layers.get((desk.stamp(run), letter, layer), make)


def asked_at(desk: Desk, run: Run, capture: Capture, letter: str, at: int | None) -> int:
    """The token that asks: the chosen one, or the usual one where this text has no such token."""
    n_queries = len(labels_of(capture, letter)[0])
    if at is not None and 0 <= at < n_queries:
        return at
    return n_queries // 2 if letter == "E" else place_of(desk, run, capture, "")


def _letter_of(capture: Capture, head: Head) -> str:
    """The stack that an address means in this model."""
    return head.stack or capture.anatomy.main_stack
