"""Explore and Intervene in a browser on a model that reads one text and writes another."""

from __future__ import annotations

from pathlib import Path

import pytest
from at_the_page import expect, hover, is_drawn, shows_head, waits_for_address

pytestmark = pytest.mark.browser

SOURCE, WRITTEN = "the dogs", "she saw"
ADDRESS = "kind=target&text=the+dogs&second=she+saw"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with a random T5: 4 encoder layers, 2 decoder layers, 3 heads, a token per byte."""
    from family_models import FAMILIES

    folder = tmp_path_factory.mktemp("models") / "random-t5"
    FAMILIES["t5"].build().save_pretrained(folder)
    FAMILIES["t5"].tokenizer().save_pretrained(folder)
    return folder


def test_every_stack_is_seen_and_changed(visit, model):
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(model)
    own = T5ForConditionalGeneration.from_pretrained(model, attn_implementation="eager").eval()
    written = torch.tensor([[0, *tokenizer(WRITTEN)["input_ids"][:-1]]])
    with torch.no_grad():
        given = tokenizer(SOURCE, return_tensors="pt")
        found = own(**given, decoder_input_ids=written, output_attentions=True)
    weights = {"E": found.encoder_attentions[1][0, 2], "D": found.decoder_attentions[1][0, 2]}
    weights["X"] = found.cross_attentions[1][0, 2]
    page = visit(f"?{ADDRESS}&head=EL1H2&tab=matrix")

    for letter in "EDX":
        page.locator("#head").click()
        page.get_by_role("option", name=f"{letter}L1H2", exact=True).click()
        shows_head(page, f"{letter}L1H2")
        page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
        page.wait_for_timeout(400)
        assert f"weight {weights[letter][5, 3]:.4f}" in hover(page, "#matrix", 5, 3)
        page.mouse.move(5, 5)

    page.get_by_role("link", name="Intervene").click()
    outcome, caption = page.locator("#outcome"), page.locator("#off-map-caption")
    expect(caption).to_contain_text("Cross-attention, from what is written to what is read. Every head is on.")
    expect(page.locator("#two-stacks")).to_contain_text("reads one text and writes another")
    page.locator("#off-map-frame").focus()
    page.keyboard.press("Space")
    expect(outcome).to_contain_text("ablate XL1H2 (zero)")
    page.keyboard.press("ArrowDown")  # the last layer of this stack: nowhere to go
    page.locator("#head").click()
    page.get_by_role("option", name="EL3H0", exact=True).click()
    expect(caption).to_contain_text("Encoder. Every head is on. Off in another stack: XL1H2.")
    page.locator("#off-map-frame").focus()
    page.keyboard.press("Space")
    expect(outcome).to_contain_text("ablate XL1H2, EL3H0 (zero)")
    waits_for_address(page, head="EL3H0", off="XL1H2,EL3H0")
    page.get_by_role("button", name="Measure every head").click()
    expect(caption).to_contain_text("most for EL")
    page.reload()
    expect(outcome).to_contain_text("ablate XL1H2, EL3H0 (zero)")
    page.get_by_role("link", name="Explore").click()
    is_drawn(page)


def test_two_stacks_are_drawn_side_by_side_and_a_layer_of_the_decoder_is_taken_apart(visit):
    page = visit(f"inside?{ADDRESS}")
    expect(page.locator("#model-diagram .line.cross")).to_have_count(1)
    expect(page.locator("#kinds .is-opened")).to_contain_text("Encoder-decoder")
    cross = page.locator('.sight[data-stack="X"]')
    cross.locator(".looks").nth(2).click()
    expect(cross.locator(".sight-words")).to_contain_text("(position 2) can see 9 of 9 tokens")
    expect(page.locator('.sight[data-stack="D"] .sight-words')).to_contain_text("(position 2) can see 3 of")

    page.locator("#model-diagram .opens").filter(has_text="Feed-forward").first.click()
    page.locator("#block-layer").click()
    page.get_by_role("option", name="decoder, layer 1", exact=True).click()
    expect(page.locator("#block-summary")).to_contain_text("Layer DL1, at 2")
    page.locator('#block-diagram [data-key="cross"]').click()
    step = page.locator("#step-cross")
    expect(step).to_have_class("card step-card is-open")
    expect(step).to_contain_text("recomputes to")
    waits_for_address(page, block="D1", part="cross")
