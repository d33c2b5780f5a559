"""Comparing and exporting in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from at_the_page import SENTENCE, expect, given_in, is_drawn, shows_head, waits_for_address

pytestmark = pytest.mark.browser

OTHER = "The keys to the cabinets are on the chair"
PAIR = "#pair .heatmaplayer image"


def approximately(rows: list[list[float]]) -> list:
    return [pytest.approx(row) for row in rows]


def test_another_text_is_compared_and_the_address_keeps_it(visit):
    page = visit("?head=L1H2")
    is_drawn(page)

    page.get_by_role("link", name="Compare").click()
    expect(page.locator("#apart")).to_contain_text("Nothing is compared yet")
    page.fill("#against-text", OTHER)
    page.keyboard.press("Tab")

    page.locator(PAIR).nth(2).wait_for(state="attached")
    waits_for_address(page, head="L1H2", against_text=OTHER)
    expect(page.locator("#apart")).to_contain_text("only in the second: cabinets chair")
    page.reload()
    page.locator(PAIR).nth(2).wait_for(state="attached")
    assert page.input_value("#against-text") == OTHER
    page.go_back()
    expect(page.locator("#apart")).to_contain_text("Nothing is compared yet")
    page.go_back()
    is_drawn(page)
    shows_head(page, "L1H2")


def test_the_head_that_is_picked_is_the_head_that_is_compared(visit):
    page = visit(f"compare?head=L1H2&against_text={quote(OTHER)}")
    expect(page.locator("#pair")).to_contain_text("L1H2 over")

    page.click("#next-head")

    expect(page.locator("#pair")).to_contain_text("L1H3 over")


def test_a_cell_is_the_same_cell_in_all_pictures(visit, model):
    import attnlens
    from attnlens.compare import compare_runs

    lens = attnlens.load(str(model))
    both = compare_runs(lens.capture(SENTENCE), lens.capture(OTHER))
    first, second = (weights.tolist() for weights in both.maps("L1H2"))
    words = both.rows.labels
    page = visit(f"compare?head=L1H2&against_text={quote(OTHER)}")
    page.locator(PAIR).nth(2).wait_for(state="attached")
    page.locator("#pair-cell").scroll_into_view_if_needed()
    box = page.locator("#pair .nsewdrag").nth(1).bounding_box()

    def told(row: int, column: int) -> str:
        return f"“{words[row]}” to “{words[column]}”: first {first[row][column]:.4f}, second {second[row][column]:.4f}"

    for share in (0.3, 0.33):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * 0.4)
    expect(page.locator("#pair .hovertext")).to_have_count(3)
    page.mouse.click(box["x"] + box["width"] * 0.33, box["y"] + box["height"] * 0.4)
    expect(page).to_have_url(re.compile(r"cell=\d+-\d+"))
    row, column = map(int, given_in(page)["cell"].split("-"))
    expect(page.locator("#pair-cell")).to_contain_text(told(row, column))
    page.focus("#pair-pictures")
    page.keyboard.press("ArrowRight")
    waits_for_address(page, cell=f"{row}-{column + 1}")
    page.reload()
    expect(page.locator("#pair-cell")).to_contain_text(told(row, column + 1))
    expect(page.locator("#pair .shapelayer path")).to_have_count(9)
    page.focus("#pair-pictures")
    page.keyboard.press("Escape")
    expect(page.locator("#pair-cell")).to_contain_text("Point at a cell")


def test_what_is_exported_is_what_is_shown(visit):
    import attnlens

    page = visit("?head=L1H2&words=1")
    is_drawn(page)
    saved: dict[str, Path] = {}
    for name in ("The run (.attn)", "This head's weights (CSV)", "This head's weights (JSON)", "This run as a report"):
        page.locator(".menu > summary").click()
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        saved[download.value.suggested_filename] = Path(download.value.path())
        expect(page.get_by_role("link", name=name)).to_be_hidden()

    run = attnlens.open(saved["attnlens-run.attn"])
    weights = run.attention(head="L1H2", words=True)
    table = list(csv.reader(io.StringIO(saved["attnlens-head.csv"].read_text())))
    document = json.loads(saved["attnlens-head.json"].read_text())
    assert run.text == SENTENCE
    assert [[float(cell) for cell in row[1:]] for row in table[1:]] == approximately(weights.tolist())
    assert document["weights"] == approximately(weights.tolist())
    assert document["head"] == "L1H2"
    assert re.search(r"<title>[^<]*attnlens", saved["attnlens-report.html"].read_text())


def test_the_pictures_are_saved_as_vectors(visit):
    page = visit(f"compare?head=L1H2&against_text={quote(OTHER)}")
    page.locator(PAIR).nth(2).wait_for(state="attached")

    page.locator(".menu > summary").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()

    assert Path(download.value.path()).read_text().startswith("<svg")
    assert download.value.suggested_filename == "attnlens-L1H2-1.svg"
