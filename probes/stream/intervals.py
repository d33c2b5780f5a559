"""Percentile intervals of a fitted probe's scores: units of CONFIRM are resampled, the probe is not refitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from probes.split import Split
from probes.statistics import Resampling

__all__ = ["Clusters"]


@dataclass(frozen=True)
class Clusters:
    """The units of CONFIRM, and how often each was drawn in every replicate.

    Attributes:
        index: cluster of the split -> its number among those of CONFIRM.
        weights: draws.
    """

    index: Int64[np.ndarray, " cluster"]
    weights: Float64[np.ndarray, "replicate unit"]

    @classmethod
    def of(cls, split: Split, *, seed: int, bootstrap: int) -> Clusters:
        """Those of a split."""
        n_units = int(split.confirm.sum())
        index = np.where(split.confirm, np.cumsum(split.confirm) - 1, -1).astype(np.int64)
        return cls(index, Resampling.draw(n_units, seed=seed, bootstrap=bootstrap, permutations=1).weights)

    def sums(
        self, clusters: Int64[np.ndarray, " case"], values: Float[np.ndarray, " case"]
    ) -> Float64[np.ndarray, " unit"]:
        """Sum of the values of each unit's cases."""
        n_units = self.weights.shape[1]
        return np.bincount(self.index[clusters], weights=values, minlength=n_units)

    def mean(
        self, clusters: Int64[np.ndarray, " case"], values: Float[np.ndarray, " case"]
    ) -> tuple[float, tuple[float, float]]:
        """The mean over cases and its interval; NaN without a case."""
        if not len(values):
            return float("nan"), (float("nan"), float("nan"))
        sums, counts = self.sums(clusters, values), self.sums(clusters, np.ones(len(values)))
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = (self.weights @ sums) / (self.weights @ counts)
        return float(sums.sum() / counts.sum()), percentiles(replicates)


def percentiles(replicates: Float64[np.ndarray, " replicate"]) -> tuple[float, float]:
    """The middle 95 %; NaN where no replicate has a value."""
    values = replicates[np.isfinite(replicates)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
