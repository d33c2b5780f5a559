"""Files by content key in one folder, bounded in bytes, shared by all processes of a server."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from attnlens.errors import OutputError
from attnlens.files import whole_file

__all__ = ["FileStore", "default_folder"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{12,64}\.[a-z]+(\.[a-z]+)?", re.ASCII)


def default_folder() -> Path:
    """Where a user's caches lie on this system."""
    from platformdirs import user_cache_path

    return user_cache_path("attnlens", appauthor=False) / "dashboard"


class FileStore:
    """A folder of files named by what they are made of; those not used for longest go first.

    Processes share a folder without talking to each other: a file appears whole or not at all, and whoever finds the
    bound exceeded removes the files that were not used for longest. A folder that cannot be written is a warning in
    the log: what would have been kept is made again when it is asked for.

    Args:
        folder: made when the first file is kept.
        max_bytes: bound on all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def find(self, name: str) -> Path | None:
        """The file of this name, which counts as used now; None where it is not there."""
        if not _NAME.fullmatch(name):
            return None
        path = self.folder / name
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def keep(self, name: str, write: Callable[[Path], object]) -> Path | None:
        """The path of the file that `write` has written, whole; None where the disk does not take it.

        Args:
            name: hexadecimal digits and an ending.
            write: writes to the path that it is given.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a kept file.")
        path = self.folder / name
        try:
            with whole_file(path) as part:
                write(part)
        except (OutputError, OSError) as error:
            log.warning("%s is not kept: %s", name[:12], error)
            return None
        self._make_room(path)
        return path if path.exists() else None

    def drop(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._remove(self.folder / name)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def _make_room(self, newest: Path) -> None:
        """Remove files, the least recently used first and the new one last, until the rest is within the bound."""
        files = sorted((path == newest, used, size, path) for used, size, path in self._files())
        total = sum(size for _, _, size, _ in files)
        for _, _, size, path in files:
            if total <= self.max_bytes:
                return
            self._remove(path)
            total -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, status.st_size, Path(entry.path)))
        except OSError:  # no folder yet, or another process has just removed a file
            log.debug("the folder of kept files changed while it was read", exc_info=True)
        return found

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s", path.name, error)
