"""Intervals and tests: percentile bootstrap over clusters, paired sign flips, mid-p McNemar, Benjamini-Hochberg.

The unit of resampling is a cluster (document or sentence), since words of one document are not independent.
All functions take sums per cluster, so that a ratio of sums is resampled as a ratio of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

__all__ = ["Resampling", "benjamini_hochberg", "interval", "mcnemar", "replicates", "sign_flip"]

EXACT_UP_TO = 13  # clusters: 2 ** 13 sign patterns are fewer than the 9,999 random ones


@dataclass(frozen=True)
class Resampling:
    """The random draws of a run, made once and used for every cell.

    Attributes:
        weights: how often each cluster was drawn in each bootstrap replicate.
        signs: +1 or -1 per cluster in each permutation; every pattern once where clusters are few.
        exact: `signs` holds every pattern.
    """

    weights: Float64[np.ndarray, "replicate cluster"]
    signs: Float64[np.ndarray, "permutation cluster"]
    exact: bool

    @classmethod
    def draw(cls, n_clusters: int, *, seed: int = 0, bootstrap: int = 2000, permutations: int = 9999) -> Resampling:
        """Draw for `n_clusters` clusters; the same arguments give the same draws."""
        rng = np.random.default_rng(seed)
        if n_clusters == 0:
            return cls(np.zeros((bootstrap, 0)), np.ones((permutations, 0)), False)
        weights = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=bootstrap)
        exact = n_clusters <= EXACT_UP_TO and 2**n_clusters <= permutations
        if exact:
            bits = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters) & 1
        else:
            bits = rng.integers(0, 2, (permutations, n_clusters))
        return cls(weights.astype(np.float64), 1.0 - 2.0 * bits, exact)


def replicates(
    resampling: Resampling,
    sums: Float64[np.ndarray, "cluster head"],
    trials: Float64[np.ndarray, " cluster"],
) -> Float64[np.ndarray, "replicate head"]:
    """The ratio of sums in each bootstrap replicate; NaN in a replicate without trials.

    Source: Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8 (cluster
    resampling).
    """
    totals = resampling.weights @ trials
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((resampling.weights @ sums) / totals[:, None])


def interval(values: Float64[np.ndarray, "replicate head"], level: float = 0.95) -> Float64[np.ndarray, "2 head"]:
    """Percentile interval over replicates: lower and upper bound per head; NaN where nothing was measured."""
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        return np.full((2, values.shape[1]), np.nan)
    tail = 50 * (1 - level)
    return np.asarray(np.percentile(values, [tail, 100 - tail], axis=0))


def sign_flip(resampling: Resampling, differences: Float64[np.ndarray, "cluster head"]) -> Float64[np.ndarray, " head"]:
    """One-sided p-value per head that the summed difference to the baseline is this large by chance.

    Under the null the sign of each cluster's difference is arbitrary. Random patterns: (1 + as large) / (1 +
    all), so that p is never 0 (Phipson and Smyth 2010, arXiv:1603.05766); every pattern where clusters are
    few: the exact share.
    """
    observed = differences.sum(axis=0)
    as_large = (resampling.signs @ differences >= observed).sum(axis=0)
    n = len(resampling.signs)
    return np.asarray(as_large / n if resampling.exact else (1 + as_large) / (1 + n))


def mcnemar(
    only_head: Float64[np.ndarray, " head"], only_rule: Float64[np.ndarray, " head"]
) -> Float64[np.ndarray, " head"]:
    """One-sided mid-p value per head that it is right where the rule is wrong this much oftener than the reverse.

    Under the null each of the n trials on which only one of them is right falls to either with probability 1/2:
    P(X > k) + P(X = k) / 2 for X ~ Binomial(n, 1/2), with k those of the head. A tie that is split makes fractions;
    the head's side is rounded down and the rule's up, which can only raise p. Trials count as independent here; the
    test over clusters stands beside it, and the larger p of the two is used.

    Source: Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91 (mid-p McNemar test).
    """
    from scipy.stats import binom

    k, other = np.floor(only_head), np.ceil(only_rule)
    return np.asarray(binom.sf(k, k + other, 0.5) + binom.pmf(k, k + other, 0.5) / 2)


def benjamini_hochberg(p: Float64[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """Adjusted p-values q: rejecting q <= .05 keeps the expected share of false discoveries at 5 %.

    Source: Benjamini and Hochberg 1995, "Controlling the False Discovery Rate".
    """
    from scipy.stats import false_discovery_control

    if not len(p):
        return p
    return np.asarray(false_discovery_control(p, method="bh"))
