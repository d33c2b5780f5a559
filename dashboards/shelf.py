"""Probe results that the page can put on the heads: those given at start and those a visitor brings."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import ResultsError

if TYPE_CHECKING:
    from attnlens.report.results import HeadResults
    from dashboards.jobs.store import JobStore
    from dashboards.store import FileStore

__all__ = ["Shelf"]

_MAX_UPLOADS = 8  # kept in memory
_UPLOAD, _DIGITS, _ENDING = "upload-", 12, ".heads.json"


class Shelf:
    """Results by name. Those given at start stay; of uploaded ones the most recently used are kept.

    Args:
        paths: folders or `heads.json` files; read now, so that a wrong path is found at start.
        files: where uploads are kept for all processes of a server; without it they live in this one's memory alone.
        jobs: probes that the page started; their results are here by the job's name.

    Raises:
        ResultsError: a path holds no results.
    """

    def __init__(
        self, paths: tuple[Path, ...] = (), files: FileStore | None = None, jobs: JobStore | None = None
    ) -> None:
        from attnlens.report.results import load_results

        self._given: dict[str, HeadResults] = {}
        for path in paths:
            results = load_results(path)
            self._given[self._free_name(path)] = results
        self._files, self._jobs = files, jobs
        self._uploads: OrderedDict[str, HeadResults] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the results given at start, in that order, and of those of probes that the page started."""
        found = () if self._jobs is None else self._jobs.finished()
        return (*self._given, *(name for name in found if name not in self._given))

    def name_for(self, model: str) -> str:
        """Name of the first results given at start that are of `model`; empty where none are."""
        return next((name for name, results in self._given.items() if results.anatomy.model == model), "")

    def open(self, name: str) -> HeadResults:
        """The results of this name.

        Raises:
            ResultsError: no results of this name are (or are still) here.
        """
        if name in self._given:
            return self._given[name]
        with self._lock:
            if name in self._uploads:
                self._uploads.move_to_end(name)
                return self._uploads[name]
        if self._jobs is not None and (probed := self._jobs.results(name)) is not None:
            return probed
        if (results := self._read(name)) is not None:
            return self._keep(name, results)
        raise ResultsError(f"no probe result {name[:80]!r} is loaded here; load its heads.json again.")

    def add(self, contents: str) -> str:
        """Keep an uploaded file (a `data:` address, as browsers send it) and return its name, made from its content.

        Raises:
            ResultsError: it is not a `heads.json`.
        """
        try:
            return self.take(b64decode(contents.partition(",")[2], validate=True))
        except ValueError as error:
            raise ResultsError("the file did not arrive whole; choose the heads.json again.") from error

    def take(self, data: bytes) -> str:
        """Keep the bytes of an uploaded file and return its name, made from its content.

        Raises:
            ResultsError: it is not a `heads.json`.
        """
        from attnlens.report.results import read_results

        results = read_results(data)
        digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
        if self._files is not None:
            self._files.keep(f"{digest}{_ENDING}", lambda part: part.write_bytes(data))
        name = f"{_UPLOAD}{digest}"
        self._keep(name, results)
        return name

    def _keep(self, name: str, results: HeadResults) -> HeadResults:
        with self._lock:
            self._uploads[name] = results
            self._uploads.move_to_end(name)
            while len(self._uploads) > _MAX_UPLOADS:
                self._uploads.popitem(last=False)
        return results

    def _read(self, name: str) -> HeadResults | None:
        """The upload of this name that another process kept, or this one before; None where none did."""
        from attnlens.report.results import read_results

        if self._files is None or not name.startswith(_UPLOAD):
            return None
        file = f"{name.removeprefix(_UPLOAD)}{_ENDING}"
        path = self._files.find(file)
        try:
            return None if path is None else read_results(path.read_bytes())
        except (ResultsError, OSError):
            self._files.drop(file)
            return None

    def _free_name(self, path: Path) -> str:
        folder = path.resolve().parent if path.name == "heads.json" else path.resolve()
        name, number = folder.name, 2
        while name in self._given:
            name, number = f"{folder.name}-{number}", number + 1
        return name
