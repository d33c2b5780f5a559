"""What a model's heads do, as plain HTML: a picture and a table, no script."""

from __future__ import annotations

from html import escape

from attnlens.report.heads_view import HeadRow, heads_view
from attnlens.report.results import HeadResults
from attnlens.report.still import map_picture
from attnlens.report.still.svg import inline_svg
from attnlens.report.tables import number
from attnlens.report.text import shortened
from attnlens.report.views import HeadMapView, results_map_view

__all__ = ["map_html", "results_html"]

MOST_ROWS = 30
# Heads up to which a map is drawn; each is a rectangle.
MOST_CELLS = 2_000
_STYLE = "text-align:left;padding:2px 12px 2px 0"


def results_html(results: HeadResults) -> str:
    """The map by label, and the labelled heads with score, interval and baseline; the rest is counted."""
    view = heads_view(results)
    labelled = [row for row in view.rows if row.verdict == "labelled"]
    labelled.sort(key=lambda row: (-(row.confidence or 0.0), row.head))
    names = ("head", "labels", "score", "95 % interval", "baseline", "confidence", "causal")
    head = "".join(f'<th style="{_STYLE}">{name}</th>' for name in names)
    body = "".join(_row(row) for row in labelled[:MOST_ROWS])
    more = f"<p>{len(labelled) - MOST_ROWS} more are in to_frame().</p>" if len(labelled) > MOST_ROWS else ""
    about = f"{results.anatomy.model} on {results.corpus.get('name', '')}"
    return (
        f"<div><p><strong>{escape(shortened(about, 200))}</strong><br>{escape(view.caption)}</p>"
        f"{map_html(results_map_view(results))}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        f"<p>{escape(view.scope)}</p></div>"
    )


def map_html(view: HeadMapView) -> str:
    """The map as an SVG inside HTML; nothing of a model with very many heads."""
    if view.n_layers * view.n_heads > MOST_CELLS:
        return f"<p>{escape(view.caption)}</p>"
    return f'<div style="max-width:660px;background:#fff">{inline_svg(map_picture(view, width="page"))}</div>'


def _row(row: HeadRow) -> str:
    cells = (
        str(row.head),
        "; ".join(row.labels),
        number(row.score),
        row.interval or "–",
        number(row.baseline),
        number(row.confidence),
        row.causal or "–",
    )
    return "<tr>" + "".join(f'<td style="{_STYLE}">{escape(shortened(cell, 120))}</td>' for cell in cells) + "</tr>"
