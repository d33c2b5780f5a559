"""Files that commands read and write: what a path means, and whether it may be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnlens.errors import OutputError, UsageError
from attnlens.files import check_writable

__all__ = ["RESULTS", "check_output", "existing_path", "holds_results"]

RESULTS = "heads.json"
"""The file of a folder of probe results by which it is known."""


def existing_path(source: str) -> Path:
    """The path that the user means, unless it is a sentence without a model.

    Raises:
        UsageError: there is nothing at this path.
    """
    path = Path(source)
    try:
        found = path.exists()
    except OSError:  # longer than a file name can be
        found = False
    if not found:
        shown = source if len(source) <= 60 else f"{source[:60]}..."
        raise UsageError(f"{shown!r} is no file or folder; to run it as a text, name the model: -m MODEL.")
    return path


def holds_results(path: Path) -> bool:
    """True for a folder and for `heads.json` itself."""
    return path.is_dir() or path.name == RESULTS


def check_output(output: Path, sources: Sequence[str], force: bool) -> None:
    """Find out before long work whether the file can be written, and keep one that is there.

    Raises:
        OutputError: it cannot, it is one of the sources, or it is there and nobody said --force.
    """
    check_writable(output)
    if not output.exists():
        return
    if any(_is_same(output, source) for source in sources):
        raise OutputError(f"cannot write {output}: it is the run itself; choose another output path.")
    if not force:
        raise OutputError(f"{output} exists already and is kept; choose another output path, or add --force.")


def _is_same(output: Path, source: str) -> bool:
    try:
        return output.samefile(source)
    except OSError:
        return False
