"""The pages of one head and of all heads: what their callbacks put in place, on real runs of a random model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from components import found_values, texts_in

from dashboards.pages.inside import head, heads
from dashboards.state import ViewState


def test_one_head_is_the_runs_own_attention_step_by_step(desk, shown):
    chips, summary, data, table = head.draw_head(desk, shown, "L1H2", 3)

    run = desk.run(shown)
    columns = {column["key"]: column["values"] for column in data["columns"]}
    assert texts_in(chips).split(" ") == [token.label for token in run.tokens]
    assert [chip.className for chip in chips].index("token-chip is-chosen") == 3
    assert "L1H2 at 'to', token 3" in texts_in(summary)
    assert "torch's scaled_dot_product_attention (recomputes to" in texts_in(summary)
    assert summary[1].className == "passed"
    np.testing.assert_allclose(columns["weights"], run.attention(head="L1H2")[3], atol=1e-4)
    assert {key for step in data["steps"] for key in step["columns"]} == set(columns)
    assert len(table) == 1
    assert json.loads(json.dumps(data, allow_nan=False)) == json.loads(json.dumps(data))


def test_a_layer_is_run_once_for_all_its_words_and_heads_and_two_are_kept(desk, shown):
    head.draw_head(desk, shown, "L1H2", 3)
    kept = desk.layers.keys

    head.draw_head(desk, shown, "L1H0", 5)
    heads.draw_heads(desk, shown, "L1H1", 4)
    assert desk.layers.keys == kept

    head.draw_head(desk, shown, "L0H0", 3)
    head.draw_head(desk, shown, "L2H0", 3)
    assert [key[-1] for key in desk.layers.keys] == [0, 2]


def test_a_token_that_the_text_lacks_is_the_usual_one(desk, shown):
    usual = head.draw_head(desk, shown, "L1H2", None)[1]

    assert texts_in(head.draw_head(desk, shown, "L1H2", 999)[1]) == texts_in(usual)


def test_all_heads_stand_side_by_side_and_their_shares_are_the_whole(desk, shown):
    _, summary, data, _ = heads.draw_heads(desk, shown, "L2H1", 4)

    run = desk.run(shown)
    np.testing.assert_allclose(data["weights"], run.attention(layer=2)[:, 4], atol=1e-4)
    assert sum(data["shares"]) + data["bias_share"] == pytest.approx(1)
    assert (data["chosen"], data["query"], data["names"]) == (1, 4, ["L2H0", "L2H1", "L2H2", "L2H3"])
    assert "The writes add up to what the layer's attention gave: recomputes to" in texts_in(summary)


@pytest.mark.parametrize(("page", "draw"), [(head, head.draw_head), (heads, heads.draw_heads)])
def test_what_cannot_be_shown_is_said_and_the_tokens_stay(desk, shown, monkeypatch, page, draw):
    from attnlens.errors import CaptureError

    def refuse(*_given):
        raise CaptureError("running the tokens again does not give this run")

    monkeypatch.setattr(page, "layer_of", refuse)

    chips, summary, data, table = draw(desk, shown, "L0H0", None)

    assert "does not give this run" in texts_in(summary)
    assert len(chips) == len(desk.run(shown).tokens)
    assert (data, table) == (None, [])


def test_layouts_begin_with_the_view_of_the_address(desk):
    view = ViewState(at=3, step="scaled")

    for page in (head.PAGE, heads.PAGE):
        values = found_values(page.layout(desk, view))
        for control in page.controls:
            assert values[control.id, control.prop] == control.value(view)
