"""Closed forms: each expected value follows from the definition on a pattern worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnlens.measures import patterns


def uniform(n: int) -> torch.Tensor:
    return torch.full((n, n), 1 / n)


def causal(n: int) -> torch.Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


def previous_head(n: int, strength: float = 1.0) -> torch.Tensor:
    """`strength` on the previous token (row 0: on itself), the rest on token 0."""
    pattern = torch.zeros(n, n)
    pattern[0, 0] = 1
    for query in range(1, n):
        pattern[query, 0] += 1 - strength
        pattern[query, query - 1] += strength
    return pattern


def test_uniform_rows_have_the_largest_entropy_and_breadth_one():
    pattern = uniform(8)

    entropy, breadth = patterns.entropy(pattern), patterns.breadth(pattern)

    torch.testing.assert_close(entropy, torch.full((8,), math.log(8), dtype=torch.float64))
    torch.testing.assert_close(breadth, torch.ones(8, dtype=torch.float64))


def test_one_hot_rows_have_entropy_zero():
    assert patterns.entropy(torch.eye(5)).tolist() == [0.0] * 5


def test_half_and_half_has_entropy_ln_2():
    assert patterns.entropy(torch.tensor([[0.5, 0.5, 0.0]])).item() == pytest.approx(math.log(2))


def test_causal_breadth_counts_only_visible_keys_and_is_undefined_for_one():
    pattern = causal(4).float() / torch.arange(1, 5)[:, None]

    breadth = patterns.breadth(pattern, causal(4))

    assert breadth[0].isnan()
    torch.testing.assert_close(breadth[1:], torch.ones(3, dtype=torch.float64))


def test_distance_is_the_mean_gap_in_tokens():
    pattern = torch.tensor([[[0.0, 0.5, 0.5], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]]])

    assert patterns.distance(pattern).tolist() == [[1.5, 0.5, 2.0]]


def test_a_tile_of_rows_measures_as_the_whole_does():
    pattern = torch.softmax(torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0)), -1)

    whole = [
        patterns.distance(pattern),
        patterns.offset_mass(pattern, -2),
        patterns.offset_argmax(pattern, 1),
    ]
    tile = pattern[:, 2:5]
    tiles = [
        patterns.distance(tile, 2),
        patterns.offset_mass(tile, -2, first_query=2),
        patterns.offset_argmax(tile, 1, first_query=2),
    ]

    for one, other in zip(whole, tiles, strict=True):
        torch.testing.assert_close(one[:, 2:5], other, equal_nan=True)


def test_offset_mass_is_the_weight_there_and_undefined_at_the_edge():
    mass = patterns.offset_mass(previous_head(5, 0.75), -1)

    assert mass[0].isnan()
    assert mass[1:].tolist() == [
        1.0,
        0.75,
        0.75,
        0.75,
    ]  # row 1: the previous token is token 0, which gets both parts


def test_offset_mass_of_keys_that_are_not_visible_is_undefined_not_zero():
    mass = patterns.offset_mass(uniform(4), 1, visible=causal(4))

    assert mass.isnan().all()


def test_offset_argmax_is_one_for_a_previous_token_head_and_the_direction_is_not_mirrored():
    pattern = previous_head(6, 0.9)

    previous = patterns.over_queries(patterns.offset_argmax(pattern, -1))
    following = patterns.over_queries(patterns.offset_argmax(pattern, 1))

    assert previous == 1.0
    assert following == 0.0


def test_uniform_head_scores_chance_because_ties_are_split():
    share = patterns.argmax_share(uniform(5))
    previous = patterns.offset_argmax(uniform(5), -1)

    assert share.tolist() == [[0.2] * 5] * 5
    assert previous[1:].tolist() == [0.2] * 4


def test_excluded_keys_cannot_win():
    pattern = torch.tensor([[0.9, 0.06, 0.04], [0.9, 0.04, 0.06], [0.9, 0.05, 0.05]])
    candidates = torch.tensor([[False, True, True]] * 3)

    share = patterns.argmax_share(pattern, candidates)

    assert share.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0.5, 0.5]]


def test_rows_without_candidates_have_no_winner():
    assert patterns.argmax_share(uniform(3), torch.zeros(3, 3, dtype=torch.bool)).sum() == 0


def test_zero_weights_can_still_tie():
    candidates = torch.tensor([[False, True, True]])

    assert patterns.argmax_share(torch.tensor([[1.0, 0.0, 0.0]]), candidates).tolist() == [[0, 0.5, 0.5]]


def test_key_mass_is_one_column():
    pattern = previous_head(4, 0.75)

    assert patterns.key_mass(pattern, 0).tolist() == [1, 1, 0.25, 0.25]
    assert patterns.key_mass(pattern, 1, causal(4)).isnan().tolist() == [True, False, False, False]


def test_set_mass_adds_keys_and_is_undefined_without_any():
    pattern = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]]).double()

    both = patterns.set_mass(pattern, torch.tensor([True, False, True]))
    none = patterns.set_mass(pattern, torch.tensor([False, False, False]))

    torch.testing.assert_close(both, torch.tensor([0.8, 0.8, 1.0]).double())
    assert none.isnan().all()


def test_mean_over_queries_leaves_out_what_is_undefined_or_not_kept():
    values = torch.tensor([torch.nan, 1.0, 3.0, 8.0])

    assert patterns.over_queries(values) == 4.0
    assert patterns.over_queries(values, torch.tensor([True, True, True, False])) == 2.0
    assert patterns.over_queries(values, torch.tensor([True, False, False, False])).isnan()


def test_max_weight_is_the_largest_of_the_row():
    assert patterns.max_weight(torch.tensor([[0.25, 0.75], [0.5, 0.5]])).tolist() == [0.75, 0.5]


def test_half_precision_input_is_measured_in_float64():
    assert patterns.entropy(uniform(4).half()).dtype == torch.float64


@given(hnp.arrays(np.float64, (3, 6, 6), elements=st.floats(0.01, 1)))
def test_offsets_share_out_the_whole_row(values):
    pattern = torch.from_numpy(values / values.sum(-1, keepdims=True))

    offsets = range(-5, 6)
    mass = sum(patterns.offset_mass(pattern, offset).nan_to_num() for offset in offsets)
    wins = sum(patterns.offset_argmax(pattern, offset).nan_to_num() for offset in offsets)

    torch.testing.assert_close(mass, torch.ones(3, 6, dtype=torch.float64))
    torch.testing.assert_close(wins, torch.ones(3, 6, dtype=torch.float64))


def test_wrong_shapes_are_refused_by_the_suite():
    with pytest.raises(Exception, match="query"):
        patterns.over_queries(torch.ones(2, 3), torch.ones(4, dtype=torch.bool))


def test_variance_of_distance_is_that_of_two_points():
    pattern = torch.tensor([[0.5, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0]])

    variance = patterns.distance_variance(pattern)

    assert variance.tolist() == [2.25, 0.0]  # half at 0, half at 3; all at one distance


def test_variance_is_of_what_goes_to_tokens_and_undefined_for_a_row_without_weight():
    pattern = torch.tensor([[0.25, 0.0, 0.25], [0.0, 0.0, 0.0]])

    variance = patterns.distance_variance(pattern)

    assert variance[0] == 1.0
    assert variance[1].isnan()
