"""The pages below `/inside` in a real browser, as a reader walks through them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import torch
from at_the_page import expect, given_in, waits_for_address

pytestmark = pytest.mark.browser

TEXT = "The keys to the cabinet are on the"


def test_tokens_are_taken_one_by_one_and_the_browser_computes_their_probabilities(visit):
    from attnlens.steps.sampling import next_token_probabilities

    page = visit(f"inside/generation?model=attnlens/tiny-gpt2&text={quote(TEXT)}&temp=0.7&topk=40&topp=0.9")
    candidates = page.locator("#candidates .candidate")
    candidates.first.wait_for()
    given = page.evaluate("dash_component_api.getLayout('candidates-data').props.data")

    for temperature, top_k, top_p in ((1, 0, 1), (0.7, 40, 0.9), (1.5, 7, 0.35)):
        shares = page.evaluate(
            "([given, ...knobs]) => dash_clientside.generation.shares(given, ...knobs).listed",
            [given, temperature, top_k, top_p],
        )
        expected = next_token_probabilities(
            torch.tensor(given["logits"]), temperature=temperature, top_k=top_k or None, top_p=top_p
        )
        torch.testing.assert_close(torch.tensor(shares).double(), expected, rtol=1e-4, atol=1e-7)

    first = candidates.first.locator(".candidate-name").inner_text()
    candidates.first.click()
    expect(page.locator("#story .taken")).to_have_text([first])
    page.get_by_role("button", name="Take the likeliest").press("Enter")
    expect(page.locator("#story .taken")).to_have_count(2)
    expect(page.locator("#grown")).to_contain_text("gives the same logits as one run over the whole text")
    assert given_in(page)["took"].split(",")[0] == str(given["ids"][0])
    page.get_by_role("button", name="One back").click()
    expect(page.locator("#story .taken")).to_have_text([first])
    page.fill("#text", "The queen")
    page.locator("#run-button").click()
    expect(page.locator("#story .taken")).to_have_count(0)


def test_sizes_stand_beside_a_published_model_and_the_address_keeps_the_choice(visit):
    page = visit("inside/size?preset=gpt3&reach=512")
    cards = page.locator("#sizes")
    expect(cards).to_contain_text("GPT-3 175B has 174,604,259,328 parameters")
    expect(cards).to_contain_text("one text of 512 tokens")

    page.get_by_role("textbox", name="Published model to compare with").click()
    page.get_by_role("option", name="Mixtral 8x7B").click()

    expect(cards).to_contain_text("of which a token uses 12,879,925,248")
    waits_for_address(page, preset="mixtral-8x7b", reach="512")


def test_from_the_model_to_a_step_of_a_block(visit):
    page = visit("inside?model=attnlens/tiny-llama&text=The+keys+are+on+the+table.")
    boxes = page.locator("#model-diagram .box.opens")
    expect(boxes.filter(has_text="Feed-forward")).to_have_count(1)
    expect(page.locator("#kinds .is-opened")).to_contain_text("Decoder")

    page.locator(".sight .looks").nth(3).click()
    expect(page.locator(".sight-words")).to_contain_text("(position 3) can see 4 of")
    waits_for_address(page, at="3")

    boxes.filter(has_text="Feed-forward").click()
    expect(page.locator("#block-summary")).to_contain_text("recomputes to")
    assert given_in(page)["model"] == "attnlens/tiny-llama"
    page.locator("#block-tokens .token-chip").nth(4).click()
    expect(page.locator("#block-summary")).to_contain_text("at 4 on")
    waits_for_address(page, at="4")
    box = page.locator('#block-diagram [data-key="feed-forward"]')
    box.focus()
    page.keyboard.press("Enter")
    step = page.locator("#step-feed-forward")
    expect(step).to_have_class("card step-card is-open")
    expect(step).to_be_in_viewport()
    expect(step).to_contain_text("SwiGLU")
    waits_for_address(page, part="feed-forward")

    choose_layer(page, "layer 2")
    expect(page.locator("#block-summary")).to_contain_text("Layer L2, at 4 on")
    expect(step).to_have_class("card step-card is-open")
    page.go_back()
    expect(page.locator("#block-summary")).to_contain_text("Layer L0, at 4 on")


def choose_layer(page: Any, label: str) -> None:
    page.locator("#block-layer").click()
    page.get_by_role("option", name=label, exact=True).click()


def test_hands_turn_in_the_browser_and_only_their_distance_counts(visit):
    import attnlens
    from attnlens.heads import Head
    from attnlens.steps.rotation import find_rotations, rotated_pair

    lens = attnlens.load("attnlens/tiny-llama")
    run = lens.capture(TEXT)
    pair = rotated_pair(run, Head(1, 1), 7, 2, find_rotations(lens)[1])
    scores = [f"{value:.4f}".replace("-", "−") for value in pair.scores(torch.tensor([-5, -8])).tolist()]
    page = visit(f"inside/positions?model=attnlens/tiny-llama&text={quote(TEXT)}&head=L1H1&query=7&key=2")
    said, dials = page.locator("#places-score"), page.locator("#places-dials .dial")
    expect(said).to_contain_text(f"5 apart: score {scores[0]} logits, as the model has it")
    expect(dials).to_have_count(16)
    hand = dials.first.locator(".hand.query").get_attribute("x2")
    sums = dials.locator("strong").all_inner_texts()

    page.locator("#places-along [role=slider]").focus()
    page.keyboard.press("ArrowRight")

    expect(said).to_contain_text(f"at 8 asks “keys” at 3, 5 apart: score {scores[0]} logits; in the text")
    assert dials.first.locator(".hand.query").get_attribute("x2") != hand
    assert dials.locator("strong").all_inner_texts() == sums
    page.locator("#places-apart [role=slider]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(said).to_contain_text(f"8 apart: score {scores[1]} logits")
    waits_for_address(page, along="1", apart="3")
    page.fill("#places-words", "queen sees king")
    expect(page.locator("#places-order")).to_contain_text("what 'king' attends to, in two orders")
    page.locator(".sections a", has_text="Masks").click()
    expect(page.locator("#mask-own")).to_contain_text("Causal: layers 0–2")
    expect(page.locator("#mask-padding")).to_contain_text("no weight at all")
    assert given_in(page)["head"] == "L1H1"


def test_a_reader_steps_through_one_head_and_then_looks_at_all_of_them(visit):
    page = visit("inside/head?model=attnlens/tiny-llama&head=L2H1&text=The+keys+to+the+cabinet+are+on+the+table.")
    summary, told = page.locator("#steps-summary"), page.locator("#steps-board .told-place")
    expect(summary).to_contain_text("torch's scaled_dot_product_attention (recomputes to")
    expect(page.locator("#steps-board .is-later")).to_have_count(0)

    page.locator("#steps-tokens .token-chip", has_text="cabinet").click()
    expect(summary).to_contain_text("L2H1 at 'cabinet', token 5")
    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    page.keyboard.press("Home")
    expect(told).to_contain_text("through the head's matrix W_Q")
    assert page.locator("#steps-board td.is-later").count() > 100
    for word in ("offers a key", "turned pair by pair", "dimension by dimension", "added up", "÷ √32", "are hidden"):
        page.keyboard.press("ArrowRight")
        expect(told).to_contain_text(word)
    expect(page.locator("#steps-board tr.is-masked")).to_have_count(5)
    page.keyboard.press("ArrowRight")
    expect(told).to_contain_text("the row sums to")
    weights = [
        float(text)
        for text in page.locator("#steps-board .weight[data-column=weights] .weight-number").all_inner_texts()
    ]
    assert sum(weights) == pytest.approx(1, abs=0.005)
    waits_for_address(page, head="L2H1", at="5", step="weights")
    page.go_back()
    expect(told).to_contain_text("are hidden")

    page.fill("#text", "The queen gives the boy a book.")
    page.locator("#run-button").click()
    expect(page.locator("#steps-tokens")).to_contain_text("queen")
    expect(told).to_contain_text("are hidden")

    page.locator(".sections").get_by_role("link", name="All heads").click()
    expect(page.locator("#beside-board .head-name")).to_have_text(["L2H0", "L2H1", "L2H2", "L2H3"])
    page.locator("#beside-board .looked", has_text="boy").first.click()
    expect(page.locator("#beside-summary")).to_contain_text("at 'boy'")
    page.get_by_role("button", name="L2H3").click()
    expect(page.locator("#beside-board tr.is-chosen")).to_contain_text("L2H3")
    expect(page.locator("#beside-split .split-head")).to_have_count(4)
    waits_for_address(page, head="L2H3")


def test_from_a_kind_of_head_to_the_head_on_its_sentence(visit):
    page = visit("inside/kinds")
    card = page.get_by_role("region", name="Verb and object")
    expect(card).to_contain_text("attnlens probe all -m attnlens/tiny-gpt2")

    card.get_by_role("link", name="tiny-gpt2 L2H0").first.click()

    expect(page.locator("#summary")).to_contain_text("attnlens/tiny-gpt2")
    expect(page.locator(".head-title").first).to_have_text("L2H0")
    assert given_in(page)["text"]
