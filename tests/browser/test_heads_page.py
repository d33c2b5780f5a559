"""The list of heads, the page of one head, and a probe started from the page, in a real browser."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from at_the_page import SENTENCE, expect, waits_for_address

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(chromium, model, results, tmp_path_factory) -> Iterator[str]:
    """The address of a running `attnlens serve` with a probe result, "results", and a folder for probes of its own."""
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "dashboards", SENTENCE, "-m", str(model), "--port", "0", "--results", str(results)]
    command += ["--jobs", str(folder / "jobs"), "--cache", str(folder / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
    process.terminate()
    process.communicate(timeout=20)


def rows(page) -> list[str]:
    """Heads that the grid shows, in its order."""
    found = page.eval_on_selector_all(
        "#heads-grid .ag-center-cols-container .ag-row",
        "rows => rows.map(row => [Number(row.getAttribute('row-index')), row.getAttribute('row-id')])",
    )
    return [head for _, head in sorted(found)]


def test_from_the_list_to_a_head_and_back_by_keyboard(visit, results):
    page = visit(f"heads?results={Path(results).parent.name}&head=L0H1")
    expect(page.locator("#heads-facts")).to_contain_text("of 12 heads")
    expect(page.locator('#heads-grid [row-id="L1H2"] [col-id="score"]')).to_have_text("0.81")

    page.fill("#heads-find", "previous")
    expect(page.locator("#heads-grid .ag-center-cols-container .ag-row")).to_have_count(1)
    waits_for_address(page, find="previous")
    page.locator('#heads-grid [row-id="L1H2"] [col-id="head"]').focus()
    page.keyboard.press("Enter")

    expect(page.locator(".head-page .head-title")).to_have_text("L1H2")
    expect(page).to_have_url(re.compile(r"/head/L1H2\?"))
    picture = page.locator(".arcs img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 50
    expect(page.locator(".similar").first.locator("a")).to_have_count(6)
    page.locator("#next-head").click()
    expect(page.locator(".head-page .head-title")).to_have_text("L1H3")
    assert urlsplit(page.url).path == "/head/L1H3"
    page.go_back()
    expect(page.locator(".head-page .head-title")).to_have_text("L1H2")
    expect(page.locator("#open-head")).to_be_hidden()
    page.go_back()
    expect(page.locator("#open-head")).to_be_visible()
    expect(page.locator("#heads-grid .ag-center-cols-container .ag-row")).to_have_count(1)
    assert page.input_value("#heads-find") == "previous"


def test_the_grid_sorts_and_is_saved_as_it_stands(visit, results):
    page = visit(f"heads?results={Path(results).parent.name}&show=unclassified")
    expect(page.locator("#heads-grid .ag-center-cols-container .ag-row")).to_have_count(10)

    header = page.locator('#heads-grid .ag-header-cell[col-id="layer"] .ag-header-cell-label')
    header.click()
    header.click()
    expect(page.locator('#heads-grid .ag-center-cols-container .ag-row[row-index="0"]')).to_have_attribute(
        "row-id", re.compile("^L2")
    )
    shown = rows(page)
    with page.expect_download() as download:
        page.click("#heads-export")

    saved = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert [row["Head"] for row in saved] == shown
    assert [row["Layer"] for row in saved] == sorted((row["Layer"] for row in saved), reverse=True)


def test_a_probe_is_started_watched_cancelled_and_removed(visit, model):
    page = visit(f"heads?model={quote(str(model))}")
    expect(page.locator("#heads-facts")).to_contain_text("Nothing has been tested")

    page.click("#job-start")
    expect(page.locator(".job-says")).to_have_text(re.compile("Starting|Opening|Reading|Counting"))
    page.reload()
    page.get_by_role("button", name=re.compile("^Cancel random-bert-grammar")).click()
    expect(page.locator(".job-says")).to_have_text(re.compile(r"^Cancelled.*Continue goes on from there\.$"))
    expect(page.get_by_role("button", name=re.compile("^Continue"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Remove")).click()

    expect(page.locator("#jobs")).to_contain_text("Probes that you start appear here")
