"""Report files and classic pages in a real browser, from disk: nothing is requested, nothing acts, all is drawn."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_samples import HOSTILE, TEXT, load_run, made_run, results_document

pytestmark = pytest.mark.browser

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
DRAWN = ".js-plotly-plot .plot .hm image, .js-plotly-plot .heatmaplayer image, .js-plotly-plot .heatmaplayer path"


@dataclass
class Opened:
    """A page with what it did."""

    page: Any
    requests: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def wait_until(self, expression: str) -> None:
        """Ask the page until it agrees; playwright's own waiting needs eval, which the page's policy forbids."""
        for _ in range(600):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"the page never came to {expression}")

    def figure(self, name: str) -> dict[str, Any]:
        """What a plot holds now."""
        found = self.page.evaluate(f"(({{data, layout}}) => JSON.stringify({{data, layout}}))(byId({name!r}))")
        return json.loads(found)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs playwright: pip install attnlens[dev]")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=[*ARGUMENTS, "--no-first-run"]
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Write a page to disk and open it; afterwards nothing may have been requested, asked or logged as an error."""
    opened: list[Opened] = []

    def go(html: str, anchor: str = "", *, ready: str = "[data-ready]", **options: Any) -> Opened:
        file = tmp_path / f"page{len(opened)}.html"
        file.write_text(html, encoding="utf-8")
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        page.set_default_timeout(120_000)  # a machine may be busy
        page.add_init_script("globalThis.byId = (id) => document.getElementById(id);")
        visited = Opened(page)
        page.on("request", lambda request: visited.requests.append(request.url))
        page.on("pageerror", lambda error: visited.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (visited.troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda message: visited.troubles.append(message.text) if message.type in {"error", "warning"} else None,
        )
        page.goto(file.as_uri() + anchor)
        page.wait_for_selector(ready, state="attached")
        opened.append(visited)
        return visited

    yield go
    for visited in opened:
        elsewhere = [url for url in visited.requests if not url.startswith(("file:", "data:", "blob:"))]
        assert elsewhere == []
        assert visited.troubles == []
        visited.page.close()


@pytest.fixture(scope="module")
def run() -> Any:
    return load_run("bert", TEXT)


@pytest.fixture(scope="module")
def run_html(run: Any) -> str:
    from attnlens.report.html import run_report

    return run_report(run)


@pytest.fixture(scope="module")
def heads_html(run: Any) -> str:
    from attnlens.report.html import heads_report
    from attnlens.report.results import parse_results

    return heads_report(parse_results(results_document(run.anatomy.to_json())))


def drawn_weights(opened: Opened) -> np.ndarray:
    return np.array(opened.figure("figure-matrix")["data"][0]["z"], dtype=float)


@pytest.mark.parametrize("name", ["run_html", "heads_html"])
def test_a_report_draws_itself_in_the_systems_colours(request, visit, name):
    from attnlens.report.palette import THEMES

    opened = visit(request.getfixturevalue(name), color_scheme="dark")
    map_name = "figure-map" if name == "run_html" else "figure-labels"

    for scheme in ("dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)
        colour = THEMES[scheme].surface
        opened.wait_until(f"byId('{map_name}').layout.paper_bgcolor === '{colour}'")
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb({}, {}, {})".format(*(int(THEMES[scheme].paper[i : i + 2], 16) for i in (1, 3, 5)))
        assert opened.page.locator(DRAWN).count() > 0


def test_the_page_opens_the_head_that_its_address_names(visit, run_html, run):
    opened = visit(run_html, "#L1H2")

    assert opened.page.locator("#head [data-opened]").inner_text() == "L1H2"
    np.testing.assert_allclose(drawn_weights(opened), run.attention(head="L1H2").numpy(), atol=1e-6)


def test_the_select_switches_the_head_everywhere(visit, run_html, run):
    opened = visit(run_html)

    opened.page.select_option("#which", "L2H3")

    np.testing.assert_allclose(drawn_weights(opened), run.attention(head="L2H3").numpy(), atol=1e-6)
    frame = opened.figure("figure-map")["layout"]["shapes"][0]
    assert (frame["x0"], frame["y0"]) == (2.5, 1.5)
    assert opened.page.url.endswith("#L2H3")
    strongest = float(opened.page.locator("#strongest tbody tr").first.locator("td").nth(2).inner_text())
    assert strongest == pytest.approx(float(run.attention(head="L2H3").max()), abs=5e-5)
    assert "Layer 2, head 3" in opened.page.locator("#figure-matrix-caption").inner_text()


def test_a_click_on_the_map_opens_that_head(visit, run_html):
    opened = visit(run_html)
    opened.page.locator("#figure-map").scroll_into_view_if_needed()
    box = opened.page.locator("#figure-map .nsewdrag").bounding_box()

    x, y = box["x"] + box["width"] * 3.5 / 4, box["y"] + box["height"] * 1.5 / 3  # row 1 of 3, column 3 of 4
    opened.page.mouse.move(x - 4, y - 4)
    opened.page.mouse.move(x, y)
    opened.page.wait_for_selector("#figure-map .hoverlayer .hovertext", state="attached")
    opened.page.mouse.click(x, y)

    opened.wait_until("byId('which').value === 'L1H3'")
    assert opened.page.url.endswith("#L1H3")


def test_hover_gives_the_exact_number(visit, run_html, run):
    opened = visit(run_html, "#L0H3")
    opened.page.locator("#figure-matrix").scroll_into_view_if_needed()
    box = opened.page.locator("#figure-matrix .nsewdrag").bounding_box()
    n = len(run.tokens)

    x, y = box["x"] + box["width"] * 4.5 / n, box["y"] + box["height"] * 2.5 / n  # query 2, key 4
    opened.page.mouse.move(x - 2, y - 2)
    opened.page.mouse.move(x, y)
    shown = opened.page.wait_for_selector("#figure-matrix .hoverlayer .hovertext", state="attached").text_content()

    weight = float(run.attention(head="L0H3")[2, 4])
    assert shown == f"from {run.tokens[2].label} (2)to {run.tokens[4].label} (4)weight {weight:.4f}"


def test_the_keyboard_reaches_everything(visit, run_html):
    opened = visit(run_html)

    opened.page.focus("#which")
    opened.page.keyboard.press("ArrowDown")
    opened.wait_until("byId('which').selectedIndex > 0")
    second = opened.page.input_value("#which")
    opened.page.focus("#before")
    opened.page.keyboard.press("Enter")

    assert opened.page.input_value("#which") != second
    for target in ("#metric", "#from", "#threshold", "#theme", "details > summary"):
        opened.page.focus(target)
        assert opened.page.evaluate("document.activeElement.matches(':focus-visible')")


def normal(value: Any) -> Any:
    """Numbers to 4 decimals, so that float32 read in two ways compares equal."""
    if isinstance(value, float):
        return round(value, 4)
    return [normal(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("query", [None, 3])
@pytest.mark.parametrize(("family", "head"), [("bert", "L2H0"), ("gpt2", "L1H1"), ("llama", "L3H2")])
def test_the_script_draws_what_the_figure_function_draws(visit, family, head, query):
    from attnlens.report import figures, views
    from attnlens.report.html import run_report

    run = load_run(family, "ab cd efg " * 7 if family == "llama" else "the keys")
    opened = visit(run_report(run), f"#{head}")
    if query is not None:
        opened.page.select_option("#from", str(query))

    drawn = opened.figure("figure-links")
    expected = json.loads(figures.token_links(views.pattern_view(run, head), query=query).to_json())

    for ours, theirs in zip(expected["data"], drawn["data"], strict=True):
        for name in ("x", "y", "text", "hovertext", "opacity"):
            assert normal(theirs.get(name, [])) == normal(plain(ours.get(name, []))), name
        assert theirs.get("textfont", {}).get("color") == ours.get("textfont", {}).get("color")
    assert drawn["layout"]["annotations"][2]["text"] == expected["layout"]["annotations"][2]["text"]


def plain(value: Any) -> Any:
    """A list, also where plotly wrote numbers as base64."""
    if isinstance(value, dict):
        import base64

        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"]).tolist()
    return value


def test_hidden_cells_are_gaps(visit):
    from attnlens.report.html import run_report

    run = load_run("gpt2", "the keys")

    opened = visit(run_report(run), "#L1H2")

    n = len(run.tokens)
    np.testing.assert_array_equal(np.isnan(drawn_weights(opened)), ~np.tril(np.ones((n, n), dtype=bool)))


def test_the_threshold_and_the_metric_change_the_pictures(visit, run_html):
    opened = visit(run_html)
    before = opened.figure("figure-links")["layout"]["annotations"][2]["text"]

    opened.page.locator("#threshold").fill("0.4")
    opened.page.select_option("#metric", "entropy")

    assert opened.figure("figure-links")["layout"]["annotations"][2]["text"] != before
    assert "0.40 or more" in opened.figure("figure-links")["layout"]["annotations"][2]["text"]
    assert opened.figure("figure-map")["data"][0]["text"][0][0].startswith("<br>entropy: ")


def test_the_toggle_changes_the_theme(visit, heads_html):
    opened = visit(heads_html)

    opened.page.click("#theme")

    from attnlens.report.palette import THEMES

    assert opened.figure("figure-labels")["layout"]["paper_bgcolor"] == THEMES["dark"].surface


def test_an_address_opens_the_evidence_of_a_head(visit, heads_html):
    opened = visit(heads_html, "#L1H2")

    opened.page.wait_for_selector("#forest-L1H2 .scatterlayer .point", state="attached")
    assert opened.page.locator("#L1H2").get_attribute("open") is not None


@pytest.mark.parametrize("name", ["run_html", "heads_html"])
def test_no_page_scrolls_sideways(request, visit, name):
    opened = visit(request.getfixturevalue(name), viewport={"width": 390, "height": 800})
    opened.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    for width in (390, 768, 1440):
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.page.wait_for_timeout(300)  # the page waits for the end of the resizing
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_texts_do_nothing(visit):
    from attnlens.report.classic import classic_page
    from attnlens.report.html import heads_report, run_report
    from attnlens.report.results import parse_results

    run = made_run(np.full((3, 4, 4, 4), 0.25), [HOSTILE, "<b>b</b>", "%{x}", "שלום"])
    document = results_document(run.anatomy.to_json())
    document["corpus"]["name"] = document["heads"][2]["labels"][0]["text"] = HOSTILE
    document["heads"][2]["labels"][0] |= {"label": HOSTILE, "baseline_name": HOSTILE}
    document["model"] |= {"model": HOSTILE}
    object.__setattr__(run, "anatomy", parse_results(document).anatomy)

    opened = [visit(run_report(run)), visit(heads_report(parse_results(document), run), "#L0H2")]
    classic = visit(classic_page(run, "head"), ready="svg line")

    for page in opened:
        assert page.page.locator("img").count() == 0
        assert page.page.get_by_text(HOSTILE).count() > 0
        assert page.page.locator(DRAWN).count() > 0
    assert classic.page.locator("img").count() == 0
    assert classic.page.get_by_text(HOSTILE).count() == 2


@pytest.mark.parametrize("view", ["head", "model"])
def test_bertvizs_views_draw_from_disk(visit, run, view):
    from attnlens.report.classic import classic_page

    opened = visit(classic_page(run, view), ready="svg line")

    n = len(run.tokens)
    assert opened.page.locator("svg line").count() == (1 if view == "head" else 3) * 4 * n * n
    assert opened.page.evaluate("[typeof d3, typeof jQuery, typeof require]") == ["undefined"] * 3


def test_several_views_in_one_notebook_keep_apart(visit, run):
    import attnlens

    head, model = (view(run, html_action="return") for view in (attnlens.head_view, attnlens.model_view))

    opened = visit(f"<!doctype html><meta charset=utf-8><body>{head}{head}{model}", ready="div:nth-of-type(3) svg")

    assert opened.page.locator("svg").count() == 3
    assert [opened.page.locator("select").nth(i).locator("option").count() for i in (0, 1)] == [3, 3]
    opened.page.locator("select").nth(1).select_option("2")
    assert opened.page.locator("select").nth(0).input_value() == "0"
