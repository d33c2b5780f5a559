"""Explore: what a person does with many heads, several heads at once, one token, and a text too long for a screen."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from at_the_page import (
    cell_of,
    expect,
    given_in,
    hover,
    is_drawn,
    shows_head,
    tip_of,
    token_of,
    waits_for_address,
)

pytestmark = pytest.mark.browser

LONG = "the keys to the cabinet are on the table. " * 5  # a token per byte


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with a random LLaMA, which takes 400 tokens: 5 layers of 4 heads, a token per byte."""
    from random_models import BUILDERS

    folder = tmp_path_factory.mktemp("models") / "random-llama"
    model, tokenizer = BUILDERS["llama"]()
    model.config.max_position_embeddings = tokenizer.model_max_length = 400
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def eager(model):
    """`eager(text)`: `[layer head query key]` of transformers' own code."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    own = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()

    def attention(text: str) -> np.ndarray:
        with torch.no_grad():
            found = own(**tokenizer(text, return_tensors="pt"), output_attentions=True).attentions
        return torch.cat(found).numpy()

    return attention


def asked_for(page, part: str) -> list[str]:
    """Keeps the addresses of what the page's scripts ask for from now on."""
    seen: list[str] = []
    page.on("request", lambda request: part in request.url and seen.append(request.url))
    return seen


def test_heads_of_a_run_that_was_sent_need_no_further_numbers(visit, eager):
    weights = eager("the dogs bark")
    page = visit("?text=the+dogs+bark&head=L0H1&tab=matrix")
    shows_head(page, "L0H1")
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
    page.locator("#head-map canvas[data-cell]").wait_for(state="attached")
    asked = asked_for(page, "/data/")

    page.mouse.click(*cell_of(page, "#head-map", 3, 2))
    shows_head(page, "L3H2")
    expect(page.locator("#matrix-caption")).to_contain_text("Layer 3, head 2")
    page.wait_for_timeout(200)

    assert f"weight {weights[3, 2, 9, 4]:.4f}" in hover(page, "#matrix", 9, 4)
    assert "not visible" in hover(page, "#matrix", 4, 9)
    assert asked == []


def test_a_token_is_followed_both_ways_and_by_keyboard(visit, eager):
    weights = eager("the dogs bark")[1, 2]
    page = visit("?text=the+dogs+bark&head=L1H2")
    is_drawn(page)

    page.mouse.move(*token_of(page, "left", 6))
    best = int(weights[6].argmax())
    assert f"{weights[6, best]:.4f}" in tip_of(page, "#links").splitlines()[1]
    page.mouse.click(*token_of(page, "left", 6))
    waits_for_address(page, query="6")
    page.mouse.move(*token_of(page, "right", 6))
    receiving = weights[6:, 6]
    assert f"{receiving.max():.4f}" in tip_of(page, "#links").splitlines()[1]

    page.focus("#links")
    page.keyboard.press("ArrowDown")
    waits_for_address(page, query="7")
    expect(page.locator("#links [role=status]")).to_contain_text("(7) attends to")
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("query="))


def test_the_drawer_says_what_is_known_of_a_link_and_stays_with_the_address(visit, eager):
    weights = eager("the dogs bark")
    row = weights[1, 2, 9, :10]  # what token 9 sees
    page = visit("?text=the+dogs+bark&head=L1H2&tab=matrix")
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
    page.locator("#head-map canvas[data-cell]").wait_for(state="attached")
    drawer = page.locator("#drawer")
    expect(drawer).to_be_hidden()
    asked = asked_for(page, "/data/")

    page.mouse.click(*cell_of(page, "#matrix", 9, 4))

    expect(drawer).to_contain_text(f"Weight{row[4]:.4f}")
    expect(drawer).to_contain_text(f"In its row{1 + int((row > row[4]).sum())}")
    expect(drawer).to_contain_text("of 10In this head")
    best = np.unravel_index(weights[:, :, 9, 4].argmax(), weights.shape[:2])
    expect(drawer).to_contain_text(f"of 20; most in L{best[0]}H{best[1]}, {weights[:, :, 9, 4].max():.4f}")
    expect(drawer).to_contain_text("attends to")
    expect(drawer).to_contain_text("nothing has been tested on it")
    waits_for_address(page, query="9", key="4", details="1")
    assert asked == []
    page.mouse.click(*cell_of(page, "#head-map", 3, 1))
    expect(drawer).to_contain_text(f"Weight{weights[3, 1, 9, 4]:.4f}")
    page.reload()
    expect(drawer).to_contain_text(f"Weight{weights[3, 1, 9, 4]:.4f}")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page).not_to_have_url(re.compile("details="))
    page.focus("#matrix")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(drawer).to_contain_text(f"Weight{weights[3, 1, 1, 0]:.4f}")
    page.set_viewport_size({"width": 390, "height": 800})
    box = drawer.bounding_box()
    assert (box["x"], box["width"], round(box["y"] + box["height"])) == (0, 390, 800)
    page.get_by_role("button", name="Close what is selected").click()
    expect(drawer).to_be_hidden()
    expect(page.get_by_role("button", name="What is selected")).to_be_focused()


