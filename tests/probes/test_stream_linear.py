"""Linear probes, ridge and online code against other implementations and closed forms."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score

from probes.split import split_units
from probes.stream.controls import control_labels, type_majority
from probes.stream.intervals import Clusters
from probes.stream.linear_scores import choose
from probes.stream.logistic import Labelling, Scaling, fit_logistic
from probes.stream.mdl import PORTIONS, online_bits, portion_bounds
from probes.stream.result import LayerScore
from probes.stream.ridge import fit_ridge, r_squared, r_squared_interval
from probes.stream.tasks import bins_of

PENALTY = 3.0


@pytest.fixture
def data():
    """300 words in 7 dimensions of unlike size, with four labels that a linear map reads in part."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 7)).astype(np.float32)
    logits = vectors @ rng.normal(size=(7, 4)) + rng.gumbel(size=(300, 4))
    return vectors, logits.argmax(axis=1).astype(np.int64)


def sklearn_probabilities(vectors, labels, others, penalty=PENALTY):
    """By scikit-learn; a constant column of this height is a bias with a penalty of 1."""
    height = math.sqrt(penalty)

    def widened(rows):
        return np.column_stack([rows.astype(np.float64), np.full(len(rows), height)])

    model = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-10, max_iter=10_000)
    return model.fit(widened(vectors), labels).predict_proba(widened(others))


def test_a_probe_is_scikit_learns(data):
    vectors, labels = data

    probes = fit_logistic(vectors[:200], [Labelling(labels[:200], 4)], penalty=PENALTY)
    (logs,) = probes.log_probabilities(vectors[200:])

    np.testing.assert_allclose(
        np.exp(logs), sklearn_probabilities(vectors[:200], labels[:200], vectors[200:]), atol=2e-3
    )


def test_probes_that_are_fitted_together_are_those_fitted_alone(data):
    vectors, labels = data
    halved = np.where(np.arange(300) % 3 == 0, -1, labels // 2)
    tasks = [Labelling(labels, 4), Labelling(halved, 2)]

    together = fit_logistic(vectors, tasks, penalty=PENALTY).log_probabilities(vectors)

    for task, found in zip(tasks, together, strict=True):
        (alone,) = fit_logistic(vectors, [task], penalty=PENALTY).log_probabilities(vectors)
        np.testing.assert_allclose(np.exp(found), np.exp(alone), atol=2e-3)


def test_words_without_a_label_are_not_fitted_on(data):
    vectors, labels = data
    masked = labels.copy()
    masked[200:] = -1

    (found,) = fit_logistic(vectors, [Labelling(masked, 4)], penalty=PENALTY).log_probabilities(vectors)
    (expected,) = fit_logistic(vectors[:200], [Labelling(labels[:200], 4)], penalty=PENALTY).log_probabilities(vectors)

    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=2e-3)


def test_where_a_fit_begins_makes_no_difference(data):
    vectors, labels = data
    task = Labelling(labels, 4)
    start = fit_logistic(vectors[:40], [Labelling(labels[:40], 4)], penalty=PENALTY)

    (found,) = fit_logistic(vectors, [task], penalty=PENALTY, start=start).log_probabilities(vectors)
    (expected,) = fit_logistic(vectors, [task], penalty=PENALTY).log_probabilities(vectors)

    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=2e-3)


def test_shuffled_labels_are_read_no_better_than_the_majority():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 20)).astype(np.float32)
    labels = rng.choice(3, size=4000, p=[0.6, 0.3, 0.1]).astype(np.int64)

    (logs,) = fit_logistic(vectors[:2000], [Labelling(labels[:2000], 3)], penalty=2.0).log_probabilities(vectors[2000:])

    majority = (labels[2000:] == 0).mean()
    assert abs((logs.argmax(axis=1) == labels[2000:]).mean() - majority) < 0.02


def test_scaling_leaves_a_dimension_that_does_not_vary_at_zero():
    vectors = np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32)

    scaled = Scaling.of(vectors).apply(vectors)

    np.testing.assert_allclose(scaled, [[-1, 0], [1, 0]])


def test_ridge_is_scikit_learns(data):
    vectors, labels = data
    values = labels.astype(np.float64)

    weights, intercept = fit_ridge(vectors, values, PENALTY)

    expected = Ridge(alpha=PENALTY).fit(vectors.astype(np.float64), values)
    np.testing.assert_allclose(weights, expected.coef_, atol=1e-8)
    assert intercept == pytest.approx(expected.intercept_)


def test_r_squared_is_scikit_learns_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    predicted = values + rng.normal(size=400)
    split = split_units("document", [f"d{i}" for i in range(40)])
    clusters = np.repeat(np.arange(20, 40), 20)
    units = Clusters.of(split, seed=0, bootstrap=500)

    low, high = r_squared_interval(units, clusters, values, predicted)

    found = r_squared(values, predicted)
    assert found == pytest.approx(r2_score(values, predicted))
    assert low < found < high
    assert math.isnan(r_squared(np.ones(3), np.ones(3)))


