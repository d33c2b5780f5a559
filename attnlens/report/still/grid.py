"""All heads at once: a row for each layer, a column for each head."""

from __future__ import annotations

import numpy as np

from attnlens.heads import Head
from attnlens.report.head_figure import glyph_of
from attnlens.report.palette import CATEGORIES, THEMES, Theme, ink_on
from attnlens.report.still.picture import Box, Mark, Picture, Words, shade, text_width, width_of
from attnlens.report.still.scale import SCALE_HEIGHT, scale_marks
from attnlens.report.tables import number
from attnlens.report.views import HeadMapView

__all__ = ["map_picture"]

_LEFT, _TOP = 20.0, 18.0
_TALLEST_CELL = 22.0
_LEAST_GLYPH = 3.6

Sides = tuple[float, float]
"""Width and height of a cell."""


def map_picture(view: HeadMapView, *, width: str | float = "column") -> Picture:
    """Heads coloured by a number, with labelled heads outlined, or by the category of their label.

    Args:
        view: from `head_map_view`, `results_map_view` or `divergence_view`.
        width: "column", "page" or millimetres.

    Raises:
        UsageError: no width.
    """
    wide, theme = width_of(width), THEMES["light"]
    across = (wide - _LEFT) / max(view.n_heads, 1)
    side = across, min(_TALLEST_CELL, across)
    low, high = view.scale
    marks = _axes(view, side, theme)
    for head in view.heads():
        marks += _cell(view, head, side, (low, high), theme)
    bottom = _TOP + side[1] * view.n_layers + 4
    if view.metric is not None:
        unit = f" ({view.metric.unit})" if view.metric.unit else ""
        name = view.metric.name + unit
        marks += scale_marks(_LEFT, bottom, wide - _LEFT, low=number(low), high=number(high), name=name)
        bottom += SCALE_HEIGHT
    legend, bottom = _legend(view, bottom, wide, theme)
    return Picture(wide, bottom, (*marks, *legend), view.title, view.caption)


def _axes(view: HeadMapView, side: Sides, theme: Theme) -> list[Mark]:
    """Numbers of heads above, of layers on the left; some only, where all do not fit."""
    size = 6.5
    across, down = side
    marks: list[Mark] = [
        Words(_LEFT + across * view.n_heads / 2, 6.5, "head", size, theme.muted, "middle"),
        Words(6.5, _TOP + down * view.n_layers / 2, "layer", size, theme.muted, "middle", turned=True),
    ]
    step = max(1, int(np.ceil(1.3 * text_width(str(view.n_heads), size) / across)))
    for head in range(0, view.n_heads, step):
        marks.append(Words(_LEFT + across * (head + 0.5), 14.5, str(head), size, theme.ink, "middle"))
    step = max(1, int(np.ceil(1.1 * size / down)))
    for layer in range(0, view.n_layers, step):
        marks.append(Words(_LEFT - 3, _TOP + down * (layer + 0.5) + 2.3, str(layer), size, theme.ink, "end"))
    return marks


def _cell(view: HeadMapView, head: Head, side: Sides, ends: tuple[float, float], theme: Theme) -> list[Mark]:
    """One head; its label in short where it can be read."""
    note, value = view.notes.get(head), view.value(head)
    gap = 0.6 if min(side) >= 6 else 0.2
    if view.metric is None:
        fill = theme.categories[note.category] if note else theme.unlabelled
    else:
        fill = theme.not_visible if value is None else shade(theme, (value - ends[0]) / (ends[1] - ends[0]))
    x, y = _LEFT + head.head * side[0], _TOP + head.layer * side[1]
    width, height = side[0] - gap, side[1] - gap
    marks: list[Mark] = [Box(x, y, width, height, fill)]
    if note is None:
        return marks
    if view.metric is not None:
        outline = theme.categories[note.category]
        marks.append(Box(x, y, width, height, stroke=outline, thickness=min(1.4, min(width, height) / 8)))
    glyph = glyph_of(note.primary)
    size = min(6.0, 0.9 * width / max(text_width(glyph, 1.0), 1e-9))
    if size >= _LEAST_GLYPH:
        marks.append(Words(x + width / 2, y + height / 2 + 0.35 * size, glyph, size, ink_on(fill), "middle"))
    return marks


def _legend(view: HeadMapView, top: float, wide: float, theme: Theme) -> tuple[list[Mark], float]:
    """The categories that occur, by name, in as many rows as they need."""
    marks: list[Mark] = []
    occurring = {note.category for note in view.notes.values()}
    x, y = _LEFT, top
    for category in CATEGORIES:
        if category not in occurring:
            continue
        room = 9 + text_width(CATEGORIES[category], 6.5) + 6
        if x + room > wide and x > _LEFT:
            x, y = _LEFT, y + 10
        marks.append(Box(x, y + 1, 6, 6, theme.categories[category]))
        marks.append(Words(x + 9, y + 6.3, CATEGORIES[category], 6.5, theme.muted))
        x += room
    return marks, y + 10 if occurring else y
