"""A table of numbers in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.report.tables import Cell, Table, number

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["draw_table"]


def draw_table(table: Table) -> RenderableType:
    """The rows under their columns, without frames; what was not measured is an en dash."""
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for at, name in enumerate(table.columns):
        numeric = all(isinstance(row[at], int | float | None) for row in table.rows)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_shown(cell)) for cell in row))
    return drawn


def _shown(cell: Cell) -> str:
    from attnlens.capture.tokens import printable

    if isinstance(cell, float):
        return number(cell, 3)
    return "–" if cell is None else printable(str(cell))
