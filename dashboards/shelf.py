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

__all__ = ["Shelf"]

_MAX_UPLOADS = 8


class Shelf:
    """Results by name. Those given at start stay; of uploaded ones the most recently used are kept.

    Args:
        paths: folders or `heads.json` files; read now, so that a wrong path is found at start.

    Raises:
        ResultsError: a path holds no results.
    """

    def __init__(self, paths: tuple[Path, ...] = ()) -> None:
        from attnlens.report.results import load_results

        self._given: dict[str, HeadResults] = {}
        for path in paths:
            results = load_results(path)
            self._given[self._free_name(path)] = results
        self._uploads: OrderedDict[str, HeadResults] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the results given at start, in that order."""
        return tuple(self._given)

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
        raise ResultsError(f"no probe result {name[:80]!r} is loaded here; load its heads.json again.")

    def add(self, contents: str) -> str:
        """Keep an uploaded file (a `data:` address, as browsers send it) and return its name, made from its content.

        Raises:
            ResultsError: it is not a `heads.json`.
        """
        from attnlens.report.results import read_results

        try:
            data = b64decode(contents.partition(",")[2], validate=True)
        except ValueError as error:
            raise ResultsError("the file did not arrive whole; choose the heads.json again.") from error
        results = read_results(data)
        name = f"upload-{hashlib.sha256(data).hexdigest()[:12]}"
        with self._lock:
            self._uploads[name] = results
            self._uploads.move_to_end(name)
            while len(self._uploads) > _MAX_UPLOADS:
                self._uploads.popitem(last=False)
        return name

    def _free_name(self, path: Path) -> str:
        folder = path.resolve().parent if path.name == "heads.json" else path.resolve()
        name, number = folder.name, 2
        while name in self._given:
            name, number = f"{folder.name}-{number}", number + 1
        return name
