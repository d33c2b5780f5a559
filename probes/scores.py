"""From sums to scores: both halves, intervals, the baseline chosen on SELECT, the test against it on CONFIRM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from probes.split import Split
from probes.statistics import Resampling, interval, replicates, sign_flip
from probes.tally import UNIT, Cell, Key

__all__ = ["Scores", "Thresholds", "score_cell"]

Heads = Float64[np.ndarray, " head"]


@dataclass(frozen=True)
class Thresholds:
    """What a label needs, on CONFIRM. Marked "ours": design choices, not values from the literature.

    Attributes:
        margin: score above the best rule without a model (Voita et al. 2019 use this for syntax).
        selectivity: score above that of the same offsets at other words, trial by trial (ours).
        target_mass: mean attention on the target (ours): an argmax over 1 % of the attention is still an argmax.
        q: false discovery rate.
        confidence: share of bootstrap replicates in which all numeric conditions hold (ours).
        fewest: trials in each half (ours); below it, no label.
        weak_margin: from here on a significant head that misses a condition is shown as weak (ours).
        argmax: share of queries for a fixed offset (Voita et al. 2019).
        strong_mass: mean attention at that offset, without which a head only leans there (Voita et al. 2019 report a
            mean maximum weight above .8 for their positional heads; as a condition it is ours).
        mass: mean attention for a head that leans to a neighbour (Clark et al. 2019).
        first: mean attention on the first token (Gu et al. 2025), and `first_ratio` times that on the second (ours).
        delimiter: mean attention on delimiters (Clark et al. 2019, code).
        breadth: entropy over the largest possible (Clark et al. 2019: 3.8 of 4.85 nats).
    """

    margin: float = 0.10
    selectivity: float = 0.15
    target_mass: float = 0.10
    q: float = 0.05
    confidence: float = 0.5
    fewest: int = 50
    weak_margin: float = 0.05
    argmax: float = 0.90
    strong_mass: float = 0.80
    mass: float = 0.50
    first: float = 0.30
    first_ratio: float = 3.0
    delimiter: float = 0.60
    breadth: float = 0.78


@dataclass(frozen=True)
class Scores:
    """All heads' scores on one question. Counts of hits are floats where ties are split; NaN is "not measured".

    Attributes:
        asked, reach: occurrences in CONFIRM, and the share of them that was scored.
        ci, mass_ci: 95 % intervals, lower and upper bound.
        chance, mass_chance: hits of a uniform choice among the candidates, and mass that uniform attention over all
            visible tokens puts on the target, on CONFIRM.
        control_n, control_hits, paired_hits: trials with control words on CONFIRM, hits at these words (averaged
            within each trial), and hits on these trials.
        baseline_name: the rule (or "chance") with the most hits on SELECT.
        margin, margin_low: score above the baseline and above chance on CONFIRM, and the interval's lower bound
            against the baseline.
        tested: cells that went to the test: enough trials, and a SELECT margin of at least the threshold.
        p: of the one-sided sign-flip test against the baseline; NaN where not tested.
        confidence: share of replicates that meet margin, selectivity and mass; NaN where not tested.
    """

    family: str
    key: Key
    n_select: int
    n_confirm: int
    asked: int
    hits_select: Heads
    hits_confirm: Heads
    ci: Float64[np.ndarray, "2 head"]
    target_mass: Heads
    mass_ci: Float64[np.ndarray, "2 head"]
    chance: float
    mass_chance: float
    baseline_name: str
    baseline_hits_select: float
    baseline_hits_confirm: float
    control_n: int
    control_hits: Heads
    paired_hits: Heads
    margin_low: Heads
    tested: Bool[np.ndarray, " head"]
    p: Heads
    confidence: Heads
    cell: Cell = field(repr=False)

    @property
    def score_select(self) -> Heads:
        """Hits per trial on SELECT."""
        return _ratio(self.hits_select, self.n_select)

    @property
    def score(self) -> Heads:
        """Hits per trial on CONFIRM."""
        return _ratio(self.hits_confirm, self.n_confirm)

    @property
    def baseline_select(self) -> float:
        """The baseline's hits per trial on SELECT."""
        return self.baseline_hits_select / self.n_select if self.n_select else float("nan")

    @property
    def baseline(self) -> float:
        """The baseline's hits per trial on CONFIRM."""
        return self.baseline_hits_confirm / self.n_confirm if self.n_confirm else float("nan")

    @property
    def control(self) -> Heads:
        """Hits at control words per trial that has any, on CONFIRM."""
        return _ratio(self.control_hits, self.control_n)

    @property
    def selectivity(self) -> Heads:
        """Score less control score, both over the trials that have control words."""
        return _ratio(self.paired_hits - self.control_hits, self.control_n)

    @property
    def margin(self) -> Heads:
        """Score above the better of baseline and chance, on CONFIRM."""
        return np.asarray(self.score - max(self.baseline, self.chance))

    @property
    def reach(self) -> float | None:
        """Share of occurrences that were scored."""
        return self.n_confirm / self.asked if self.asked else None


