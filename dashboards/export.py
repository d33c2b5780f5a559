"""What a visitor takes away: the run as a file, the page as a report, the numbers of the view as CSV or JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attnlens.capture.run import Capture
from attnlens.errors import AttnlensError
from attnlens.report import views
from attnlens.report.metrics import METRICS
from attnlens.report.tables import as_csv
from dashboards.desk import Desk
from dashboards.state import ViewState

if TYPE_CHECKING:
    from flask import Response
    from flask.sansio.scaffold import Scaffold

__all__ = ["EXPORTS", "exported", "register"]

Given = Mapping[str, str]


def register(server: Scaffold, desk: Desk) -> None:
    """Serve `/export/<name>?model=...&text=...`, each as a file to save."""

    @server.get("/export/<name>")
    def export(name: str) -> Response:
        from flask import Response, request

        if name not in EXPORTS:
            return Response(f"No such export; there are {', '.join(EXPORTS)}.\n", status=404, mimetype="text/plain")
        try:
            content, kind = exported(desk, name, request.args.to_dict())
        except AttnlensError as error:
            return Response(f"{error}\n", status=400, mimetype="text/plain")
        response = Response(content, mimetype=kind)
        response.headers["Content-Disposition"] = f'attachment; filename="attnlens-{name}"'
        return response


def exported(desk: Desk, name: str, given: Given) -> tuple[bytes, str]:
    """The content and the media type of an export.

    Args:
        desk: the models, runs and results.
        name: a key of `EXPORTS`.
        given: the view, as the page's address spells it.

    Raises:
        AttnlensError: see `Desk.linked`; or the run has no such head.
    """
    write, kind = EXPORTS[name]
    content = write(desk, desk.linked(given), ViewState.read("?" + urlencode(dict(given))))
    return content.encode() if isinstance(content, str) else content, kind


def _run(_desk: Desk, run: Capture, _view: ViewState) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return run.save(Path(folder) / "run.attn").read_bytes()


def _report(desk: Desk, run: Capture, view: ViewState) -> str:
    from attnlens.report.html import run_report

    results, _ = desk.results_for(run, view.results)
    return run_report(run, results, [view.head] if view.head else None)


def _heads(_desk: Desk, run: Capture, view: ViewState) -> str:
    metric = view.metric if view.metric in METRICS else ViewState.metric
    stack = views.head_of(run, view.head).stack if view.head else ""
    return as_csv(views.head_map_view(run, metric, stack=stack).table())


def _head_csv(_desk: Desk, run: Capture, view: ViewState) -> str:
    return as_csv(_pattern(run, view).table())


def _head_json(_desk: Desk, run: Capture, view: ViewState) -> str:
    pattern = _pattern(run, view)
    document: dict[str, Any] = {
        "model": run.anatomy.model,
        "head": str(pattern.head),
        "level": pattern.level,
        "rows": pattern.row_labels,
        "columns": pattern.column_labels,
        "weights": [row[1:] for row in pattern.table().rows],  # null where the mask hides the key
    }
    return json.dumps(document, ensure_ascii=False, indent=1)


def _pattern(run: Capture, view: ViewState) -> views.PatternView:
    head = view.head or run.anatomy.heads()[0]
    return views.pattern_view(run, head, words=view.words, hide_special=view.hide_special)


EXPORTS: Mapping[str, tuple[Callable[[Desk, Capture, ViewState], bytes | str], str]] = {
    "run.attn": (_run, "application/octet-stream"),
    "report.html": (_report, "text/html"),
    "head.csv": (_head_csv, "text/csv"),
    "head.json": (_head_json, "application/json"),
    "heads.csv": (_heads, "text/csv"),
}
