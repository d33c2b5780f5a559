"""Stream and Intervene in a real browser: positions and heads by click and key, and the address that keeps them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from at_the_page import N_HEADS, N_LAYERS, SENTENCE, expect, given_in, waits_for_address

pytestmark = pytest.mark.browser

OTHER = SENTENCE.replace("keys", "dogs")


def click_head(page: Any, layer: int, head: int) -> None:
    """Click a cell of the map of heads that can be switched off."""
    plot = page.locator("#off-map .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(
        box["x"] + (head + 0.5) * box["width"] / N_HEADS, box["y"] + (layer + 0.5) * box["height"] / N_LAYERS
    )


def test_a_click_on_the_grid_chooses_the_token_whose_prediction_is_explained(visit):
    page = visit("stream?head=L1H2")
    grid = page.locator("#lens-grid .nsewdrag")
    grid.wait_for(state="attached")
    expect(page.locator("#shares")).to_contain_text("at 'table'")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    n_tokens = page.locator("#lens-grid .xtick").count()

    page.mouse.click(box["x"] + 2.5 * box["width"] / n_tokens, box["y"] + 5)

    expect(page.locator("#shares")).to_contain_text("at 'keys'")
    expect(page.locator("#from-tokens")).to_contain_text("Convergence delta")
    waits_for_address(page, head="L1H2", at="2")
    page.fill("#target", "dogs bark")
    expect(page.locator("#shares")).to_contain_text("is not one token")
    page.fill("#target", "dog")
    expect(page.locator("#from-tokens")).to_contain_text("logit of 'dog' at 'keys'")
    waits_for_address(page, at="2", target="dog")
    page.go_back()
    waits_for_address(page, at="2", target="dogs bark")
    page.reload()
    expect(page.locator("#target")).to_have_value("dogs bark")


def test_heads_are_switched_by_click_and_key_and_taken_back_by_the_browser(visit):
    page = visit("intervene?head=L1H1")
    outcome = page.locator("#outcome")
    expect(outcome).to_contain_text("Nothing is changed yet")

    click_head(page, 0, 2)
    expect(outcome).to_contain_text("ablate L0H2 (zero)")
    page.locator("#off-map-frame").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")

    expect(outcome).to_contain_text("ablate L0H2, L2H1 (zero)")
    waits_for_address(page, head="L2H1", off="L0H2,L2H1")
    page.keyboard.press("Space")
    expect(outcome).to_contain_text("ablate L0H2 (zero)")
    click_head(page, 0, 2)
    expect(outcome).to_contain_text("Nothing is changed yet")
    assert "off" not in given_in(page)
    page.go_back()
    expect(outcome).to_contain_text("ablate L0H2 (zero)")


def test_a_link_cuts_patches_and_the_sweep_colours_the_map(visit):
    page = visit(f"intervene?head=L1H1&at=2&off=L0H0&cut=3-1&other={quote(OTHER)}&patch=1&patch_at=2")
    outcome, caption = page.locator("#outcome"), page.locator("#off-map-caption")
    expect(outcome).to_contain_text("ablate L0H0 (zero); knock out 3->1 in every head; patch resid_post of layer 1")
    expect(outcome).to_contain_text("which is masked")

    page.get_by_role("button", name="Take back: 3 to → 1").click()
    expect(outcome).to_contain_text("ablate L0H0 (zero); patch")
    page.get_by_role("button", name="Measure every head").click()

    expect(caption).to_contain_text("Colour is the divergence of the prediction")
    expect(page.locator("#sweep-button")).to_have_text("Measure every head")
    page.locator("#off-map-table-summary").click()
    expect(page.locator("#off-map-table tbody tr")).to_have_count(N_LAYERS * N_HEADS)
    assert "off" in page.locator("#off-map-table tbody").inner_text()
    page.get_by_role("button", name="All on").click()
    expect(caption).to_contain_text("Every head is on")
