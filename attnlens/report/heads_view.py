"""Every head of a probe result as one row: what it was found to do, how sure that is, and what it missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnlens.heads import Head
from attnlens.report.causal_words import causal_badge
from attnlens.report.results import HeadResult, HeadResults, Label
from attnlens.report.tables import Cell, Table, count, number, share

__all__ = ["HeadRow", "HeadsView", "WeakRow", "heads_view"]

Verdict = Literal["labelled", "nearly", "unclassified"]


@dataclass(frozen=True)
class HeadRow:
    """One head. The numbers are those of its primary label; of a head that has none, of the best that it nearly got.

    Attributes:
        head: whose.
        labels: names of the labels, the primary one first; of a head without one, what it nearly got.
        category: key of `palette.CATEGORIES`; empty for an unclassified head.
        confidence: share of resamples in which the label holds, 0 to 1.
        score, low, high, baseline: of the label, on the half of the corpus that did not choose it.
        baseline_name: the rule that `baseline` is the score of.
        causal: what removing the head showed, in a word or two; empty where nobody asked.
        n: trials behind the score.
        verdict: whether it has a label, missed one by a condition, or neither.
        missed: the condition that was missed, for "nearly".
    """

    head: Head
    labels: tuple[str, ...]
    category: str
    confidence: float | None
    score: float | None
    low: float | None
    high: float | None
    baseline: float | None
    baseline_name: str
    causal: str
    n: int | None
    verdict: Verdict
    missed: str

    @property
    def interval(self) -> str:
        """`0.75 – 0.88`, or a dash."""
        return "–" if self.low is None or self.high is None else f"{number(self.low)} – {number(self.high)}"


@dataclass(frozen=True)
class WeakRow:
    """A label that a head nearly got, and the condition that failed."""

    head: Head
    name: str
    score: float | None
    baseline: float | None
    failed: str


@dataclass(frozen=True)
class HeadsView:
    """All heads of a result.

    Attributes:
        rows: layer by layer.
        weak: every label that was missed by one condition, also of heads that have others.
        n_labelled, n_heads: how many carry a label, of how many.
        n_cells, n_tested: head x relation pairs that were tried, and tested; None where the file does not say.
        scope: everything that a reader of one label has to know about the run, in one line.
        caption: a sentence or two.
    """

    rows: tuple[HeadRow, ...]
    weak: tuple[WeakRow, ...]
    n_labelled: int
    n_heads: int
    n_cells: int | None
    n_tested: int | None
    scope: str
    caption: str

    def table(self) -> Table:
        """One row per head."""
        columns = ("head", "labels", "confidence", "score", "95 % interval", "baseline", "causal", "n", "verdict")
        return Table(self.caption, columns, tuple(_cells(row) for row in self.rows))

    def weak_table(self) -> Table:
        """What was nearly a label."""
        rows = tuple((str(row.head), row.name, row.score, row.baseline, row.failed) for row in self.weak)
        columns = ("head", "would be", "score", "baseline", "missed")
        return Table("Heads that nearly got a label, and the condition that failed.", columns, rows)


def heads_view(results: HeadResults) -> HeadsView:
    """Every head of a result, with what it carries and what it missed."""
    rows = tuple(_row(result) for result in results.heads)
    n_labelled, n_heads = len(results.labelled), len(rows)
    tried, tested = (_whole(results.scope.get(name)) for name in ("n_cells", "n_tested"))
    weak = tuple(
        WeakRow(result.head, label.name, label.score, label.baseline, label.failed or "not confirmed")
        for result in results.heads
        for label in result.weak
    )
    said = f"{n_labelled} of {count(n_heads, 'head')} {'carries' if n_labelled == 1 else 'carry'} a label"
    if n_heads:
        said += f"; {share(1 - n_labelled / n_heads)} stay unclassified, which is a normal answer"
    if tried is not None:
        asked = "" if tested is None else f", {tested:,} tested"
        said += f". {count(tried, 'pair')} of head and relation tried{asked}"
    scope = results.scope.get("line")
    return HeadsView(
        rows, weak, n_labelled, n_heads, tried, tested, scope if isinstance(scope, str) else "", said + "."
    )


def _row(result: HeadResult) -> HeadRow:
    shown = result.primary_label or _best(result.weak)
    verdict: Verdict = "labelled" if result.labels else "nearly" if result.weak else "unclassified"
    if shown is None:
        return HeadRow(result.head, (), "", None, None, None, None, None, "", "", None, verdict, "")
    low, high = shown.ci or (None, None)
    others = [label for label in (result.labels or result.weak) if label is not shown]
    return HeadRow(
        head=result.head,
        labels=tuple(dict.fromkeys(label.name for label in (shown, *others))),
        category=shown.category if result.labels else "",
        confidence=shown.confidence,
        score=shown.score,
        low=low,
        high=high,
        baseline=shown.baseline,
        baseline_name=shown.baseline_name or "",
        causal=causal_badge(shown.causal),
        n=shown.n,
        verdict=verdict,
        missed="" if result.labels else shown.failed or "not confirmed",
    )


def _best(weak: tuple[Label, ...]) -> Label | None:
    """The one that is furthest above its baseline."""
    return max(weak, key=lambda label: (label.score or 0.0) - (label.baseline or 0.0), default=None)


def _cells(row: HeadRow) -> tuple[Cell, ...]:
    verdict = f"{row.verdict}: {row.missed}" if row.missed else row.verdict
    baseline = row.baseline
    labels = "; ".join(row.labels) or None
    return (
        str(row.head),
        labels,
        row.confidence,
        row.score,
        row.interval,
        baseline,
        row.causal or None,
        row.n,
        verdict,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
