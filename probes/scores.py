"""From sums to scores: both halves, intervals, every baseline, and the tests against those that a label must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.baselines import Baseline, RandomBest, baselines_of, value_sums
from probes.conditions import Conditions, Margin, Value
from probes.family import Rule
from probes.split import Split
from probes.statistics import Resampling, interval, mcnemar, replicates, sign_flip
from probes.tally import UNIT, Cell, Key
from probes.thresholds import Thresholds

__all__ = ["Gap", "Scores", "Setting", "above", "mean_above", "score_cell"]

Heads = Float64[np.ndarray, " head"]


@dataclass(frozen=True)
class Setting:
    """What is the same for every question of a run.

    Attributes:
        split: the halves.
        resampling: the draws over the clusters of CONFIRM.
        thresholds: of the label rule.
        layers: the layer of every head; None where layers have no order to speak of.
    """

    split: Split
    resampling: Resampling
    thresholds: Thresholds = field(default_factory=Thresholds)
    layers: Int64[np.ndarray, " head"] | None = None


@dataclass(frozen=True)
class Gap:
    """How far every head lies above the best of a margin's baselines.

    Attributes:
        margin: what is asked.
        baselines: those that were measured.
        select, confirm: score above the best of them on either half.
        low: lower bound of the 95 % interval of that on CONFIRM, in each replicate against the best one; NaN where
            a head was not tested.
        p: the largest p-value of the tests against each of them; NaN where a head was not tested.
    """

    margin: Margin
    baselines: tuple[Baseline, ...]
    select: Heads
    confirm: Heads
    low: Heads
    p: Heads


@dataclass(frozen=True)
class Scores:
    """All heads' scores on one question. Counts of hits are floats where ties are split; NaN is "not measured".

    Attributes:
        conditions: what a label asks for; None where the label rule does not decide.
        asked, reach: occurrences in CONFIRM, and the share of them that was scored.
        hits_ci, mass_ci: 95 % intervals, lower and upper bound, of hits per trial and of the mean mass on the target.
        chance, mass_chance: hits of a uniform choice among the candidates, and mass that uniform attention over all
            visible tokens puts on the target, on CONFIRM.
        baselines: everything that could be measured, by kind (and by name, where a label names a rule).
        control_n, control_hits, paired_hits: trials with control words on CONFIRM, hits at these words (averaged
            within each trial), and hits on these trials.
        control_mass, paired_mass: likewise of attention.
        gaps: per margin of the conditions.
        strong: over what the `-strong` form must beat; None where there is none, or nothing of that kind.
        tested: heads that went to the test: enough trials, every margin reached on SELECT, and a label to be had.
        labelled: a label can come of the question.
    """

    family: str
    key: Key
    conditions: Conditions | None
    n_select: int
    n_confirm: int
    asked: int
    hits_select: Heads
    hits_confirm: Heads
    mass_select: Heads
    mass_confirm: Heads
    hits_ci: Float64[np.ndarray, "2 head"]
    mass_ci: Float64[np.ndarray, "2 head"]
    chance: float
    mass_chance: float
    baselines: Mapping[str, Baseline]
    control_n: int
    control_hits: Heads
    paired_hits: Heads
    control_mass: Heads
    paired_mass: Heads
    gaps: tuple[Gap, ...]
    strong: Gap | None
    tested: Bool[np.ndarray, " head"]
    random: RandomBest | None
    cell: Cell = field(repr=False)
    confirm: Bool[np.ndarray, " cluster"] = field(repr=False)
    labelled: bool = True

    @property
    def value(self) -> Value:
        """What the score is made of."""
        return "hits" if self.conditions is None else self.conditions.value

    @property
    def score_select(self) -> Heads:
        """Value per trial on SELECT."""
        return _ratio(self.hits_select if self.value == "hits" else self.mass_select, self.n_select)

    @property
    def score(self) -> Heads:
        """Value per trial on CONFIRM."""
        return _ratio(self.hits_confirm if self.value == "hits" else self.mass_confirm, self.n_confirm)

    @property
    def ci(self) -> Float64[np.ndarray, "2 head"]:
        """95 % interval of the score, lower and upper bound."""
        return self.hits_ci if self.value == "hits" else self.mass_ci

    @property
    def selection_gap(self) -> Heads:
        """Score on SELECT less score on CONFIRM: what choosing and reporting on the same text would have added."""
        return np.asarray(self.score_select - self.score)

    @property
    def target_mass(self) -> Heads:
        """Mean attention on the target, on CONFIRM."""
        return _ratio(self.mass_confirm, self.n_confirm)

    @property
    def control(self) -> Heads:
        """Hits at control words per trial that has any, on CONFIRM."""
        return _ratio(self.control_hits, self.control_n)

    @property
    def selectivity(self) -> Heads:
        """Score less control score, both over the trials that have control words."""
        return _ratio(self.paired_hits - self.control_hits, self.control_n)

    @property
    def lift(self) -> Heads:
        """Attention on the target over that on control words, over trials that have any; NaN where there is none."""
        none = np.full(len(self.control_mass), np.nan)
        lift: Heads = np.divide(self.paired_mass, self.control_mass, out=none, where=self.control_mass > 0)
        return lift

    @property
    def margin(self) -> Heads:
        """Score above the best of what the first margin must beat; above chance where no label asks for a margin."""
        return self.gaps[0].confirm if self.gaps else np.asarray(self.score - self.score_of("chance"))

    @property
    def p(self) -> Heads:
        """The largest p-value over everything that must be beaten; NaN where not tested."""
        if self.conditions is None or not self.conditions.significant or not self.gaps:
            return np.full(len(self.tested), np.nan)
        return np.asarray(np.max([gap.p for gap in self.gaps], axis=0))

    @property
    def reach(self) -> float | None:
        """Share of occurrences that were scored."""
        return self.n_confirm / self.asked if self.asked else None

    def score_of(self, kind: str, *, select: bool = False) -> Heads:
        """A baseline's score per head, on CONFIRM or on SELECT; NaN where it was not measured."""
        found = self.baselines.get(kind)
        if found is None:
            return np.full(len(self.tested), np.nan)
        values = found.score(self.cell.trials, ~self.confirm if select else self.confirm)
        return np.asarray(np.broadcast_to(values, self.tested.shape))

    def headline(self, head: int) -> Baseline:
        """The baseline to print beside a head: the strongest on SELECT of those that the first margin must beat."""
        return self._headlines[head]

    @cached_property
    def _headlines(self) -> tuple[Baseline, ...]:
        gap = self.gaps[0] if self.gaps else None
        among = gap.baselines if gap is not None and gap.baselines else (self.baselines["chance"],)
        strength = np.nan_to_num([self.score_of(each.kind, select=True) for each in among])
        return tuple(among[best] for best in strength.argmax(axis=0).tolist())


