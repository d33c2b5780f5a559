"""The part of a report that is about one run: what the page's script reads, and what the template writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER, ENCODER
from attnlens.heads import Head
from attnlens.report import views
from attnlens.report.file.document import run_document
from attnlens.report.file.extras import Extras, HeadNumbers, Without, measured_extras
from attnlens.report.file.svg import bars_svg
from attnlens.report.file.weights import PackedStack, fitting, pack_stack
from attnlens.report.head_figure import glyph_of
from attnlens.report.maps import held_heads
from attnlens.report.metrics import METRICS, Metric, metric_values_of, metrics_of_stack
from attnlens.report.outcome_view import ChangeView
from attnlens.report.palette import CATEGORIES
from attnlens.report.results import HeadResults
from attnlens.report.tables import Cell, Table, number

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["RunPart", "run_part", "table_document"]

METRIC = "max"
_STACKS = {ENCODER: "encoder", DECODER: "decoder", CROSS: "from decoder to encoder"}


@dataclass(frozen=True)
class RunPart:
    """What a page says about a run.

    Attributes:
        document: the run as JSON values, for the data inside.
        view: what only the script reads.
        tables: id of a details element -> the table that it holds when it is opened.
        context: what the template reads.
    """

    document: Mapping[str, Any]
    view: Mapping[str, Any]
    tables: Mapping[str, Any]
    context: Mapping[str, Any]


def run_part(
    run: Capture,
    results: HeadResults | None = None,
    wanted: Sequence[Head | str | tuple[int, int]] = (),
    *,
    precision: int | None = None,
    measures: Sequence[str] = (),
    without: Without | None = None,
    lens: Lens | None = None,
) -> RunPart:
    """Everything that a page shows of a run; see `attnlens.report.html.run_report` for the arguments.

    Raises:
        AttnlensError: as `run_report` says.
    """
    if results is not None:
        results.check_same_model(run.anatomy)
    letters = _letters(run)
    numbers = {letter: _numbers(run, letter) for letter in letters}
    first = [views.head_of(run, head) for head in wanted]
    ranked = _ranked(run, letters, numbers, results, first)
    inside, bits = fitting(run, ranked, precision)
    extras = measured_extras(run, measures, first or [inside[0]], lens)
    _add_extras(numbers, extras, without)
    stacks = [_packed(run, letter, inside, ranked, bits) for letter in letters]
    main = run.anatomy.main_stack
    view = {
        "opened": str(inside[0]),
        "main": main,
        "metric": _first_metric(extras, without, inside[0].stack),
        "metrics": {letter: {key: each.to_json() for key, each in own.items()} for letter, own in numbers.items()},
        "labels": _labels(results, main),
        "labelled": results is not None and bool(results.labelled),
        "categories": dict(CATEGORIES),
        "maps": extras.maps,
    }
    tables = {f"measure-{at}": table_document(table) for at, table in enumerate(extras.tables.values())}
    if without is not None:
        tables["without-table"] = table_document(without.view.table())
    context = {
        "run": run,
        "opened": inside[0],
        "stacks": [(letter, _STACKS.get(letter, "")) for letter in letters],
        "metrics": numbers[inside[0].stack],
        "metrics_table": _metrics_table(run, numbers),
        "n_heads": len(ranked),
        "n_inside": len(inside),
        "bits": bits,
        "rounding": _rounding(max(stack.error for stack in stacks)),
        "leaders": _leaders(numbers[main], main, inside),
        "measure_tables": list(extras.tables.values()),
        "without": without,
        "bars": bars_svg(without.view) if without is not None and isinstance(without.view, ChangeView) else None,
    }
    return RunPart(run_document(run, stacks), view, tables, context)


def table_document(table: Table) -> dict[str, Any]:
    """A table as JSON values."""
    return {"caption": table.caption, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}


def _letters(run: Capture) -> list[str]:
    """Stacks of which the run holds a head, the main one first."""
    main = run.anatomy.main_stack
    every = [main, *(letter for letter in (ENCODER, CROSS) if run.anatomy.is_encoder_decoder)]
    if run.anatomy.is_encoder_decoder and not run.encoder:
        every.remove(ENCODER)
    return [letter for letter in every if held_heads(run, letter)]


def _numbers(run: Capture, letter: str) -> dict[str, HeadNumbers]:
    values = metric_values_of(run, metrics_of_stack(letter), letter)
    return {key: _of_metric(METRICS[key], own) for key, own in values.items()}


def _of_metric(metric: Metric, values: Any) -> HeadNumbers:
    known = values[~(values != values)]
    high = metric.high if metric.high is not None else max(float(known.max(initial=metric.low)), metric.low + 1e-9)
    return HeadNumbers(metric.name, metric.unit, metric.description, metric.low, high, values)


def _ranked(
    run: Capture,
    letters: Sequence[str],
    numbers: Mapping[str, Mapping[str, HeadNumbers]],
    results: HeadResults | None,
    first: Sequence[Head],
) -> list[Head]:
    """Every head of the run, those first that a report must not leave out."""
    main = run.anatomy.main_stack
    leaders = views.standouts({key: each.values for key, each in numbers[main].items()})
    labelled = [result.head for result in results.labelled] if results is not None else []
    held = [head for letter in letters for head in held_heads(run, letter)]
    leading = [Head(head.layer, head.head, main) for head in (*(each.head for each in leaders), *labelled)]
    known = set(held)
    return [head for head in dict.fromkeys([*first, *leading, *held]) if head in known or head in first]


def _packed(run: Capture, letter: str, inside: Sequence[Head], ranked: Sequence[Head], bits: int) -> PackedStack:
    kept = sorted(head for head in inside if head.stack == letter)
    left_out = sorted(head for head in set(ranked) - set(inside) if head.stack == letter)
    return pack_stack(run, letter, kept, left_out, bits)


def _add_extras(numbers: dict[str, dict[str, HeadNumbers]], extras: Extras, without: Without | None) -> None:
    for (letter, name), each in extras.heads.items():
        numbers.setdefault(letter, {})[name] = each
    if without is not None and without.moves_attention:
        numbers[without.letter]["without"] = without.numbers


def _first_metric(extras: Extras, without: Without | None, letter: str) -> str:
    """What the head map shows at first: what was asked for."""
    asked = [name for of, name in extras.heads if of == letter]
    moved = without is not None and without.moves_attention
    return "without" if moved else asked[0] if asked else METRIC


def _labels(results: HeadResults | None, main: str) -> dict[str, list[dict[str, str]]]:
    if results is None:
        return {}
    return {
        f"{main}{result.head}": [
            {
                "name": label.name,
                "category": label.category,
                "glyph": glyph_of(label.label),
                "text": label.text,
                "said": f"{label.name}: {number(label.score)}",
            }
            for label in sorted(result.labels, key=lambda label: label is not result.primary_label)
        ]
        for result in results.labelled
    }


def _metrics_table(run: Capture, numbers: Mapping[str, Mapping[str, HeadNumbers]]) -> Table:
    """Every number of every head of the main stack; other stacks are read by the page's script."""
    main = run.anatomy.main_stack
    own = numbers[main]
    names = tuple(f"{each.name} ({each.unit})" if each.unit else each.name for each in own.values())
    heads = held_heads(run, main)
    rows: list[tuple[Cell, ...]] = [(str(head), *(_number(each, head) for each in own.values())) for head in heads]
    return Table("Every measure of every head on this text.", ("head", *names), tuple(rows))


def _number(numbers: HeadNumbers, head: Head) -> float | None:
    value = float(numbers.values[head.layer, head.head])
    return None if math.isnan(value) else value


def _leaders(
    numbers: Mapping[str, HeadNumbers], letter: str, inside: Sequence[Head]
) -> list[tuple[HeadNumbers, Head, float, bool]]:
    """The head that is first in each number, and whether its weights are in the file."""
    found = []
    for each in numbers.values():
        if (each.values == each.values).any():
            place = int(_nan_to_low(each.values).argmax())
            layer, head = divmod(place, each.values.shape[1])
            leader = Head(layer, head, letter)
            found.append((each, leader, float(each.values[layer, head]), leader in inside))
    return found


def _nan_to_low(values: Any) -> Any:
    import numpy as np

    return np.where(np.isnan(values), -np.inf, values)


def _rounding(error: float) -> str:
    """An error as a decimal number that is not below it."""
    digits = 7 if error < 1e-4 else 5
    return f"{math.ceil(error * 10**digits) / 10**digits:.{digits}f}"