def score_cell(
    family: str,
    key: Key,
    cell: Cell,
    baselines: tuple[str, ...],
    split: Split,
    resampling: Resampling,
    thresholds: Thresholds,
    *,
    contrast: bool,
    controlled: bool,
) -> Scores:
    """Score one question for all heads; `contrast` families are also tested against their best baseline."""
    select, confirm = ~split.confirm, split.confirm
    trials = cell.trials[confirm].astype(np.float64)
    hits = cell.hits[confirm] / UNIT
    mass = cell.mass[confirm] / UNIT
    rules = np.column_stack([cell.chance, cell.rules]) / UNIT
    best = int(rules[select].sum(axis=0).argmax())
    n_select, n_confirm = int(cell.trials[select].sum()), int(trials.sum())
    hits_select = cell.hits[select].sum(axis=0) / UNIT
    margin_select = _ratio(hits_select - rules[select, best].sum(), n_select)
    enough = min(n_select, n_confirm) >= thresholds.fewest
    tested = (margin_select >= thresholds.margin) & enough & contrast
    resampled = replicates(resampling, hits, trials)
    margins = resampled - replicates(resampling, rules[confirm, best][:, None], trials)
    p, confidence = np.full(len(tested), np.nan), np.full(len(tested), np.nan)
    if tested.any():
        in_parts = cell.hits[confirm][:, tested] - np.rint(rules[confirm, best] * UNIT)[:, None]
        p[tested] = sign_flip(resampling, in_parts)
        confidence[tested] = _confidence(cell, confirm, tested, resampling, margins, thresholds, controlled=controlled)
    return Scores(
        family=family,
        key=key,
        n_select=n_select,
        n_confirm=n_confirm,
        asked=int(cell.asked[confirm].sum()),
        hits_select=hits_select,
        hits_confirm=hits.sum(axis=0),
        ci=interval(resampled),
        target_mass=_ratio(mass.sum(axis=0), n_confirm),
        mass_ci=interval(replicates(resampling, mass, trials)),
        chance=float(_ratio(rules[confirm, :1].sum(axis=0), n_confirm)[0]),
        mass_chance=float(_ratio(cell.mass_chance[confirm].sum(keepdims=True) / UNIT, n_confirm)[0]),
        baseline_name=("chance", *baselines)[best],
        baseline_hits_select=float(rules[select, best].sum()),
        baseline_hits_confirm=float(rules[confirm, best].sum()),
        control_n=int(cell.control_trials[confirm].sum()),
        control_hits=cell.control_hits[confirm].sum(axis=0) / UNIT,
        paired_hits=cell.paired_hits[confirm].sum(axis=0) / UNIT,
        margin_low=interval(margins)[0],
        tested=tested,
        p=p,
        confidence=confidence,
        cell=cell,
    )


def _confidence(
    cell: Cell,
    confirm: Bool[np.ndarray, " cluster"],
    tested: Bool[np.ndarray, " head"],
    resampling: Resampling,
    margins: Float64[np.ndarray, "replicate head"],
    thresholds: Thresholds,
    *,
    controlled: bool,
) -> Float64[np.ndarray, " tested_head"]:
    """Share of replicates in which margin, selectivity and target mass all hold, for the tested heads."""
    trials = cell.trials[confirm].astype(np.float64)
    holds = margins[:, tested] >= thresholds.margin
    masses = replicates(resampling, cell.mass[confirm][:, tested] / UNIT, trials)
    holds &= masses >= thresholds.target_mass
    if controlled:
        n_controls = cell.control_trials[confirm].astype(np.float64)
        differences = (cell.paired_hits - cell.control_hits)[confirm][:, tested] / UNIT
        holds &= replicates(resampling, differences, n_controls) >= thresholds.selectivity
    return np.asarray(holds.mean(axis=0))


def _ratio(sums: Heads, n: int) -> Heads:
    return np.asarray(sums / n) if n else np.full(len(sums), np.nan)