def test_labels_that_no_vector_tells_apart_cost_the_uniform_code():
    n_classes, rounds = 4, 32
    labels = np.tile(np.arange(n_classes), rounds).astype(np.int64)
    bounds = [4, 8, 16, 64, 128]  # every class is as common as any other in each portion

    (bits,) = online_bits(np.zeros((128, 5), np.float32), [Labelling(labels, n_classes)], bounds, penalty=PENALTY)

    np.testing.assert_allclose(bits, math.log2(n_classes), atol=1e-4)


def test_online_code_is_the_sum_over_portions_of_scikit_learns_probes(data):
    vectors, labels = data
    assert set(labels[:50]) == {0, 1, 2, 3}  # scikit-learn knows no class that it has not seen

    (bits,) = online_bits(vectors, [Labelling(labels, 4)], [50, 120, 300], penalty=PENALTY)

    expected = 50 * math.log2(4)
    for known, end in ((50, 120), (120, 300)):
        given = sklearn_probabilities(vectors[:known], labels[:known], vectors[known:end])
        expected -= np.log2(given[np.arange(end - known), labels[known:end]]).sum()
    assert bits.sum() == pytest.approx(expected, rel=1e-3)


def test_a_word_without_a_label_costs_nothing(data):
    vectors, labels = data
    masked = np.where(np.arange(300) % 2 == 0, labels, -1)

    (bits,) = online_bits(vectors, [Labelling(masked, 4)], [10, 100, 300], penalty=PENALTY)

    assert (bits[1::2] == 0).all()
    assert (bits[::2] > 0).all()


def test_portions_end_where_sentences_do():
    starts = np.cumsum([0, *np.random.default_rng(0).integers(3, 30, size=200)])

    bounds = portion_bounds(starts)

    assert set(bounds) <= set(starts[1:].tolist())
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == starts[-1]
    for share in PORTIONS:
        assert min(bound for bound in bounds if bound >= share * starts[-1]) - share * starts[-1] < 30


def test_a_control_label_belongs_to_the_word_type():
    rng = np.random.default_rng(0)
    types = [f"w{i}" for i in rng.integers(0, 4000, size=12_000)]
    labels = rng.choice(3, size=12_000, p=[0.6, 0.3, 0.1]).astype(np.int64)
    labels[:100] = -1

    drawn = control_labels(types, labels, labels, seed=0)

    per_type = {}
    for name, label in zip(types[100:], drawn[100:], strict=True):
        assert per_type.setdefault(name, label) == label
    shares = np.bincount(list(per_type.values())) / len(per_type)
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)
    assert (drawn[:100] == -1).all()
    assert (drawn != control_labels(types, labels, labels, seed=1)).any()


def test_the_control_label_of_a_type_is_the_same_in_any_order():
    labels = np.array([0, 1, 2, 1])
    forward = control_labels(list("abcd"), labels, labels, seed=0)
    backward = control_labels(list("dcba"), labels[::-1], labels, seed=0)

    assert forward.tolist() == backward[::-1].tolist()


def test_what_a_type_says_is_its_commonest_label_and_of_an_unseen_one_that_of_all():
    types = ["run", "run", "run", "dog", "dog", "cat"]
    labels = np.array([1, 1, 0, 2, 2, 0])

    assert type_majority(types, labels, range(3)).tolist() == [1] * 6
    assert type_majority(types, labels, range(5)).tolist() == [1, 1, 1, 2, 2, 1]


def test_bins_hold_about_as_many_words_each():
    positions = np.append(np.arange(80.0), np.nan)

    bins = bins_of(positions, np.arange(80))

    assert bins.n_classes == 8
    assert set(Counter(bins.labels[:80].tolist()).values()) == {10}
    assert bins.labels[80] == -1


def layer_score(task, metric, depth, select):
    return LayerScore(
        family="linear", task=task, metric=metric, depth=depth, better="higher", n=1, score=0.5, ci=(0.4, 0.6),
        select_score=select,
    )  # fmt: skip


def test_one_depth_is_chosen_per_task_by_the_other_half_and_holds_for_all_its_measures():
    scores = [
        layer_score("upos", "accuracy", 0, 0.5),
        layer_score("upos", "accuracy", 1, 0.7),
        layer_score("upos", "accuracy", 2, 0.7),
        layer_score("upos", "compression", 0, math.nan),
        layer_score("upos", "compression", 1, math.nan),
        layer_score("position", "R2", 0, 0.9),
        layer_score("position", "R2", 1, 0.1),
        layer_score("position", "accuracy", 1, 0.99),
    ]

    chosen = [score.chosen for score in choose(scores)]

    assert chosen == [False, True, False, False, True, True, False, False]
