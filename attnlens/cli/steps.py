"""One head step by step in a terminal: a sentence and a formula per step, and its numbers as wide as there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnlens.report.tables import number

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from attnlens.capture.run import Capture
    from attnlens.heads import Head
    from attnlens.models.lens import Lens
    from attnlens.report.inside.head_view import Column, HeadStep, HeadStepsView

__all__ = ["draw_steps", "head_view_of"]

_NUMBER = 8  # columns of one number and the blank behind it
_LABEL = 16
_MORE = 10  # room for an ellipsis with a count


def head_view_of(lens: Lens, run: Capture, head: Head, query: str | None, most: int | None = None) -> HeadStepsView:
    """The steps of one head of a run.

    Args:
        lens: the model that made it.
        run: the run.
        head: which head.
        query: position or text of the token that asks; None for the last.
        most: keys at most; None for all.

    Raises:
        UsageError: there is no such token.
    """
    from attnlens.report.inside.head_view import find_query, head_steps_view
    from attnlens.report.maps import tokens_of
    from attnlens.steps.head import head_steps

    queries, keys = (tuple(token.label for token in side) for side in tokens_of(run, head.stack))
    place = len(queries) - 1 if query is None else find_query(queries, query)
    return head_steps_view(head_steps(lens, run, head, place), queries, keys, most)


def draw_steps(view: HeadStepsView, width: int) -> Iterator[str | RenderableType]:
    """Every step under the other."""
    from rich.text import Text

    from attnlens.cli.maps import fit_label

    yield Text(view.title, style="bold")
    yield Text(f"Multiplied out, the steps meet {view.summary}.")
    if view.left_out:
        yield Text(f"Left out below: {view.left_out}.")
    for reason in view.absent:
        yield Text(f"Not shown: {reason}.")
    columns = {column.key: column for column in view.columns}
    numbers: list[Column] = []
    for count, step in enumerate(view.steps, 1):
        yield ""
        yield Text(f"{count}. {step.title}", style="bold").append(f"  {step.formula}", style="not bold dim")
        yield Text(step.sentence)
        if facts := _facts(step):
            yield Text(facts)
        for vector in step.vectors:
            yield Text(f"  {fit_label(vector.name, _LABEL - 3)} {vector_text(vector.values, width - _LABEL)}")
        made = [columns[key] for key in step.columns]
        numbers += [column for column in made if column.kind != "vector"]
        for column in made:
            if column.kind == "vector":
                yield from _vectors(view, column, width)
        if step.key == "weights":
            yield _numbers(view, numbers)


def _facts(step: HeadStep) -> str:
    parts = [f"{name} {value}" for name, value in step.facts]
    return "; ".join([*parts, *([step.gap] if step.gap else [])])


def _vectors(view: HeadStepsView, column: Column, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    from attnlens.cli.maps import fit_label

    for label, row in zip(view.labels, column.values, strict=True):
        yield Text(f"  {fit_label(label, _LABEL - 3)} {vector_text(row, width - _LABEL)}")


def _numbers(view: HeadStepsView, columns: list[Column]) -> RenderableType:
    from attnlens.cli.tables import draw_table
    from attnlens.report.tables import Table

    table = view.table()
    wanted = ["key", *(column.name for column in columns)]
    places = [table.columns.index(name) for name in dict.fromkeys(wanted)]
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return draw_table(Table(table.caption, tuple(table.columns[place] for place in places), rows))


def vector_text(values: np.ndarray, width: int) -> str:
    """Numbers in one line, abbreviated in the middle where it is too short, which it says.

    >>> import numpy as np
    >>> vector_text(np.arange(20.0), 40)
    '  0.000   1.000 …17 more… 19.000'
    """
    shown = [number(value, 3) for value in values.tolist()]
    if len(shown) <= max(2, width // _NUMBER):
        return _row(shown)
    room = max(2, (width - _MORE - 3) // _NUMBER)
    first = (room + 1) // 2
    return f"{_row(shown[:first])} …{len(shown) - room} more…{_row(shown[len(shown) - (room - first) :])}"


def _row(shown: list[str]) -> str:
    return " ".join(f"{value:>{_NUMBER - 1}}" for value in shown)
