"""The pages of the model and of a block: what their callbacks put in place, on real runs of a random model."""

from __future__ import annotations

import pytest
from components import found_values, graphs_in, texts_in

from dashboards.pages.inside import block, model
from dashboards.state import ViewState


def test_a_block_is_drawn_with_a_card_per_box_at_the_chosen_token(desk, shown, random_lens):
    chips, summary, cards, drawing = block.draw_block(desk, shown, "1", "L0H2", 3, "light")

    tokens = desk.run(shown).tokens
    assert texts_in(chips).split(" ") == [token.label for token in tokens]
    assert [chip.className for chip in chips].index("token-chip is-chosen") == 3
    assert "Layer L1, at 3 to" in texts_in(summary)
    assert "recomputes to" in texts_in(summary)
    assert {f"step-{box['key']}" for box in drawing["boxes"]} == {card.id for card in cards[1:]}
    assert len(graphs_in(cards)) == 6  # the whole, two norms, heads, curve, neurons
    assert "No tokens are named for them: the prediction head is more than a linear map" in texts_in(cards)


def test_a_layer_is_taken_apart_once_for_all_of_its_tokens(desk, shown):
    block.draw_block(desk, shown, "1", "L0H2", 3, "light")
    block.draw_block(desk, shown, "", "L1H0", 3, "dark")
    block.draw_block(desk, shown, "1", "L0H0", 4, "dark")

    assert len(desk.blocks) == 1
    assert len(desk.memo) == 2  # one view per token


@pytest.mark.parametrize(
    ("chosen", "head", "found"),
    [("2", "L0H1", 2), ("", "L1H1", 1), ("7", "L1H1", 1), ("x", "L2H0", 2), ("E1", "L0H0", 0), (None, "L9H0", 2)],
)
def test_a_layer_that_the_model_lacks_is_that_of_the_head(random_lens, chosen, head, found):
    assert block.chosen_block(random_lens.anatomy, chosen, head) == ("", found)


def test_every_layer_is_offered(random_lens):
    options = block.layer_options(random_lens.anatomy, "L2H1")

    assert [option["value"] for option in options] == ["", "0", "1", "2"]
    assert options[0]["label"] == "of the selected head: L2"


def test_what_cannot_be_taken_apart_is_said_and_the_tokens_stay(desk, shown, monkeypatch):
    from attnlens.errors import CaptureError

    def refuse(*_given, **_more):
        raise CaptureError("the block cannot be taken apart: no sums were found")

    monkeypatch.setattr(block, "block_steps", refuse)

    chips, summary, cards, drawing = block.draw_block(desk, shown, "0", "L0H0", None, "light")

    assert "no sums were found" in texts_in(cards)
    assert len(chips) == len(desk.run(shown).tokens)
    assert (summary, drawing) == ([], None)


def test_the_model_is_drawn_with_its_masks_and_sights(desk, shown):
    summary, shapes, sights, kinds, drawings = model.draw_model(desk, shown)

    n = len(desk.run(shown).tokens)
    assert "Encoder: BertForMaskedLM" in texts_in(summary)
    assert f"4 heads × {n} × {n}" in texts_in(shapes)
    assert [kind.className for kind in kinds] == ["kind is-opened", "kind", "kind"]
    assert set(drawings) == {"model-diagram", "kinds-encoder", "kinds-decoder", "kinds-encoder-decoder"}
    given = sights[0].to_plotly_json()["props"]["data-seen"]
    assert given == ";".join([f"0-{n}"] * n)


def test_layouts_begin_with_the_view_of_the_address(desk):
    view = ViewState(at=3, block="2", part="norm-attention")

    for page in (block.PAGE, model.PAGE):
        values = found_values(page.layout(desk, view))
        for control in page.controls:
            assert values[control.id, control.prop] == control.value(view)
