"""What the pages of one head and of all heads share: the layer taken apart, its tokens, and the one that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.heads import Head
from attnlens.report.maps import tokens_of
from attnlens.steps.attending import AttendingLayer, attending_layer
from dashboards.desk import Desk
from dashboards.pages.drawing import Run
from dashboards.pages.reading import place_of

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["asked_at", "labels_of", "layer_of", "letter_of"]


def letter_of(capture: Capture, head: Head) -> str:
    """The stack that an address means in this model."""
    return head.stack or capture.anatomy.main_stack


def labels_of(capture: Capture, letter: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens that ask, and tokens that are asked."""
    queries, keys = tokens_of(capture, letter)
    return tuple(token.label for token in queries), tuple(token.label for token in keys)


def layer_of(desk: Desk, run: Run, capture: Capture, head: Head) -> AttendingLayer:
    """The head's layer, run again; the last ones are kept, since a reader clicks many words of one layer."""
    letter = letter_of(capture, head)

    def make() -> AttendingLayer:
        lens = desk.runs.lens(str(run["model"]))
        return attending_layer(lens, desk.run(run, points=True), head.layer, letter or None)

    return desk.layers.get((desk.stamp(run), letter, head.layer), make)


def asked_at(desk: Desk, run: Run, capture: Capture, letter: str, at: int | None) -> int:
    """The token that asks: the chosen one, or the usual one where this text has no such token."""
    n_queries = len(labels_of(capture, letter)[0])
    if at is not None and 0 <= at < n_queries:
        return at
    return n_queries // 2 if letter == "E" else place_of(desk, run, capture, "")
