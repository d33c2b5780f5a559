"""The sentences behind a label: arcs from the word that attends to its target, dashed to what a miss looked at."""

from __future__ import annotations

from attnlens.errors import ResultsError
from attnlens.report.evidence_view import EvidenceView, Sentence
from attnlens.report.palette import THEMES
from attnlens.report.still.picture import Arch, Dot, Line, Mark, Picture, Words, fitted, text_width, width_of
from attnlens.report.tables import number

__all__ = ["evidence_picture"]

_SIZE, _GAP = 7.5, 4.0
_RISE, _PER_WORD, _HIGHEST = 7.0, 2.5, 22.0  # height of an arc: of the shortest, more per word between, at most
_AROUND = 6  # words shown on each side of one that an arc touches, where there is room
_BEST, _WORST = 3, 2
_BOLD = 1.12  # how much wider bold type is
_ELLIPSIS = -1


def evidence_picture(view: EvidenceView, *, width: str | float = "page") -> Picture:
    """Some of the best and of the worst sentences, one below the other, with the weight on the target at the right.

    Args:
        view: from `attnlens.report.evidence_view.evidence_view`.
        width: "column", "page" or millimetres; words far from all arcs are left out where there is no room for them.

    Raises:
        ResultsError: no sentences were kept for the label.
        UsageError: no width.
    """
    sentences = (*view.best[:_BEST], *view.worst[:_WORST])
    if not sentences:
        raise ResultsError(f"no sentences were kept for {view.name}; probe again with --examples.")
    wide, theme = width_of(width), THEMES["light"]
    right = wide - text_width("0.00", _SIZE) - 6
    marks: list[Mark] = [Words(wide, 6.5, "weight", 6.0, theme.muted, "end")]
    top = 4.0
    for sentence in sentences:
        drawn, base = _row(sentence, view.category, top, right)
        marks += [*drawn, Words(wide, base, number(sentence.weight), _SIZE, theme.muted, "end")]
        top = base + 7
    dashed = " A dashed arc leads to the word that got the largest weight instead." if view.worst else ""
    caption = f"{view.name}: arcs lead to the word that the label expects.{dashed} {view.caption}"
    return Picture(wide, top, tuple(marks), f"Sentences behind {view.name}", caption)


def _row(sentence: Sentence, category: str, top: float, room: float) -> tuple[list[Mark], float]:
    """The marks of one sentence, and its base line."""
    theme = THEMES["light"]
    tint = theme.categories.get(category, theme.accent)
    shown = _shown(sentence, room)
    texts = [_text(sentence, at, room / 4) for at in shown]
    lefts, x = [], 0.0
    widths = [
        text_width(text, _SIZE) * (_BOLD if at == sentence.query else 1) for at, text in zip(shown, texts, strict=True)
    ]
    for each in widths:
        lefts.append(x)
        x += each + _GAP
    middles = {at: left + each / 2 for at, left, each in zip(shown, lefts, widths, strict=True) if at >= 0}
    rises = [
        min(_HIGHEST, _RISE + _PER_WORD * abs(shown.index(arc.query) - shown.index(arc.key)))
        + (4 if arc.kind == "instead" else 0)
        for arc in sentence.arcs
    ]
    base = top + max(rises) + 3 + _SIZE
    marks: list[Mark] = []
    for arc, rise in zip(sentence.arcs, rises, strict=True):
        start, end, foot = middles[arc.query], middles[arc.key], base - _SIZE
        start, end = (start - 5, end + 5) if start == end else (start, end)
        colour = tint if arc.kind == "target" else theme.warn
        marks.append(Arch(start, end, foot, rise * 1.3, colour, 1.1, dashed=arc.kind == "instead"))
        marks.append(Dot(end, foot, 1.5, colour, colour, 0.2))
        left = lefts[shown.index(arc.key)]
        marks.append(Line(left, base + 2.4, left + 2 * (middles[arc.key] - left), base + 2.4, colour, 1.2))
    for at, left, text in zip(shown, lefts, texts, strict=True):
        ink = theme.muted if at == _ELLIPSIS else theme.ink
        marks.append(Words(left, base, text, _SIZE, ink, bold=at == sentence.query))
    return marks, base


def _shown(sentence: Sentence, room: float) -> list[int]:
    """Positions that are drawn, as many around the arcs as there is room for."""
    touched = {sentence.query, *(arc.key for arc in sentence.arcs)}
    for around in range(_AROUND, -1, -1):
        shown: list[int] = []
        for at in range(len(sentence.tokens)):
            if min(abs(at - each) for each in touched) <= around:
                shown += [_ELLIPSIS, at] if at != (shown[-1] + 1 if shown else 0) else [at]
        shown += [_ELLIPSIS] if shown[-1] + 1 < len(sentence.tokens) else []
        if sum(text_width(_text(sentence, at, room / 4), _SIZE) + _GAP for at in shown) <= room + _GAP:
            break
    return shown


def _text(sentence: Sentence, at: int, room: float) -> str:
    return "…" if at == _ELLIPSIS else fitted(sentence.tokens[at], room, _SIZE)
