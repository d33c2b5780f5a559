"""Jensen-Shannon by scipy, closed forms, and permuted copies whose counterparts are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from attnlens.measures import likeness


def random_pattern(*shape: int, seed: int = 0) -> torch.Tensor:
    scores = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.softmax(-1)


def test_divergence_is_scipys_squared_distance():
    first, second = random_pattern(3, 4, 6), random_pattern(3, 4, 6, seed=1)

    found = likeness.js_divergence(first, second)

    expected = jensenshannon(first.numpy(), second.numpy(), axis=-1) ** 2
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_the_same_row_is_at_0_and_rows_without_a_common_key_at_ln_2():
    same = likeness.js_divergence(torch.eye(3), torch.eye(3))
    apart = likeness.js_divergence(torch.eye(3), torch.eye(3).roll(1, 0))

    assert same.tolist() == [0.0] * 3
    torch.testing.assert_close(apart, torch.full((3,), math.log(2), dtype=torch.float64))


def test_what_a_row_lacks_is_one_more_key():
    first, second = torch.tensor([[0.5, 0.1]]), torch.tensor([[0.2, 0.2]])

    found = likeness.js_divergence(first, second)

    expected = jensenshannon([0.5, 0.1, 0.4], [0.2, 0.2, 0.6]) ** 2
    assert float(found) == pytest.approx(expected, abs=1e-7)


def test_rounding_is_no_key():
    row = torch.tensor([[0.7, 0.3 - 1e-6]])

    assert likeness.with_rest(row)[0, -1] == 0


def test_distances_are_means_over_the_queries_that_count():
    first, second = random_pattern(3, 5, 4), random_pattern(2, 5, 4, seed=1)
    keep = torch.tensor([True, False, True, True, False])

    found = likeness.head_distances(first, second, keep)

    for head in range(3):
        for other in range(2):
            rows = [jensenshannon(first[head, q].numpy(), second[other, q].numpy()) ** 2 for q in (0, 2, 3)]
            assert float(found[head, other]) == pytest.approx(np.mean(rows))


def test_heads_among_themselves_are_what_two_lists_give():
    pattern = random_pattern(5, 6, 6)

    among = likeness.head_distances(pattern)

    torch.testing.assert_close(among, likeness.head_distances(pattern, pattern), atol=1e-12, rtol=0)
    assert torch.equal(among, among.T)
    assert not among.diagonal().any()


@given(st.integers(0, 6))
def test_parts_of_the_rows_add_up(cut):
    first, second = random_pattern(2, 6, 5), random_pattern(3, 6, 5, seed=1)

    parts = [likeness.summed_divergence(first[:, rows], second[:, rows]) for rows in (slice(cut), slice(cut, None))]

    torch.testing.assert_close(parts[0] + parts[1], likeness.summed_divergence(first, second))


def test_no_query_that_counts_leaves_distances_undefined():
    assert likeness.head_distances(random_pattern(2, 3, 3), keep=torch.zeros(3, dtype=torch.bool)).isnan().all()


def test_the_root_of_the_divergence_keeps_the_triangle_inequality():
    distances = likeness.head_distances(random_pattern(6, 1, 5)).sqrt()

    detours = (distances[:, :, None] + distances[None, :, :]).amin(1)
    assert (detours >= distances - 1e-12).all()


def test_nearest_heads_come_in_order_without_the_head_itself():
    distances = torch.tensor([[0.0, 0.3, 0.1, torch.nan], [0.3, 0.0, 0.2, 0.4]])

    assert likeness.nearest_heads(distances, 0).tolist() == [2, 1, 3]
    assert likeness.nearest_heads(distances, 1, n=2).tolist() == [2, 0]


def test_points_of_a_plane_are_found_again_up_to_turning():
    points = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    found, stress = likeness.head_map(torch.cdist(points, points))

    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(points, points), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.mean(0), torch.zeros(2).double(), atol=1e-9, rtol=0)
    assert stress < 1e-3


def test_the_picture_is_the_same_each_time_and_says_how_faithful_it_is():
    distances = likeness.head_distances(random_pattern(12, 8, 8)).sqrt()

    first, second = likeness.head_map(distances), likeness.head_map(distances)

    assert torch.equal(first[0], second[0])
    shown = torch.cdist(first[0], first[0])
    expected = ((shown - distances).square().sum() / distances.square().sum()).sqrt()
    assert first[1] == pytest.approx(float(expected))


def test_heads_without_distances_have_no_place_and_equal_heads_the_same():
    distances = torch.tensor([[0.0, 1.0, torch.nan], [1.0, 0.0, torch.nan], [torch.nan] * 3])

    points, _ = likeness.head_map(distances)

    assert points[2].isnan().all()
    assert float((points[0] - points[1]).norm()) == pytest.approx(1.0, abs=1e-4)
    assert likeness.head_map(torch.zeros(3, 3))[0].tolist() == [[0.0, 0.0]] * 3


@given(st.permutations(range(6)), st.integers(0, 100))
def test_a_permuted_copy_is_matched_back(order, seed):
    pattern = random_pattern(6, 7, 7, seed=seed)

    distances = likeness.head_distances(pattern, pattern[list(order)])

    assert likeness.match_heads(distances).tolist() == [[head, order.index(head)] for head in range(6)]


def test_matching_is_best_for_all_together_and_not_one_by_one():
    distances = torch.tensor([[0.1, 0.2], [0.1, 0.9]])  # both are nearest to the first; giving way costs row 0 least

    assert likeness.match_heads(distances).tolist() == [[0, 1], [1, 0]]


def test_an_undefined_distance_is_taken_last():
    distances = torch.tensor([[torch.nan, 0.5, 0.6], [0.1, 0.2, 0.3]])

    assert likeness.match_heads(distances).tolist() == [[0, 1], [1, 0]]


def test_wrong_shapes_are_refused_by_the_suite():
    with pytest.raises(Exception, match="query"):
        likeness.summed_divergence(random_pattern(2, 3, 3), random_pattern(2, 4, 3))
