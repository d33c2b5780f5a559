"""Everything that follows from the tallies: scores, q-values, labels, near misses and the best head per relation."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from probes.baselines import RandomBest
from probes.conditions import Need
from probes.evidence import Example
from probes.family import Probe
from probes.labels import Corrected, Judgement, adjusted, judgements, verdict
from probes.own_results import Reporting, is_question, own_results, rounded
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
        own: what families report beside labels, by name; see `probes.own_results`.
        beside: what stands beside labels, by family and head.
    """

    scores: tuple[Scores, ...]
    q: tuple[Corrected, ...]
    judgements: tuple[Judgement, ...]
    best: tuple[BestHead, ...]
    examples: Mapping[tuple[str, Key, int], list[Example]] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)

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
    heads: Sequence[str] = (),
    chosen: Collection[Question] | None = None,
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
        heads: their names, for what families report themselves; numbers where empty.
        chosen: the questions that are tested, labelled and reported, see `probes.choosing`; None for all. The others
            are still there for what a label asks of them, and for the simple rule that explains a head.
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
            labelled=probe.wording(key) is not None and (chosen is None or (probe.name, key) in chosen),
        )
        for probe in probes
        for key in tallies[probe.name]
        if is_question(probe, key)
    ]
    q = adjusted(scores)
    judged = _judge(probes, scores, q, setting, facts)
    by_name = {probe.name: probe for probe in probes}
    shown = [
        (each, one) for each, one in zip(scores, q, strict=True) if chosen is None or (each.family, each.key) in chosen
    ]
    best = [
        _best(by_name[each.family], each, one.label, judged, settings.thresholds)
        for each, one in shown
        if by_name[each.family].contrast
    ]
    return Findings(
        scores=tuple(each for each, _ in shown),
        q=tuple(one for _, one in shown),
        judgements=tuple(judged),
        best=tuple(best),
        own=own_results(probes, tallies, setting, heads or _numbers(tallies)),
        beside=_beside(probes, scores, judged),
    )


def _numbers(tallies: Mapping[str, Tally]) -> list[str]:
    return [str(head) for head in range(max((tally.n_heads for tally in tallies.values()), default=0))]


def _beside(
    probes: Sequence[Probe], scores: Sequence[Scores], judged: Sequence[Judgement]
) -> dict[tuple[str, int], Mapping[str, Any]]:
    """What families that report for themselves say beside their labels and near misses."""
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for probe in probes:
        if isinstance(probe, Reporting):
            own = {each.key: each for each in scores if each.family == probe.name}
            heads = {each.head for each in judged if each.family == probe.name}
            found |= {(probe.name, head): rounded(probe.beside(own, head)) for head in sorted(heads)}
    return found


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

    rules = {probe.name: probe.rules for probe in probes if probe.rules}
    own = SimpleRules.of(scores, rules, None if facts is None else facts.determined)
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