def test_several_heads_are_drawn_over_each_other_or_as_one(visit, eager):
    weights = eager("the dogs bark")
    page = visit("?text=the+dogs+bark&head=L1H2&tab=matrix")
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
    page.locator("#head-map canvas[data-cell]").wait_for(state="attached")

    page.keyboard.down("Shift")
    page.mouse.click(*cell_of(page, "#head-map", 4, 3))
    page.keyboard.up("Shift")
    waits_for_address(page, also="L4H3")
    expect(page.locator("#head-legend span")).to_have_text(["L1H2", "L4H3"])

    page.get_by_text("More ways to look").click()
    page.locator("#combine").click()
    page.get_by_role("option", name="the largest weight of each cell").click()
    waits_for_address(page, combine="max")
    expect(page.locator("#matrix-caption")).to_contain_text("L1H2, L4H3")
    page.wait_for_timeout(200)
    assert f"weight {max(weights[1, 2, 9, 4], weights[4, 3, 9, 4]):.4f}" in hover(page, "#matrix", 9, 4)


def test_a_long_text_is_seen_whole_and_its_parts_exactly(visit, eager):
    weights = eager(LONG)[2, 1]
    page = visit(f"?text={quote(LONG)}&head=L2H1&tab=matrix")
    page.locator("#overview canvas[data-keys]").wait_for(state="visible")
    sent: list[int] = []
    page.on(
        "response",
        lambda answer: "/data/maps" in answer.url and sent.append(int(answer.headers["content-length"])),
    )

    canvas = page.locator("#overview canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    n = int(canvas.get_attribute("data-queries"))
    page.mouse.move(box["x"] + box["width"] * 60.5 / n, box["y"] + box["height"] * 150.5 / n)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 79.5 / n, box["y"] + box["height"] * 169.5 / n)
    page.mouse.up()
    expect(page).to_have_url(re.compile("window="))

    first, stop, left, right = (int(edge) for part in given_in(page)["window"].split(",") for edge in part.split("-"))
    assert (abs(first - 150), abs(stop - 170), abs(left - 60), abs(right - 80)) <= (1, 1, 1, 1)
    expect(page.locator("#overview [role=status]")).to_contain_text(f"{first} to {stop - 1}")
    page.wait_for_timeout(300)
    shown = hover(page, "#matrix", 7, 5)
    assert f"weight {weights[first + 7, left + 5]:.4f}" in shown
    assert f"({first + 7})" in shown
    assert 0 < sum(sent) < 40_000
    assert page.evaluate("document.querySelectorAll('*').length") < 5000


def test_a_part_that_cannot_be_drawn_says_why(visit):
    page = visit("?text=the+dogs+bark&head=L0H1")
    is_drawn(page)
    page.route("**/data/maps*", lambda route: route.fulfill(status=200, body="{}"))

    page.get_by_label("Hide special tokens").click()

    expect(page.locator("#links .draw-message")).to_contain_text("could not be drawn")
    page.unroute("**/data/maps*")
    page.get_by_label("Hide special tokens").click()
    expect(page.locator("#links .draw-message")).to_be_hidden()
