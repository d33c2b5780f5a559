"""Charts as SVG inside a page: coloured by the page's style sheet, sharp in print, readable without a script.

Places along the width are percentages, so that a chart fits any column while its type keeps its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from attnlens.heads import Head
from attnlens.report.head_figure import glyph_of
from attnlens.report.layers import LayerPanel, LayerScore
from attnlens.report.outcome_view import ChangeView
from attnlens.report.results import HeadResult, Label
from attnlens.report.tables import number
from attnlens.report.text import isolated, shortened
from attnlens.report.views import HeadMapView

__all__ = ["bars_svg", "forest_svg", "labels_svg", "lines_svg"]

_ROW, _AXIS = 40, 24  # pixels: a row of a forest, and the axis above the rows
_CELL, _LEFT, _TOP = 38, 30, 22  # pixels of a head map
_HEIGHT, _FOOT, _INSET = 220, 26, 8  # pixels of a line chart, its axis, percent at the left for numbers


def forest_svg(result: HeadResult) -> Markup:
    """A head's scores with their intervals, 0 to 1, each above its baseline; labels that nearly passed are hollow."""
    labels = [*result.labels, *result.weak]
    rows = [_forest_row(label, at, at < len(result.labels)) for at, label in enumerate(labels)]
    height = _AXIS + _ROW * len(labels)
    ticks = [
        Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="18" y2="{1}"/>'
               '<text class="tick" x="{0}%" y="12" text-anchor="{2}">{3}</text>').format(
            _percent(value), height, {0.0: "start", 1.0: "end"}.get(value, "middle"), f"{value:g}"
        )
        for value in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]  # fmt: skip
    name = f"Scores of {result.head} with 95 % intervals beside their baselines"
    return _svg(name, height, [*ticks, *rows], "forest")


