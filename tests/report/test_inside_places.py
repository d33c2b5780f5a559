"""Views and figures of positions and masks: numbers that agree with the steps, words that say what they show."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import attnlens
from attnlens.errors import CaptureError
from attnlens.heads import Head
from attnlens.measures.positions import alibi_bias, alibi_slopes, sinusoidal_table
from attnlens.report.inside import masks_figure, positions_figure
from attnlens.report.inside.masks_view import group_views, kind_views, padding_caption, padding_views, row_view
from attnlens.report.inside.order_view import order_view, span_view
from attnlens.report.inside.positions_view import (
    bias_view,
    cosine_view,
    scheme_views,
    schemes_table,
    score_view,
    table_view,
    turn_view,
)
from attnlens.report.inside.schemes import SCHEMES
from attnlens.steps.beyond import beyond_the_limit
from attnlens.steps.masks import MaskGroup, MaskKind, make_mask, mask_groups, masked_row
from attnlens.steps.order import rows_in_both_orders, usual_words
from attnlens.steps.padding import padded_pair
from attnlens.steps.rotation import find_rotations, rotated_pair, usual_pair

TEXT = "The keys to the cabinet are on the table."
HOSTILE = "<b>&amp;</b>"


@pytest.fixture(scope="module")
def llama() -> Any:
    return attnlens.load("attnlens/tiny-llama")


@pytest.fixture(scope="module")
def run(llama) -> Any:
    return llama.capture(TEXT)


@pytest.fixture(scope="module")
def turn(llama, run) -> Any:
    head = Head(1, 3)
    rotation = find_rotations(llama)[1]
    return turn_view(run, rotated_pair(run, head, 9, 4, rotation), rotation, head)


def test_the_browser_adds_the_pairs_up_to_the_models_score(turn, run):
    data = json.loads(json.dumps(turn.to_json()))

    def score(query: int, key: int) -> float:
        """What `assets/inside_positions.js` computes: each hand turned, then the products of all pairs."""
        total = data["rest"]
        for pair in data["pairs"]:
            q, k = (
                complex(*pair[name]) * np.exp(1j * place * pair["turn"]) for name, place in (("q", query), ("k", key))
            )
            total += q.real * k.real + q.imag * k.imag
        return total * data["scaling"]

    given = run.patterns[1].scores
    own = float(given.query[0, 3, 9].double() @ given.key[0, 1, 4].double()) * given.scaling
    assert score(9, 4) == pytest.approx(own, abs=1e-5)
    assert data["recorded"] == pytest.approx(own, abs=1e-9)
    assert score(59, 54) == pytest.approx(own, abs=1e-5)
    curve = score_view(turn)
    assert curve.mark == (5, "in this text")
    assert curve.curves[0].values[5] == pytest.approx(own, abs=1e-5)
    assert curve.curves[0].values[17] == pytest.approx(score(21, 4), abs=1e-5)
    assert [row[0] for row in turn.table().rows] == list(range(len(data["pairs"])))
    assert sum(row[-1] for row in turn.table().rows) == pytest.approx(own, abs=1e-5)
    assert "'table' (9) asks, 'the' (4) answers" in turn.title


def test_the_usual_pair_is_the_last_word_and_what_it_looks_at_most(run):
    query, key = usual_pair(run, Head(2, 1))

    weights = run.attention(2, 1)[query]
    assert not run.tokens[query].special
    assert all(token.special for token in run.tokens[query + 1 :])
    others = [weight if at != query else -1.0 for at, weight in enumerate(weights.tolist())]
    assert key == int(np.argmax(others))
    assert usual_pair(run, Head(2, 1), 3)[0] == 3


def test_a_table_says_whether_the_formula_gives_it():
    formula = sinusoidal_table(80, 16)
    halves = torch.cat([formula[:, ::2], formula[:, 1::2]], -1)

    own, other = table_view(halves.float(), "sinusoidal"), table_view(formula.roll(1, 0).float(), "sinusoidal")

    assert "The formula gives each of its numbers" in own.caption
    assert "its own way" in other.caption
    assert own.columns.shape == (64, 16)
    rows = halves[:64].numpy()
    expected = rows[3] @ rows[7] / np.linalg.norm(rows[3]) / np.linalg.norm(rows[7])
    assert own.table().rows[3][8] == pytest.approx(expected, abs=1e-6)
    assert len(own.table().rows) * len(own.table().columns) < 200
    assert cosine_view(halves).curves[0].values[0] == pytest.approx(1)
    assert positions_figure.likeness(own).data[0].z[3][7] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(positions_figure.table_columns(own, theme="dark").data[0].z, own.columns)


def test_the_bias_of_a_head_is_chosen_among_those_of_its_layer():
    bias, seen = alibi_bias(alibi_slopes(4), 6, 6), torch.ones(6, 6, dtype=torch.bool).tril()

    view = bias_view(bias, seen, Head(2, 1), "alibi")

    assert view.places == (-5, -4, -3, -2, -1, 0)
    assert [curve.name for curve in view.curves if curve.chosen] == ["L2H1"]
    np.testing.assert_allclose(view.curves[1].values, alibi_slopes(4)[1].item() * np.arange(-5, 1))
    assert "loses 0.0625 logits for each token" in view.caption
    figure = positions_figure.curves(view)
    assert [trace.name for trace in figure.data] == ["L2H0", "L2H2", "L2H3", "L2H1"]  # the chosen one on top
    assert len(view.table().rows) == 6


def test_every_scheme_is_there_and_starts_at_itself():
    learned = torch.randn(80, 12)

    views = scheme_views(4, 8, learned)

    assert set(views) == set(SCHEMES) - {"none", "unknown"}
    for name, start in (("sinusoidal", 1), ("rope", 1), ("learned", 1), ("alibi", 0), ("relative bias", 0)):
        assert views[name].curves[0].values[0] == pytest.approx(start)
    assert "learned" not in scheme_views(4, 8, None)
    table = schemes_table(views)
    assert len(table.rows) * len(table.columns) < 200  # every cell is a component of the page
    assert table.rows[8][table.columns.index("ALiBi, head 0")] == pytest.approx(-8 * alibi_slopes(4)[0].item())
    assert views["alibi"].curves[0].values[10] == pytest.approx(-10 * alibi_slopes(4)[0].item())


def test_words_in_two_orders_are_told_with_what_moved(llama):
    words = usual_words(llama)
    assert words == "king sees queen"  # the first whose words are whole tokens

    first, later = (order_view(rows_in_both_orders(llama, Head(layer, 1), words)) for layer in (0, 1))

    assert first.orders == ("<s> king sees queen", "<s> sees king queen")
    assert "attention does not know order" in first.caption
    assert "the mask hides some words" in later.caption
    assert [row[:3] for row in first.table().rows] == [("<s>", 0, 0), ("king", 1, 2), ("sees", 2, 1), ("queen", 3, 3)]
    figure = positions_figure.order_bars(first, theme="dark")
    assert [list(bar.y) for bar in figure.data] == [row.tolist() for row in (*first.rows.placed, *first.rows.placeless)]


def test_spans_beyond_the_limit_are_marked(llama):
    view = span_view(beyond_the_limit(llama, f"{TEXT} " * 20))

    assert view.names == ("0–127", "128–255", "256–383", "384–511")
    assert view.beyond == (False, False, True, True)
    assert "takes 256 tokens" in view.caption
    assert "the text has 257 tokens" in view.caption
    bars = positions_figure.span_bars(view).data
    assert [bar.name for bar in bars] == ["within the limit", "beyond it"]
    assert [value for bar in bars for value in bar.y] == list(view.losses)
    still = span_view(beyond_the_limit(attnlens.load("attnlens/tiny-gpt2"), TEXT))
    assert "none for the next one" in still.caption
    assert positions_figure.span_bars(still).data == ()


def test_masks_of_a_run_are_told_by_layer(run):
    group = MaskGroup(
        "", (0, 1, 3), MaskKind("sliding window", window=2), make_mask("sliding window", 11, 11, window=2)
    )

    own = group_views(run, mask_groups(run, window=4096))
    (windowed,) = group_views(run, [group])

    assert [view.title for view in own] == ["Causal: layers 0–2"]
    assert "names a window of 4,096 tokens" in own[0].caption
    assert own[0].table().rows[1][:3] == ("The", 2, "<s> The")
    assert windowed.title == "Sliding window of 2 tokens: layers 0–1, 3"
    figure = masks_figure.mask_grid(own[0])
    assert np.array_equal(figure.data[0].z, np.tril(np.ones((11, 11))))


def test_every_kind_is_shown_and_the_models_own_marked():
    views = kind_views([HOSTILE, "b", "c", "d"], [MaskKind("causal")])

    assert [view.title for view in views if view.own] == ["Causal"]
    assert [view.visible.sum() for view in views] == [16, 10, 9, 16, 10, 16]
    assert views[-1].visible.shape == (4, 4)
    for view in views:
        drawn = masks_figure.mask_grid(view, small=True, theme="dark").to_json()
        assert "<b>&amp;" not in drawn
    assert kind_views(["one"])[0].visible.shape == (1, 1)


def test_a_row_goes_through_softmax_in_the_picture_and_in_the_table(run):
    head = Head(1, 1)
    row = masked_row(run, head, 5)

    view = row_view(row, run, head, 5)

    assert "hides 5 keys of 11" in view.caption
    assert view.table().rows[7][1:4] == ("hidden", pytest.approx(float(row.scores[7])), "−∞")
    assert view.table().rows[2][4] == pytest.approx(float(run.attention(1, 1)[5, 2]), abs=1e-6)
    words = masks_figure.row_cells(view).data[1]
    assert words.text.count("−∞") == 5
    assert len(words.text) == 4 * 11


def test_padding_is_named_in_both_texts(llama):
    views = padding_views(padded_pair(llama, TEXT, "The keys"))

    assert [len(view.rows) for view in views] == [11, 11]
    assert "needs no padding" in views[0].caption
    assert "8 of padding, which nobody sees" in views[1].caption
    assert "nothing is padded" in padding_caption(padded_pair(llama, TEXT, TEXT))


def test_without_queries_there_is_no_pair(llama, run):
    exact = llama.capture(TEXT, mode="exact")

    with pytest.raises(CaptureError, match="mode='lazy'"):
        rotated_pair(exact, Head(0, 0), 3, 2, find_rotations(llama)[0])
