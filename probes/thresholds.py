"""The numbers of the label rule, in one place, and what a label asks for where its family states nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from probes.conditions import Conditions, Margin
from probes.family import Judging, Probe
from probes.tally import Key

__all__ = ["Thresholds", "conditions_of"]


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
        explained: share of a head's hits from which on one simple rule explains them (ours).
        argmax: share of queries for a fixed offset (Voita et al. 2019).
        strong_mass: mean attention at that offset, without which a head only leans there (Voita et al. 2019 report a
            mean maximum weight above .8 for their positional heads; as a condition it is ours).
        mass: mean attention for a head that leans to a neighbour (Clark et al. 2019).
        determined: share of a pattern that one weight per offset reproduces (ours).
        nearest: share of words whose strongest key is the nearest of one part of speech on one side (ours).
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
    explained: float = 0.80
    argmax: float = 0.90
    strong_mass: float = 0.80
    mass: float = 0.50
    determined: float = 0.80
    nearest: float = 0.80
    first: float = 0.30
    first_ratio: float = 3.0
    delimiter: float = 0.60
    breadth: float = 0.78


def conditions_of(probe: Probe, key: Key, thresholds: Thresholds) -> Conditions | None:
    """What a label on `key` asks for; None where the label rule does not decide over the family.

    Nothing is asked about control words of a family that has none.
    """
    if not probe.contrast:
        return None
    if isinstance(probe, Judging):
        asked = probe.conditions(key)
    else:
        asked = Conditions(
            margins=(Margin(("chance", "offset", "other", "random"), thresholds.margin),),
            selectivity=thresholds.selectivity,
            target_mass=thresholds.target_mass,
            strong=Margin(("pos",), thresholds.margin),
        )
    return asked if probe.controlled else replace(asked, selectivity=None)
