"""From a picture to a file: the ending of its name says which format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attnlens.errors import UsageError
from attnlens.files import whole_file
from attnlens.report.still.picture import Picture
from attnlens.report.still.svg import svg

__all__ = ["FORMATS", "check_dpi", "format_of", "save", "svg_of"]

# Ending -> what it is.
FORMATS: Mapping[str, str] = {
    ".svg": "vectors with real text, for editors and the web",
    ".pdf": "vectors with embedded fonts, for papers",
    ".png": "pixels, for slides",
}
_LEAST_DPI, _MOST_DPI = 50, 1200
DPI = 300


def format_of(path: Path | str) -> str:
    """The ending of a name, if it is one of `FORMATS`.

    Raises:
        UsageError: it is none.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"{Path(path).name[:60]!r}: a picture ends in {', '.join(FORMATS)}; name the file so.")
    return ending


def check_dpi(dpi: int) -> None:
    """Refuse what is no sensible number of pixels per inch.

    Raises:
        UsageError: fewer than 50 or more than 1200.
    """
    if not _LEAST_DPI <= dpi <= _MOST_DPI:
        raise UsageError(f"{dpi} dpi: expected {_LEAST_DPI} to {_MOST_DPI}.")


def save(picture: Picture, path: Path | str, *, dpi: int = DPI) -> str:
    """Write a picture, whole or not at all.

    Args:
        picture: from `token_picture`, `matrix_picture`, ...
        path: its ending is one of `FORMATS`.
        dpi: pixels per inch of a PNG.

    Returns:
        Characters that the PDF or the PNG shows as boxes, since no installed font has them; empty for all is well. An
        SVG leaves fonts to the program that opens it.

    Raises:
        UsageError: another ending, or fewer than 50 or more than 1200 dpi.
        OutputError: the file cannot be written.
    """
    ending = format_of(path)
    check_dpi(dpi)
    with whole_file(path) as part:
        if ending == ".svg":
            part.write_text(svg(picture), encoding="utf-8")
            return ""
        from attnlens.report.still.pixels import write_pdf, write_png

        return write_pdf(picture, part) if ending == ".pdf" else write_png(picture, part, dpi)


def svg_of(picture: Picture) -> str:
    """The SVG file as text."""
    return svg(picture)
