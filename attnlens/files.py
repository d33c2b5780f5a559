"""Files are written whole or not at all: into a neighbour first, then renamed over the target."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnlens.capture.tokens import printable
from attnlens.errors import OutputError

__all__ = ["check_writable", "whole_file", "write_text"]


@contextmanager
def whole_file(target: Path | str) -> Iterator[Path]:
    """A temporary path beside `target` to write to; it becomes `target` when the block ends without an exception.

    Missing parent folders are made. After an exception the old file, if any, is untouched and nothing is left over.

    Raises:
        OutputError: the folder cannot be made, or the file cannot be written there.
    """
    target = Path(target)
    try:
        if target.is_dir():
            raise OutputError(f"cannot write {_shown(target)}: it is a folder; name a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise OutputError(_why(target, error)) from error
    part = Path(name)
    try:
        yield part
        _share_as_usual(part)
        part.replace(target)
    except OSError as error:
        raise OutputError(_why(target, error)) from error
    finally:
        part.unlink(missing_ok=True)


def write_text(target: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `target`, whole or not at all."""
    with whole_file(target) as part:
        part.write_text(text, encoding="utf-8")


def check_writable(target: Path | str) -> None:
    """Find out before long work whether `target` can be written; leaves no file behind.

    Raises:
        OutputError: it cannot.
    """
    target = Path(target)
    folder = target.parent
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if target.is_dir():
            raise OutputError(f"cannot write {_shown(target)}: it is a folder; name a file.")
        if not folder.is_dir():
            raise OutputError(
                f"cannot write {_shown(target)}: {_shown(folder)} is not a folder; choose another output path."
            )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(_why(target, error)) from error


def _why(target: Path, error: OSError) -> str:
    return f"cannot write {_shown(target)}: {error.strerror or error}; choose another output path."


def _shown(path: Path) -> str:
    """A path for a terminal: printable, and not longer than a line or two."""
    text = printable(str(path))
    return text if len(text) <= 160 else f"{text[:150]}..."


def _share_as_usual(part: Path) -> None:
    """Mkstemp makes private files; give the result the permissions that any new file here would have."""
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)
