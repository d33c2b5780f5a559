"""A picture as SVG, written by hand: real text, millimetres, no script, no style sheet, nothing loaded."""

from __future__ import annotations

from html import escape

from attnlens.report.still.picture import POINTS_PER_MM, Arch, Box, Curve, Dot, Line, Mark, Picture, Words
from attnlens.report.text import isolated

__all__ = ["inline_svg", "svg"]

FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', 'Noto Sans', sans-serif"


def svg(picture: Picture) -> str:
    """The whole file; every text is escaped, and nothing in it can act."""
    width, height = picture.width, picture.height
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_short(width / POINTS_PER_MM)}mm" '
        f'height="{_short(height / POINTS_PER_MM)}mm" viewBox="0 0 {_short(width)} {_short(height)}" '
        f'font-family="{FONTS}">\n'
        f"<title>{_text(picture.title)}</title>\n<desc>{_text(picture.caption)}</desc>\n"
        f'<rect width="{_short(width)}" height="{_short(height)}" fill="#ffffff"/>\n'
        + "\n".join(_drawn(mark) for mark in picture.marks)
        + "\n</svg>\n"
    )


def inline_svg(picture: Picture) -> str:
    """The picture as a part of a page, as wide as there is room, up to its size on paper."""
    whole = svg(picture).partition("?>\n")[2]
    return whole.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)


def _drawn(mark: Mark) -> str:
    match mark:
        case Box():
            inset = mark.thickness / 2 if mark.stroke else 0.0
            stroke = f' stroke="{mark.stroke}" stroke-width="{_short(mark.thickness)}"' if mark.stroke else ""
            return (
                f'<rect x="{_short(mark.x + inset)}" y="{_short(mark.y + inset)}" '
                f'width="{_short(mark.width - 2 * inset)}" height="{_short(mark.height - 2 * inset)}" '
                f'fill="{mark.fill or "none"}"{stroke}/>'
            )
        case Line():
            return (
                f'<path d="M{_short(mark.x1)} {_short(mark.y1)}L{_short(mark.x2)} {_short(mark.y2)}" '
                f'stroke="{mark.colour}" stroke-width="{_short(mark.thickness)}"{_dashes(mark.dash)}/>'
            )
        case Arch():
            top = _short(mark.y - mark.rise)
            return (
                f'<path d="M{_short(mark.x1)} {_short(mark.y)}C{_short(mark.x1)} {top} {_short(mark.x2)} {top} '
                f'{_short(mark.x2)} {_short(mark.y)}" fill="none" stroke="{mark.colour}" '
                f'stroke-width="{_short(mark.thickness)}"{_dashes((3.0, 2.0) if mark.dashed else ())}/>'
            )
        case Curve():
            first, second = mark.bends
            return (
                f'<path d="M{_short(mark.x1)} {_short(mark.y1)}C{_short(first)} {_short(mark.y1)} {_short(second)} '
                f'{_short(mark.y2)} {_short(mark.x2)} {_short(mark.y2)}" fill="none" stroke="{mark.colour}" '
                f'stroke-width="{_short(mark.thickness)}"/>'
            )
        case Dot():
            return (
                f'<circle cx="{_short(mark.x)}" cy="{_short(mark.y)}" r="{_short(mark.radius)}" fill="{mark.fill}" '
                f'stroke="{mark.stroke}" stroke-width="{_short(mark.thickness)}"/>'
            )
        case Words():
            return _words(mark)


def _words(mark: Words) -> str:
    place = f'x="{_short(mark.x)}" y="{_short(mark.y)}"'
    turn = f' transform="rotate(-90 {_short(mark.x)} {_short(mark.y)})"' if mark.turned else ""
    weight = ' font-weight="bold"' if mark.bold else ""
    anchor = f' text-anchor="{mark.anchor}"' if mark.anchor != "start" else ""
    return (
        f'<text {place} font-size="{_short(mark.size)}" fill="{mark.colour}"{anchor}{weight}{turn} '
        f'xml:space="preserve">{_text(isolated(mark.text))}</text>'
    )


def _dashes(lengths: tuple[float, ...]) -> str:
    return f' stroke-dasharray="{" ".join(map(_short, lengths))}"' if lengths else ""


def _text(text: str) -> str:
    """Escaped, without the characters that XML 1.0 cannot hold."""
    return escape("".join(char if _allowed(char) else "\ufffd" for char in text), quote=True)


def _allowed(char: str) -> bool:
    code = ord(char)
    return char in "\t\n\r" or (code >= 0x20 and not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF))


def _short(number: float) -> str:
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
