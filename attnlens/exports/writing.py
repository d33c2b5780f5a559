"""Tables, arrays and JSON on disk, whole or not at all, the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.errors import OutputError
from attnlens.files import whole_file, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_json_text", "write_arrays", "write_csv", "write_json", "write_parquet"]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """A table as CSV (RFC 4180)."""
    with whole_file(path) as part:
        frame.to_csv(part, index=False, lineterminator="\r\n")


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """A table as parquet."""
    with whole_file(path) as part:
        frame.to_parquet(part, index=False)


def write_arrays(arrays: Mapping[str, Any], path: Path) -> None:
    """Arrays by name as .npz, compressed."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))


def write_json(document: Any, path: Path) -> None:
    """JSON in one line.

    Raises:
        OutputError: it holds what JSON cannot, such as a number that is not finite.
    """
    write_text(path, as_json_text(document) + "\n")


def as_json_text(document: Any) -> str:
    """JSON without blanks.

    Raises:
        OutputError: it holds what JSON cannot.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, UnicodeEncodeError) as error:
        raise OutputError(f"this cannot be written as JSON ({error}); take npz.") from error
    return text
