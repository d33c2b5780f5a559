"""Matrices: a row for each token that attends, a column for each that is attended to, a shade for each number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attnlens.errors import UsageError
from attnlens.report.comparison_view import DifferenceView
from attnlens.report.maps import Maps
from attnlens.report.palette import THEMES
from attnlens.report.pattern_figure import hatching
from attnlens.report.still.picture import Box, Line, Mark, Picture, Words, fitted, shade, widest, width_of
from attnlens.report.still.scale import SCALE_HEIGHT, difference_shade, scale_marks
from attnlens.report.tables import number
from attnlens.report.views import PatternView

__all__ = ["LONGEST", "difference_picture", "matrix_picture", "mixing_picture"]

# Rows and columns up to which cells and labels can be told apart on paper.
LONGEST = 128
_LARGEST_CELL = 16.0
_LARGEST_TYPE, _SMALLEST_TYPE = 8.0, 4.5
_MOST_LABEL = 0.28  # of the width
_APART = 3.0
_SEAM = 0.15  # how far a cell reaches under the next, so that no seam shows between them


@dataclass(frozen=True)
class _Cells:
    """Numbers with labels and their colours; NaN is a hidden cell."""

    values: Float[np.ndarray, "row column"]
    rows: Sequence[str]
    columns: Sequence[str]
    colour: Callable[[float], str]


def matrix_picture(view: PatternView, *, width: str | float = "column") -> Picture:
    """A head's matrix; cells that the mask hides are hatched, which weight 0 is not.

    Args:
        view: the head's pattern, from `attnlens.report.views.pattern_view`.
        width: "column", "page" or millimetres.

    Raises:
        UsageError: more rows or columns than can be told apart, or no width.
    """
    weights = np.where(view.visible, view.weights, np.nan)
    return _one(weights, view.row_labels, view.column_labels, view.title, view.caption, width)


def mixing_picture(maps: Maps, *, width: str | float = "column") -> Picture:
    """The first of some maps, such as a measure of mixing, on a scale that ends at its largest number.

    Args and errors as for `matrix_picture`.
    """
    values = maps.weights[0]
    high = max(float(np.nanmax(values, initial=0)), 1e-9) if maps.unit else 1.0
    return _one(values, maps.rows.labels, maps.columns.labels, maps.names[0], maps.captions[0], width, high, maps.unit)


def difference_picture(view: DifferenceView, *, width: str | float = "page") -> Picture:
    """One head in two runs, and second less first: orange is more in the second, blue more in the first.

    Args and errors as for `matrix_picture`.
    """
    most = max(float(np.abs(view.difference).max(initial=0)), 0.01)
    wide = width_of(width)
    gap = 8.0
    part = (wide - 2 * gap) / 3
    parts = (
        ("first", _Cells(view.first, view.row_labels, view.column_labels, _weight_shade(1.0))),
        ("second", _Cells(view.second, view.row_labels, view.column_labels, _weight_shade(1.0))),
        ("second − first", _Cells(view.difference, view.row_labels, view.column_labels, _difference(most))),
    )
    marks: list[Mark] = []
    bottom = 0.0
    for place, (name, cells) in enumerate(parts):
        left = place * (part + gap)
        drawn, bottom = _matrix(cells, left, 10.0, part)
        marks += [Words(left, 7.0, name, 7.0, THEMES["light"].muted), *drawn]
    marks += scale_marks(0, bottom + 3, part, low="0", high="1")
    low, high, last = number(-most), f"+{number(most)}", 2 * (part + gap)
    marks += scale_marks(last, bottom + 3, part, low=low, high=high, name="difference", colour=difference_shade)
    return Picture(wide, bottom + 3 + SCALE_HEIGHT, tuple(marks), view.title, view.caption)


def _one(
    values: Float[np.ndarray, "row column"],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    caption: str,
    width: str | float,
    high: float = 1.0,
    unit: str = "",
) -> Picture:
    wide = width_of(width)
    marks, bottom = _matrix(_Cells(values, rows, columns, _weight_shade(high)), 0.0, 0.0, wide)
    end = number(high) if unit else "1"
    left = max((mark.x for mark in marks if isinstance(mark, Words) and mark.anchor == "end"), default=0.0) + _APART
    marks += scale_marks(left, bottom + 3, wide - left, low="0", high=end, name=unit or "weight")
    return Picture(wide, bottom + 3 + SCALE_HEIGHT, tuple(marks), title, caption)


def _weight_shade(high: float) -> Callable[[float], str]:
    return lambda value: shade(THEMES["light"], value / high)


def _difference(most: float) -> Callable[[float], str]:
    return lambda value: difference_shade(0.5 + value / (2 * most))


def _matrix(cells: _Cells, x: float, y: float, width: float) -> tuple[list[Mark], float]:
    """The marks of one matrix inside `width` points, and where it ends."""
    n_rows, n_columns = cells.values.shape
    if max(n_rows, n_columns) > LONGEST:
        raise UsageError(
            f"{n_rows} x {n_columns} cells are too many for paper, {LONGEST} fit; show a part of the text."
        )
    theme = THEMES["light"]
    size = _type_size(cells, width)
    left = x + widest(cells.rows, size, _MOST_LABEL * width) + _APART
    top = y + widest(cells.columns, size, _MOST_LABEL * width) + _APART
    side = min(_LARGEST_CELL, (x + width - left) / max(n_columns, 1))
    bottom = top + side * n_rows
    marks = _hidden(cells.values, left, top, side)
    marks += [
        Box(left + column * side, top + row * side, side + over[0], side + over[1], cells.colour(float(value)))
        for (row, column), value in np.ndenumerate(cells.values)
        if not np.isnan(value)
        for over in [(_SEAM * (column + 1 < n_columns), _SEAM * (row + 1 < n_rows))]
    ]
    marks.append(Box(left, top, side * n_columns, side * n_rows, stroke=theme.faint, thickness=0.4))
    for labels, across in ((cells.rows, False), (cells.columns, True)):
        step = max(1, int(np.ceil(size / side)))
        room = (top - y if across else left - x) - _APART
        for at in range(0, len(labels), step):
            middle = side * (at + 0.5) + 0.35 * size
            text = fitted(labels[at], room, size)
            if across:
                marks.append(Words(left + middle, top - _APART, text, size, theme.ink, turned=True))
            else:
                marks.append(Words(left - _APART, top + middle, text, size, theme.ink, "end"))
    return marks, bottom


def _type_size(cells: _Cells, width: float) -> float:
    """Type that fits a cell, if cells take what the labels leave."""
    n = max(*cells.values.shape, 1)
    return float(np.clip(0.8 * min(_LARGEST_CELL, (1 - _MOST_LABEL) * width / n), _SMALLEST_TYPE, _LARGEST_TYPE))


def _hidden(values: Float[np.ndarray, "row column"], left: float, top: float, side: float) -> list[Mark]:
    """The ground that hidden cells leave free: one box under all, with strokes where cells are hidden."""
    theme = THEMES["light"]
    hidden = np.isnan(values)
    if not hidden.any():
        return []
    n_rows, n_columns = values.shape
    marks: list[Mark] = [Box(left, top, n_columns * side, n_rows * side, theme.not_visible)]
    xs, ys = hatching(~hidden)
    for at in range(0, len(xs), 3):
        ends = [xs[at], ys[at], xs[at + 1], ys[at + 1]]
        x1, y1, x2, y2 = (edge + 0.5 for edge in ends if edge is not None)
        marks.append(Line(left + x1 * side, top + y1 * side, left + x2 * side, top + y2 * side, theme.hatch, 0.4))
    return marks
