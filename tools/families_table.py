"""Measure every family and write the table of docs/families.md, between its markers; a test holds the page to it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from families_measured import Measured, Subject, measure
from families_subjects import ROOT, subjects

__all__ = ["COLUMNS", "LIMIT", "PAGE", "cells_of", "rows_of"]

PAGE = ROOT / "docs" / "families.md"
LIMIT = 1e-5
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
COLUMNS = (
    "family",
    "class",
    "route",
    "positions",
    "stream",
    "lazy",
    "exact",
    "points",
    "W_O",
    "ablation",
    "generation",
)
FIGURES = ("lazy", "exact", "W_O", "ablation", "generation")
# A cell without a figure says why, by the number of a note.
NOTES = {
    "weights only": "The family hands over weights and no queries or keys, so there is nothing to be lazy with.",
    "no text": "The model does not generate text.",
}


def cells_of(subject: Subject, found: Measured, notes: dict[str, int]) -> tuple[str, ...]:
    """One row of the table.

    Args:
        subject: what was measured.
        found: what came out.
        notes: text of a note -> its number; new ones are added.
    """
    lazy = _figure(found.lazy, NOTES["weights only"], notes)
    generation = _figure(found.generation, NOTES["no text"], notes)
    return (
        f"`{subject.name}`" if subject.name.isascii() and " " not in subject.name else subject.name,
        f"`{subject.architecture}`",
        found.route,
        _by_stack(found, "position"),
        _by_stack(found, "layout"),
        lazy,
        _figure(found.exact, "", notes),
        _points(found, notes),
        _figure(found.writes, "", notes),
        _figure(found.ablation, "", notes),
        generation,
    )


def rows_of(page: str) -> dict[str, dict[str, str]]:
    """The table of a page: name of the row -> column -> cell."""
    lines = [line for line in page.partition(BEGIN)[2].partition(END)[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        row[0].strip("`"): dict(zip(COLUMNS, row, strict=True)) for row in cells[2:]
    }  # after the names and the ruler


def renewed(page: str) -> str:
    """`page` with every figure measured again.

    Raises:
        SystemExit: a figure is out of its limit, or the page has no markers.
    """
    notes: dict[str, int] = {}
    rows, worst = [], {}
    for subject in subjects():
        found = measure(subject)
        rows.append(cells_of(subject, found, notes))
        sys.stderr.write(f"{subject.name}\n")
        gaps = (found.lazy, found.exact, found.writes, found.ablation, found.generation)
        worst[subject.name] = max(gap for gap in gaps if gap is not None)
    if beyond := {name: gap for name, gap in worst.items() if not gap < LIMIT}:
        raise SystemExit(f"not exact: {beyond}; the table was left as it was")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE.name} has no place for the table: {BEGIN} ... {END}")
    return marked.sub(lambda _: f"{BEGIN}\n\n{_table(rows)}\n\n{_notes(notes)}\n\n{END}", page)


def _figure(value: float | None, reason: str, notes: dict[str, int]) -> str:
    if value is None:
        return f"– {_note(reason, notes)}"
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-")


def _note(reason: str, notes: dict[str, int]) -> str:
    return f"({notes.setdefault(reason, len(notes) + 1)})"


def _by_stack(found: Measured, name: str) -> str:
    """One word where the stacks agree, else the encoder's and the decoder's."""
    values = [getattr(stack, name) for stack in found.stacks if stack.letter != "X"]
    return " / ".join(dict.fromkeys(values))


def _points(found: Measured, notes: dict[str, int]) -> str:
    """All, or all but those that the model does not have."""
    absent: dict[str, list[str]] = {}
    for stack in found.stacks:
        for point, reason in stack.absent.items():
            if point not in absent.setdefault(reason, []):
                absent[reason].append(point)
    if not absent:
        return "all"
    missing = (f"{', '.join(points)} {_note(f'{_sentence(reason)}.', notes)}" for reason, points in absent.items())
    return f"all but {'; '.join(missing)}"


def _sentence(reason: str) -> str:
    return reason[0].upper() + reason[1:]


def _table(rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---:" if column in FIGURES else "---" for column in COLUMNS]
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ruler, *rows))


def _notes(notes: dict[str, int]) -> str:
    return "\n".join(f"{number}. {text}" for text, number in notes.items())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
