"""`attnlens compare`: two results of `attnlens probe` side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.capture.tokens import printable
from attnlens.cli import console
from attnlens.cli.options import JsonOption
from probes.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from probes.comparing import HeadChange, LabelCount, QuestionChange, ResultComparison

__all__ = ["compare"]


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A folder that `attnlens probe ... -o` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one: of another model, corpus or checkpoint.")],
    show_all: Annotated[bool, typer.Option("--all", help="Questions and heads without a difference, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two results: which labels stayed, and whose best heads score higher.

    A difference is marked where the interval of B less A leaves 0 out.
    """
    with console.status("reading the results"):
        from probes.comparing import compare_reports
        from probes.opening import open_report

        comparison = compare_reports(open_report(first), open_report(second))
    if as_json:
        console.json(comparison.to_json())
        return
    console.out(*draw(comparison, console.stdout_width(), show_all=show_all))


def draw(comparison: ResultComparison, width: int = 80, *, show_all: bool = False) -> Iterator[str | RenderableType]:
    """What the terminal shows, in order."""
    for name, about, share in zip("AB", (comparison.first, comparison.second), comparison.unclassified, strict=True):
        yield (
            f"{name}: {printable(about['model'])} on {printable(about['corpus'])}: {about['n_labelled']} of "
            f"{about['n_heads']} heads labelled, {share:.0%} unclassified"
        )
    if comparison.labels:
        yield from ("", _labels(comparison.labels, width))
    if comparison.agreement is not None:
        changed = [head for head in comparison.heads if not head.same]
        yield ""
        yield f"{comparison.agreement:.0%} of the heads have the same labels in both."
        if shown := list(comparison.heads) if show_all else changed:
            yield from ("", _heads(shown, width))
    differing = [each for each in comparison.questions if each.differs]
    compared = [each for each in comparison.questions if each.difference is not None]
    yield ""
    yield f"{len(differing)} of {len(compared)} questions differ beyond the interval."
    if rows := list(comparison.questions) if show_all else differing:
        yield from ("", _questions(rows, width))
    yield from (f"Note: {warning}." for warning in comparison.warnings)


def _labels(counts: tuple[LabelCount, ...], width: int) -> Table:
    table = plain_table(width)
    table.add_column("label", overflow="fold")
    for name in ("heads in A", "heads in B", "depth in A", "depth in B"):
        table.add_column(name, justify="right")
    for each in counts:
        depths = ("–" if depth is None else f"{depth:.2f}" for depth in (each.first_depth, each.second_depth))
        table.add_row(printable(each.label), str(each.first), str(each.second), *depths)
    return table


def _heads(heads: list[HeadChange], width: int) -> Table:
    table = plain_table(width)
    table.add_column("head", no_wrap=True)
    for name in ("in both", "only in A", "only in B"):
        table.add_column(name, overflow="fold")
    for head in heads:
        labels = (printable(", ".join(names)) or "–" for names in (head.both, head.only_first, head.only_second))
        table.add_row(head.head, *labels)
    return table


def _questions(rows: list[QuestionChange], width: int) -> Table:
    table = plain_table(width)
    table.add_column("question", overflow="fold")
    for name in ("best in A", "best in B", "A's head in B", "B - A", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        name = " ".join(filter(None, (row.relation, row.direction, f"@{row.at}" if row.at != "word" else "")))
        table.add_row(
            printable(name),
            _best(row.first_head, row.first_score),
            _best(row.second_head, row.second_score),
            "–" if row.other_score is None else f"{row.other_score:.2f}",
            "–" if row.difference is None else f"{row.difference:+.2f}",
            "–" if row.ci is None else f"{row.ci[0]:+.2f} to {row.ci[1]:+.2f}",
        )
    return table


def _best(head: str | None, score: float | None) -> str:
    return "–" if head is None or score is None else f"{head} {score:.2f}"
