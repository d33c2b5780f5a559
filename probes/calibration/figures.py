"""From outcomes to the figures by which the label rule is judged: precision, recall, false labels, calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from probes.calibration.measuring import Measured
from probes.calibration.truth import Outcome

__all__ = ["Check", "Figures", "Reliability", "Share", "figures_of"]

_BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.hits / self.n if self.n else None

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:.3f} ({self.hits}/{self.n})"


@dataclass(frozen=True)
class Reliability:
    """Labels whose confidence lies in one bin: how sure the rule was on average, and how often it was right."""

    low: float
    n: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Check:
    """One of the conditions that the rule has to meet; `passed` is None where the suites that were run cannot tell."""

    name: str
    value: float | None
    limit: float
    passed: bool | None


@dataclass(frozen=True)
class Row:
    """Precision and recall of one group of heads."""

    group: str
    n_heads: int
    precision: Share
    recall: Share


@dataclass(frozen=True)
class Figures:
    """Everything that the table shows.

    Attributes:
        rows: by suite, by kind of head, by strength, by step of accuracy.
        null_labels: labels that heads of models with random weights got, of so many heads.
        distractors: distractors that got no wrong label.
        reliability: by confidence.
        calibration_error: expected calibration error: the mean distance between confidence and share right.
        permuted: heads that kept their labels when they were moved.
        checks: what has to hold.
        wrong: heads with a wrong or a missing label.
        somewhere: see `Measured`.
    """

    rows: tuple[Row, ...]
    null_labels: Share
    distractors: Share
    reliability: tuple[Reliability, ...]
    calibration_error: float | None
    permuted: Share
    checks: tuple[Check, ...]
    wrong: tuple[Outcome, ...]
    somewhere: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @property
    def accepted(self) -> bool:
        """No check failed."""
        return all(check.passed is not False for check in self.checks)


def figures_of(measured: Measured) -> Figures:
    """The figures of all outcomes."""
    outcomes = measured.outcomes
    planted = [each for each in outcomes if each.suite in ("strength", "accuracy", "permutation")]
    judged = [pair for each in outcomes for pair in each.judged]
    reliability = _reliability(judged)
    error = sum(abs(each.confidence - each.right) * each.n for each in reliability) / len(judged) if judged else None
    null = [each for each in outcomes if each.suite == "null"]
    distractors = [each for each in outcomes if each.expected.kind == "distractor"]
    null_labels = Share(sum(len(each.wrong) for each in null), len(null))
    right = Share(sum(not each.wrong for each in distractors), len(distractors))
    permuted = Share(sum(measured.permuted), len(measured.permuted))
    sure = [each for each in planted if _is_sure(each)]
    checks = (
        _at_least("precision, probability >= .5, accuracy >= b1 + .2", _precision(sure).value, 0.95),
        _at_least("recall, the same heads", _recall(sure).value, 0.95),
        _at_most("labels per head of random weights", null_labels.value, 1 / 200),
        _at_least("distractors without a wrong label", right.value, 1.0),
        _at_most("expected calibration error", error, 0.10),
        _at_least("heads that keep their labels when moved", permuted.value, 1.0),
    )
    wrong = tuple(each for each in outcomes if each.wrong or each.missed)
    return Figures(_rows(outcomes), null_labels, right, reliability, error, permuted, checks, wrong, measured.somewhere)


def _is_sure(outcome: Outcome) -> bool:
    expected = outcome.expected
    strong = expected.probability is None or expected.probability >= 0.5
    return strong and (expected.step is None or expected.step >= 0.2)


def _rows(outcomes: Sequence[Outcome]) -> tuple[Row, ...]:
    groups: dict[str, list[Outcome]] = {}

    def add(name: Callable[[Outcome], str | None]) -> None:
        found: dict[str, list[Outcome]] = {}
        for each in outcomes:
            if (key := name(each)) is not None:
                found.setdefault(key, []).append(each)
        groups.update(found)

    add(lambda each: f"suite {each.suite}")
    add(lambda each: f"kind {each.expected.kind}")
    add(lambda each: None if each.suite != "strength" or each.expected.probability is None
        else f"probability {each.expected.probability:g}")  # fmt: skip
    add(lambda each: None if each.expected.step is None else f"accuracy b1 + {each.expected.step:g}")
    return tuple(Row(name, len(own), _precision(own), _recall(own)) for name, own in groups.items())


def _precision(outcomes: Iterable[Outcome]) -> Share:
    found = list(outcomes)
    right, wrong = sum(len(each.right) for each in found), sum(len(each.wrong) for each in found)
    return Share(right, right + wrong)


def _recall(outcomes: Iterable[Outcome]) -> Share:
    found = list(outcomes)
    return Share(sum(each.found for each in found), sum(each.found + len(each.missed) for each in found))


def _reliability(judged: Sequence[tuple[float, bool]]) -> tuple[Reliability, ...]:
    bins: dict[float, list[tuple[float, bool]]] = {}
    for confidence, right in judged:
        bins.setdefault(max(low for low in (0.0, *_BINS) if confidence >= low), []).append((confidence, right))
    return tuple(
        Reliability(low, len(own), sum(c for c, _ in own) / len(own), sum(right for _, right in own) / len(own))
        for low, own in sorted(bins.items())
    )


def _at_least(name: str, value: float | None, limit: float) -> Check:
    return Check(name, value, limit, None if value is None else value >= limit)


def _at_most(name: str, value: float | None, limit: float) -> Check:
    return Check(name, value, limit, None if value is None else value <= limit)
