"""A head's scores with their intervals, each beside its baseline."""

from __future__ import annotations

from attnlens.errors import ResultsError
from attnlens.heads import Head
from attnlens.report.palette import THEMES, Theme
from attnlens.report.results import HeadResults, Label
from attnlens.report.still.picture import Dot, Line, Mark, Picture, Words, fitted, text_width, width_of
from attnlens.report.tables import number

__all__ = ["forest_picture"]

_ROW, _TOP, _SIZE = 13.0, 14.0, 7.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def forest_picture(
    results: HeadResults, head: Head | str | tuple[int, int], *, width: str | float = "column"
) -> Picture:
    """Labels from the top, those that nearly passed as rings: score (dot), 95 % interval (bar), baseline (stroke).

    Args:
        results: what `attnlens probe` found.
        head: whose.
        width: "column", "page" or millimetres.

    Raises:
        HeadAddressError: the model has no such head.
        ResultsError: the head has no label, nor nearly one.
        UsageError: no width.
    """
    found = results.of(head)
    labels = [*found.labels, *found.weak]
    if not labels:
        raise ResultsError(f"{found.head} has no label, nor nearly one, in these results; choose a labelled head.")
    wide, theme = width_of(width), THEMES["light"]
    left = min(0.34 * wide, max(text_width(label.short_name, _SIZE) for label in labels) + 5)
    right = wide - max(text_width(_said(label), _SIZE) for label in labels) - 8
    bottom = _TOP + _ROW * len(labels)
    marks: list[Mark] = []
    for tick in _TICKS:
        x = left + tick * (right - left)
        marks.append(Line(x, _TOP - 3, x, bottom, theme.line, 0.5))
        marks.append(Words(x, _TOP - 5.5, f"{tick:g}", 6.5, theme.muted, "middle"))
    for at, label in enumerate(labels):
        marks += _row(label, at < len(found.labels), _TOP + _ROW * (at + 0.5), (left, right, wide), theme)
    marks += [
        Line(left, bottom + 4, left, bottom + 11, theme.faint, 1.5),
        Words(left + 4, bottom + 9.6, "baseline", 6.5, theme.muted),
        Dot(left + 46, bottom + 7.4, 2.3, theme.muted, theme.muted, 0.8),
        Words(left + 51, bottom + 9.6, "score, 95 % interval", 6.5, theme.muted),
    ]
    weak = f" Rings: {len(found.weak)} that missed one condition." if found.weak else ""
    caption = f"Scores of {found.head} on held-out text with 95 % intervals, each beside its best baseline.{weak}"
    return Picture(wide, bottom + 14, tuple(marks), f"Labels of {found.head}", caption)


def _row(label: Label, passed: bool, y: float, edges: tuple[float, float, float], theme: Theme) -> list[Mark]:
    left, right, wide = edges
    tint = theme.categories[label.category]
    base = y + 0.35 * _SIZE
    marks: list[Mark] = [
        Words(left - 5, base, fitted(label.short_name, left - 5, _SIZE), _SIZE, theme.ink, "end"),
        Words(wide, base, _said(label), _SIZE, theme.muted, "end"),
    ]

    def across(share: float) -> float:
        return left + min(1.0, max(0.0, share)) * (right - left)

    if label.baseline is not None:
        marks.append(Line(across(label.baseline), y - 4.5, across(label.baseline), y + 4.5, theme.faint, 1.5))
    if label.ci is not None:
        marks.append(Line(across(label.ci[0]), y, across(label.ci[1]), y, theme.muted, 1.1))
    if label.score is not None:
        marks.append(Dot(across(label.score), y, 2.6, tint if passed else theme.surface, tint, 1.0))
    return marks


def _said(label: Label) -> str:
    interval = f" [{number(label.ci[0])}, {number(label.ci[1])}]" if label.ci else ""
    return f"{number(label.score)}{interval}"
