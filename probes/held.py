"""Scores of labels that are given by limits, not by a test: held against baselines by a margin and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from probes.baselines import baselines_of, value_sums
from probes.conditions import Conditions, Margin, Value
from probes.scores import Gap, Scores, Setting, above, mean_above
from probes.statistics import interval, replicates
from probes.tally import UNIT

__all__ = ["held_against"]


def held_against(scores: Scores, value: Value, margins: Sequence[Margin], setting: Setting) -> Scores:
    """One question by one of its values, with margins over baselines for every head, and without tests.

    Args:
        scores: of the question; what stands in its conditions is replaced.
        value: what the score is made of.
        margins: over baselines that are no rules ("chance", "random", "layer 0").
        setting: of the run.
    """
    cell, confirm = scores.cell, scores.confirm
    measured = baselines_of(cell, (), confirm, value, random=scores.random, layers=setting.layers)
    baselines = {each.kind: each for each in measured}
    sums, trials = value_sums(cell, value), cell.trials[confirm].astype(np.float64)
    resampled = replicates(setting.resampling, sums[confirm] / UNIT, trials)
    everyone, untested = np.ones(len(scores.tested), dtype=bool), np.full(len(scores.tested), np.nan)
    gaps = []
    for margin in margins:
        against = tuple(baselines[kind] for kind in margin.over if kind in baselines)
        select, certain = (mean_above(cell, sums, against, half) for half in (~confirm, confirm))
        low = interval(above(cell, against, setting, resampled, everyone))[0]
        gaps.append(Gap(margin, against, select, certain, low, untested))
    conditions = Conditions(
        value=value,
        margins=tuple(margins),
        selectivity=None,
        target_mass=None,
        significant=False,
        strong=None,
        explicable=False,
    )
    return replace(scores, conditions=conditions, baselines=baselines, gaps=tuple(gaps))
