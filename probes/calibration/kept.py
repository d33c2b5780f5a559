"""What the rule said of each model, kept on disk as it comes, so that an interrupted calibration goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlens.files import write_text

__all__ = ["FOLDER", "Head", "Kept"]

FOLDER = "models"

Head = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """A folder with one file per model.

    Attributes:
        folder: of the files.
        made_by: everything that the results depend on; files that were made by something else count as missing.
        resume: take up what is there; otherwise everything is measured, and written over.
    """

    folder: Path
    made_by: Mapping[str, Any]
    resume: bool = False

    def known(self, names: Iterable[str]) -> dict[str, list[Head]]:
        """What was said of these models, as far as it is there."""
        found = {name: self._read(name) for name in names} if self.resume else {}
        return {name: heads for name, heads in found.items() if heads is not None}

    def keep(self, name: str, heads: list[Head]) -> None:
        """Write one model's file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"model": name, "made_by": self.made_by, "heads": heads}
        write_text(self._path(name), json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")

    def _read(self, name: str) -> list[Head] | None:
        try:
            document = json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = document.get("model") == name and document.get("made_by") == dict(self.made_by)
        return list(document["heads"]) if same else None

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
