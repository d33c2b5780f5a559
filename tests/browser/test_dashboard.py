"""The dashboard in a real browser, served by a real process: what a person does, and what must never happen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from at_the_page import (
    N_HEADS,
    N_LAYERS,
    SENTENCE,
    cell_of,
    expect,
    given_in,
    hover,
    is_drawn,
    shows_head,
    waits_for_address,
)

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=alert(1)>"


def eager_attention(model: Path, text: str) -> Any:
    """[layer head query key] from transformers' own eager code: no line of attnlens takes part."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    eager = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    with torch.no_grad():
        return torch.cat(eager(**tokenizer(text, return_tensors="pt"), output_attentions=True).attentions)


def test_the_page_opens_with_a_run(visit, model):
    page = visit()

    is_drawn(page)

    assert f"{N_LAYERS} layers × {N_HEADS} heads" in page.inner_text("#summary")
    assert page.title() == "attnlens"
    assert page.input_value("#text") == SENTENCE
    waits_for_address(page, model=str(model), text=SENTENCE)


def test_a_typed_sentence_is_run_and_put_into_the_address(visit):
    page = visit()
    is_drawn(page)

    page.fill("#text", "she saw dogs")
    page.press("#text", "Control+Enter")

    waits_for_address(page, text="she saw dogs")
    expect(page.locator("#strongest")).to_contain_text("dogs")
    expect(page.locator("#strongest")).not_to_contain_text("cabinet")


def test_a_click_on_the_map_shows_that_head(visit):
    page = visit()
    is_drawn(page)

    hovered = hover(page, "#head-map", 2, 1)
    page.mouse.click(*cell_of(page, "#head-map", 2, 1))

    assert hovered.startswith("L2H1")
    shows_head(page, "L2H1")
    waits_for_address(page, head="L2H1")


def test_the_number_on_hover_is_the_models_own(visit, model):
    weights = eager_attention(model, SENTENCE)
    n_tokens = weights.shape[-1]
    page = visit("?head=L1H2&tab=matrix")
    shows_head(page, "L1H2")
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
    page.wait_for_timeout(300)

    for query, key in [(3, 1), (1, 3), (n_tokens - 1, 0)]:
        shown = hover(page, "#matrix", query, key)

        assert f"weight {weights[1, 2, query, key]:.4f}" in shown, (query, key, shown)
        page.mouse.move(5, 5)
        page.wait_for_timeout(300)


def test_the_strongest_links_are_the_models_own(visit, model):
    weights = eager_attention(model, SENTENCE)[1, 2]
    page = visit("?head=L1H2")

    shows_head(page, "L1H2")
    is_drawn(page)

    expect(page.locator("#strongest tbody tr").first).to_contain_text(f"{weights.max():.4f}")


def test_a_link_restores_the_view_and_a_reload_keeps_it(visit):
    page = visit(f"?text={quote('the dogs bark')}&head=L2H3&metric=max&words=1&hide_special=1&threshold=0.3&tab=matrix")

    for _ in range(2):
        shows_head(page, "L2H3")
        expect(page.locator("#matrix-caption")).to_contain_text("left out")
        assert page.input_value("#text") == "the dogs bark"
        assert page.input_value("#metric") == "largest weight"
        assert page.is_checked("#hide-special")
        assert page.is_visible("#matrix")
        assert given_in(page) | {"model": ""} == {
            "model": "", "text": "the dogs bark", "head": "L2H3", "metric": "max", "words": "1", "hide_special": "1",
            "threshold": "0.3", "tab": "matrix",
        }  # fmt: skip
        page.reload()


def test_back_and_forward_walk_through_the_heads(visit):
    page = visit("?head=L0H1")
    shows_head(page, "L0H1")
    is_drawn(page)
    for head in ("L0H2", "L0H3"):
        page.click("#next-head")
        shows_head(page, head)
        waits_for_address(page, head=head)

    for step, head in [("go_back", "L0H2"), ("go_back", "L0H1"), ("go_forward", "L0H2")]:
        getattr(page, step)()

        shows_head(page, head)
        waits_for_address(page, head=head)


