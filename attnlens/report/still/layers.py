"""What a probe reads off the residual stream by depth, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from attnlens.report.layers import LayerPanel
from attnlens.report.palette import THEMES
from attnlens.report.still.picture import Dot, Line, Mark, Picture, Words, fitted, text_width, width_of

__all__ = ["layers_picture"]

_LEFT, _TOP, _HEIGHT, _SIZE = 24.0, 6.0, 110.0, 6.5
# Controls are told apart by dashes, by colours that differ in lightness, and by their order in the key.
_TINTS = ("sink", "coreference", "induction", "broad", "other")
_DASHES = ((3.0, 2.0), (1.0, 1.5), (4.0, 1.5, 1.0, 1.5), (6.0, 2.0), (6.0, 1.5, 1.0, 1.5))


def layers_picture(panel: LayerPanel, *, width: str | float = "column") -> Picture:
    """The main measure of a task by depth with its 95 % intervals, a line per control, a ring at the chosen depth.

    Args:
        panel: from `attnlens.report.layers.layer_panels`.
        width: "column", "page" or millimetres.

    Raises:
        UsageError: no width.
    """
    wide, theme = width_of(width), THEMES["light"]
    known = [score.score for score in panel.main if score.score is not None]
    low = min(0.0, *known) if known else 0.0
    step = (wide - _LEFT - 6) / max(len(panel.main) - 1, 1)

    def place(at: int, value: float) -> tuple[float, float]:
        return _LEFT + step * at, _TOP + _HEIGHT * (1 - (value - low) / (1 - low))

    marks = _axes(panel, low, step, wide)
    for index, name in enumerate(panel.controls):
        values = [score.controls.get(name) for score in panel.main]
        tint, dash = theme.categories[_TINTS[index % len(_TINTS)]], _DASHES[index % len(_DASHES)]
        marks += _line([place(at, value) if value is not None else None for at, value in enumerate(values)], tint, dash)
    main = [place(at, score.score) if score.score is not None else None for at, score in enumerate(panel.main)]
    for at, score in enumerate(panel.main):
        if score.ci is not None:
            (x, high), (_, down) = place(at, score.ci[1]), place(at, score.ci[0])
            marks.append(Line(x, high, x, down, theme.muted, 0.8))
    marks += _line(main, theme.sequential[7], ())
    marks += [Dot(*point, 1.7, theme.sequential[7], theme.sequential[7], 0.2) for point in main if point is not None]
    marks += [
        Dot(*point, 4.0, "none", theme.accent, 1.0)
        for point, score in zip(main, panel.main, strict=True)
        if point is not None and score.chosen
    ]
    key, bottom = _key(panel, _TOP + _HEIGHT + 14, wide)
    return Picture(wide, bottom, (*marks, *key), f"{panel.title}, by layer", panel.caption)


def _axes(panel: LayerPanel, low: float, step: float, wide: float) -> list[Mark]:
    theme = THEMES["light"]
    marks: list[Mark] = []
    for tick in np.arange(np.ceil(low * 4) / 4, 1.01, 0.25):
        y = _TOP + _HEIGHT * (1 - (float(tick) - low) / (1 - low))
        marks.append(Line(_LEFT, y, wide - 6, y, theme.line, 0.5))
        marks.append(Words(_LEFT - 4, y + 2.3, f"{tick:g}", _SIZE, theme.muted, "end"))
    names = ["emb" if score.depth == 0 else score.place for score in panel.main]
    every = max(1, int(np.ceil(1.2 * max(text_width(name, _SIZE) for name in names) / step)))
    for at in range(0, len(names), every):
        marks.append(Words(_LEFT + step * at, _TOP + _HEIGHT + 9, names[at], _SIZE, theme.ink, "middle"))
    return marks


def _line(points: Sequence[tuple[float, float] | None], colour: str, dash: tuple[float, ...]) -> list[Mark]:
    """Strokes between neighbours that were both measured."""
    return [Line(*one, *two, colour, 0.9 if dash else 1.3, dash) for one, two in pairwise(points) if one and two]


def _key(panel: LayerPanel, top: float, wide: float) -> tuple[list[Mark], float]:
    """What each line is, in as many rows as that takes."""
    theme = THEMES["light"]
    entries: list[tuple[str, str, tuple[float, ...]]] = [(panel.metrics[0], theme.sequential[7], ())]
    entries += [
        (name, theme.categories[_TINTS[at % len(_TINTS)]], _DASHES[at % len(_DASHES)])
        for at, name in enumerate(panel.controls)
    ]
    marks: list[Mark] = []
    x, y = _LEFT, top
    for name, colour, dash in entries:
        room = 18 + text_width(name, _SIZE) + 8
        if x + room > wide and x > _LEFT:
            x, y = _LEFT, y + 10
        marks.append(Line(x, y + 4, x + 14, y + 4, colour, 0.9 if dash else 1.3, dash))
        marks.append(Words(x + 18, y + 6.3, fitted(name, wide - x - 18, _SIZE), _SIZE, theme.muted))
        x += room
    return marks, y + 11
