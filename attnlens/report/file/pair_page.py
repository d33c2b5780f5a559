"""Reports on two things side by side: two runs (texts, models, checkpoints), or two probe results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlens.capture.alignment import Alignment
from attnlens.capture.run import Capture
from attnlens.capture.tokens import Unit
from attnlens.compare import HeadMatch, RunComparison, compare_runs
from attnlens.heads import Head
from attnlens.report.comparison_view import DIVERGENCE, matched_table
from attnlens.report.file.document import run_document
from attnlens.report.file.run_page import table_document
from attnlens.report.file.svg import labels_svg
from attnlens.report.file.weights import fitting, pack_stack
from attnlens.report.maps import held_heads
from attnlens.report.results import HeadResult, HeadResults, Relation
from attnlens.report.tables import Cell, Table
from attnlens.report.views import HeadMapView, results_map_view

__all__ = ["PairPart", "results_pair", "runs_pair"]

# Words of which maps are drawn; what lies beyond is in the table of divergences only.
LONGEST = 128
MOST_TOLD = 8  # heads that are furthest apart, and nearest
_LISTED = 24  # words that only one text has


@dataclass(frozen=True)
class PairPart:
    """What a page says about two things: runs inside, what the script reads, tables on demand, the template's part."""

    documents: tuple[Mapping[str, Any], ...]
    view: Mapping[str, Any] | None
    tables: Mapping[str, Any]
    context: Mapping[str, Any]