def test_heads_are_reached_by_keyboard_alone(visit):
    page = visit("?head=L0H1")
    shows_head(page, "L0H1")
    is_drawn(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"
    for _ in range(12):  # the head picker, its links and the map's menu come first
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "head-map-frame":
            break

    for key, head in [
        ("ArrowDown", "L1H1"),
        ("ArrowRight", "L1H2"),
        ("Home", "L1H0"),
        ("ArrowLeft", "L1H0"),
        ("End", "L1H3"),
    ]:
        page.keyboard.press(key)

        shows_head(page, head)


def test_labels_and_evidence_appear_when_results_are_loaded(visit, results):
    page = visit("?head=L1H2")
    shows_head(page, "L1H2")
    is_drawn(page)

    page.set_input_files("#upload input[type=file]", str(results))

    expect(page.locator("#head-labels")).to_contain_text("previous-token")
    expect(page.locator("#evidence")).to_contain_text("0.81 [0.75, 0.88]")
    page.locator("#evidence .forest .main-svg").first.wait_for(state="attached")
    waits_for_address(page, results="upload-")
    page.get_by_text("Examples").last.click()
    expect(page.locator("#evidence .word.to")).to_have_text(HOSTILE)


def test_a_file_that_is_no_result_is_refused_in_the_page(visit, tmp_path):
    page = visit()
    is_drawn(page)
    (tmp_path / "other.json").write_text('{"schema": "something else"}')

    page.set_input_files("#upload input[type=file]", str(tmp_path / "other.json"))

    expect(page.locator("#notice")).to_contain_text("attnlens.heads/1")


def test_hostile_text_is_text(visit):
    page = visit(f"?text={quote(HOSTILE)}&head=L0H0")
    shows_head(page, "L0H0")
    is_drawn(page)

    assert page.input_value("#text") == HOSTILE
    assert page.locator("img[src='x']").count() == 0
    page.get_by_role("tab", name="Matrix").click()
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")
    page.press("#matrix-table-summary", "Enter")  # a click could miss it: the figure above is still growing
    expect(page.locator("#matrix-table tbody tr").nth(1)).to_contain_text("<")
    page.get_by_text("Words", exact=True).click()
    waits_for_address(page, words="1")
    page.wait_for_timeout(300)


def test_an_error_is_one_line_and_the_rest_keeps_working(visit):
    page = visit("?head=L0H1")
    shows_head(page, "L0H1")
    is_drawn(page)

    page.fill("#text", "word " * 400)
    page.click("#run-button")

    expect(page.locator("#notice")).to_contain_text("tokens")
    page.click("#next-head")
    shows_head(page, "L0H2")
    page.fill("#text", "the dogs bark")
    page.click("#run-button")
    waits_for_address(page, text="the dogs bark")
    expect(page.locator("#notice")).to_have_count(0)


def test_a_link_to_an_unlisted_model_waits_for_the_visitor(visit):
    page = visit("?model=org/unknown&text=hello")

    expect(page.locator("#notice")).to_contain_text("press Run")

    assert page.input_value("#other-model") == "org/unknown"
    assert page.locator("#stage.is-empty").count() == 1


def test_bertviz_runs_in_its_frame_and_cannot_leave_it(visit):
    page = visit("?head=L1H2&tab=classic")

    frame = page.frame_locator("#classic iframe")

    frame.locator("svg").first.wait_for(state="attached")
    assert page.locator("#classic iframe").get_attribute("sandbox") == "allow-scripts"
    for view in ("Model", "Neuron"):
        page.get_by_text(f"{view} view").click()
        waits_for_address(page, bertviz=view.lower())
        expect(page.locator("#classic iframe")).to_have_attribute("title", f"BertViz {view.lower()} view of L1H2")
        frame.locator("svg rect").first.wait_for(state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_toggle(visit, scheme):
    page = visit("?head=L0H1", color_scheme=scheme)
    is_drawn(page)
    other = {"light": "dark", "dark": "light"}[scheme]

    def is_dark() -> bool:
        red = re.search(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0]
        return int(red) < 128

    assert is_dark() is (scheme == "dark")
    page.get_by_label("Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", other)
    page.wait_for_timeout(500)
    assert is_dark() is (other == "dark")


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_fits_its_window(visit, width):
    page = visit("?head=L0H1", viewport={"width": width, "height": 850})
    is_drawn(page)

    for tab in ("Matrix", "Links"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """[...document.querySelectorAll(".card, .rail-part, .figure, .controls > *")]
           .filter(part => part.getBoundingClientRect().right > window.innerWidth + 1).map(part => part.className)"""
    )
    assert outside == []
    assert page.evaluate(
        """[...document.querySelectorAll(".drawing canvas")].filter(canvas => canvas.offsetParent)
           .every(canvas => canvas.getBoundingClientRect().right
                            <= canvas.parentElement.getBoundingClientRect().right + 1)"""
    )


def test_every_control_and_picture_has_a_name(visit):
    page = visit()
    is_drawn(page)

    unnamed = page.evaluate(
        """() => [...document.querySelectorAll(
                "input, select, textarea, button, a[href], summary, [role=img], [role=figure], img")]
            .filter((part) => part.getClientRects().length && !part.closest("[aria-hidden=true]"))
            .filter((part) => ![part.ariaLabel, part.alt, part.title, part.textContent,
                ...[...(part.labels || [])].map((label) => label.textContent),
                document.getElementById(part.getAttribute("aria-labelledby"))?.textContent,
            ].some((name) => (name || "").trim()))
            .map((part) => part.outerHTML.slice(0, 200))"""
    )

    assert unnamed == []
    assert page.locator("h1").count() == 1
