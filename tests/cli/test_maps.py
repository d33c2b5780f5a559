"""Drawings in the terminal: every number in its place, every line within the width."""

from __future__ import annotations

import numpy as np
import pytest
from rich.cells import cell_len

HOSTILE = "[bold]</script><img src=x onerror=alert(1)>"


@pytest.fixture
def kinds():
    from attnlens.cli.maps import Kind

    return [Kind("p", "previous", (0, 0, 200)), Kind("n", "next", (0, 200, 0))]


def lines_of(text):
    return text.plain.split("\n")


def test_a_head_map_says_letter_and_percent_in_the_right_cell(kinds):
    from attnlens.cli.maps import head_grid

    values = np.array([[1.0, 0.456, 0.1], [np.nan, 0.31, 0.999]])
    which = np.array([[0, 1, 0], [0, 0, 1]])

    lines = lines_of(head_grid(values, which, kinds, floor=0.3, width=80))

    assert lines[0].split() == ["H0", "H1", "H2"]
    assert lines[1].split() == ["L0", "p100", "n46", "·"]
    assert lines[2].split() == ["L1", "·", "p31", "n100"]


@pytest.mark.parametrize("n_heads", [1, 4, 12, 15, 16, 18, 19, 20, 25, 26, 37, 38, 64, 75])
def test_a_head_map_stays_within_the_width_and_its_rows_are_equally_long(kinds, n_heads):
    from attnlens.cli.maps import head_grid

    full = np.ones((2, n_heads))

    lines = lines_of(head_grid(full, np.zeros((2, n_heads), dtype=int), kinds, floor=0.3, width=80))

    assert max(map(len, lines)) <= 80
    assert len(lines[1]) == len(lines[2])
    assert lines[1].count("p") == n_heads


def test_a_token_map_shows_percent_of_the_row_under_the_right_column():
    from attnlens.cli.maps import token_matrix

    weights = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.004, 0.496, 0.5]])
    visible = np.tril(np.ones((3, 3), dtype=bool))

    lines = lines_of(token_matrix(weights, visible, ["a", "bb", "c"], ["a", "bb", "c"], width=80))

    assert lines[0].split() == ["0", "1", "2"]
    assert lines[1].split() == ["a", "bb", "c"]
    assert [line.split()[2:] for line in lines[2:5]] == [["100"], ["25", "75"], ["·", "50", "50"]]
    ends = [lines[0].index(number) for number in "012"]
    assert [lines[4][end] for end in ends] == ["·", "0", "0"]  # numbers end where their column's number stands


@pytest.mark.parametrize("n_tokens", [1, 10, 15, 16, 20, 40, 60])
def test_a_token_map_stays_within_the_width(n_tokens):
    from attnlens.cli.maps import token_matrix

    weights = np.full((n_tokens, n_tokens), 1 / n_tokens)
    labels = ["漢字漢字漢字漢字漢字"] * n_tokens

    drawn = token_matrix(weights, np.ones_like(weights, dtype=bool), labels, labels, width=80)

    assert max(cell_len(line) for line in lines_of(drawn)) <= 80


def test_too_many_tokens_are_not_squeezed_into_a_wrong_map():
    from attnlens.cli.maps import token_matrix

    weights = np.full((90, 90), 1 / 90)

    assert token_matrix(weights, np.ones((90, 90), dtype=bool), ["x"] * 90, ["x"] * 90, width=80) is None


def test_shades_grow_with_the_weight():
    from attnlens.cli.maps import token_matrix

    weights = np.zeros((50, 50))
    weights[0, :5] = [0.0, 0.25, 0.5, 0.75, 1.0]

    drawn = token_matrix(weights, np.ones((50, 50), dtype=bool), ["x"] * 50, ["x"] * 50, width=80)

    assert lines_of(drawn)[1].endswith("·░▒▓█" + "·" * 45)


@pytest.mark.parametrize("width", [2, 5, 13])
@pytest.mark.parametrize("label", ["a", "cabinet", "漢字漢字", HOSTILE, "ab漢"])
def test_a_label_fits_its_column_exactly(label, width):
    from attnlens.cli.maps import fit_label

    fitted = fit_label(label, width)

    assert cell_len(fitted) == width
    assert fitted.rstrip() == label or fitted.rstrip().endswith("…")


def test_a_label_with_markup_stays_text():
    from attnlens.cli.maps import token_matrix

    drawn = token_matrix(np.ones((1, 1)), np.ones((1, 1), dtype=bool), ["[red]x"], ["[red]x"], width=80)

    assert "[red]x" in drawn.plain
