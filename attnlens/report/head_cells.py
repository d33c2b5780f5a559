"""What a map of thumbnails says about each head beside its picture: a number's place on a scale, or a label."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlens.capture.tokens import printable
from attnlens.heads import Head
from attnlens.report.head_figure import glyph_of
from attnlens.report.palette import CATEGORIES
from attnlens.report.results import HeadResults, Label
from attnlens.report.tables import number
from attnlens.report.views import HeadMapView

__all__ = ["head_cells", "head_labels"]


def head_cells(view: HeadMapView, letter: str = "") -> dict[str, Any]:
    """A view of heads as JSON for a script that draws it; colours are the script's.

    Args:
        view: the heads.
        letter: of the stack, in front of each address.

    Returns:
        "name", "unit", "low" and "high" of the number (empty and None for labels, and where nothing was measured),
        "categories" that occur with their names, and for each address: its "share" of the scale from 0 to 1 or None,
        "category" and "glyph" of the label or "", and "lines" of plain text.
    """
    low, high = view.scale
    metric = None if view.values is None or np.isnan(view.values).all() else view.metric
    cells = {}
    for head in view.heads():
        value, note = view.value(head), view.notes.get(head)
        place = None if value is None else float(np.clip((value - low) / (high - low), 0, 1))
        cells[f"{letter}{head}"] = {
            "share": place,
            "category": note.category if note else "",
            "glyph": glyph_of(note.primary) if note else "",
            "lines": _lines(view, head),
        }
    occurring = {note.category for note in view.notes.values()}
    return {
        "name": metric.name if metric else "",
        "unit": metric.unit if metric else "",
        "low": number(low) if metric else None,
        "high": number(high) if metric else None,
        "categories": [[key, name] for key, name in CATEGORIES.items() if key in occurring],
        "n_layers": view.n_layers,
        "n_heads": view.n_heads,
        "heads": cells,
    }


def head_labels(results: HeadResults) -> dict[str, list[list[str]]]:
    """For each labelled head its labels, the primary one first: name, category, and score with confidence in words."""
    return {
        str(found.head): [[printable(label.name), label.category, _said(label)] for label in found.labels]
        for found in results.heads
        if found.labels
    }


def _said(label: Label) -> str:
    sure = "" if label.confidence is None else f", confidence {number(label.confidence)}"
    return f"score {number(label.score)}{sure}"


def _lines(view: HeadMapView, head: Head) -> list[str]:
    lines = []
    if view.metric is not None:
        value = view.value(head)
        unit = f" {view.metric.unit}" if view.metric.unit else ""
        lines.append(f"{view.metric.name}: {number(value, 4) + unit if value is not None else 'not defined here'}")
    if head in view.notes:
        lines += view.notes[head].texts[:6]
    elif view.metric is None:
        lines.append("unclassified")
    return lines
