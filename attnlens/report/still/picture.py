"""What a still picture is made of: a few marks in points, which every format draws alike."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from attnlens.errors import UsageError
from attnlens.report.palette import Theme
from attnlens.report.text import shortened

__all__ = [
    "WIDTHS",
    "Arch",
    "Box",
    "Curve",
    "Dot",
    "Line",
    "Mark",
    "Picture",
    "Words",
    "fitted",
    "mixed",
    "shade",
    "text_width",
    "widest",
    "width_of",
]

POINTS_PER_MM = 72 / 25.4
# Millimetres: one column and the whole page of a journal of two columns.
WIDTHS: Mapping[str, float] = {"column": 84.0, "page": 174.0}
_NARROWEST, _WIDEST = 30.0, 1000.0

# Widths of characters as shares of the type's size, those of DejaVu Sans or a little more; other fonts are narrower.
_NARROW = frozenset("iljI.,:;'|!`")
_SLIM = frozenset(' ftr()[]{}/\\-"*')
_BROAD = frozenset("mwMW@%…—")
_WIDTH_OF = {"narrow": 0.34, "slim": 0.43, "broad": 0.98, "capital": 0.74, "plain": 0.64, "wide": 1.05}


@dataclass(frozen=True)
class Box:
    """A rectangle; without a fill only its outline, inside the edges."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    stroke: str | None = None
    thickness: float = 0.0


@dataclass(frozen=True)
class Line:
    """A straight stroke; `dash` is lengths of strokes and gaps in turn, in points."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    thickness: float = 0.6
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A stroke from left to right that leaves and arrives level."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    thickness: float

    @property
    def bends(self) -> tuple[float, float]:
        """Where the two control points stand, between the ends."""
        third = (self.x2 - self.x1) / 3
        return self.x1 + third, self.x2 - third


@dataclass(frozen=True)
class Arch:
    """A stroke from one point of a base line to another, over what is between; its control points are `rise` above."""

    x1: float
    x2: float
    y: float
    rise: float
    colour: str
    thickness: float
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """A disc; with the fill "none" a ring."""

    x: float
    y: float
    radius: float
    fill: str
    stroke: str
    thickness: float = 1.0


@dataclass(frozen=True)
class Words:
    """A line of text; `y` is its base line, `turned` text runs upwards from there."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    turned: bool = False


Mark = Box | Line | Curve | Arch | Dot | Words


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    Attributes:
        width, height: in points (1/72 inch); y runs downwards.
        marks: drawn in this order.
        title: what it shows, in a few words.
        caption: what one has to know to read it; for the text below it, not drawn.
    """

    width: float
    height: float
    marks: tuple[Mark, ...]
    title: str
    caption: str

    def words(self) -> tuple[str, ...]:
        """Every text in the picture, in order."""
        return tuple(mark.text for mark in self.marks if isinstance(mark, Words))

    def _repr_svg_(self) -> str:
        from attnlens.report.still.saving import svg_of

        return svg_of(self)


def width_of(given: str | float) -> float:
    """Points of "column", "page" or a number of millimetres.

    >>> round(width_of("column"), 1), round(width_of("50.8mm"), 1)
    (238.1, 144.0)

    Raises:
        UsageError: another word, or fewer than 30 or more than 1000 mm.
    """
    if isinstance(given, str) and given.strip().lower() in WIDTHS:
        return WIDTHS[given.strip().lower()] * POINTS_PER_MM
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*", str(given), re.ASCII)
    if match is None or not _NARROWEST <= float(match[1]) <= _WIDEST:
        raise UsageError(
            f"{str(given)[:40]!r} is no width of a picture; write {' or '.join(WIDTHS)}, or {_NARROWEST:.0f} to "
            f"{_WIDEST:.0f} millimetres."
        )
    return float(match[1]) * POINTS_PER_MM


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in points; rather too wide than too narrow."""
    return size * sum(_WIDTH_OF[_kind(char)] for char in text if not _adds_nothing(char))


def fitted(label: str, room: float, size: float) -> str:
    """`label` cut in the middle until it fits into `room` points."""
    limit = len(label) or 1
    while limit > 2 and text_width(shortened(label, limit), size) > room + 0.01:
        limit -= 1
    return shortened(label, limit)


def widest(labels: Iterable[str], size: float, most: float) -> float:
    """Room that labels need, at most `most` points."""
    return min(most, max((text_width(shortened(label), size) for label in labels), default=0.0))


def shade(theme: Theme, share: float) -> str:
    """The colour of a weight from 0 to 1, as the pages have it."""
    steps = theme.sequential
    place = min(1.0, max(0.0, share)) * (len(steps) - 1)
    below = min(len(steps) - 2, math.floor(place))
    return mixed(steps[below], steps[below + 1], place - below)


def mixed(first: str, second: str, share: float) -> str:
    """A colour between two, `share` of the way to the second."""
    pairs = ((int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(one + share * (two - one)):02x}" for one, two in pairs)


def _kind(char: str) -> str:
    if unicodedata.east_asian_width(char) in "WF":
        return "wide"
    if char in _NARROW:
        return "narrow"
    if char in _SLIM:
        return "slim"
    if char in _BROAD:
        return "broad"
    return "capital" if char.isupper() else "plain"


def _adds_nothing(char: str) -> bool:
    return unicodedata.combining(char) > 0 or unicodedata.category(char) == "Cf"
