"""The token view: those that attend on the left, those attended to on the right, a curve for each weight."""

from __future__ import annotations

import numpy as np

from attnlens.errors import UsageError
from attnlens.report.link_figure import THRESHOLD, choose_links, links_note
from attnlens.report.palette import THEMES
from attnlens.report.still.picture import Curve, Mark, Picture, Words, fitted, shade, widest, width_of
from attnlens.report.still.scale import SCALE_HEIGHT, scale_marks
from attnlens.report.views import PatternView

__all__ = ["LONGEST", "token_picture"]

# Rows that a page can hold; a longer text is shown in parts.
LONGEST = 200
_HEAD = 11.0
_APART = 3.0
_MOST_LABEL = 0.3  # of the width


def token_picture(view: PatternView, *, width: str | float = "column", threshold: float = THRESHOLD) -> Picture:
    """A head's weights as curves from tokens to tokens, the strongest on top, wider and darker with the weight.

    Args:
        view: the head's pattern, from `attnlens.report.views.pattern_view`.
        width: "column", "page" or millimetres.
        threshold: weights below it have no curve; the caption says how many are drawn.

    Raises:
        UsageError: more rows than a page holds, or no width.
    """
    n = max(view.weights.shape, default=0)
    if n > LONGEST:
        raise UsageError(f"{n} rows do not fit on a page; show a part of the text, or at most {LONGEST} {view.level}.")
    wide = width_of(width)
    row, size = (11.0, 8.0) if n <= 32 else (8.5, 7.0) if n <= 64 else (6.5, 5.5)
    left = widest(view.row_labels, size, _MOST_LABEL * wide) + _APART
    right = wide - widest(view.column_labels, size, _MOST_LABEL * wide) - _APART
    theme = THEMES["light"]
    marks: list[Mark] = [
        Words(left - _APART, _HEAD - 4, "from", 6.5, theme.muted, "end"),
        Words(right + _APART, _HEAD - 4, "to", 6.5, theme.muted),
    ]
    marks += _curves(view, threshold, (left, right), row)
    for labels, x, anchor in ((view.row_labels, left - _APART, "end"), (view.column_labels, right + _APART, "start")):
        room = x if anchor == "end" else wide - x
        marks += [
            Words(x, _HEAD + row * (at + 0.5) + 0.35 * size, fitted(label, room, size), size, theme.ink, anchor)  # type: ignore[arg-type]
            for at, label in enumerate(labels)
        ]
    bottom = _HEAD + row * n + 4
    marks += scale_marks(left, bottom, right - left, low=f"{threshold:g}", high="1", start=threshold)
    caption = f"{view.caption} {links_note(view, threshold)}"
    return Picture(wide, bottom + SCALE_HEIGHT, tuple(marks), view.title, caption)


def _curves(view: PatternView, threshold: float, ends: tuple[float, float], row: float) -> list[Mark]:
    """Weak ones first, so that strong ones lie on top."""
    queries, keys = choose_links(view, threshold)
    weights = view.weights[queries, keys]
    order = np.argsort(weights, kind="stable")
    heights = ((_HEAD + row * (queries[at] + 0.5), _HEAD + row * (keys[at] + 0.5), float(weights[at])) for at in order)
    return [
        Curve(ends[0], float(start), ends[1], float(end), shade(THEMES["light"], weight), 0.35 + 2.0 * weight)
        for start, end, weight in heights
    ]
