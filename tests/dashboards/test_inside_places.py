"""The pages of positions and masks: what their callbacks put in place, for models of several schemes."""

from __future__ import annotations

from typing import Any

import pytest
from components import graphs_in, texts_in

import attnlens
from dashboards.pages.inside import masks, positions

TEXT = "The keys are on the table."


@pytest.fixture
def llama_desk(make_desk) -> tuple[Any, dict[str, Any]]:
    desk = make_desk()
    desk.runs.adopt("attnlens/tiny-llama", attnlens.load("attnlens/tiny-llama"))
    return desk, {"model": "attnlens/tiny-llama", "text": TEXT}


def test_a_model_that_turns_shows_its_pairs(llama_desk):
    desk, run = llama_desk

    data, shown, kind = positions.draw_turn(desk, run, "L1H2", "5", "2", "light")
    usual, _, _ = positions.draw_turn(desk, run, "L1H2", "", "99", "light")

    assert kind == "card"
    assert data["positions"] == [5, 2]
    assert len(graphs_in(shown)) == 1
    assert usual["positions"][0] == 7
    assert "Rotary (RoPE)" in texts_in(positions.draw_scheme(desk, run, "L1H2", "light"))
    assert [len(options) for options in positions.pair_options(desk, run)] == [9, 9]


def test_every_card_of_positions_is_drawn_for_a_table(desk, shown):
    cards = [
        positions.draw_scheme(desk, shown, "L1H2", "light"),
        positions.draw_order(desk, shown, "L1H2", "the dogs bark", "dark"),
        positions.draw_beyond(desk, shown, "light"),
        positions.draw_others(desk, shown, "L1H2", "dark"),
    ]

    assert [len(graphs_in(card)) for card in cards] == [3, 1, 0, 4]
    assert "takes at most 48" in texts_in(cards[2])
    assert "this model" in texts_in(cards[3])
    assert positions.draw_turn(desk, shown, "L1H2", "", "", "light") == (None, [], "card is-absent")
    assert "give 2 words or more" in texts_in(positions.draw_order(desk, shown, "L0H0", "dogs", "light"))


def test_a_run_from_a_file_says_what_needs_its_model(desk, shown):
    run = shown | {"run": ""}
    kept = desk.run(run)
    uploaded = shown | {"run": "a" * 64}
    object.__setattr__(desk, "run", lambda request, points=False: kept)

    assert "came from a file" in texts_in(positions.draw_order(desk, uploaded, "L0H0", "", "light"))
    assert "came from a file" in texts_in(positions.draw_beyond(desk, uploaded, "light"))
    assert "came from a file" in texts_in(masks.draw_padding(desk, uploaded, "", "light"))
    assert graphs_in(masks.draw_own(desk, uploaded, "light"))


def test_every_card_of_masks_is_drawn(llama_desk):
    desk, run = llama_desk

    own, row = masks.draw_own(desk, run, "light"), masks.draw_row(desk, run, "L1H2", "3", "dark")
    padding, kinds = masks.draw_padding(desk, run, "", "light"), masks.draw_kinds(desk, run, "dark")

    assert [len(graphs_in(card)) for card in (own, row, padding, kinds)] == [1, 1, 2, 6]
    assert "Causal: layers 0–2" in texts_in(own)
    assert "'are' (3) may see" in texts_in(row)
    assert "no weight at all" in texts_in(padding)
    assert len(masks.query_options(desk, run, "L1H2")) == 9
    assert "the text is empty" not in texts_in(padding)


def test_a_mask_too_fine_to_be_seen_is_refused(llama_desk):
    desk, run = llama_desk
    long = run | {"text": "The keys are on the table. " * 25}

    assert "too fine to be seen" in texts_in(masks.draw_own(desk, long, "light"))
    assert len(graphs_in(masks.draw_kinds(desk, long, "light"))) == 6


def test_a_table_of_thousands_of_cells_is_not_written_out():
    import numpy as np

    from attnlens.report.inside.curve_view import Curve, CurveView

    places = tuple(range(-500, 501))
    curve = Curve("L0H0", np.zeros(len(places)))

    shown = positions._curve(CurveView(places, "distance", (curve,), "logits", "Bias", ""), "light")

    assert "too many for a page" in texts_in(shown)
    assert len(graphs_in(shown)) == 1
