"""A picture as PDF (vectors, embedded fonts) or PNG, by matplotlib's drawing backends; no window, no pyplot."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnlens.errors import OutputError
from attnlens.report.still.picture import Arch, Box, Curve, Dot, Line, Mark, Picture, Words

__all__ = ["write_pdf", "write_png"]

# matplotlib brings the first; the others stand in for characters that it lacks, where they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Hiragino Sans",
)


def write_pdf(picture: Picture, path: Path) -> str:
    """Write `path`; returns the characters that no installed font has, drawn as boxes."""
    return _write(picture, path, "pdf", 72, {"Title": picture.title, "Subject": picture.caption, "CreationDate": None})


def write_png(picture: Picture, path: Path, dpi: int) -> str:
    """Write `path` with `dpi` pixels per inch; returns the characters that no installed font has, drawn as boxes."""
    return _write(picture, path, "png", dpi, {"Title": picture.title, "Description": picture.caption})


def _write(picture: Picture, path: Path, kind: str, dpi: int, metadata: dict[str, Any]) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError(f"{kind} needs matplotlib ({error}); install it, or write an SVG: OUT.svg.") from error
    with _own_settings(matplotlib), _missing_glyphs() as missing:
        figure = Figure(figsize=(picture.width / 72, picture.height / 72), dpi=dpi, facecolor="#ffffff")
        for order, mark in enumerate(picture.marks):
            _add(figure, mark, order, picture.height)
        figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)
    return "".join(missing)


@contextmanager
def _own_settings(matplotlib: Any) -> Iterator[None]:
    """Neither the user's style nor the host program's counts in here, and both are left as they were."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"pdf.fonttype": 42, "pdf.compression": 6, "path.simplify": False, "lines.scale_dashes": False}
        )
        yield


@contextmanager
def _missing_glyphs() -> Iterator[dict[str, None]]:
    """Collects what matplotlib complains about: characters that none of the fonts has."""
    missing: dict[str, None] = {}
    loud = logging.getLogger("matplotlib.font_manager")
    level = loud.level
    loud.setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            yield missing
        finally:
            loud.setLevel(level)
            for each in said:
                text = str(each.message)
                if text.startswith("Glyph ") and text.split()[1].isdecimal():
                    missing[chr(int(text.split()[1]))] = None


def _add(figure: Any, mark: Mark, order: int, height: float) -> None:
    """One mark, in points from the upper left corner."""
    from matplotlib.patches import Circle, PathPatch, Rectangle
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D

    place = Affine2D().scale(1, -1).translate(0, height).scale(1 / 72) + figure.dpi_scale_trans
    plain = {"transform": place, "zorder": order, "capstyle": "butt"}
    match mark:
        case Box():
            inset = mark.thickness / 2 if mark.stroke else 0.0
            patch: Any = Rectangle(
                (mark.x + inset, mark.y + inset),
                mark.width - 2 * inset,
                mark.height - 2 * inset,
                facecolor=mark.fill or "none",
                edgecolor=mark.stroke or "none",
                linewidth=mark.thickness if mark.stroke else 0,
                snap=False,
                **plain,
            )
        case Line():
            path = Outline([(mark.x1, mark.y1), (mark.x2, mark.y2)])
            patch = PathPatch(
                path,
                facecolor="none",
                edgecolor=mark.colour,
                linewidth=mark.thickness,
                linestyle=_dashes(mark.dash),
                **plain,
            )
        case Arch():
            points = [
                (mark.x1, mark.y),
                (mark.x1, mark.y - mark.rise),
                (mark.x2, mark.y - mark.rise),
                (mark.x2, mark.y),
            ]
            path = Outline(points, [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4])
            patch = PathPatch(
                path,
                facecolor="none",
                edgecolor=mark.colour,
                linewidth=mark.thickness,
                linestyle=_dashes((3.0, 2.0) if mark.dashed else ()),
                **plain,
            )
        case Curve():
            first, second = mark.bends
            points = [(mark.x1, mark.y1), (first, mark.y1), (second, mark.y2), (mark.x2, mark.y2)]
            path = Outline(points, [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4])
            patch = PathPatch(path, facecolor="none", edgecolor=mark.colour, linewidth=mark.thickness, **plain)
        case Dot():
            patch = Circle(
                (mark.x, mark.y),
                mark.radius,
                facecolor=mark.fill,
                edgecolor=mark.stroke,
                linewidth=mark.thickness,
                **plain,
            )
        case Words():
            _write_words(figure, mark, order, place)
            return
    figure.add_artist(patch)


def _dashes(lengths: tuple[float, ...]) -> Any:
    """In points, whatever the thickness: matplotlib is told not to scale them."""
    return (0, lengths) if lengths else "solid"


def _write_words(figure: Any, mark: Words, order: int, place: Any) -> None:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    across = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
    figure.text(
        mark.x,
        mark.y,
        mark.text,
        transform=place,
        zorder=order,
        color=mark.colour,
        size=mark.size,
        weight="bold" if mark.bold else "normal",
        family=[name for name in _FONTS if name in installed],
        ha=across,
        va="baseline",
        rotation=90 if mark.turned else 0,
        rotation_mode="anchor",
        parse_math=False,
    )