def score_cell(
    family: str,
    key: Key,
    cell: Cell,
    rules: Sequence[Rule],
    setting: Setting,
    conditions: Conditions | None,
    random: RandomBest | None = None,
    *,
    labelled: bool = True,
) -> Scores:
    """Score one question for all heads, and test them against what `conditions` says must be beaten.

    A question that is reported only (not `labelled`) is compared but not tested, so that it takes nothing from the
    questions that are.
    """
    confirm = setting.split.confirm
    value: Value = "hits" if conditions is None else conditions.value
    named = () if conditions is None else tuple(conditions.baselines())
    measured = baselines_of(cell, rules, confirm, value, named=named, random=random, layers=setting.layers)
    baselines = {each.kind: each for each in measured}
    n_select, n_confirm = int(cell.trials[~confirm].sum()), int(cell.trials[confirm].sum())
    trials = cell.trials[confirm].astype(np.float64)
    hits, mass = (replicates(setting.resampling, sums[confirm] / UNIT, trials) for sums in (cell.hits, cell.mass))
    gaps, strong, tested = _compare(cell, conditions, baselines, setting, hits if value == "hits" else mass, labelled)
    return Scores(
        family=family,
        key=key,
        conditions=conditions,
        n_select=n_select,
        n_confirm=n_confirm,
        asked=int(cell.asked[confirm].sum()),
        hits_select=cell.hits[~confirm].sum(axis=0) / UNIT,
        hits_confirm=cell.hits[confirm].sum(axis=0) / UNIT,
        mass_select=cell.mass[~confirm].sum(axis=0) / UNIT,
        mass_confirm=cell.mass[confirm].sum(axis=0) / UNIT,
        hits_ci=interval(hits),
        mass_ci=interval(mass),
        chance=cell.chance[confirm].sum() / UNIT / n_confirm if n_confirm else float("nan"),
        mass_chance=cell.mass_chance[confirm].sum() / UNIT / n_confirm if n_confirm else float("nan"),
        baselines=baselines,
        control_n=int(cell.control_trials[confirm].sum()),
        control_hits=cell.control_hits[confirm].sum(axis=0) / UNIT,
        paired_hits=cell.paired_hits[confirm].sum(axis=0) / UNIT,
        control_mass=cell.control_mass[confirm].sum(axis=0) / UNIT,
        paired_mass=cell.paired_mass[confirm].sum(axis=0) / UNIT,
        gaps=gaps,
        strong=strong,
        tested=tested,
        random=random,
        cell=cell,
        confirm=confirm,
        labelled=labelled,
    )


