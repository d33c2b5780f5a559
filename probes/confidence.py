"""Confidence in a label: the share of bootstrap replicates in which all of its numeric conditions hold together.

What was chosen on SELECT (the rule of each kind, the head) is held fixed, and so is what random weights score. q is no
part of it: significance is asked for beside it. The 2,000 replicates are those of the intervals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64

from probes.baselines import value_sums
from probes.conditions import Need, Value
from probes.scores import Scores, Setting, above
from probes.statistics import replicates
from probes.tally import UNIT

__all__ = ["Find", "confidence", "grade", "reached"]

Replicates = Float64[np.ndarray, "replicate some_head"]
Holds = Bool[np.ndarray, "replicate some_head"]
Find = Callable[[str, Need], Scores | None]

GRADES = ((0.95, "high"), (0.80, "medium"), (0.50, "low"))


def grade(value: float) -> str | None:
    """Confidence in a word: high above .95, medium from .80, low from .50; None below, where there is no label."""
    if value > GRADES[0][0]:
        return GRADES[0][1]
    return next((word for least, word in GRADES[1:] if value >= least), None)


def confidence(
    scores: Scores, heads: Bool[np.ndarray, " head"], setting: Setting, find: Find, *, strong: bool = False
) -> Float64[np.ndarray, " some_head"]:
    """Per head, of some, the share of replicates in which everything that `scores.conditions` asks for holds.

    Args:
        scores: of the label's question; it has conditions.
        heads: which heads.
        setting: of the run.
        find: the scores that a `Need` speaks of, by the family that asks; None where they were not measured.
        strong: with the margin of the `-strong` form too.
    """
    asked = scores.conditions
    assert asked is not None
    cell, trials = scores.cell, scores.cell.trials
    values = _replicated(scores, asked.value, heads, setting)
    holds = np.ones(values.shape, dtype=bool)
    for gap in (*scores.gaps, *([scores.strong] if strong and scores.strong is not None else [])):
        holds &= reached(above(cell, gap.baselines, setting, values, heads), gap.margin.by)
    if asked.least is not None:
        holds &= values >= asked.least
    if asked.low is not None:
        holds &= values > asked.low
    if asked.times_chance is not None:
        chance = cell.chance if asked.value == "hits" else cell.mass_chance
        holds &= values > asked.times_chance * _ratio(chance[:, None], trials, setting)
    if asked.target_mass is not None:
        holds &= _replicated(scores, "mass", heads, setting) >= asked.target_mass
    if asked.selectivity is not None:
        holds &= (
            _ratio((cell.paired_hits - cell.control_hits)[:, heads], cell.control_trials, setting) >= asked.selectivity
        )
    for need in asked.needs:
        holds &= _need(scores, need, heads, setting, find)
    return np.asarray(holds.mean(axis=0))


def reached(gap: Float64[np.ndarray, "*shape"], by: float) -> Bool[np.ndarray, "*shape"]:
    """A margin is reached by being as large, and in any case above nothing."""
    return np.asarray((gap >= by) & (gap > 0))


def _need(scores: Scores, need: Need, heads: Bool[np.ndarray, " head"], setting: Setting, find: Find) -> Holds:
    other = find(scores.family, need)
    if other is None:
        return np.zeros((len(setting.resampling.weights), int(heads.sum())), dtype=bool)
    values = _replicated(other, need.value, heads, setting)
    holds = np.ones(values.shape, dtype=bool)
    if need.least is not None:
        holds &= values >= need.least
    if need.low is not None:
        holds &= values > need.low
    return np.asarray(holds)


def _replicated(scores: Scores, value: Value, heads: Bool[np.ndarray, " head"], setting: Setting) -> Replicates:
    return _ratio(value_sums(scores.cell, value)[:, heads], scores.cell.trials, setting)


def _ratio(sums: np.ndarray, trials: np.ndarray, setting: Setting) -> Replicates:
    """A ratio of sums on CONFIRM in every replicate; NaN, which holds nothing, in one without trials."""
    confirm = setting.split.confirm
    return replicates(setting.resampling, sums[confirm] / UNIT, trials[confirm].astype(np.float64))
