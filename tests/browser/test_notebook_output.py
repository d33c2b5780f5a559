"""A notebook's output in a real browser: drawn, usable, asking for nothing, whatever the text is."""

from __future__ import annotations

import numpy as np
import pytest
from at_the_page import PATIENCE_MS
from report_samples import HOSTILE, made_run

# As strict as the page around an output may be: VS Code's notebooks allow inline scripts and little else.
OUTER = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@pytest.fixture
def shown(browser, tmp_path):
    """`shown(html)`: a page that holds outputs; in the end nothing has complained or asked elsewhere."""
    problems, pages = [], []

    def open_page(html: str):
        file = tmp_path / "notebook.html"
        policy = f'<meta http-equiv="Content-Security-Policy" content="{OUTER}">'
        file.write_text(f"<!doctype html><meta charset=utf-8>{policy}<body>{html}", encoding="utf-8")
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("file:", "about:")) or problems.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert problems == []


def test_outputs_are_drawn_side_by_side_and_a_head_can_be_chosen(shown):
    from attnlens.report.views import pattern_view

    weights = np.zeros((2, 2, 3, 3))
    weights[:, :, :, 0] = 1
    weights[1, 1] = np.eye(3)
    run = made_run(weights, [HOSTILE, "b", "c"])

    page = shown(run._repr_html_() + run._repr_html_() + pattern_view(run, "L0H0")._repr_html_())

    first = page.frame_locator("iframe").nth(0)
    assert first.locator("body").get_attribute("data-shown") == "L1H1"
    assert first.locator("canvas").count() == 3
    first.get_by_role("combobox").select_option("L0H1")
    assert first.locator("body").get_attribute("data-shown") == "L0H1"
    assert page.frame_locator("iframe").nth(1).locator("body").get_attribute("data-shown") == "L1H1"
    grid = first.locator("canvas").nth(0)
    grid.wait_for()
    left, top, cell = (float(grid.get_attribute(f"data-{name}")) for name in ("left", "top", "cell"))
    grid.click(position={"x": left + 1.5 * cell, "y": top + 1.5 * cell})
    assert first.locator("body").get_attribute("data-shown") == "L1H1"
    links = first.locator("canvas").nth(1)
    links.hover(position={"x": 8, "y": 40})
    assert HOSTILE in first.locator(".al-tip").nth(1).inner_text()


def test_bertvizs_views_are_drawn_in_the_same_notebook(shown):
    import attnlens

    run = made_run(np.full((2, 2, 3, 3), 1 / 3), [HOSTILE, "b", "c"])
    pair = attnlens.head_view(run, sentence_b_start=2, html_action="return")
    views = [attnlens.head_view(run, html_action="return"), attnlens.model_view(run, html_action="return"), pair]

    page = shown("".join(views))

    whole, model, parts = (page.locator('[id^="bertviz-"]').nth(at) for at in range(3))
    assert whole.locator("svg text", has_text=HOSTILE).count() == 2
    assert whole.locator("svg line").count() == 2 * 9
    assert model.locator("svg").count() >= 1
    parts.get_by_label("Attention").select_option("Sentence A -> Sentence B")
    assert parts.locator("svg text").all_text_contents() == [HOSTILE, "b", "c"]  # the left ones first
    assert parts.locator("svg line").count() == 2 * 2 * 1