def _compare(
    cell: Cell,
    conditions: Conditions | None,
    baselines: Mapping[str, Baseline],
    setting: Setting,
    resampled: Float64[np.ndarray, "replicate head"],
    labelled: bool,
) -> tuple[tuple[Gap, ...], Gap | None, Bool[np.ndarray, " head"]]:
    """The margins of a label's conditions, that of its `-strong` form, and who reached the former on SELECT."""
    confirm = setting.split.confirm
    nobody = np.zeros(cell.hits.shape[1], dtype=bool)
    if conditions is None:
        return (), None, nobody
    sums = value_sums(cell, conditions.value)
    margins = [*conditions.margins, *([conditions.strong] if conditions.strong is not None else [])]
    beaten = [tuple(baselines[kind] for kind in margin.over if kind in baselines) for margin in margins]
    select = [mean_above(cell, sums, against, ~confirm) for against in beaten]
    n_margins = len(conditions.margins)
    halves = (cell.trials[~confirm].sum(), cell.trials[confirm].sum())
    tested = ~nobody & (min(halves) >= setting.thresholds.fewest) & labelled
    for margin, gap in zip(margins[:n_margins], select[:n_margins], strict=True):
        tested = tested & (gap >= margin.by)
    gaps = []
    for margin, against, on_select in zip(margins, beaten, select, strict=True):
        low, p = np.full(len(tested), np.nan), np.full(len(tested), np.nan)
        if tested.any():
            low[tested] = interval(above(cell, against, setting, resampled[:, tested], tested))[0]
            p[tested] = _largest_p(cell, sums, against, setting, tested)
        gaps.append(Gap(margin, against, on_select, mean_above(cell, sums, against, confirm), low, p))
    strong = gaps[n_margins] if conditions.strong is not None and beaten[n_margins] else None
    return tuple(gaps[:n_margins]), strong, tested


def mean_above(
    cell: Cell,
    sums: Int64[np.ndarray, "cluster head"],
    against: Sequence[Baseline],
    half: Bool[np.ndarray, " cluster"],
) -> Heads:
    """Score above the best of some baselines on one half; above nothing where there are none."""
    score = _ratio(sums[half].sum(axis=0) / UNIT, int(cell.trials[half].sum()))
    best = np.zeros(len(score))
    for baseline in against:
        best = np.maximum(best, baseline.score(cell.trials, half))
    return np.asarray(score - best)


def above(
    cell: Cell,
    against: Sequence[Baseline],
    setting: Setting,
    scores: Float64[np.ndarray, "replicate some_head"],
    heads: Bool[np.ndarray, " head"],
) -> Float64[np.ndarray, "replicate some_head"]:
    """Scores of some heads above the best baseline, in each replicate; above nothing where there are none."""
    confirm = setting.split.confirm
    trials = cell.trials[confirm].astype(np.float64)
    best = np.zeros((len(scores), 1))
    for baseline in against:
        sums = baseline.sums[confirm] if baseline.sums.shape[1] == 1 else baseline.sums[confirm][:, heads]
        best = np.maximum(best, replicates(setting.resampling, sums / UNIT, trials))
    return np.asarray(scores - best)


def _largest_p(
    cell: Cell,
    sums: Int64[np.ndarray, "cluster head"],
    against: Sequence[Baseline],
    setting: Setting,
    heads: Bool[np.ndarray, " head"],
) -> Float64[np.ndarray, " some_head"]:
    """Of the tests against each baseline; to beat the best of them is to beat every one.

    Source: Berger 1982, "Multiparameter Hypothesis Testing and Acceptance Sampling" (intersection-union tests).
    """
    confirm = setting.split.confirm
    own = sums[confirm][:, heads]
    largest = np.zeros(int(heads.sum()))
    for baseline in against:
        other = baseline.sums[confirm] if baseline.sums.shape[1] == 1 else baseline.sums[confirm][:, heads]
        largest = np.maximum(largest, sign_flip(setting.resampling, (own - other).astype(np.float64)))
        if baseline.rule is not None:
            both = cell.rule_hits[1, baseline.rule, heads]
            only_head, only_rule = own.sum(axis=0) - both, other.sum(axis=0) - both
            largest = np.maximum(largest, mcnemar(only_head / UNIT, only_rule / UNIT))
    return largest


def _ratio(sums: Heads, n: int) -> Heads:
    return np.asarray(sums / n) if n else np.full(len(sums), np.nan)
