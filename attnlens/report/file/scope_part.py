"""What a report's last section says: what the numbers hold for."""

from __future__ import annotations

from typing import Any

from attnlens.capture.run import Capture
from attnlens.report.results import HeadResults
from attnlens.report.scope import corpus_rows, model_rows, run_rows, scope_rows, version_rows
from attnlens.report.tables import share
from attnlens.report.views import CAVEAT

__all__ = ["scope_part"]


def scope_part(run: Capture | None, results: HeadResults | None) -> dict[str, Any]:
    """Rows about model, text, corpus, method and versions, of a run, of probe results, or of both."""
    source: Any = results if results is not None else run
    return {
        "anatomy": source.anatomy,
        "model": model_rows(source.anatomy),
        "run": run_rows(run) if run is not None else [],
        "corpus": corpus_rows(results.corpus) if results is not None else [],
        "method": scope_rows(results.scope) if results is not None else [],
        "versions": version_rows(source.versions),
        "unclassified": share(results.scope.get("unclassified_share") if results is not None else None),
        "caveat": (results.scope.get("caveat") if results is not None else None) or CAVEAT,
    }
