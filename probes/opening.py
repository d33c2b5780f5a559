"""Read a saved result back."""

from __future__ import annotations

from pathlib import Path

from attnlens.errors import ResultsError
from attnlens.report.results import load_results
from probes.counts import COUNTS, read_counts
from probes.report import FILES, HeadReport

__all__ = ["open_report"]


def open_report(folder: Path | str) -> HeadReport:
    """The result that `HeadReport.save` wrote into `folder`.

    Raises:
        ResultsError: a file is missing or is not what `attnlens probe` writes.
    """
    import json

    import pandas as pd

    folder = Path(folder)
    document, cells = (folder / name for name in FILES[:2])
    for path in (document, cells):
        if not path.is_file():
            raise ResultsError(f"{folder} holds no {path.name}; name a folder that `attnlens probe ... -o` wrote.")
    load_results(document)
    try:
        frame = pd.read_parquet(cells)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{cells} cannot be read ({error}); run the probe again.") from error
    kept = folder / COUNTS
    counts = read_counts(kept) if kept.is_file() else None
    return HeadReport(json.loads(document.read_text(encoding="utf-8")), frame, counts)
