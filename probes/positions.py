"""Labels of the positional family: thresholds on scores, chosen on SELECT where there is something to choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from probes.family import Wording
from probes.labels import Judgement
from probes.positional import BREADTH, FIRST, OFFSETS, PUNCTUATION, SECOND, SEPARATOR, PositionalProbe, offset_key
from probes.scores import Scores, Thresholds
from probes.split import Split
from probes.statistics import Resampling, replicates
from probes.tally import UNIT, Cell, Key

__all__ = ["METRICS", "positional_judgements"]

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


def positional_judgements(
    scores: Mapping[Key, Scores], split: Split, resampling: Resampling, thresholds: Thresholds
) -> list[Judgement]:
    """Labels of all heads from the positional scores; `broad` only where a head has no other."""
    found: list[Judgement] = []
    n_heads = max((len(each.score) for each in scores.values()), default=0)
    judge = _Judge(scores, split, resampling, thresholds)
    for head in range(n_heads):
        own = [*judge.offsets(head), *judge.first(head), *judge.delimiters(head)]
        found += own or judge.broad(head)
    return found


class _Judge:
    """The rules, one head at a time; everything they read is fixed."""

    def __init__(
        self, scores: Mapping[Key, Scores], split: Split, resampling: Resampling, thresholds: Thresholds
    ) -> None:
        self.scores = {key: each for key, each in scores.items() if self._enough(each, thresholds)}
        self.confirm = split.confirm
        self.resampling = resampling
        self.thresholds = thresholds
        self.probe = PositionalProbe()

    @staticmethod
    def _enough(scores: Scores, thresholds: Thresholds) -> bool:
        return min(scores.n_select, scores.n_confirm) >= thresholds.fewest

    def offsets(self, head: int) -> Iterator[Judgement]:
        """A fixed offset for nearly all queries (P1) and most of the weight; with less, the head leans there.

        More than half of the attention on a neighbour (P2) is leaning too, whatever wins.
        """
        offsets = [offset for offset in OFFSETS if offset_key(offset) in self.scores]
        if not offsets:
            return
        best = max(offsets, key=lambda offset: self.scores[offset_key(offset)].score_select[head])
        chosen, limits = self.scores[offset_key(best)], self.thresholds
        wins = chosen.score[head] >= limits.argmax and chosen.target_mass[head] >= limits.target_mass
        if wins and chosen.target_mass[head] >= limits.strong_mass:
            yield self._judgement(head, chosen, "hits", limits.argmax, self._worded(chosen))
            return
        if wins and (best not in (-1, 1) or chosen.target_mass[head] <= limits.mass):
            wording = self._worded(chosen)
            name = {-1: "leans-previous", 1: "leans-next"}.get(best, f"leans to {wording.label}")
            text = f"{wording.text} more than to any other, with a small part of its weight"
            yield self._judgement(head, chosen, "hits", limits.argmax, Wording(name, text))
            return
        for offset, name, place in ((-1, "leans-previous", "before"), (1, "leans-next", "after")):
            side = self.scores.get(offset_key(offset))
            if side is not None and side.target_mass[head] > self.thresholds.mass:
                text = f"more than half of its attention goes to the token {place}"
                yield self._judgement(head, side, "mass", self.thresholds.mass, Wording(name, text))

    def first(self, head: int) -> Iterator[Judgement]:
        """A sink: the first token gets more than .3, and three times what the second gets (P4)."""
        first, second = self.scores.get(FIRST), self.scores.get(SECOND)
        if first is None or second is None or not first.score[head] > self.thresholds.first:
            return
        if first.score[head] > self.thresholds.first_ratio * second.score[head]:
            yield self._judgement(head, first, "mass", self.thresholds.first, self._worded(first))

    def delimiters(self, head: int) -> Iterator[Judgement]:
        """Separator tokens, or full stops and commas, get more than .6 (P5)."""
        for key in (SEPARATOR, PUNCTUATION):
            scores = self.scores.get(key)
            if scores is not None and scores.score[head] > self.thresholds.delimiter:
                yield self._judgement(head, scores, "mass", self.thresholds.delimiter, self._worded(scores))

    def broad(self, head: int) -> list[Judgement]:
        """Nearly uniform (P7)."""
        scores = self.scores.get(BREADTH)
        if scores is None or not scores.score[head] >= self.thresholds.breadth:
            return []
        return [self._judgement(head, scores, "hits", self.thresholds.breadth, self._worded(scores))]

    def _worded(self, scores: Scores) -> Wording:
        wording = self.probe.wording(scores.key)
        assert wording is not None
        return wording

    def _judgement(
        self, head: int, scores: Scores, value: Literal["hits", "mass"], least: float, wording: Wording
    ) -> Judgement:
        by_argmax = value == "hits"
        low, high = (scores.ci if by_argmax else scores.mass_ci)[:, head]
        broad = scores.key == BREADTH
        return Judgement(
            head=head,
            scores=scores,
            wording=wording,
            score=float((scores.score if by_argmax else scores.target_mass)[head]),
            ci=(float(low), float(high)),
            baseline=float("nan") if broad else scores.chance,
            baseline_name=None if broad else "uniform attention",
            target_mass=float("nan") if broad else float(scores.target_mass[head]),
            confidence=self._share(scores.cell, head, value, least),
        )

    def _share(self, cell: Cell, head: int, value: Literal["hits", "mass"], least: float) -> float:
        """Share of bootstrap replicates in which the value reaches the threshold."""
        sums = (cell.hits if value == "hits" else cell.mass)[self.confirm][:, [head]] / UNIT
        trials = cell.trials[self.confirm].astype(np.float64)
        return float((replicates(self.resampling, sums, trials) >= least).mean())
