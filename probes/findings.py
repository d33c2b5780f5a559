"""Everything that follows from the tallies: scores, q-values, labels, near misses and the best head per relation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from probes.baselines import RandomBest
from probes.conditions import Need
from probes.examples import Example
from probes.family import Probe
from probes.labels import Corrected, Judgement, adjusted, judgements, verdict
from probes.positions import PatternFacts, positional_judgements
from probes.scores import Scores, Setting, score_cell
from probes.simple_rules import SimpleRules
from probes.split import Split
from probes.statistics import Resampling
from probes.tally import Key, Tally
from probes.thresholds import Thresholds, conditions_of

__all__ = ["BestHead", "Findings", "Question", "Settings", "find"]

Question = tuple[str, Key]
"""A family's name and its question."""


@dataclass(frozen=True)
class Settings:
    """Numbers that the result depends on besides model and corpus."""

    seed: int = 0
    bootstrap: int = 2000
    permutations: int = 9999
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class BestHead:
    """The head with the best SELECT score on one question, and what became of it on CONFIRM; None without trials."""

    scores: Scores
    head: int | None
    q: float
    selectivity: float
    verdict: str


@dataclass(frozen=True)
class Findings:
    """The result of a run in numbers.

    Attributes:
        scores: of every question of every family, in order.
        q: beside them, per head.
        judgements: labels and near misses of all heads.
        best: per question of the families that compare with rules.
        examples: by family, question and head.
    """

    scores: tuple[Scores, ...]
    q: tuple[Corrected, ...]
    judgements: tuple[Judgement, ...]
    best: tuple[BestHead, ...]
    examples: Mapping[tuple[str, Key, int], list[Example]] = field(default_factory=dict)

    def labels(self) -> tuple[Judgement, ...]:
        """What was earned."""
        return tuple(each for each in self.judgements if each.failed is None)

    def shown(self) -> tuple[Judgement, ...]:
        """Labels that can have examples (a broad head has no target)."""
        return tuple(each for each in self.labels() if not math.isnan(each.target_mass))

    @property
    def n_cells(self) -> int:
        """Questions times heads: everything that was looked at."""
        return sum(len(each.tested) for each in self.scores)

    @property
    def n_tested(self) -> int:
        """Cells with a p-value: what q is corrected over."""
        return sum(int((~np.isnan(each.label)).sum()) for each in self.q)


def find(
    probes: Sequence[Probe],
    tallies: Mapping[str, Tally],
    split: Split,
    settings: Settings,
    *,
    random: Mapping[Question, RandomBest] | None = None,
    layers: Int64[np.ndarray, " head"] | None = None,
    facts: PatternFacts | None = None,
) -> Findings:
    """Score every cell, correct for everything tested, decide on labels.

    Args:
        probes: the families.
        tallies: by family.
        split: the halves.
        settings: of the run.
        random: what the best head of models with random weights does on each question; None where not measured.
        layers: the layer of every head, for what the first one does; None where layers have no order.
        facts: what is known about whole patterns and values; None where not measured.
    """
    resampling = Resampling.draw(
        int(split.confirm.sum()),
        seed=settings.seed,
        bootstrap=settings.bootstrap,
        permutations=settings.permutations,
    )
    setting = Setting(split, resampling, settings.thresholds, layers)
    random = random or {}
    scores = [
        score_cell(
            probe.name,
            key,
            tallies[probe.name].cells[key],
            probe.rules,
            setting,
            conditions_of(probe, key, settings.thresholds),
            random.get((probe.name, key)),
            labelled=probe.wording(key) is not None,
        )
        for probe in probes
        for key in tallies[probe.name]
    ]
    q = adjusted(scores)
    judged = _judge(probes, scores, q, setting, facts)
    by_name = {probe.name: probe for probe in probes}
    best = [
        _best(by_name[each.family], each, one.label, judged, settings.thresholds)
        for each, one in zip(scores, q, strict=True)
        if by_name[each.family].contrast
    ]
    return Findings(tuple(scores), tuple(q), tuple(judged), tuple(best))


def _judge(
    probes: Sequence[Probe],
    scores: Sequence[Scores],
    q: Sequence[Corrected],
    setting: Setting,
    facts: PatternFacts | None,
) -> list[Judgement]:
    """Labels and near misses of all families."""
    by_name = {probe.name: probe for probe in probes}
    known = {(each.family, each.key): each for each in scores}

    def found(family: str, need: Need) -> Scores | None:
        return known.get((need.family or family, need.key))

    own = SimpleRules.of(scores, {probe.name: probe.rules for probe in probes if probe.rules})
    judged: list[Judgement] = []
    for each, corrected in zip(scores, q, strict=True):
        judged += judgements(by_name[each.family], each, corrected, own, setting, found)
    positional = {each.key: each for each in scores if each.family == "positional"}
    return _broad_alone(judged + positional_judgements(positional, setting, facts))


def _broad_alone(judged: list[Judgement]) -> list[Judgement]:
    """`broad` is said of a head only where nothing more specific is."""
    others = {each.head for each in judged if each.failed is None and each.wording.label != "broad"}
    return [each for each in judged if each.wording.label != "broad" or each.head not in others]


def _best(
    probe: Probe,
    scores: Scores,
    q: Float64[np.ndarray, " head"],
    judged: Sequence[Judgement],
    thresholds: Thresholds,
) -> BestHead:
    if not scores.n_select:
        return BestHead(scores, None, math.nan, math.nan, "insufficient data")
    head = int(np.argmax(scores.score_select))
    label = next((each for each in judged if each.scores is scores and each.head == head and not each.failed), None)
    controlled = scores.conditions is not None and scores.conditions.selectivity is not None
    selectivity = float(scores.selectivity[head]) if controlled else math.nan
    said = verdict(scores, head, label, thresholds, reported=probe.wording(scores.key) is None)
    return BestHead(scores, head, float(q[head]), selectivity, said)
