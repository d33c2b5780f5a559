"""Closed forms and laws of maps with a known shape, and loops that say the same as the vectorised code."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlens.measures import shapes


def random_pattern(*shape: int, seed: int = 0) -> torch.Tensor:
    scores = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.softmax(-1)


def causal(n: int) -> torch.Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


def moved_kernel(n: int, kernel: dict[int, float], visible: torch.Tensor | None = None) -> torch.Tensor:
    """Each row is the same kernel around its query, rescaled over the keys that exist and are visible."""
    pattern = torch.zeros(n, n, dtype=torch.float64)
    for query in range(n):
        for offset, weight in kernel.items():
            if 0 <= query + offset < n and (visible is None or visible[query, query + offset]):
                pattern[query, query + offset] = weight
    return pattern / pattern.sum(-1, keepdim=True)


def test_band_is_the_weight_near_the_query_and_stays_a_share_at_the_edges():
    pattern = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])

    torch.testing.assert_close(shapes.band_mass(pattern, 1), torch.tensor([0.75, 1.0, 0.4]).double())
    torch.testing.assert_close(shapes.band_mass(pattern, 0), torch.tensor([0.5, 0.2, 0.1]).double())
    torch.testing.assert_close(shapes.band_mass(pattern[1:], 1, first_query=1), torch.tensor([1.0, 0.4]).double())


def test_band_without_a_visible_key_is_undefined():
    hidden = torch.zeros(2, 2, dtype=torch.bool)

    assert shapes.band_mass(torch.eye(2), 1, hidden).isnan().all()


def test_columns_share_out_the_whole_attention_of_the_queries_that_count():
    pattern, keep = random_pattern(2, 5, 5), torch.tensor([False, True, True, True, False])

    means = shapes.column_means(pattern, keep)

    torch.testing.assert_close(means, pattern[:, 1:4].mean(1))
    torch.testing.assert_close(means.sum(-1), torch.ones(2).double())


def test_a_vertical_map_is_all_columns_and_a_uniform_one_has_its_even_share():
    vertical = torch.zeros(6, 6)
    vertical[:, 2], vertical[:, 5] = 0.7, 0.3

    assert shapes.column_share(vertical) == pytest.approx(1.0)
    assert shapes.column_share(vertical, n_columns=1) == pytest.approx(0.7)
    assert shapes.column_share(torch.full((6, 6), 1 / 6)) == pytest.approx(2 / 6)
    assert shapes.column_share(vertical, n_columns=99) == pytest.approx(1.0)


def test_a_key_that_one_query_sees_is_no_column():
    pattern = torch.eye(8)  # every token looks at itself; the last key is seen by the last query only

    assert shapes.column_share(pattern, n_columns=1) == pytest.approx(1 / 8)


def test_columns_without_a_query_that_counts_are_undefined():
    assert shapes.column_share(torch.eye(3), torch.zeros(3, dtype=torch.bool)).isnan()


def test_blocks_are_what_stays_in_a_segment_and_need_two():
    segments = torch.tensor([0, 0, 1])
    pattern = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.5, 0.0], [0.0, 0.4, 0.6]])

    torch.testing.assert_close(shapes.block_mass(pattern, segments, segments), torch.tensor([0.8, 1.0, 0.6]).double())
    assert shapes.block_mass(pattern, segments * 0, segments * 0).isnan().all()


def test_breadth_in_a_block_is_one_where_the_segment_is_attended_evenly():
    segments = torch.tensor([0, 0, 1, 1, 1])
    pattern = torch.tensor([[0.3, 0.3, 0.4, 0.0, 0.0]] * 2 + [[0.1, 0.0, 0.3, 0.3, 0.3]] * 3)

    within = shapes.block_breadth(pattern, segments, segments)

    torch.testing.assert_close(within, torch.ones(5).double())


@pytest.mark.parametrize(
    ("vertical", "diagonal", "block", "within", "expected"),
    [
        (0.6, 0.9, 1.0, 1.0, "vertical"),
        (0.59, 0.6, 1.0, 1.0, "diagonal"),
        (0.55, 0.2, 0.0, 0.0, "vertical + diagonal"),
        (0.58, 0.18, 0.0, 0.0, "heterogeneous"),
        (0.4, 0.34, 0.9, 0.6, "block"),
        (0.4, 0.34, 0.9, 0.59, "heterogeneous"),
        (0.4, 0.34, math.nan, math.nan, "heterogeneous"),
        (0.7, math.nan, math.nan, math.nan, "vertical"),
    ],
)
def test_the_first_rule_that_holds_names_the_class(vertical, diagonal, block, within, expected):
    given = (torch.tensor(value, dtype=torch.float64) for value in (vertical, diagonal, block, within))

    found = shapes.kovaleva_class(*given)

    assert shapes.KOVALEVA_CLASSES[int(found)] == expected


def test_a_head_without_vertical_and_diagonal_has_no_class():
    nothing = torch.full((2,), torch.nan, dtype=torch.float64)

    assert shapes.kovaleva_class(nothing, nothing, nothing, nothing).isnan().all()


def test_the_kernel_is_the_mean_at_each_offset():
    pattern, keep, visible = random_pattern(2, 5, 5), torch.tensor([True, True, False, True, True]), causal(5)

    kernel = shapes.toeplitz_kernel(pattern, visible, keep)

    for offset in range(-4, 5):
        cells = [
            pattern[:, query, query + offset]
            for query in (0, 1, 3, 4)
            if 0 <= query + offset < 5 and visible[query, query + offset]
        ]
        found = kernel[:, offset + 4]
        if cells:
            torch.testing.assert_close(found, torch.stack(cells).mean(0))
        else:
            assert found.isnan().all()


def test_a_kernel_gives_back_the_map_that_it_was_moved_along():
    visible = causal(9)
    pattern = moved_kernel(9, {-2: 0.5, -1: 0.3, 0: 0.2}, visible)
    kernel = torch.zeros(17, dtype=torch.float64)
    kernel[[6, 7, 8]] = torch.tensor([0.5, 0.3, 0.2]).double()  # offsets -2, -1, 0

    torch.testing.assert_close(shapes.toeplitz_pattern(kernel, visible), pattern)


def test_position_explains_all_of_a_moved_kernel_and_nothing_of_the_same_keys_for_all():
    moved, after_first = moved_kernel(30, {-1: 0.8, 2: 0.2})[:-2], torch.arange(28) > 0
    fixed = torch.zeros(30, 30, dtype=torch.float64)
    fixed[:, 7] = 1.0

    assert shapes.toeplitz_share(moved, keep=after_first) == pytest.approx(1.0)
    assert shapes.toeplitz_share(fixed) < 0.1


def test_share_of_position_is_the_definition_in_loops():
    pattern, visible, keep = random_pattern(7, 7), causal(7), torch.tensor([False] + [True] * 6)
    pattern = pattern * visible
    pattern = pattern / pattern.sum(-1, keepdim=True)
    missed = spread = 0.0
    for scored in (0, 1):
        rows = [query for query in range(7) if keep[query] and query % 2 == scored]
        others = [query for query in range(7) if keep[query] and query % 2 != scored]
        for query in rows:
            row = []
            for key in range(query + 1):
                cells = [pattern[one, one + key - query] for one in others if 0 <= one + key - query <= one]
                row.append(float(sum(cells) / len(cells)) if cells else 0.0)
            total = sum(row)
            for key, value in enumerate(row):
                fitted = value / total if total else 1 / (query + 1)
                missed += float(pattern[query, key] - fitted) ** 2
                spread += float(pattern[query, key] - 1 / (query + 1)) ** 2

    assert float(shapes.toeplitz_share(pattern, visible, keep)) == pytest.approx(1 - missed / spread)


def test_position_has_nothing_to_explain_in_a_uniform_map():
    visible = causal(6)
    uniform = visible.double() / visible.sum(-1, keepdim=True)

    assert shapes.toeplitz_share(uniform, visible).isnan()
    assert shapes.toeplitz_share(torch.eye(6), keep=torch.zeros(6, dtype=torch.bool)).isnan()


def test_a_padded_row_of_nan_does_not_spread():
    pattern, keep = random_pattern(6, 6), torch.tensor([True] * 5 + [False])
    broken = pattern.clone()
    broken[5] = torch.nan

    torch.testing.assert_close(shapes.toeplitz_share(broken, keep=keep), shapes.toeplitz_share(pattern, keep=keep))
    torch.testing.assert_close(shapes.column_share(broken, keep), shapes.column_share(pattern, keep))


@given(st.integers(0, 1000), st.permutations(range(3)))
def test_permuting_heads_permutes_the_results(seed, order):
    pattern = random_pattern(3, 6, 6, seed=seed)

    for measure in (shapes.column_share, shapes.toeplitz_share):
        torch.testing.assert_close(measure(pattern)[list(order)], measure(pattern[list(order)]))


def test_reversing_the_text_leaves_what_knows_no_direction():
    pattern = random_pattern(2, 6, 6)
    reverse = pattern.flip(-1, -2)

    torch.testing.assert_close(shapes.toeplitz_kernel(reverse).flip(-1), shapes.toeplitz_kernel(pattern))
    torch.testing.assert_close(shapes.band_mass(reverse, 2).flip(-1), shapes.band_mass(pattern, 2))
    torch.testing.assert_close(shapes.toeplitz_share(reverse), shapes.toeplitz_share(pattern))


def test_wrong_shapes_are_refused_by_the_suite():
    with pytest.raises(Exception, match="query"):
        shapes.toeplitz_share(torch.eye(3), keep=torch.ones(4, dtype=torch.bool))
