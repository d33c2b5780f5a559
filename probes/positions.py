"""Labels of the positional family: thresholds on scores, chosen on SELECT where there is something to choose.

The confidence of a label is the share of bootstrap replicates in which all of its lower limits hold together. Which
offset is looked at is decided once, on SELECT, and is not resampled; neither is that a head has no label but `broad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from probes.family import Wording
from probes.labels import Judgement, unsure
from probes.positional import (
    BREADTH,
    FIRST,
    NEAREST,
    OFFSETS,
    PUNCTUATION,
    SECOND,
    SEPARATOR,
    PositionalProbe,
    offset_key,
)
from probes.scores import Scores, Setting
from probes.statistics import replicates
from probes.tally import UNIT, Key
from probes.thresholds import Thresholds

__all__ = ["METRICS", "NO_OP", "PatternFacts", "positional_judgements"]

NO_OP = "no-op"

METRICS: Mapping[str, tuple[Key, Literal["hits", "mass"]]] = {
    "previous": (offset_key(-1), "mass"),
    "next": (offset_key(1), "mass"),
    "self": (offset_key(0), "mass"),
    "first": (FIRST, "mass"),
    "delimiter": (Key("delimiter"), "mass"),
    "entropy": (Key("entropy"), "mass"),
    "breadth": (BREADTH, "mass"),
    "distance": (Key("distance"), "mass"),
}


@dataclass(frozen=True)
class PatternFacts:
    """What is known about whole patterns and values beside the scores, per head; None where it was not measured.

    Attributes:
        determined: share of the pattern that one weight per offset, fitted on SELECT, reproduces on CONFIRM (P3).
        no_op: where the head rests, the vectors that it takes up are small, so that it adds next to nothing (P6).
    """

    determined: Float64[np.ndarray, " head"] | None = None
    no_op: Bool[np.ndarray, " head"] | None = None


def positional_judgements(
    scores: Mapping[Key, Scores], setting: Setting, facts: PatternFacts | None = None
) -> list[Judgement]:
    """Labels of all heads from the positional scores; `broad` only where a head has no other."""
    found: list[Judgement] = []
    n_heads = max((len(each.score) for each in scores.values()), default=0)
    judge = _Judge(scores, setting, facts or PatternFacts())
    for head in range(n_heads):
        own = [*judge.offsets(head), *judge.nearest(head), *judge.first(head), *judge.delimiters(head)]
        found += own if any(each.failed is None for each in own) else [*own, *judge.broad(head)]
    return found


class _Judge:
    """The rules, one head at a time; everything they read is fixed."""

    def __init__(self, scores: Mapping[Key, Scores], setting: Setting, facts: PatternFacts) -> None:
        self.scores = {key: each for key, each in scores.items() if self._enough(each, setting.thresholds)}
        self.setting = setting
        self.thresholds = setting.thresholds
        self.facts = facts
        self.probe = PositionalProbe()

    @staticmethod
    def _enough(scores: Scores, thresholds: Thresholds) -> bool:
        return min(scores.n_select, scores.n_confirm) >= thresholds.fewest

    def offsets(self, head: int) -> Iterator[Judgement]:
        """A fixed offset for nearly all queries (P1) and most of the weight; with less, the head leans there.

        Half of the weight there (P2) is enough where offsets alone determine the pattern (P3). More than half of the
        attention on a neighbour is leaning too, whatever wins.
        """
        offsets = [offset for offset in OFFSETS if offset_key(offset) in self.scores]
        if not offsets:
            return
        best = max(offsets, key=lambda offset: self.scores[offset_key(offset)].score_select[head])
        chosen, limits = self.scores[offset_key(best)], self.thresholds
        wins = chosen.score[head] >= limits.argmax and chosen.target_mass[head] >= limits.target_mass
        if wins and chosen.target_mass[head] >= limits.strong_mass:
            confidence = self._share(self._at_least(chosen, head, limits.strong_mass))
            yield self._judgement(head, chosen, "hits", self._worded(chosen), confidence)
            return
        if chosen.target_mass[head] >= limits.mass and self._determined(head):
            confidence = self._share(self._replicates(chosen, head, "mass") >= limits.mass)
            yield self._judgement(head, chosen, "mass", self._worded(chosen), confidence)
            return
        if wins and (best not in (-1, 1) or chosen.target_mass[head] <= limits.mass):
            wording = self._worded(chosen)
            name = {-1: "leans-previous", 1: "leans-next"}.get(best, f"leans to {wording.label}")
            text = f"{wording.text} more than to any other, with a small part of its weight"
            confidence = self._share(self._at_least(chosen, head, limits.target_mass))
            yield self._judgement(head, chosen, "hits", Wording(name, text), confidence)
            return
        for offset, name, place in ((-1, "leans-previous", "before"), (1, "leans-next", "after")):
            side = self.scores.get(offset_key(offset))
            if side is not None and side.target_mass[head] > self.thresholds.mass:
                text = f"more than half of its attention goes to the token {place}"
                confidence = self._share(self._replicates(side, head, "mass") > limits.mass)
                yield self._judgement(head, side, "mass", Wording(name, text), confidence)

    def _determined(self, head: int) -> bool:
        share = self.facts.determined
        return share is not None and bool(share[head] >= self.thresholds.determined)

    def nearest(self, head: int) -> Iterator[Judgement]:
        """The nearest word of one part of speech on one side, from most words (P10); part and side by SELECT."""
        keys = [key for key in NEAREST if key in self.scores]
        if not keys:
            return
        chosen = self.scores[max(keys, key=lambda key: self.scores[key].score_select[head])]
        if chosen.score[head] >= self.thresholds.nearest and chosen.target_mass[head] >= self.thresholds.target_mass:
            holds = self._replicates(chosen, head, "hits") >= self.thresholds.nearest
            holds &= self._replicates(chosen, head, "mass") >= self.thresholds.target_mass
            yield self._judgement(head, chosen, "hits", self._worded(chosen), self._share(holds))

    def first(self, head: int) -> Iterator[Judgement]:
        """A sink: the first token gets more than .3, and three times what the second gets (P4)."""
        first, second, limits = self.scores.get(FIRST), self.scores.get(SECOND), self.thresholds
        if first is None or second is None or not first.score[head] > limits.first:
            return
        if first.score[head] > limits.first_ratio * second.score[head]:
            mass, other = (self._replicates(each, head, "mass") for each in (first, second))
            confidence = self._share((mass > limits.first) & (mass > limits.first_ratio * other))
            yield self._resting(self._judgement(head, first, "mass", self._worded(first), confidence))

    def delimiters(self, head: int) -> Iterator[Judgement]:
        """Separator tokens, or full stops and commas, get more than .6 (P5)."""
        for key in (SEPARATOR, PUNCTUATION):
            scores = self.scores.get(key)
            if scores is not None and scores.score[head] > self.thresholds.delimiter:
                confidence = self._share(self._replicates(scores, head, "mass") > self.thresholds.delimiter)
                yield self._resting(self._judgement(head, scores, "mass", self._worded(scores), confidence))

    def broad(self, head: int) -> list[Judgement]:
        """Nearly uniform (P7)."""
        scores = self.scores.get(BREADTH)
        if scores is None or not scores.score[head] >= self.thresholds.breadth:
            return []
        confidence = self._share(self._replicates(scores, head, "hits") >= self.thresholds.breadth)
        return [self._judgement(head, scores, "hits", self._worded(scores), confidence)]

    def _resting(self, judgement: Judgement) -> Judgement:
        """With the modifier `no-op` where what the head takes up there is small."""
        rests = self.facts.no_op is not None and bool(self.facts.no_op[judgement.head])
        return replace(judgement, modifiers=(NO_OP,)) if rests else judgement

    def _worded(self, scores: Scores) -> Wording:
        wording = self.probe.wording(scores.key)
        assert wording is not None
        return wording

    def _judgement(
        self, head: int, scores: Scores, value: Literal["hits", "mass"], wording: Wording, confidence: float
    ) -> Judgement:
        """A label, or a weak one where its conditions hold together in too few replicates."""
        by_argmax = value == "hits"
        low, high = (scores.hits_ci if by_argmax else scores.mass_ci)[:, head]
        broad = scores.key == BREADTH
        chance = scores.chance if by_argmax else scores.mass_chance
        return Judgement(
            head=head,
            scores=scores,
            wording=wording,
            score=float((scores.score if by_argmax else scores.target_mass)[head]),
            ci=(float(low), float(high)),
            baseline=float("nan") if broad else chance,
            baseline_name=None if broad else "uniform attention",
            target_mass=float("nan") if broad else float(scores.target_mass[head]),
            confidence=confidence,
            failed=unsure(confidence, self.thresholds),
        )

    def _at_least(self, scores: Scores, head: int, mass: float) -> Bool[np.ndarray, " replicate"]:
        """Per replicate: the offset wins nearly all queries, and has at least this much of the weight."""
        wins = self._replicates(scores, head, "hits") >= self.thresholds.argmax
        return np.asarray(wins & (self._replicates(scores, head, "mass") >= mass))

    def _replicates(
        self, scores: Scores, head: int, value: Literal["hits", "mass"]
    ) -> Float64[np.ndarray, " replicate"]:
        cell = scores.cell
        confirm = self.setting.split.confirm
        sums = (cell.hits if value == "hits" else cell.mass)[confirm][:, [head]] / UNIT
        trials = cell.trials[confirm].astype(np.float64)
        return replicates(self.setting.resampling, sums, trials)[:, 0]

    @staticmethod
    def _share(holds: Bool[np.ndarray, " replicate"]) -> float:
        return float(holds.mean())
