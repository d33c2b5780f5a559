"""The key of a picture's colours: a bar from the lowest to the highest number."""

from __future__ import annotations

from collections.abc import Callable

from attnlens.report.palette import THEMES
from attnlens.report.still.picture import Box, Mark, Words, fitted, mixed, shade, text_width

__all__ = ["SCALE_HEIGHT", "difference_shade", "scale_marks"]

SCALE_HEIGHT = 13.0
_BAR = 60.0
_STEPS = 30
_SIZE = 6.5


def scale_marks(
    x: float,
    y: float,
    room: float,
    *,
    low: str,
    high: str,
    name: str = "weight",
    start: float = 0.0,
    colour: Callable[[float], str] | None = None,
) -> list[Mark]:
    """A bar of colour between its two ends as text, with what it stands for.

    Args:
        x: of its left edge, in points.
        y: of its upper edge.
        room: its width with all text.
        low: one end as text.
        high: the other.
        name: of the numbers.
        start: where on the scale the bar begins, 0 to 1.
        colour: of a share from 0 to 1; weights' where nothing is said.
    """
    theme = THEMES["light"]
    paint = colour or (lambda share: shade(theme, share))
    bar = min(_BAR, max(20.0, room * 0.4))
    left = x + text_width(low, _SIZE) + 2
    step = bar / _STEPS
    boxes: list[Mark] = [
        # Each reaches a little into the next, so that no seam shows.
        Box(
            left + i * step,
            y + 2,
            step + (0.3 if i + 1 < _STEPS else 0),
            5,
            paint(start + (1 - start) * i / (_STEPS - 1)),
        )
        for i in range(_STEPS)
    ]
    base = y + 7.2
    after = left + bar + 2
    named = after + text_width(high, _SIZE) + 5
    words = [
        Words(left - 2, base, low, _SIZE, theme.muted, "end"),
        Words(after, base, high, _SIZE, theme.muted),
        Words(named, base, fitted(name, max(12.0, x + room - named), _SIZE), _SIZE, theme.muted),
    ]
    return [*boxes, Box(left, y + 2, bar, 5, stroke=theme.faint, thickness=0.3), *words]


def difference_shade(share: float) -> str:
    """The colour of a difference: 0 is the most below, 0.5 none, 1 the most above."""
    theme = THEMES["light"]
    if share < 0.5:
        return mixed(theme.sequential[6], theme.surface, 2 * share)
    return mixed(theme.surface, theme.accent, 2 * share - 1)
