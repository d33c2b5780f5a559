"""Two runs side by side in views and figures: numbers by hand, from made-up patterns and from a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import attnlens
from attnlens.compare import compare_runs
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report import comparison_view, figures

ONE, TWO = "The keys to the cabinet are on the table.", "The key to the cabinet is on the table."


@pytest.fixture(scope="module")
def gpt2():
    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def texts(gpt2):
    return compare_runs(gpt2.capture(ONE), gpt2.capture(TWO))


@pytest.fixture(scope="module")
def models(gpt2):
    return compare_runs(gpt2.capture(ONE), attnlens.load("attnlens/tiny-bert").capture(ONE))


def divergence(one, two):
    """Jensen-Shannon in nats, written out; what a row lacks to 1 is one more key."""
    one, two = ([*row, max(0.0, 1 - sum(row))] for row in (one, two))
    middle = [(a + b) / 2 for a, b in zip(one, two, strict=True)]
    return sum(sum(p * math.log(p / m) for p, m in zip(side, middle, strict=True) if p > 0) / 2 for side in (one, two))


def test_the_map_of_divergences_is_that_of_the_rows(texts):
    view = comparison_view.divergence_view(texts)

    head = Head(2, 1)
    first, second = (weights.double().tolist() for weights in texts.maps(head))
    rows = [divergence(*pair) for pair, keep in zip(zip(first, second, strict=True), texts.keep, strict=True) if keep]
    assert view.value(head) == pytest.approx(sum(rows) / len(rows), abs=1e-6)
    assert texts.between(head) == pytest.approx(view.value(head), abs=1e-9)


def test_a_difference_is_the_second_map_minus_the_first(texts):
    head = Head(2, 1)

    view = comparison_view.difference_view(texts, head, head)

    one, two = (run.attention(head="L2H1", words=True) for run in (texts.first, texts.second))
    assert "keys" not in view.row_labels
    assert "cabinet" in view.row_labels
    row, column = view.row_labels.index("cabinet"), view.column_labels.index("The")
    labels = [[unit.label for unit in run.units] for run in (texts.first, texts.second)]
    places = [(names.index("cabinet"), names.index("The")) for names in labels]
    expected = float(two[places[1]] - one[places[0]])
    assert view.difference[row, column] == pytest.approx(expected, abs=1e-7)


def test_the_table_names_the_largest_differences_first(texts):
    head = Head(1, 3)

    table = comparison_view.difference_view(texts, head, head).table(limit=5)

    sizes = [abs(row[4]) for row in table.rows]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(float(texts.difference(head).abs().max()), abs=1e-7)
    assert all(row[4] == pytest.approx(row[3] - row[2]) for row in table.rows)


def test_a_head_is_shown_beside_its_match_and_one_without_is_named(gpt2):
    whole, part = gpt2.capture(ONE), gpt2.capture(ONE, heads=["L0H0", "L1H1"])
    comparison = compare_runs(whole, part)
    matches = comparison.matched()

    assert not comparison.same_heads
    assert comparison_view.counterpart(matches, Head(1, 1)) == Head(1, 1)  # the same map: no divergence
    with pytest.raises(UsageError, match="L2H3 has no counterpart"):
        comparison_view.counterpart(matches, Head(2, 3))


def test_matched_heads_stand_closest_first(models):
    table = comparison_view.matched_table(models.matched())

    distances = [row[2] for row in table.rows]
    assert distances == sorted(distances)
    assert len(table.rows) == min(len(heads) for heads in models.heads)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figures_hold_the_numbers_of_the_view(texts, theme):
    view = comparison_view.difference_view(texts, Head(2, 1), Head(2, 1))

    sides = [figures.side_heatmap(view, side, theme=theme) for side in (0, 1)]
    difference = figures.difference_heatmap(view, theme=theme)

    assert np.allclose(sides[0].data[0].z, view.first)
    assert np.allclose(sides[1].data[0].z, view.second)
    assert np.allclose(difference.data[0].z, view.second - view.first)
    assert difference.data[0].zmin == -difference.data[0].zmax
    assert difference.data[0].zmax == pytest.approx(float(torch.as_tensor(view.difference).abs().max()))


def test_hostile_words_are_escaped(gpt2):
    runs = [gpt2.capture(f"<b>x</b> {word}") for word in ("the", "a")]
    comparison = compare_runs(*runs)

    view = comparison_view.difference_view(comparison, Head(0, 0), Head(0, 0))
    figure = figures.difference_heatmap(view)

    shown = " ".join(figure.layout.xaxis.labelalias.values())
    assert "&lt;" in shown
    assert "<" not in shown
