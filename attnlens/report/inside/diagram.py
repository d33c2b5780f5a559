"""A drawing of boxes and lines as plain data; the page draws it as SVG, whose boxes can be clicked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Box", "Diagram", "Line"]


@dataclass(frozen=True)
class Box:
    """A box, or what else has a place of its own.

    Attributes:
        key: what it opens when it is clicked; empty for a box that opens nothing.
        label: its text.
        detail: a second, smaller line.
        x, y: its middle, in the drawing's units (about a pixel).
        width, height: its size.
        kind: how it looks: "norm", "attention", "feed-forward", "add" (a circle with a plus), "text" (no frame),
            "data", "frame" (a dashed frame around others, its label in the upper left corner).
        to: address of a page that it opens instead of a part of this one.
    """

    key: str
    label: str
    x: float
    y: float
    width: float
    height: float
    kind: str
    detail: str = ""
    to: str = ""


@dataclass(frozen=True)
class Line:
    """A line through points; `arrow` puts a head on its end, and `kind` is "stream" or "branch"."""

    points: tuple[tuple[float, float], ...]
    kind: str = "branch"
    arrow: bool = True


@dataclass(frozen=True)
class Diagram:
    """A drawing.

    Attributes:
        width, height: of the whole, in units.
        boxes, lines: what is in it; frames come first.
        title: what it shows, for those who do not see it.
    """

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    title: str

    def to_json(self) -> dict[str, Any]:
        """What the browser draws from."""
        return asdict(self)
