"""Whether heads matter by what they are said to look at: that one key is hidden from them, or another key near it.

The most specific of the interventions: everything else that the heads do goes on. It can tell heads apart from others
that stand in for them only together, so it is asked of all heads of a label as well as of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from attnlens.heads import Head
from attnlens.interventions.edits import knock_out
from attnlens.interventions.pairs import PairItem, log_probabilities

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["AWAY", "EdgeTest", "hide_edges"]

AWAY = (-3, -2, 1, 2, 3)  # control edges: keys so many places from the one that is looked at
_LEAST_ACCURACY = 0.75
_REPLICATES = 2000


@dataclass(frozen=True)
class EdgeTest:
    """What hiding keys from some heads does to a task.

    Attributes:
        n: choices.
        baseline: share of right choices without any intervention.
        drop, interval: what the share loses when the key that is said to be looked at is hidden, with 95 % of it.
        control: the largest loss when another key near it is hidden.
        specific: 95 % interval of the drop less that loss, choice by choice.
        loss_rise: how much less likely the right answer becomes, in nats.
        supported: the task was mastered, and both intervals lie above 0.
    """

    n: int
    baseline: float
    drop: float
    interval: tuple[float, float]
    control: float
    specific: tuple[float, float]
    loss_rise: float
    supported: bool


def hide_edges(
    lens: Lens, heads: Sequence[Head], items: Sequence[PairItem], edges: Sequence[tuple[int, int]], seed: int = 0
) -> EdgeTest:
    """Hide the key of each choice from `heads` at the query where its answer is read; then keys beside it.

    Args:
        lens: a causal model.
        heads: together.
        items: the choices.
        edges: (query, key) of each.
        seed: of the bootstrap.
    """
    plain = log_probabilities(lens, items).numpy()
    hidden = _hidden(lens, heads, items, edges, 0)
    flips = _right(plain) - _right(hidden)
    controls = [_right(plain) - _right(_hidden(lens, heads, items, edges, away)) for away in AWAY]
    worst = max(controls, key=lambda lost: float(lost.mean()))
    baseline, interval, specific = float(_right(plain).mean()), _interval(flips, seed), _interval(flips - worst, seed)
    return EdgeTest(
        n=len(items),
        baseline=baseline,
        drop=float(flips.mean()),
        interval=interval,
        control=float(worst.mean()),
        specific=specific,
        loss_rise=float((plain - hidden)[:, 0].mean()),
        supported=baseline >= _LEAST_ACCURACY and interval[0] > 0 and specific[0] > 0,
    )


def _hidden(
    lens: Lens, heads: Sequence[Head], items: Sequence[PairItem], edges: Sequence[tuple[int, int]], away: int
) -> Float64[np.ndarray, "choice 2"]:
    """Log-probabilities with one key hidden in each choice; choices with the same edge run together."""
    found = np.zeros((len(items), 2))
    for query, key in sorted(set(edges)):
        rows = [row for row, edge in enumerate(edges) if edge == (query, key)]
        other = key + away if 0 < key + away < query else key + 1 + len(AWAY)
        edit = knock_out(lens, [(query, other)], heads)
        found[rows] = log_probabilities(lens, [items[row] for row in rows], edit=edit).numpy()
    return found


def _right(found: Float64[np.ndarray, "choice 2"]) -> Float64[np.ndarray, " choice"]:
    return (found[:, 0] > found[:, 1]).astype(np.float64)


def _interval(values: Float64[np.ndarray, " choice"], seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over choices."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(_REPLICATES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)
