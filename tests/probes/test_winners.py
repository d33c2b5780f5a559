"""Who wins rows and columns, as a list, against loops over every row; and sums that padding does not change."""

from __future__ import annotations

import numpy as np
import pytest

from probes import winners
from probes.view import in_order
from probes.winners import bars, strongest


def by_loops(weights, candidates, axis):
    """(text, head, query, key) -> number of ties, of every strongest candidate."""
    found = {}
    n_texts, n_heads, n, _ = weights.shape
    for text, head, contest in np.ndindex(n_texts, n_heads, n):
        own = [(contest, other) if axis == -1 else (other, contest) for other in range(n)]
        allowed = [cell for cell in own if candidates[text][cell]]
        best = max((weights[text, head][cell] for cell in allowed), default=None)
        won = [cell for cell in allowed if weights[text, head][cell] == best]
        found |= {(text, head, *cell): len(won) for cell in won}
    return found


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_winners_are_those_of_plain_loops(axis, dtype, at_once, monkeypatch):
    monkeypatch.setattr(winners, "AT_ONCE", at_once)
    random = np.random.default_rng(3)
    weights = (random.integers(0, 4, (3, 2, 5, 5)) / 4).astype(dtype)  # many ties, and rows of zeros
    candidates = random.random((3, 5, 5)) < 0.6
    candidates[1, 2] = candidates[2, :, 4] = False  # a row and a column in which nobody may win

    found = strongest(weights, bars(candidates), axis)

    cells = zip(found.text, found.front % 2, found.query, found.key, strict=True)
    assert dict(zip([tuple(map(int, cell)) for cell in cells], found.ties.tolist(), strict=True)) == by_loops(
        weights, candidates, axis
    )
    np.testing.assert_array_equal(found.cell, found.text * 25 + found.query * 5 + found.key)


def test_a_batch_without_words_has_no_winner():
    assert not len(strongest(np.zeros((2, 3, 0, 0)), bars(np.zeros((2, 0, 0), dtype=bool))).place)


def test_padding_changes_no_bit_of_a_sum():
    shares = 1 / np.random.default_rng(0).integers(1, 60, (40, 37))
    padded = np.concatenate([shares, np.zeros((40, 26))], axis=1)

    assert in_order(padded).tolist() == in_order(shares).tolist()
