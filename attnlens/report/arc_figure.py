"""A sentence on one line with arcs over it, as an SVG picture that needs no script and no font of its own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape

from attnlens.report.evidence_view import Arc, Sentence
from attnlens.report.palette import FONT_MONO, Theme, theme_of
from attnlens.report.text import isolated, shortened

__all__ = ["arcs_svg"]

SIZE = 13.0  # of the type, in pixels
COLUMN = 7.8  # width of one narrow character; `textLength` holds every font to it
GAP = 9.0  # between words
AROUND = 5  # words shown on each side of one that an arc touches
LIMIT = 24  # longest word shown, in characters
LOW, STEP, HIGH = 14.0, 7.0, 52.0  # height of an arc: of the shortest, more per word in between, at most
BELOW = 12.0
ELLIPSIS = -1


def arcs_svg(sentence: Sentence, category: str = "other", *, theme: str = "light") -> str:
    """The sentence with an arc from the word that attends to its target; a miss has a dashed one to what it looked at.

    Words far from all arcs are left out and marked by an ellipsis. Text is escaped: the picture is safe as a part of a
    page and as an image.

    Args:
        sentence: from an `EvidenceView`.
        category: of the label; it colours the arc to the target.
        theme: "light", "dark", or "page" for a part of a page.
    """
    colours = theme_of(theme)
    shown = list(_shown(sentence))
    lefts, widths, total = _places(sentence, shown)
    middles = {at: left + width / 2 for at, left, width in zip(shown, lefts, widths, strict=True) if at != ELLIPSIS}
    tint = colours.categories.get(category, colours.accent)
    top = max(_height(arc, shown) for arc in sentence.arcs) + 8
    arcs = "".join(
        _arc(arc, middles, shown, top, tint if arc.kind == "target" else colours.warn) for arc in sentence.arcs
    )
    words = "".join(
        _word(sentence, at, left, width, top, colours, tint)
        for at, left, width in zip(shown, lefts, widths, strict=True)
    )
    height = top + SIZE + BELOW
    name = escape(sentence.caption, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" width="{total:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {total:.0f} {height:.0f}" font-family="{escape(FONT_MONO, quote=True)}" '
        f'font-size="{SIZE:g}">{arcs}{words}</svg>'
    )


def _shown(sentence: Sentence) -> Iterator[int]:
    """Positions of the words that are drawn, in order; `ELLIPSIS` where some are left out."""
    touched = {sentence.query, *(arc.key for arc in sentence.arcs)}
    last = ELLIPSIS
    for at in range(len(sentence.tokens)):
        if min(abs(at - each) for each in touched) <= AROUND:
            if at != last + 1:
                yield ELLIPSIS
            yield at
            last = at
    if last + 1 < len(sentence.tokens):
        yield ELLIPSIS


def _places(sentence: Sentence, shown: list[int]) -> tuple[list[float], list[float], float]:
    """Left edge and width of each drawn word, and the width of all."""
    lefts, widths, x = [], [], 6.0
    for at in shown:
        width = COLUMN * _columns(_word_text(sentence, at))
        lefts.append(x)
        widths.append(width)
        x += width + GAP
    return lefts, widths, x - GAP + 6.0


def _word_text(sentence: Sentence, at: int) -> str:
    return "…" if at == ELLIPSIS else shortened(sentence.tokens[at], LIMIT)


def _columns(text: str) -> int:
    """Columns of a terminal that a text takes: two for a wide character, none for a mark on another one."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.combining(char) > 0 or unicodedata.category(char) == "Cf" for char in text)
    return max(1, len(text) + wide - marks)


def _height(arc: Arc, shown: list[int]) -> float:
    apart = abs(shown.index(arc.query) - shown.index(arc.key))
    return min(HIGH, LOW + STEP * apart) + (6.0 if arc.kind == "instead" else 0.0)


def _arc(arc: Arc, middles: dict[int, float], shown: list[int], top: float, colour: str) -> str:
    """A curve from the query to the key, with a dot where it ends; a loop where both are one word."""
    start, end, rise = middles[arc.query], middles[arc.key], _height(arc, shown)
    base = top - 3
    start, end = (start - 7, end + 7) if start == end else (start, end)
    dash = ' stroke-dasharray="4 3"' if arc.kind == "instead" else ""
    return (
        f'<path d="M{start:.1f} {base:.1f}C{start:.1f} {base - rise * 1.3:.1f} {end:.1f} {base - rise * 1.3:.1f} '
        f'{end:.1f} {base:.1f}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        f'<circle cx="{end:.1f}" cy="{base:.1f}" r="3.2" fill="{colour}"/>'
    )


def _word(sentence: Sentence, at: int, left: float, width: float, top: float, colours: Theme, tint: str) -> str:
    """One word: the one that attends on a ground of its own, those attended to underlined."""
    kinds = {arc.kind for arc in sentence.arcs if arc.key == at}
    ground, ink = "", colours.muted if at == ELLIPSIS else colours.ink
    if at == sentence.query:
        ground = _box(left - 3, top + 1, width + 6, SIZE + 6, colours.accent, 4.0)
        ink = colours.on_accent
    if kinds:
        line = tint if "target" in kinds else colours.warn
        ground += _box(left, top + SIZE + 5, width, 2.5, line, 1.0)
    text = escape(isolated(_word_text(sentence, at)))
    return (
        f'{ground}<text x="{left:.1f}" y="{top + SIZE:.1f}" fill="{ink}" textLength="{width:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{text}</text>'
    )


def _box(x: float, y: float, width: float, height: float, colour: str, radius: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" fill="{colour}"/>'
