"""Intervals and tests against closed forms, enumeration and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest, norm

from probes.statistics import Resampling, benjamini_hochberg, interval, mcnemar, replicates, sign_flip


def test_bootstrap_interval_of_a_share_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(1)
    trials = np.full(400, 25.0)
    hits = rng.binomial(25, 0.3, 400).astype(float)
    share = hits.sum() / trials.sum()
    error = norm.ppf(0.975) * np.std(hits / 25, ddof=1) / np.sqrt(400)

    low, high = interval(replicates(Resampling.draw(400, bootstrap=4000), hits[:, None], trials))[:, 0]

    assert low == pytest.approx(share - error, abs=0.1 * error)
    assert high == pytest.approx(share + error, abs=0.1 * error)


def test_clusters_that_agree_within_themselves_widen_the_interval():
    trials = np.full(20, 50.0)
    alike = np.repeat([0.0, 50.0], 10)[:, None]
    mixed = np.full((20, 1), 25.0)

    widths = [np.diff(interval(replicates(Resampling.draw(20), hits, trials)), axis=0)[0, 0] for hits in (alike, mixed)]

    assert widths[0] > 0.3
    assert widths[1] == 0


def test_replicates_without_trials_are_left_out_and_nothing_at_all_is_nan():
    trials = np.array([0.0, 0.0, 10.0])
    hits = np.array([[0.0], [0.0], [4.0]])

    values = interval(replicates(Resampling.draw(3), hits, trials))
    none = interval(replicates(Resampling.draw(3), hits * 0, trials * 0))

    np.testing.assert_allclose(values[:, 0], [0.4, 0.4])
    assert np.isnan(none).all()


def test_few_clusters_are_tested_by_every_sign_pattern():
    differences = np.array([[3.0], [1.0], [-1.0], [2.0]])
    sums = [np.dot(signs, differences[:, 0]) for signs in itertools.product([1, -1], repeat=4)]

    p = sign_flip(Resampling.draw(4), differences)

    assert p[0] == np.mean(np.array(sums) >= 5.0)


def test_random_signs_come_close_to_every_sign_pattern():
    differences = np.random.default_rng(0).normal(0.4, 1, (12, 1))
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=12)))
    exact = np.mean(signs @ differences >= differences.sum())
    rng = np.random.default_rng(5)
    drawn = Resampling(np.ones((1, 12)), 1.0 - 2.0 * rng.integers(0, 2, (9999, 12)), exact=False)

    assert sign_flip(drawn, differences)[0] == pytest.approx(exact, abs=0.02)


def test_random_p_values_are_never_zero():
    assert sign_flip(Resampling.draw(60), np.ones((60, 1)))[0] == pytest.approx(1 / 10_000)


def test_p_values_are_uniform_or_larger_when_nothing_is_there():
    differences = np.random.default_rng(3).normal(0, 1, (40, 2000))

    p = sign_flip(Resampling.draw(40), differences)

    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_adjusted_p_values_by_hand_and_as_in_scipy():
    p = np.array([0.01, 0.04, 0.03, 0.5])

    q = benjamini_hochberg(p)

    np.testing.assert_allclose(q, [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5])
    np.testing.assert_allclose(q, false_discovery_control(p))
    assert benjamini_hochberg(np.zeros(0)).shape == (0,)


def test_the_seed_decides_the_draws():
    one, same, other = Resampling.draw(30), Resampling.draw(30), Resampling.draw(30, seed=1)

    assert (one.weights == same.weights).all()
    assert (one.signs == same.signs).all()
    assert (one.weights != other.weights).any()
    assert (one.weights.sum(axis=1) == 30).all()


def exact_mid_p(only_head, only_rule):
    """P(X > k) + P(X = k) / 2 by counting the ways, X ~ Binomial(k + other, 1/2)."""
    n = only_head + only_rule
    more = sum(math.comb(n, x) for x in range(only_head + 1, n + 1))
    return (more + math.comb(n, only_head) / 2) / 2**n


def test_mcnemar_counts_the_ways_to_be_as_far_ahead():
    pairs = [(0, 0), (1, 0), (0, 1), (7, 7), (12, 3), (3, 12), (40, 18)]
    head, rule = np.array(pairs, dtype=float).T

    np.testing.assert_allclose(mcnemar(head, rule), [exact_mid_p(*pair) for pair in pairs], rtol=1e-12)


def test_mcnemar_rounds_split_ties_against_the_head():
    (p,) = mcnemar(np.array([12.5]), np.array([3.25]))

    assert p == pytest.approx(exact_mid_p(12, 4))


def test_p_values_of_the_sign_flips_are_uniform_when_nothing_is_there():
    """Kolmogorov-Smirnov over many cells whose differences are symmetric about 0 within clusters of unequal size."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 30, 60)[:, None]
    differences = rng.normal(0, 1, (60, 800)) * np.sqrt(sizes)

    p = sign_flip(Resampling.draw(60), differences)

    assert kstest(p, "uniform").pvalue > 0.01


def test_rejecting_by_q_keeps_false_discoveries_at_their_rate():
    """Fifty runs of 200 true nulls and 50 effects: the mean share of false ones among the rejected."""
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(50):
        p = norm.sf(rng.normal(np.repeat([0.0, 3.0], [200, 50])))
        rejected = benjamini_hochberg(p) <= 0.05
        shares.append(rejected[:200].sum() / max(rejected.sum(), 1))

    assert 0.02 < np.mean(shares) <= 0.05 + 2 * np.std(shares) / np.sqrt(50)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Clusters of unequal size whose shares differ: 500 experiments with 40 clusters each."""
    rng = np.random.default_rng(4)
    trials = rng.integers(5, 40, 40)
    shares = rng.beta(6, 14, (40, 500))
    hits = rng.binomial(trials[:, None], shares).astype(float)

    low, high = interval(replicates(Resampling.draw(40), hits, trials.astype(float)))

    covered = np.mean((low <= 0.3) & (high >= 0.3))
    assert 0.90 <= covered <= 0.97
