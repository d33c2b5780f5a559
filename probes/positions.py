"""Labels of the positional family: thresholds on scores, chosen on SELECT where there is something to choose.

The confidence of a label is the share of bootstrap replicates in which all of its lower limits hold together. Which
offset is looked at is decided once, on SELECT, and is not resampled; neither is that a head has no label but `broad`.

Every label but `broad` says that something was learned. So it must also beat uniform attention, and the best head of
copies with random weights, by the margin of all labels, surely: position, in some models, is there from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from probes.conditions import Margin, Value
from probes.confidence import reached
from probes.family import Wording
from probes.held import held_against
from probes.labels import Judgement, margins_missed, missing_baselines, unsure
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
from probes.scores import Scores, Setting, above
from probes.statistics import replicates
from probes.tally import UNIT, Key
from probes.thresholds import Thresholds

__all__ = ["METRICS", "NO_OP", "PatternFacts", "positional_judgements"]

NO_OP = "no-op"

METRICS: Mapping[str, tuple[Key, Value]] = {
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
        self._known: dict[tuple[Key, Value], Scores] = {}

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
            holds = self._at_least(chosen, head, limits.strong_mass)
            yield self._judgement(head, chosen, "hits", self._worded(chosen), holds)
            return
        if chosen.target_mass[head] >= limits.mass and self._determined(head):
            holds = self._replicates(chosen, head, "mass") >= limits.mass
            yield self._judgement(head, chosen, "mass", self._worded(chosen), holds)
            return
        if wins and (best not in (-1, 1) or chosen.target_mass[head] <= limits.mass):
            wording = self._worded(chosen)
            name = {-1: "leans-previous", 1: "leans-next"}.get(best, f"leans to {wording.label}")
            text = f"{wording.text} more than to any other, with a small part of its weight"
            holds = self._at_least(chosen, head, limits.target_mass)
            yield self._judgement(head, chosen, "hits", Wording(name, text), holds)
            return
        for offset, name, place in ((-1, "leans-previous", "before"), (1, "leans-next", "after")):
            side = self.scores.get(offset_key(offset))
            if side is not None and side.target_mass[head] > self.thresholds.mass:
                text = f"more than half of its attention goes to the token {place}"
                holds = self._replicates(side, head, "mass") > limits.mass
                yield self._judgement(head, side, "mass", Wording(name, text), holds)

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
            yield self._judgement(head, chosen, "hits", self._worded(chosen), holds)

    def first(self, head: int) -> Iterator[Judgement]:
        """A sink: the first token gets more than .3, and three times what the second gets (P4)."""
        first, second, limits = self.scores.get(FIRST), self.scores.get(SECOND), self.thresholds
        if first is None or second is None or not first.score[head] > limits.first:
            return
        if first.score[head] > limits.first_ratio * second.score[head]:
            mass, other = (self._replicates(each, head, "mass") for each in (first, second))
            holds = (mass > limits.first) & (mass > limits.first_ratio * other)
            yield self._resting(self._judgement(head, first, "mass", self._worded(first), holds))

    def delimiters(self, head: int) -> Iterator[Judgement]:
        """Separator tokens, or full stops and commas, get more than .6 (P5)."""
        for key in (SEPARATOR, PUNCTUATION):
            scores = self.scores.get(key)
            if scores is not None and scores.score[head] > self.thresholds.delimiter:
                holds = self._replicates(scores, head, "mass") > self.thresholds.delimiter
                yield self._resting(self._judgement(head, scores, "mass", self._worded(scores), holds))

    def broad(self, head: int) -> list[Judgement]:
        """Nearly uniform (P7)."""
        scores = self.scores.get(BREADTH)
        if scores is None or not scores.score[head] >= self.thresholds.breadth:
            return []
        holds = self._replicates(scores, head, "hits") >= self.thresholds.breadth
        return [self._judgement(head, scores, "hits", self._worded(scores), holds)]

    def _resting(self, judgement: Judgement) -> Judgement:
        """With the modifier `no-op` where what the head takes up there is small."""
        rests = self.facts.no_op is not None and bool(self.facts.no_op[judgement.head])
        return replace(judgement, modifiers=(NO_OP,)) if rests else judgement

    def _worded(self, scores: Scores) -> Wording:
        wording = self.probe.wording(scores.key)
        assert wording is not None
        return wording

    def _judgement(
        self, head: int, scores: Scores, value: Value, wording: Wording, holds: Bool[np.ndarray, " replicate"]
    ) -> Judgement:
        """A label, or a weak one: too close to random weights, or its conditions hold together in too few replicates.

        `holds` are the replicates in which the label's limits hold.
        """
        broad = scores.key == BREADTH
        held = scores if broad else self._held(scores, value)
        confidence = float((holds & self._beats(held, head)).mean())
        baseline = held.headline(head)
        name = "uniform attention" if baseline.kind == "chance" else baseline.name
        missed = [*margins_missed(held, head, f"margin over {name}"), unsure(confidence, self.thresholds)]
        low, high = held.ci[:, head]
        return Judgement(
            head=head,
            scores=held,
            wording=wording,
            score=float(held.score[head]),
            ci=(float(low), float(high)),
            baseline=float("nan") if broad else float(held.score_of(baseline.kind)[head]),
            baseline_name=None if broad else name,
            target_mass=float("nan") if broad else float(held.target_mass[head]),
            confidence=confidence,
            failed=missed[0],
            missing=missing_baselines(held),
        )

    def _held(self, scores: Scores, value: Value) -> Scores:
        """A question by one of its values, against uniform attention and random weights."""
        question = (scores.key, value)
        if question not in self._known:
            margin = Margin(("chance", "random"), self.thresholds.margin)
            self._known[question] = held_against(scores, value, (margin,), self.setting)
        return self._known[question]

    def _beats(self, held: Scores, head: int) -> Bool[np.ndarray, " replicate"]:
        """Per replicate: the head reaches the margins."""
        only = np.arange(len(held.tested)) == head
        values = self._replicates(held, head, held.value)[:, None]
        beats = np.ones(values.shape, dtype=bool)
        for gap in held.gaps:
            beats &= reached(above(held.cell, gap.baselines, self.setting, values, only), gap.margin.by)
        return np.asarray(beats[:, 0])

    def _at_least(self, scores: Scores, head: int, mass: float) -> Bool[np.ndarray, " replicate"]:
        """Per replicate: the offset wins nearly all queries, and has at least this much of the weight."""
        wins = self._replicates(scores, head, "hits") >= self.thresholds.argmax
        return np.asarray(wins & (self._replicates(scores, head, "mass") >= mass))

    def _replicates(self, scores: Scores, head: int, value: Value) -> Float64[np.ndarray, " replicate"]:
        cell = scores.cell
        confirm = self.setting.split.confirm
        sums = (cell.hits if value == "hits" else cell.mass)[confirm][:, [head]] / UNIT
        trials = cell.trials[confirm].astype(np.float64)
        return replicates(self.setting.resampling, sums, trials)[:, 0]
