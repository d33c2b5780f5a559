"""A run, or one head of it, in a frame."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.report.head_cells import head_cells
from attnlens.report.link_figure import FEW, MANY, THRESHOLD
from attnlens.report.maps import Lines, Maps, Window, held_heads, maps_of, tokens_of
from attnlens.report.notebook.frame import frame
from attnlens.report.packed import pack_maps, pack_thumbnails, thumbnail_codes
from attnlens.report.tables import count, number
from attnlens.report.text import shortened
from attnlens.report.thumbnails import LARGEST, pool_to
from attnlens.report.views import PatternView, head_map_view, strongest, unmeasured_map_view

__all__ = ["MOST_BYTES", "pattern_html", "run_html"]

# Bytes of all weights, and of all small pictures, before base64; and of a whole output, scripts and styles included.
MOST_WEIGHTS = 750_000
MOST_PICTURES = 300_000
MOST_BYTES = 1_600_000
# Texts of more tokens show their beginning.
WHOLE, BEGINNING = 128, 96
# Weights that may be computed in passing.
_WORK = 40_000_000
_ROWS = 12


def run_html(run: Capture) -> str:
    """Every head in small and any of them in full; of a long text its beginning, of many heads those that stand out."""
    letter = run.anatomy.main_stack
    heads = held_heads(run, letter)
    n_queries, n_keys = (len(tokens) for tokens in tokens_of(run, letter))
    whole = max(n_queries, n_keys) <= WHOLE
    n_rows, n_columns = (n if whole else min(n, BEGINNING) for n in (n_queries, n_keys))
    if not heads or not n_queries or len(heads) * n_rows * n_keys > _WORK:
        return _table(run, "There is too much of it to show in passing: pattern_view(run, 'L0H0') shows one head.")
    window = None if whole else Window((0, BEGINNING), (0, BEGINNING))
    fitting = max(1, MOST_WEIGHTS // (2 * n_rows * n_columns))
    pictures, ranked = _all_heads(run, heads, window)
    inside = heads if len(heads) <= fitting else tuple(sorted(ranked[:fitting]))
    shown = head_map_view(run, "max", stack=letter) if whole else unmeasured_map_view(run, "max", stack=letter)
    about = f"{count(n_queries, 'token')}, {run.n_layers} layers of {run.n_heads} heads."
    if not whole:
        about += f" The first {BEGINNING} tokens are shown."
    if len(inside) < len(heads):
        about += (
            f" {len(inside)} of {len(heads)} heads are inside: those with the largest weights past the first token."
        )
    data = _data(maps_of(run, inside, window=window)) | {
        "title": _title(run),
        "about": about,
        "heads": [str(head) for head in inside],
        "selected": str(next(head for head in ranked if head in inside)),
        "thumbnails": _base64(pack_thumbnails(pictures)),
        "cells": head_cells(shown, letter),
        "letter": letter,
    }
    height = max(420, min(680, 190 + 24 * n_rows))
    return frame(_title(run), data, height, _table(run, ""))


def pattern_html(view: PatternView) -> str:
    """One head as links and as a matrix; of a large one the upper left corner."""
    side = int((MOST_WEIGHTS / 2) ** 0.5)
    n_rows, n_columns = (min(n, side) for n in view.weights.shape)
    cut = (n_rows, n_columns) != view.weights.shape
    weights = np.where(view.visible, view.weights, np.nan)[:n_rows, :n_columns].astype(np.float32)
    caption = view.caption + (f" The first {n_rows} rows and {n_columns} columns are shown." if cut else "")
    maps = Maps(
        names=(str(view.head),),
        weights=weights[None],
        rows=_lines(view.row_labels[:n_rows]),
        columns=_lines(view.column_labels[:n_columns]),
        captions=(caption,),
        level=view.level,
        size=(n_rows, n_columns),
    )
    labels = "; ".join(label.text for label in view.labels)
    data = _data(maps) | {
        "title": view.title,
        "about": labels,
        "heads": [str(view.head)],
        "selected": str(view.head),
        "thumbnails": None,
    }
    rows = "".join(
        f"<tr><td>{escape(link.source)}</td><td>{escape(link.target)}</td><td>{number(link.weight, 3)}</td></tr>"
        for link in strongest(view, _ROWS)
    )
    table = f"<table><tr><th>from</th><th>to</th><th>weight</th></tr>{rows}</table>"
    height = min(720, 190 + max(24 * n_rows, 34 * min(n_columns, 12)))
    return frame(view.title, data, height, f"<p>{escape(view.title)}: {escape(caption)}</p>{table}")


def _all_heads(run: Capture, heads: tuple[Head, ...], window: Window | None) -> tuple[dict[str, Any], list[Head]]:
    """Small pictures of all heads, and the heads by the mean of their rows' largest weights, the largest first.

    The first column, which a sink would win, and queries that see one key only do not count.
    """
    side = max(8, min(LARGEST, int((MOST_PICTURES / len(heads)) ** 0.5)))
    pictures, strengths = {}, {}
    for layer in sorted({head.layer for head in heads}):
        members = [head for head in heads if head.layer == layer]
        for head, weights in zip(members, maps_of(run, members, window=window).weights, strict=True):
            pictures[str(head)] = thumbnail_codes(pool_to(weights, side))
            free = (~np.isnan(weights)).sum(1) > 1
            largest = np.nan_to_num(weights[:, 1:]).max(1, initial=0.0)
            strengths[head] = float(largest[free].mean()) if free.any() else 0.0
    return pictures, sorted(heads, key=lambda head: (-strengths[head], head))


def _data(maps: Maps) -> dict[str, Any]:
    return {"maps": _base64(pack_maps(maps)), "many": MANY, "few": FEW, "threshold": THRESHOLD}


def _lines(labels: tuple[str, ...]) -> Lines:
    places = tuple(range(len(labels)))
    return Lines(labels, places, tuple((place,) for place in places))


def _table(run: Capture, note: str) -> str:
    """What one can say of any run, as plain HTML."""
    rows = {
        "model": run.anatomy.model,
        "text": shortened(run.text, 300),
        "tokens": f"{len(run.tokens):,}",
        "heads": f"{run.n_layers} layers of {run.n_heads}",
        "note": note,
    }
    cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items() if value)
    return f"<table>{cells}</table>"


def _title(run: Capture) -> str:
    return f"{shortened(run.anatomy.model, 60)}: {shortened(run.text, 120)}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
