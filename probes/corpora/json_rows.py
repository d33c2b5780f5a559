"""Files of one JSON object per line."""

from __future__ import annotations

import json
from typing import Any

from probes.corpora.faults import at
from probes.corpora.files import Head, Line, Source

__all__ = ["keys_of", "row_of"]


def keys_of(head: Head) -> frozenset[str]:
    """All keys of the objects among the first lines; empty where there are none."""
    keys: set[str] = set()
    for line in head.lines:
        if line.lstrip().startswith("{"):
            keys |= set(_parsed(line) or ())
    return frozenset(keys)


def row_of(source: Source, line: Line) -> dict[str, Any]:
    """The object of a line.

    Raises:
        CorpusError: the line is no JSON object, or not UTF-8.
    """
    if line.fault:
        raise at(source.name, line.number, line.fault)
    row = _parsed(line.text)
    if row is None:
        raise at(source.name, line.number, "no JSON object; expected one in braces on each line.")
    return row


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
