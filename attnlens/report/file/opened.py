"""A report read back: the runs and the probe results inside it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlens.capture.run import Capture
from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError, BundleError
from attnlens.report.file.document import check_document, run_of
from attnlens.report.results import HeadResults, parse_results

__all__ = ["OpenedReport", "open_report"]

_DATA = re.compile(r'<script type="application/json" id="data" data-sha256="([0-9a-f]{64})">([^<]*)</script>')
_AGAIN = "write it again with attnlens report"


@dataclass(frozen=True, eq=False)
class OpenedReport:
    """What is inside a report.

    Attributes:
        kind: "run", "heads" or "comparison".
        version: of the attnlens that wrote it.
        runs: as they were, but for the stated difference of the weights (`run.settings["stored"]`), without the heads
            that the report left out, points of the stream and logits.
        results: probe results, as they were.
        bits: of each weight; 0 where there is no run.
        error: the largest difference between a weight in the report and the run's.
        n_bytes: of the file.
    """

    kind: str
    version: str
    runs: tuple[Capture, ...]
    results: tuple[HeadResults, ...]
    bits: int
    error: float
    n_bytes: int


def open_report(path: str | Path) -> OpenedReport:
    """Read what `attnlens report` wrote.

    Raises:
        BundleError: no such file, no report, cut off, changed, or of a later version.
    """
    shown = printable(str(path))[:160]
    raw = _read(Path(path), shown)
    document = _document(raw, shown)
    try:
        check_document(document)
        runs = tuple(run_of(part) for part in document["runs"])
        results = tuple(parse_results(part) for part in document["results"])
    except BundleError as error:
        raise BundleError(f"{shown}: {error}") from None
    except (AttnlensError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise BundleError(f"{shown} is damaged: {printable(str(error))[:200]}; {_AGAIN}.") from error
    stacks = [stack for part in document["runs"] for stack in part["stacks"].values()]
    return OpenedReport(
        kind=document["kind"],
        version=document["attnlens"],
        runs=runs,
        results=results,
        bits=max((stack["bits"] for stack in stacks), default=0),
        error=max((float(stack["error"]) for stack in stacks), default=0.0),
        n_bytes=len(raw),
    )


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{shown} does not exist; give a file that attnlens report wrote.") from None
    except OSError as error:
        raise BundleError(f"cannot read {shown}: {error.strerror or error}.") from None


def _document(raw: bytes, shown: str) -> Any:
    """The data of a page, as it was written.

    Raises:
        BundleError: there is none, or it is not as it was.
    """
    page = raw.decode("utf-8", errors="replace")
    found = _DATA.search(page)
    if found is None or not page.rstrip().endswith("</html>"):
        if 'name="generator" content="attnlens"' not in page[:4096]:
            raise BundleError(f"{shown} is no report of attnlens; give a file that attnlens report wrote.")
        if page.rstrip().endswith("</html>"):
            raise BundleError(f"{shown} was written by another version of attnlens, with no data to read; {_AGAIN}.")
        raise BundleError(f"{shown} is cut off after {len(raw):,} bytes: it has no end; fetch it again, or {_AGAIN}.")
    stated, text = found.groups()
    if hashlib.sha256(text.encode()).hexdigest() != stated:
        raise BundleError(f"{shown} was changed after it was written: its data do not have their SHA-256; {_AGAIN}.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{shown} is damaged: its data are no JSON ({error}); {_AGAIN}.") from None
