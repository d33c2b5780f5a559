"""The figures of a calibration as text: Markdown for the documentation, the same tables for the terminal, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from probes.calibration.figures import Check, Figures
from probes.calibration.measuring import Settings

__all__ = ["document", "markdown", "tables"]

BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"

Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]


def document(
    figures: Figures, corpus: str, settings: Settings, suites: Sequence[str], *, quick: bool = False
) -> dict[str, Any]:
    """The figures as JSON-able data."""
    return {
        "schema": "attnlens.calibration/1",
        "corpus": corpus,
        "suites": list(suites),
        "quick": quick,
        "settings": asdict(settings),
        "accepted": figures.accepted,
        "checks": [asdict(check) for check in figures.checks],
        "groups": [
            {
                "group": row.group,
                "n_heads": row.n_heads,
                "precision": asdict(row.precision),
                "recall": asdict(row.recall),
            }
            for row in figures.rows
        ],
        "reliability": [asdict(each) for each in figures.reliability],
        "calibration_error": figures.calibration_error,
        "null_labels": asdict(figures.null_labels),
        "distractors": asdict(figures.distractors),
        "permuted": asdict(figures.permuted),
        "trained": [
            {"model": model, "label": label, "heads": list(heads)} for model, label, heads in figures.somewhere
        ],
        "errors": [
            {
                "model": each.case,
                "head": each.head,
                "planted": each.expected.what,
                "wrong": list(each.wrong),
                "missed": list(each.missed),
            }
            for each in figures.wrong
        ],
    }


def tables(figures: Figures) -> Iterator[Table]:
    """Every table with its title and its header; all cells are text."""
    yield "What has to hold", ("condition", "measured", "limit", "verdict"), [_check(check) for check in figures.checks]
    rows = [(row.group, str(row.n_heads), str(row.precision), str(row.recall)) for row in figures.rows]
    yield "Precision and recall", ("heads", "n", "labels that are true", "true labels that were found"), rows
    bins = [
        (f"from {each.low:g}", str(each.n), f"{each.confidence:.3f}", f"{each.right:.3f}")
        for each in figures.reliability
    ]
    yield "Confidence", ("confidence", "labels", "mean confidence", "share that is true"), bins
    if figures.somewhere:
        found = [(model, label, ", ".join(heads) or "none") for model, label, heads in figures.somewhere]
        yield "Trained models: labels that some head should get", ("model", "label", "heads that got it"), found
    errors = [
        (each.case, each.head, each.expected.what, ", ".join(each.wrong) or "-", ", ".join(each.missed) or "-")
        for each in figures.wrong
    ]
    if errors:
        yield "Heads with a wrong or a missing label", ("model", "head", "planted", "wrong", "missing"), errors


def markdown(figures: Figures, corpus: str, settings: Settings, suites: Sequence[str], *, quick: bool = False) -> str:
    """The tables for the documentation."""
    form = "a few models of each suite (`--quick`)" if quick else "all models"
    lines = [
        f"Measured on {corpus}; {form}: {', '.join(suites)}; {settings.bootstrap:,} bootstrap replicates, "
        f"{settings.permutations:,} sign patterns, seed {settings.seed}.",
        "",
    ]
    for title, header, rows in tables(figures):
        lines += [f"### {title}", "", _row(header), _row(["---"] * len(header)), *map(_row, rows), ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _check(check: Check) -> tuple[str, ...]:
    verdict = {True: "holds", False: "FAILS", None: "not measured"}[check.passed]
    value = "-" if check.value is None else f"{check.value:.3f}"
    return check.name, value, f"{check.limit:g}", verdict
