"""Run the label rule over the suites' models, and keep what it said of every head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnlens.plugins import installed
from probes.calibration.cases import Case
from probes.calibration.material import Material
from probes.calibration.suites import PERMUTATION
from probes.calibration.truth import Outcome, judge
from probes.engine import GROUP, load_family, run

__all__ = ["Measured", "Settings", "families_for", "measure"]

FAMILIES = ("positional", "syntax", "coreference", "induction", "lexical")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How the rule is run, besides its own thresholds.

    Attributes:
        bootstrap: replicates behind every interval and confidence.
        permutations: sign patterns of the test.
        random_models: copies with random weights that a label has to beat.
        seed: of all of them.
    """

    bootstrap: int = 1000
    permutations: int = 1999
    random_models: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        outcomes: one per head of every model.
        permuted: per head of the reordered models, whether it got what the same head got in its old place.
    """

    outcomes: tuple[Outcome, ...]
    permuted: tuple[bool, ...] = field(default=())


def measure(
    cases: Sequence[Case], material: Material, settings: Settings, progress: Progress | None = None
) -> Measured:
    """Run the rule on every model.

    Args:
        cases: the models.
        material: what they were planted from; its corpus is what the rule reads.
        settings: of the runs.
        progress: called with (models done, models in all).
    """
    outcomes: list[Outcome] = []
    said: dict[str, list[tuple[str, ...]]] = {}
    permuted: list[bool] = []
    for done, case in enumerate(cases):
        if progress is not None:
            progress(done, len(cases))
        heads = _heads(case, material, settings)
        outcomes += [judge(case.name, case.suite, *pair) for pair in zip(heads, case.expected, strict=True)]
        said[case.name] = [_labels(head) for head in heads]
        first = case.name.removesuffix(", reordered")
        if first != case.name:
            before = [said[first][index] for index in PERMUTATION]
            permuted += [old == new for old, new in zip(before, said[case.name], strict=True)]
    if progress is not None:
        progress(len(cases), len(cases))
    return Measured(tuple(outcomes), tuple(permuted))


def families_for(material: Material) -> list[str]:
    """The installed families that label heads and can use this corpus."""
    known = [name for name in FAMILIES if name in installed(GROUP)]
    return [name for name in known if load_family(name).refusal(material.corpus) is None]


def _heads(case: Case, material: Material, settings: Settings) -> Iterable[dict[str, Any]]:
    report = run(
        case.lens(),
        families_for(material),
        material.corpus,
        seed=settings.seed,
        bootstrap=settings.bootstrap,
        permutations=settings.permutations,
        random_models=settings.random_models,
    )
    return list(report.to_json()["heads"])


def _labels(head: dict[str, Any]) -> tuple[str, ...]:
    """The labels with their forms, in an order that does not depend on where the head is."""
    names = ((each["label"], each["relation"], each["direction"], each.get("tier")) for each in head["labels"])
    return tuple(sorted(" ".join(str(part) for part in name) for name in names))
