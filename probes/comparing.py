"""Two results side by side: two models, two corpora, or two checkpoints.

What is compared are the results as they were printed: labels of heads, and per question the head that was best. Two
runs count other documents, so a difference of scores has the interval that follows from the two printed ones (square
and add: Zou and Donner 2008, doi:10.1002/sim.3095, equation 3); it is wider than a paired comparison would give where
both read the same corpus.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from attnlens.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from probes.report import HeadReport

__all__ = [
    "HeadChange",
    "LabelCount",
    "Question",
    "QuestionChange",
    "ResultComparison",
    "compare_reports",
    "difference_interval",
]

Document = Mapping[str, Any]
Interval = tuple[float, float]


class Question(NamedTuple):
    """What was asked, as in `heads.json`."""

    family: str
    relation: str
    direction: str | None
    at: str

    def __str__(self) -> str:
        named = self.relation if self.direction is None else f"{self.relation} {self.direction}"
        return named if self.at == "word" else f"{named} @{self.at}"


@dataclass(frozen=True)
class HeadChange:
    """One head's labels in both results; a label is its name with direction and place."""

    head: str
    both: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def same(self) -> bool:
        """The labels are the same (none in both, too)."""
        return not self.only_first and not self.only_second


@dataclass(frozen=True)
class QuestionChange:
    """The best head of one question in both results.

    Attributes:
        family, relation, direction, at: of the question.
        first_head, second_head: the best heads; None where a result has none.
        first_score, second_score: their scores on CONFIRM.
        first_verdict, second_verdict: what became of them; None where a result did not ask.
        difference: second less first; None unless both were scored.
        ci: its 95 % interval.
        other_score: score of the first one's best head in the second result, where both are of one model.
    """

    family: str
    relation: str
    direction: str | None
    at: str
    first_head: str | None
    first_score: float | None
    first_verdict: str | None
    second_head: str | None
    second_score: float | None
    second_verdict: str | None
    difference: float | None
    ci: Interval | None
    other_score: float | None

    @property
    def differs(self) -> bool:
        """The interval of the difference leaves 0 out."""
        return self.ci is not None and (self.ci[0] > 0 or self.ci[1] < 0)


@dataclass(frozen=True)
class LabelCount:
    """How many heads of each model have a label, and how deep they lie on average (0 first layer, 1 last)."""

    label: str
    first: int
    second: int
    first_depth: float | None
    second_depth: float | None


