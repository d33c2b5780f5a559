"""Everything that follows from the tallies: scores, q-values, labels, near misses and the best head per relation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from probes.examples import Example
from probes.family import Probe, rule_names
from probes.labels import Judgement, adjusted, contrast_judgements, verdict
from probes.positions import positional_judgements
from probes.scores import Scores, Thresholds, score_cell
from probes.split import Split
from probes.statistics import Resampling
from probes.tally import Key, Tally

__all__ = ["BestHead", "Findings", "Settings", "find"]


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
    q: tuple[Float64[np.ndarray, " head"], ...]
    judgements: tuple[Judgement, ...]
    best: tuple[BestHead, ...]
    examples: Mapping[tuple[str, Key, int], list[Example]] = field(default_factory=dict)

    def labels(self) -> tuple[Judgement, ...]:
        """What was earned."""
        return tuple(each for each in self.judgements if each.failed is None)

    def shown(self) -> tuple[Judgement, ...]:
        """Labels that can have examples (a broad head has no target)."""
        return tuple(each for each in self.labels() if not math.isnan(each.target_mass))


def find(probes: Sequence[Probe], tallies: Mapping[str, Tally], split: Split, settings: Settings) -> Findings:
    """Score every cell, correct for everything tested, decide on labels."""
    resampling = Resampling.draw(
        int(split.confirm.sum()),
        seed=settings.seed,
        bootstrap=settings.bootstrap,
        permutations=settings.permutations,
    )
    scores = [
        score_cell(
            probe.name,
            key,
            tallies[probe.name].cells[key],
            rule_names(probe),
            split,
            resampling,
            settings.thresholds,
            contrast=probe.contrast,
            controlled=probe.controlled,
        )
        for probe in probes
        for key in tallies[probe.name]
    ]
    q = adjusted(scores)
    by_name = {probe.name: probe for probe in probes}
    judgements: list[Judgement] = []
    for each, corrected in zip(scores, q, strict=True):
        if by_name[each.family].contrast:
            judgements += contrast_judgements(by_name[each.family], each, corrected, settings.thresholds)
    positional = {each.key: each for each in scores if each.family == "positional"}
    judgements += positional_judgements(positional, split, resampling, settings.thresholds)
    judgements = _broad_alone(judgements)
    best = [
        _best(each, corrected, judgements, settings.thresholds, controlled=by_name[each.family].controlled)
        for each, corrected in zip(scores, q, strict=True)
        if by_name[each.family].contrast
    ]
    return Findings(tuple(scores), tuple(q), tuple(judgements), tuple(best))


def _broad_alone(judgements: list[Judgement]) -> list[Judgement]:
    """`broad` is said of a head only where nothing more specific is."""
    others = {each.head for each in judgements if each.failed is None and each.wording.label != "broad"}
    return [each for each in judgements if each.wording.label != "broad" or each.head not in others]


def _best(
    scores: Scores,
    q: Float64[np.ndarray, " head"],
    judgements: Sequence[Judgement],
    thresholds: Thresholds,
    *,
    controlled: bool,
) -> BestHead:
    if not scores.n_select:
        return BestHead(scores, None, math.nan, math.nan, "insufficient data")
    head = int(np.argmax(scores.score_select))
    labelled = any(each.scores is scores and each.head == head and each.failed is None for each in judgements)
    selectivity = float(scores.selectivity[head]) if controlled else math.nan
    return BestHead(scores, head, float(q[head]), selectivity, verdict(scores, head, labelled, thresholds))