def runs_pair(first: Capture, second: Capture, precision: int | None = None) -> PairPart:
    """Two runs over the words that both have; of encoder-decoders the decoders.

    Raises:
        TextError: the texts have nothing in common.
        OutputError, UsageError: as `attnlens.report.file.weights.fitting`.
    """
    comparison = compare_runs(first, second)
    pairs = _pairs(comparison)
    documents, bits, error = [], 0, 0.0
    for run in (first, second):
        letter = run.anatomy.main_stack
        ranked = list(held_heads(run, letter))
        inside, bits = fitting(run, ranked, precision)
        left_out = sorted(set(ranked) - set(inside))
        stack = pack_stack(run, letter, sorted(inside), left_out, bits)
        error = max(error, stack.error)
        documents.append(run_document(run, [stack]))
    known = [pair.divergence for pair in pairs if pair.divergence == pair.divergence]
    rows = _lines(comparison.rows, first.units, second.units)
    view = {
        "opened": str(max(pairs, key=lambda pair: _or_low(pair.divergence)).first),
        "letters": list(comparison.stacks),
        "pairs": {str(p.first): [str(p.second), None if np.isnan(p.divergence) else p.divergence] for p in pairs},
        "high": max(max(known, default=0.0), 1e-9),
        "rows": rows[:LONGEST],
        "description": DIVERGENCE.description,
    }
    n_told = min(MOST_TOLD, max(len(pairs) // 2, 1))  # no head is among the furthest and among the nearest
    context = {
        "runs": (first, second),
        "same_heads": comparison.same_heads,
        "n_shared": len(rows),
        "n_shown": min(len(rows), LONGEST),
        "alone": _alone(comparison.rows),
        "furthest": sorted(pairs, key=lambda pair: -_or_low(pair.divergence))[:n_told],
        "nearest": sorted(pairs, key=lambda pair: _or_high(pair.divergence))[:n_told],
        "pairs_table": _pairs_table(comparison, pairs),
        "bits": bits,
        "rounding": f"{error:.1e}",
    }
    return PairPart(tuple(documents), view, {"pairs-table": table_document(context["pairs_table"])}, context)  # type: ignore[arg-type]


def results_pair(first: HeadResults, second: HeadResults) -> PairPart:
    """Two probe results: which heads carry which label in each, and who is best for each relation."""
    sides = (first, second)
    same = _sizes(first) == _sizes(second)
    heads = _heads_table(first, second) if same else None
    relations = _relations_table(first, second)
    context = {
        "sides": [(results, _map(results)) for results in sides],
        "same_size": same,
        "counts": _counts(first, second) if same else None,
        "heads_table": heads,
        "relations_table": relations,
    }
    return PairPart((), None, {}, context)


def _pairs(comparison: RunComparison) -> tuple[HeadMatch, ...]:
    """Each head of the first run and its counterpart: the same address, or the best match of another model."""
    if not comparison.same_heads:
        return comparison.matched()
    values = comparison.divergence()
    return tuple(HeadMatch(h, o, float(values[h.layer, h.head])) for h, o in zip(*comparison.heads, strict=True))


def _pairs_table(comparison: RunComparison, pairs: Sequence[HeadMatch]) -> Table:
    if not comparison.same_heads:
        return matched_table(pairs)
    rows = tuple(
        (str(pair.first), pair.divergence) for pair in sorted(pairs, key=lambda each: -_or_low(each.divergence))
    )
    return Table("How far each head is from itself in the other run.", ("head", "divergence (nats)"), rows)


def _lines(found: Alignment, first: Sequence[Unit], second: Sequence[Unit]) -> list[dict[str, Any]]:
    """The words that both have, with the tokens that each stands for in either run."""
    return [
        {"label": label, "first": list(first[one].tokens), "second": list(second[other].tokens)}
        for label, (one, other) in zip(found.labels, found.pairs, strict=True)
    ]


def _alone(found: Alignment) -> list[tuple[str, str]]:
    sides = (("the first", found.only_first), ("the second", found.only_second))
    return [(side, " ".join([*own[:_LISTED], *(["…"] if len(own) > _LISTED else [])])) for side, own in sides if own]


def _sizes(results: HeadResults) -> tuple[int, int]:
    return results.anatomy.n_layers, results.anatomy.n_heads


def _map(results: HeadResults) -> tuple[HeadMapView, Any]:
    view = results_map_view(results)
    return view, labels_svg(view)


def _names(result: HeadResult) -> str | None:
    return "; ".join(label.name for label in result.labels) or None


def _primary(result: HeadResult) -> str | None:
    return result.primary_label.name if result.primary_label else None


def _heads_table(first: HeadResults, second: HeadResults) -> Table:
    """Heads that carry a label in either; those that differ first."""
    rows: list[tuple[Cell, ...]] = []
    for head in first.anatomy.heads():
        one, other = first.of(head), second.of(head)
        if one.labels or other.labels:
            verdict = "same" if _primary(one) == _primary(other) else "differs"
            rows.append((str(head), _names(one), _names(other), verdict))
    rows.sort(key=lambda row: row[3] == "same")
    return Table(
        "Heads that carry a label in either result.", ("head", "first", "second", "primary label"), tuple(rows)
    )


def _counts(first: HeadResults, second: HeadResults) -> dict[str, int]:
    pairs = [(_primary(first.of(head)), _primary(second.of(head))) for head in first.anatomy.heads()]
    return {
        "with the same primary label": sum(one is not None and one == other for one, other in pairs),
        "with another one": sum(None not in (one, other) and one != other for one, other in pairs),
        "labelled in the first only": sum(one is not None and other is None for one, other in pairs),
        "labelled in the second only": sum(one is None and other is not None for one, other in pairs),
    }


def _relations_table(first: HeadResults, second: HeadResults) -> Table:
    """Relations that both were asked about, the largest difference of scores first."""

    def key(relation: Relation) -> tuple[str, str, str | None, str]:
        return relation.family, relation.relation, relation.direction, relation.at

    there = {key(relation): relation for relation in second.relations}
    rows: list[tuple[Cell, ...]] = []
    for one in first.relations:
        other = there.get(key(one))
        if other is not None:
            name = " ".join(filter(None, (one.relation, one.direction or "")))
            rows.append((one.family, name, *_best(one), *_best(other), _less(other.score, one.score)))
    rows.sort(key=lambda row: -abs(row[8]) if isinstance(row[8], float) else 1.0)
    columns = ("family", "relation", "head, first", "score", "95 %", "head, second", "score", "95 %", "difference")
    return Table("The best head of each relation in both results, each with its 95 % interval.", columns, tuple(rows))


def _best(relation: Relation) -> tuple[Cell, Cell, Cell]:
    head: Head | None = relation.best_head
    interval = f"{relation.ci[0]:.2f} to {relation.ci[1]:.2f}" if relation.ci else None
    return None if head is None else str(head), relation.score, interval


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _or_low(value: float) -> float:
    return -1.0 if np.isnan(value) else value


def _or_high(value: float) -> float:
    return np.inf if np.isnan(value) else value
