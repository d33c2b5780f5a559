"""What is known about a planted head: labels that are right, labels it must get, and how a result is held to that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Claim", "Expected", "Outcome", "judge"]


@dataclass(frozen=True)
class Claim:
    """A set of labels: those of a family on some of its questions.

    Attributes:
        family: of the label.
        relations: names of the questions; a name stands for its subtypes too (`obl` for `obl:agent`). None is any.
        direction: "d2h", "h2d", or None for any.
        tiers: forms of the label; None is any.
    """

    family: str
    relations: tuple[str, ...] | None = None
    direction: str | None = None
    tiers: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return " ".join([self.family, *(self.relations or ())[:1], *([self.direction] if self.direction else [])])

    def covers(self, label: Mapping[str, Any]) -> bool:
        """Whether a label of `heads.json` is one of these."""
        named = self.relations is None or any(
            label["relation"] == name or label["relation"].startswith(f"{name}:") for name in self.relations
        )
        directed = self.direction is None or label["direction"] == self.direction
        formed = self.tiers is None or label.get("tier", "plain") in self.tiers
        return label["family"] == self.family and named and directed and formed


@dataclass(frozen=True)
class Expected:
    """What one head should be told.

    Attributes:
        what: the head in a few words.
        kind: the sort of head, for the table ("syntax", "coreference", "positional", "distractor", "null").
        required: labels that have to be found.
        allowed: labels that are true of the head as well, though it was not built for them.
        probability: of the target, where the head was built with one.
        step: accuracy above the best offset, where the head was built with one.
    """

    what: str
    kind: str
    required: tuple[Claim, ...] = ()
    allowed: tuple[Claim, ...] = ()
    probability: float | None = None
    step: float | None = None

    def among(self, families: Iterable[str]) -> Expected:
        """What can be required where only these families are asked."""
        known = set(families)
        return replace(self, required=tuple(claim for claim in self.required if claim.family in known))


@dataclass(frozen=True)
class Outcome:
    """What a run said about one head.

    Attributes:
        case: the model.
        head: as it prints.
        expected: what is known.
        right, wrong: labels that are true and labels that are not.
        found, missed: required claims.
        judged: per label and near miss that has a confidence: the confidence, and whether the label is true.
    """

    case: str
    suite: str
    head: str
    expected: Expected
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    found: int
    missed: tuple[str, ...]
    judged: tuple[tuple[float, bool], ...]


def judge(case: str, suite: str, head: Mapping[str, Any], expected: Expected) -> Outcome:
    """Hold one head of `heads.json` against what is known about it."""
    labels = list(head["labels"])
    true = [*expected.required, *expected.allowed]
    right = [label for label in labels if _covered(label, true)]
    missed = [claim for claim in expected.required if not any(claim.covers(label) for label in labels)]
    judged = [
        (float(label["confidence"]), _covered(label, true))
        for label in (*labels, *_unsure(head))
        if label.get("confidence") is not None
    ]
    return Outcome(
        case=case,
        suite=suite,
        head=str(head["head"]),
        expected=expected,
        right=tuple(map(_name, right)),
        wrong=tuple(_name(label) for label in labels if label not in right),
        found=len(expected.required) - len(missed),
        missed=tuple(map(str, missed)),
        judged=tuple(judged),
    )


def _unsure(head: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Near misses that lack nothing but confidence: what the confidence alone decided."""
    return [each for each in head["weak"] if str(each.get("failed", "")).startswith("confidence")]


def _covered(label: Mapping[str, Any], claims: Iterable[Claim]) -> bool:
    return any(claim.covers(label) for claim in claims)


def _name(label: Mapping[str, Any]) -> str:
    parts = (label["label"], label["direction"], None if label.get("at", "word") == "word" else f"@{label['at']}")
    return " ".join(part for part in parts if part)