def lines_svg(panel: LayerPanel) -> Markup:
    """The main measure of a task by depth with its interval; a dashed line per control, a ring at the chosen depth."""
    scores = panel.main
    values = [v for s in scores for v in (s.score, *(s.ci or ()), *s.controls.values()) if v is not None]
    low, high = min([0.0, *values]), max([1.0, *values])

    def across(at: int) -> float:
        return _INSET + (96 - _INSET) * (at / max(len(scores) - 1, 1)) + 2

    def down(value: float) -> float:
        return float(8 + (_HEIGHT - 16) * (high - value) / (high - low))

    parts = [
        Markup('<line class="grid" x1="{}%" x2="100%" y1="{:.1f}" y2="{:.1f}"/><text class="tick" x="0" y="{:.1f}">{}'
               "</text>").format(_INSET, down(tick), down(tick), down(tick) + 4, number(tick))
        for tick in (low, (low + high) / 2, high)
    ]  # fmt: skip
    for place, name in enumerate(panel.controls):
        points = [(across(i), down(v)) for i, s in enumerate(scores) if (v := s.controls.get(name)) is not None]
        parts.append(_line(points, f"control control-{place % 5}"))
    main = [(across(i), down(s.score)) for i, s in enumerate(scores) if s.score is not None]
    parts.append(_line(main, "main"))
    parts += [_point(score, across(i), down) for i, score in enumerate(scores) if score.score is not None]
    step = max(len(scores) // 12, 1)
    parts += [
        Markup('<text class="tick" x="{:.2f}%" y="{}" text-anchor="middle">{}</text>').format(
            across(i), _HEIGHT + 18, "emb" if score.depth == 0 else score.place
        )
        for i, score in enumerate(scores)
        if i % step == 0
    ]
    return _svg(f"{panel.title}: {panel.metrics[0]} by layer, beside its controls", _HEIGHT + _FOOT, parts, "lines")


def bars_svg(view: ChangeView) -> Markup:
    """Probabilities before and after, two bars for each token, 0 to 1."""
    parts = []
    for at, (token, before, after) in enumerate(zip(view.tokens, view.before, view.after, strict=True)):
        top = 46 * at
        parts.append(
            Markup(
                '<text x="0" y="{}">{}</text><text class="tick" x="100%" y="{}" text-anchor="end">{} → {}</text>'
                '<rect class="before" x="0" y="{}" width="{:.3f}%" height="9"/>'
                '<rect class="after" x="0" y="{}" width="{:.3f}%" height="9"/>'
            ).format(
                top + 14, _text(token), top + 14, number(before, 4), number(after, 4),
                top + 20, 100 * before, top + 30, 100 * after,
            )
        )  # fmt: skip
    return _svg(f"{view.title}: before (upper bars) and after (lower bars)", 46 * len(view.tokens), parts, "bars")


def labels_svg(view: HeadMapView, link: Iterable[Head] = (), prefix: str = "") -> Markup:
    """The layer x head grid by label: a cell for each head, in its category's colour with the label in short.

    Args:
        view: the heads.
        link: heads whose cells lead to `#` and their address.
        prefix: in front of that address.
    """
    linked = set(link)
    width, height = _LEFT + _CELL * view.n_heads, _TOP + _CELL * view.n_layers
    plain = "".join(
        f"M{_LEFT + _CELL * h.head + 1} {_TOP + _CELL * h.layer + 1}h{_CELL - 2}v{_CELL - 2}h{2 - _CELL}z"
        for h in view.heads()
        if h not in view.notes
    )
    step = 1 if view.n_heads <= 16 else 4
    parts = [Markup('<path class="unlabelled" d="{}"/>').format(plain)]
    parts += [_tick(_LEFT + _CELL * (at + 0.5), 14.0, str(at)) for at in range(0, view.n_heads, step)]
    parts += [_tick(16.0, _TOP + _CELL * (at + 0.5) + 4, str(at)) for at in range(view.n_layers)]
    for head in (head for head in view.heads() if head in view.notes):
        note, name = view.notes[head], glyph_of(view.notes[head].primary)
        fitted = Markup(' textLength="{}" lengthAdjust="spacingAndGlyphs"').format(_CELL - 4) if len(name) > 6 else ""
        cell = Markup(
            '<g class="cell cat-{}"><title>{}: {}</title><rect x="{}" y="{}" width="{}" height="{}"/>'
            '<text x="{}" y="{}" text-anchor="middle"{}>{}</text></g>'
        ).format(
            note.category, head, "; ".join(note.texts), _LEFT + _CELL * head.head + 1, _TOP + _CELL * head.layer + 1,
            _CELL - 2, _CELL - 2, _LEFT + _CELL * (head.head + 0.5), _TOP + _CELL * (head.layer + 0.5) + 3,
            fitted, name,
        )  # fmt: skip
        to = Markup('<a href="#{}{}" aria-label="{}: {}">{}</a>')
        parts.append(to.format(prefix, head, head, note.primary, cell) if head in linked else cell)
    body = Markup("").join(parts)
    role = "group" if linked else "img"
    return Markup(
        '<svg class="chart labels" role="{}" aria-label="Head map: a cell per layer and head, coloured by label" '
        'width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(role, width, height, width, height, body)


def _forest_row(label: Label, at: int, passed: bool) -> Markup:
    top = _AXIS + _ROW * at
    track, parts = top + 27, []
    if label.ci is not None:
        low, high = (_percent(value) for value in label.ci)
        parts.append(Markup('<line class="interval" x1="{0}%" x2="{1}%" y1="{2}" y2="{2}"/>').format(low, high, track))
    if label.baseline is not None:
        stroke = Markup('<line class="baseline" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"><title>{3}: {4}</title></line>')
        name, score = label.baseline_name or "baseline", number(label.baseline, 4)
        parts.append(stroke.format(_percent(label.baseline), track - 8, track + 8, name, score))
    if label.score is not None:
        kind = "passed" if passed else "weak"
        parts.append(Markup('<circle class="{}" cx="{}%" cy="{}" r="5.5"/>').format(kind, _percent(label.score), track))
    interval = f" [{number(label.ci[0])}, {number(label.ci[1])}]" if label.ci else ""
    return Markup(
        '<g class="cat-{}"><text x="0" y="{}">{}</text><text class="tick" x="100%" y="{}" text-anchor="end">{}{}</text>'
        "{}</g>"
    ).format(
        label.category, top + 13, _text(label.short_name, 34), top + 13, number(label.score), interval,
        Markup("").join(parts),
    )  # fmt: skip


def _point(score: LayerScore, x: float, down: Callable[[float], float]) -> Markup:
    assert score.score is not None
    y = down(score.score)
    parts = []
    if score.ci is not None:
        low, high = (down(value) for value in score.ci)
        parts.append(
            Markup('<line class="interval" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1:.1f}" y2="{2:.1f}"/>').format(
                x, low, high
            )
        )
    if score.chosen:
        parts.append(Markup('<circle class="chosen" cx="{:.2f}%" cy="{:.1f}" r="8"/>').format(x, y))
    said = f"{score.place}: {number(score.score, 4)}, n = {score.n:,}"
    parts.append(
        Markup('<circle class="main" cx="{:.2f}%" cy="{:.1f}" r="3.5"><title>{}</title></circle>').format(x, y, said)
    )
    return Markup("").join(parts)


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Straight pieces from point to point; percent across, pixels down."""
    pieces = [
        Markup('<line class="{}" x1="{:.2f}%" y1="{:.1f}" x2="{:.2f}%" y2="{:.1f}"/>').format(kind, *one, *other)
        for one, other in pairwise(points)
    ]
    return Markup("").join(pieces)


def _tick(x: float, y: float, text: str) -> Markup:
    return Markup('<text class="tick" x="{:g}" y="{:g}" text-anchor="middle">{}</text>').format(x, y, text)


def _svg(name: str, height: int, parts: Sequence[Markup], kind: str) -> Markup:
    return Markup('<svg class="chart {}" role="img" aria-label="{}" width="100%" height="{}">{}</svg>').format(
        kind, name, height, Markup("").join(parts)
    )


def _text(label: str, limit: int = 40) -> Markup:
    return escape(isolated(shortened(label, limit)))


def _percent(value: float) -> str:
    """Where a value from 0 to 1 stands: from 1 % to 99 % of the width."""
    return f"{1 + 98 * min(max(value, 0.0), 1.0):.2f}"
