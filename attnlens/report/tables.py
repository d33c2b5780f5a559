"""The numbers behind a picture: a table with named columns, and how numbers are written."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

__all__ = ["Cell", "Table", "as_csv", "cell_text", "chance", "count", "number", "rounding", "share"]

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; None is "not measured".

    Attributes:
        caption: one sentence, plain text.
        columns: names, with the unit where a number has one.
        rows: one cell per column; numbers are numbers, not text.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def as_csv(table: Table) -> str:
    r"""The table as CSV (RFC 4180) with a head row; an empty field is "not measured".

    Text that a spreadsheet would take for a formula gets an apostrophe before it, as spreadsheets mark text.

    >>> as_csv(Table("", ("word", "weight"), (("=1+1", 0.5), ("a", None))))
    "word,weight\r\n'=1+1,0.5\r\na,\r\n"
    """
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([cell_text(name) for name in table.columns])
    writer.writerows([[cell_text(value) for value in row] for row in table.rows])
    return written.getvalue()


def cell_text(value: Cell) -> Cell:
    """A value as it may stand in a file for spreadsheets: text that would be a formula has an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def number(value: float | None, digits: int = 2) -> str:
    """`value` with a fixed number of decimals; an en dash where nothing was measured.

    >>> number(0.12345, 4), number(None), number(float("nan"))
    ('0.1235', '–', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def chance(q: float | None) -> str:
    """A probability: small ones as a bound.

    >>> chance(0.0004), chance(0.0312), chance(None)
    ('< 0.001', '0.031', '–')
    """
    return "< 0.001" if q is not None and q < 0.001 else number(q, 3)


def rounding(value: float) -> str:
    """A difference that should be none: its size, or that there is none.

    >>> rounding(3.2e-7), rounding(0.0)
    ('3e-07', 'the last digit')
    """
    return "the last digit" if value == 0 else f"{value:.0e}"


def share(value: float | None, digits: int = 0) -> str:
    """A share as a percentage.

    >>> share(0.724), share(None)
    ('72 %', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "head"), count(1200, "head")
    ('1 head', '1,200 heads')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"