@dataclass(frozen=True)
class ResultComparison:
    """Two results side by side.

    Attributes:
        first, second: name of model and corpus of each.
        one_model: both are of one model, so that heads can be compared one by one.
        heads: per head, where they can.
        questions: every question that either asked.
        labels: how many heads of each have which label.
        unclassified: share of heads without a label in each.
        warnings: what makes the two less comparable.
    """

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    one_model: bool
    heads: tuple[HeadChange, ...]
    questions: tuple[QuestionChange, ...]
    labels: tuple[LabelCount, ...]
    unclassified: tuple[float, float]
    warnings: tuple[str, ...]

    @cached_property
    def agreement(self) -> float | None:
        """Share of heads with the same labels in both; None for two models."""
        return sum(head.same for head in self.heads) / len(self.heads) if self.heads else None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "schema": "attnlens.comparison/1",
            **{name: value for name, value in asdict(self).items() if name not in ("questions", "heads")},
            "agreement": self.agreement,
            "heads": [asdict(head) | {"same": head.same} for head in self.heads],
            "questions": [asdict(each) | {"differs": each.differs} for each in self.questions],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per question."""
        import pandas as pd

        rows = [asdict(each) | {"differs": each.differs} for each in self.questions]
        for row in rows:
            row["ci_low"], row["ci_high"] = row.pop("ci") or (None, None)
        return pd.DataFrame(rows)


def compare_reports(first: HeadReport, second: HeadReport) -> ResultComparison:
    """Put two results side by side.

    Raises:
        UsageError: they have no question in common.
    """
    one, other = first.to_json(), second.to_json()
    one_model = _shape(one) == _shape(other)
    mine, theirs = _questions(one), _questions(other)
    if not mine.keys() & theirs.keys() and not _common_families(one, other):
        raise UsageError(
            f"the two results have nothing in common: {_families(one)} against {_families(other)}; probe both with a "
            "common family, such as `attnlens probe all`."
        )
    elsewhere = _scores(second) if one_model else {}
    questions = tuple(
        _question_change(each, mine.get(each), theirs.get(each), elsewhere)
        for each in sorted(mine.keys() | theirs.keys(), key=lambda each: tuple(part or "" for part in each))
    )
    return ResultComparison(
        first=_about(one),
        second=_about(other),
        one_model=one_model,
        heads=tuple(_head_changes(one, other)) if one_model else (),
        questions=questions,
        labels=tuple(_label_counts(one, other)),
        unclassified=(one["scope"]["unclassified_share"], other["scope"]["unclassified_share"]),
        warnings=tuple(_warnings(one, other)),
    )


def difference_interval(first: float, first_ci: Interval, second: float, second_ci: Interval) -> Interval:
    """Interval of `second - first` from the intervals of both, which are independent.

    The limits keep each interval's own skew: lower limit d - sqrt((second - low2)^2 + (high1 - first)^2), upper limit
    d + sqrt((high2 - second)^2 + (first - low1)^2).

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures", equation 3.
    """
    difference = second - first
    below = math.hypot(second - second_ci[0], first_ci[1] - first)
    above = math.hypot(second_ci[1] - second, first - first_ci[0])
    return difference - below, difference + above


def _shape(document: Document) -> tuple[Any, ...]:
    model = document["model"]
    return model["family"], model["n_layers"], model["n_heads"], [head["head"] for head in document["heads"]]


def _about(document: Document) -> dict[str, Any]:
    model, corpus, scope = document["model"], document["corpus"], document["scope"]
    return {
        "model": model["model"],
        "corpus": corpus["name"],
        "n_sentences": corpus["n_sentences"],
        "n_heads": scope["n_heads"],
        "n_labelled": scope["n_labelled"],
    }


def _families(document: Document) -> str:
    return ", ".join(document["scope"]["families"])


def _common_families(one: Document, other: Document) -> set[str]:
    return set(one["scope"]["families"]) & set(other["scope"]["families"])


def _questions(document: Document) -> dict[Question, Mapping[str, Any]]:
    return {
        Question(row["family"], row["relation"], row["direction"], row.get("at", "word")): row
        for row in document["relations"]
    }


def _scores(report: HeadReport) -> dict[tuple[Question, str], float]:
    """Score of every head on every question, from the cells."""
    frame = report.to_frame()
    if frame.empty:
        return {}
    places = frame["at"] if "at" in frame else ["word"] * len(frame)
    directions = [str(value) if isinstance(value, str) else None for value in frame["direction"].astype(object)]
    columns = zip(
        frame["family"], frame["relation"], directions, places, frame["head"], frame["score_confirm"], strict=True
    )
    return {
        (Question(family, relation, direction, at), head): float(score)
        for family, relation, direction, at, head, score in columns
    }


def _question_change(
    question: Question,
    first: Mapping[str, Any] | None,
    second: Mapping[str, Any] | None,
    elsewhere: Mapping[tuple[Question, str], float],
) -> QuestionChange:
    mine, theirs = first or {}, second or {}
    scores = mine.get("score"), theirs.get("score")
    intervals = _interval(mine.get("ci")), _interval(theirs.get("ci"))
    difference = None if None in scores else scores[1] - scores[0]  # type: ignore[operator]
    ci = None
    if difference is not None and intervals[0] and intervals[1]:
        ci = difference_interval(scores[0], intervals[0], scores[1], intervals[1])  # type: ignore[arg-type]
    other = elsewhere.get((question, mine.get("best_head") or ""), math.nan)
    return QuestionChange(
        *question,
        first_head=mine.get("best_head"),
        first_score=scores[0],
        first_verdict=mine.get("verdict"),
        second_head=theirs.get("best_head"),
        second_score=scores[1],
        second_verdict=theirs.get("verdict"),
        difference=difference,
        ci=ci,
        other_score=None if math.isnan(other) else other,
    )


def _interval(ci: Sequence[float | None] | None) -> Interval | None:
    if ci is None or ci[0] is None or ci[1] is None:
        return None
    return ci[0], ci[1]


def _names(head: Mapping[str, Any]) -> set[str]:
    named = set()
    for label in head["labels"]:
        direction, at = label["direction"], label.get("at", "word")
        named.add(
            " ".join([label["label"], *([direction] if direction else []), *([f"@{at}"] if at != "word" else [])])
        )
    return named


def _head_changes(one: Document, other: Document) -> Iterator[HeadChange]:
    for mine, theirs in zip(one["heads"], other["heads"], strict=True):
        first, second = _names(mine), _names(theirs)
        yield HeadChange(
            head=mine["head"],
            both=tuple(sorted(first & second)),
            only_first=tuple(sorted(first - second)),
            only_second=tuple(sorted(second - first)),
        )


def _label_counts(one: Document, other: Document) -> Iterator[LabelCount]:
    counts, depths = zip(*(_counted(document) for document in (one, other)), strict=True)
    names = sorted(counts[0].keys() | counts[1].keys(), key=lambda name: (-counts[0][name] - counts[1][name], name))
    for name in names:
        yield LabelCount(name, counts[0][name], counts[1][name], depths[0].get(name), depths[1].get(name))


def _counted(document: Document) -> tuple[Counter[str], dict[str, float]]:
    """Heads per label, and their mean depth."""
    last = max(document["model"]["n_layers"] - 1, 1)
    found: dict[str, list[float]] = {}
    for head in document["heads"]:
        for name in _names(head):
            found.setdefault(name, []).append(head["layer"] / last)
    counts = Counter({name: len(layers) for name, layers in found.items()})
    return counts, {name: sum(layers) / len(layers) for name, layers in found.items()}


def _warnings(one: Document, other: Document) -> Iterator[str]:
    scopes = one["scope"], other["scope"]
    if scopes[0]["thresholds"] != scopes[1]["thresholds"]:
        yield "the two results used other thresholds for their labels"
    if scopes[0]["aggregation"] != scopes[1]["aggregation"]:
        yield "attention from a word was read off differently (a causal model uses the last token, others the mean)"
    only = set(scopes[0]["families"]) ^ set(scopes[1]["families"])
    if only:
        yield f"only one of them ran {', '.join(sorted(only))}"
    if one["corpus"]["sha256"] == other["corpus"]["sha256"]:
        yield "both read the same corpus; intervals of differences are wider than a paired comparison's"
