"""The structural probe on vectors that hold trees exactly, and its measures against other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from probe_arrays import sentence
from scipy.stats import spearmanr

from probes.split import split_units
from probes.stream.intervals import Clusters
from probes.stream.structural_fit import Scaled, Treebank, fit_depth, fit_distance, squared_distances
from probes.stream.structural_scores import (
    Tally,
    gold_of,
    mean_over_lengths,
    rank_correlations,
    share_found,
    tally_depths,
    tally_distances,
)

N, WIDTH = 60, 16


def random_heads(rng, n):
    order = rng.permutation(n)
    heads = np.full(n, -1)
    for rank in range(1, n):
        heads[order[rank]] = order[rng.integers(rank)]
    return heads


@pytest.fixture
def forest():
    """Trees of 5 to 9 words, and vectors whose squared distances are the trees' distances, turned at random.

    A word's vector has a 1 for every arc on its path to the root, so that two words differ in just the arcs between
    them; and a word's squared length is its depth.
    """
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    golds, vectors, words = [], [], []
    start = 0
    for _ in range(N):
        n = int(rng.integers(5, 10))
        heads = random_heads(rng, n)
        relations = " ".join("root" if head < 0 else "dep" for head in heads)
        text = sentence(" ".join(["w"] * n), [int(head) + 1 for head in heads], relations, upos=" ".join(["X"] * n))
        golds.append(gold_of(text, np.ones(n, dtype=bool)))
        own = np.zeros((n, WIDTH))
        for word in range(n):
            at = word
            while heads[at] >= 0:
                own[word, at] = 1
                at = heads[at]
        vectors.append(own @ turned)
        words.append(np.arange(start, start + n))
        start += n
    trees = Treebank(words, np.ones(start, dtype=bool), [g.distances for g in golds], [g.depths for g in golds])
    return golds, np.concatenate(vectors).astype(np.float32), trees


def test_vectors_that_are_the_tree_score_one(forest):
    golds, vectors, trees = forest

    for gold, words in zip(golds, trees.words, strict=True):
        own = torch.from_numpy(vectors[words].astype(np.float64))
        found = tally_distances(gold, squared_distances(own).numpy())
        depths = tally_depths(gold, own.square().sum(-1).numpy())

        assert found.hits == found.n == len(words) - 1
        assert depths.hits == depths.n == 1


def test_a_fitted_probe_finds_trees_that_are_there_and_none_in_noise(forest):
    golds, vectors, trees = forest
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    fit, stop, rest = list(range(30)), list(range(30, 40)), range(40, N)
    sets = [Scaled(vectors, float(np.sqrt((vectors**2).mean()))), Scaled(noise, 1.0)]
    done = []

    matrices = fit_distance(sets, trees, fit, stop, rank=WIDTH, seed=0, on_fitted=lambda: done.append(1))

    def uuas(data, matrix):
        tallies = [
            tally_distances(golds[i], squared_distances(data.moved(trees.words[i], matrix)).numpy()) for i in rest
        ]
        return sum(each.hits for each in tallies) / sum(each.n for each in tallies)

    chance = np.mean([2 / len(trees.words[i]) for i in rest])  # of an edge to be in a random spanning tree
    assert uuas(sets[0], matrices[0]) > 0.95
    assert abs(uuas(sets[1], matrices[1]) - chance) < 0.15
    assert len(done) == 2


@pytest.mark.parametrize("fit_probe", [fit_distance, fit_depth])
def test_what_is_fitted_beside_it_makes_no_difference_to_a_set(forest, fit_probe):
    _, vectors, trees = forest
    other = Scaled(np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32), 1.0)
    options = {"rank": 4, "seed": 3, "on_fitted": lambda: None}
    parts = list(range(30)), list(range(30, 40))

    (alone,) = fit_probe([Scaled(vectors, 0.5)], trees, *parts, **options)
    _, beside = fit_probe([other, Scaled(vectors, 0.5)], trees, *parts, **options)

    np.testing.assert_allclose(beside, alone, atol=1e-4)


def test_the_scale_of_vectors_makes_no_difference(forest):
    _, vectors, trees = forest
    options = {"rank": 4, "seed": 3, "on_fitted": lambda: None}
    sets = [Scaled(vectors, 0.5), Scaled(vectors * 64, 32.0)]

    one, other = fit_distance(sets, trees, list(range(30)), list(range(30, 40)), **options)

    np.testing.assert_allclose(other, one, atol=1e-4)


def test_distances_are_those_of_differences():
    moved = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    expected = (moved[:, :, None] - moved[:, None, :]).square().sum(-1)

    torch.testing.assert_close(squared_distances(moved), expected)


def test_rank_correlation_is_scipys_ties_included():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 4, (20, 9)).astype(float), rng.integers(0, 4, (20, 9))

    found = rank_correlations(left, right)

    expected = [spearmanr(one, two).statistic for one, two in zip(left, right, strict=True)]
    np.testing.assert_allclose(found, expected)


def test_a_row_that_does_not_vary_has_no_rank_correlation():
    assert np.isnan(rank_correlations(np.ones((1, 4)), np.arange(4)[None])).all()
    assert np.isnan(rank_correlations(np.ones((1, 1)), np.ones((1, 1)))).all()


@pytest.fixture
def units():
    """Four units of which the last two confirm."""
    return Clusters.of(split_units("document", ["a", "b", "c", "d"]), seed=0, bootstrap=500)


def test_every_length_counts_alike_however_many_sentences_it_has(units):
    tallies = [Tally(0.0, 0, 5 * rho, 5, 5) for rho in (0.2, 0.4)] + [Tally(0.0, 0, 9 * 0.9, 9, 9)]
    too_short, too_long = Tally(0.0, 0, -4.0, 4, 4), Tally(0.0, 0, -51.0, 51, 51)

    score, (low, high), n = mean_over_lengths([*tallies, too_short, too_long], np.array([2, 2, 3, 3, 2]), units)

    assert score == pytest.approx((0.3 + 0.9) / 2)
    assert n == 3
    assert low == pytest.approx(0.3)  # only the unit of the short ones was drawn
    assert high == pytest.approx(0.9)


def test_uuas_is_a_share_of_all_edges_not_a_mean_over_sentences(units):
    score, (low, high), n = share_found([Tally(1.0, 1, 0.0, 0, 2), Tally(0.0, 9, 0.0, 0, 10)], np.array([2, 3]), units)

    assert (score, n) == (0.1, 10)
    assert (low, high) == (0.0, 1.0)


def test_nothing_to_score_is_not_measured(units):
    nothing = Tally(0.0, 0, 0.0, 0, 2)

    assert math.isnan(share_found([nothing], np.array([2]), units)[0])
    assert math.isnan(mean_over_lengths([nothing], np.array([2]), units)[0])


def test_arcs_of_a_word_without_a_token_count_on_neither_side():
    text = sentence("a b c", [2, 0, 2], "det root obj", upos="DET VERB NOUN")

    gold = gold_of(text, np.array([True, True, False]))

    assert gold.edges == {(0, 1)}
    assert gold.root == 1
    assert gold_of(text, np.array([True, False, True])).root is None
