"""Report files and classic pages in a real browser, from disk: nothing is requested, nothing acts, all is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_models import FAMILIES
from report_samples import HOSTILE, TEXT, load_run, made_run, results_document

pytestmark = pytest.mark.browser

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

# What tests ask a page: an element, and what its matrix looks like.
HELP = """
globalThis.byId = (id) => document.getElementById(id);
globalThis.drawn = () => document.querySelector("#matrix canvas").toDataURL();
"""


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

    def point_at(self, picture: str, x: float, y: float) -> str:
        """Move the pointer over a canvas and read what stands beside it."""
        canvas = self.page.locator(f"#{picture} canvas")
        canvas.scroll_into_view_if_needed()
        canvas.hover(position={"x": x - 2, "y": y - 2})
        canvas.hover(position={"x": x, "y": y})
        return str(self.page.locator(f"#{picture} .al-tip").inner_text())

    def place(self, picture: str) -> dict[str, float]:
        """Where a canvas has its cells."""
        found = self.page.locator(f"#{picture} canvas").evaluate("canvas => ({...canvas.dataset})")
        return {name: float(value) for name, value in found.items()}


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
        page.add_init_script(HELP)
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


def weights_read(opened: Opened) -> np.ndarray:
    """The matrix as the page's own table writes it; NaN where a key is not visible."""
    opened.page.evaluate("byId('all-weights').open = true")
    opened.wait_until("byId('all-weights').querySelector('tbody') !== null")
    rows = opened.page.evaluate(
        "[...document.querySelectorAll('#all-weights tbody tr')].map(r => [...r.cells].slice(1).map(c => c.innerText))"
    )
    return np.array([[float(cell.replace("–", "nan")) for cell in row] for row in rows])


@pytest.mark.parametrize("name", ["run_html", "heads_html"])
def test_a_report_follows_the_systems_colours(request, visit, name):
    from attnlens.report.palette import THEMES

    opened = visit(request.getfixturevalue(name), color_scheme="dark")

    for scheme in ("dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == rgb(THEMES[scheme].paper)


def test_the_pictures_change_with_the_theme_and_back(visit, run_html):
    opened = visit(run_html, color_scheme="dark")
    opened.page.evaluate("globalThis.dark = drawn()")

    opened.page.emulate_media(color_scheme="light")
    opened.wait_until("drawn() !== dark")
    opened.page.click("#theme")

    opened.wait_until("drawn() === dark")


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


@pytest.mark.parametrize("address", ["#L1H2", "#l1h2"])
def test_the_page_opens_the_head_that_its_address_names(visit, run_html, run, address):
    opened = visit(run_html, address)

    assert opened.page.locator("#head [data-opened]").inner_text() == "L1H2"
    np.testing.assert_allclose(weights_read(opened), run.attention(head="L1H2").numpy(), atol=6e-5)


def test_the_select_switches_the_head_everywhere(visit, run_html, run):
    opened = visit(run_html)

    opened.page.select_option("#which", "L2H3")

    np.testing.assert_allclose(weights_read(opened), run.attention(head="L2H3").numpy(), atol=6e-5)
    assert opened.page.url.endswith("#L2H3")
    strongest = float(opened.page.locator("#strongest tbody tr").first.locator("td").last.inner_text())
    assert strongest == pytest.approx(float(run.attention(head="L2H3").max()), abs=6e-5)
    assert "Layer 2, head 3" in opened.page.locator("#matrix-caption").inner_text()


def test_a_click_on_the_map_opens_that_head(visit, run_html):
    opened = visit(run_html)
    place = opened.place("head-map")

    at = {"x": place["left"] + 3.5 * place["cell"], "y": place["top"] + 1.5 * place["cell"]}
    opened.page.locator("#head-map canvas").click(position=at)

    assert opened.page.input_value("#which") == "L1H3"
    assert opened.page.url.endswith("#L1H3")


def test_hover_gives_the_exact_number(visit, run_html, run):
    opened = visit(run_html, "#L0H3")
    place = opened.place("matrix")

    shown = opened.point_at("matrix", place["left"] + 4.5 * place["cell"], place["top"] + 2.5 * place["cell"])

    weight = float(run.attention(head="L0H3")[2, 4])
    assert shown == f"from {run.tokens[2].label} (2)\nto {run.tokens[4].label} (4)\nweight {weight:.4f}"


def test_the_keyboard_reaches_every_head_and_every_control(visit, run_html, run):
    opened = visit(run_html, "#L0H0")
    seen = {"L0H0"}

    opened.page.focus("#head-map")
    for layer in range(3):
        for _ in range(3):
            opened.page.keyboard.press("ArrowRight" if layer % 2 == 0 else "ArrowLeft")
            seen.add(opened.page.input_value("#which"))
        opened.page.keyboard.press("ArrowDown")
        seen.add(opened.page.input_value("#which"))

    assert seen == {str(head) for head in run.anatomy.heads()}
    opened.page.focus("#links")
    opened.page.keyboard.press("ArrowDown")
    assert opened.page.locator("#links [role=status]").inner_text().startswith(f"{run.tokens[0].label} (0) attends to")
    for target in ("#metric", "#which", "#before", "#threshold", "#theme", "#matrix", "details > summary"):
        opened.page.focus(target)
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Shift+Tab")
        assert opened.page.evaluate("document.activeElement.matches(':focus-visible')"), target


def test_hidden_cells_are_gaps(visit):
    from attnlens.report.html import run_report

    run = load_run("gpt2", "the keys")

    opened = visit(run_report(run, precision=8), "#L1H2")

    n = len(run.tokens)
    read = weights_read(opened)
    np.testing.assert_array_equal(np.isnan(read), ~np.tril(np.ones((n, n), dtype=bool)))
    np.testing.assert_allclose(np.nan_to_num(read), run.attention(head="L1H2").numpy(), atol=0.5 / 255 + 6e-5)


def test_the_threshold_and_the_metric_change_the_pictures(visit, run_html):
    opened = visit(run_html)
    before = opened.page.locator("#links-caption").inner_text()

    opened.page.locator("#threshold").fill("0.4")
    opened.page.select_option("#metric", "entropy")

    assert "0.40 or more" in opened.page.locator("#links-caption").inner_text() != before
    assert opened.page.locator("#head-map-legend").inner_text().startswith("Frame: entropy")


def test_a_long_text_is_shown_by_its_parts_in_few_nodes(visit):
    from attnlens.report.html import run_report

    n = 512
    recent = np.exp(-0.5 * np.abs(np.subtract.outer(np.arange(n), np.arange(n))))
    weights = np.broadcast_to(recent / recent.sum(1, keepdims=True), (3, 4, n, n))
    opened = visit(run_report(made_run(weights, [f"w{i}" for i in range(n)])))

    assert opened.page.evaluate("document.querySelectorAll('*').length") < 5000
    opened.page.focus("#overview")
    opened.page.keyboard.press("ArrowDown")
    shown = opened.page.locator("#overview [role=status]").inner_text()
    assert shown == "tokens 32 to 95 attend to tokens 0 to 63"
    place = opened.place("matrix")
    said = opened.point_at("matrix", place["left"] + 0.5 * place["cell"], place["top"] + 0.5 * place["cell"])
    step = np.rint(weights[0, 0, 32, 0] * 255) / 255
    assert said == f"from w32 (32)\nto w0 (0)\nweight {step:.4f}"


def test_a_measure_is_drawn_in_place_of_attention(visit):
    import attnlens
    from attnlens.report.html import run_report

    run = attnlens.load("attnlens/tiny-gpt2").capture("The keys to the cabinet", points=())
    opened = visit(run_report(run, measures=["rollout"]), "#L0H2")

    opened.page.select_option("#shown", "rollout")

    mixed = (run.attention(0).numpy().mean(0) + np.eye(len(run.tokens))) / 2  # Abnar and Zuidema 2020, equation 1
    np.testing.assert_allclose(np.nan_to_num(weights_read(opened)), mixed, atol=6e-5)
    opened.page.select_option("#which", "L2H0")
    assert opened.page.locator("#matrix-caption").inner_text().startswith("Rollout, layer 2")


def test_every_stack_of_an_encoder_decoder_is_there(visit):
    import attnlens
    from attnlens.report.html import run_report

    model, tokenizer = FAMILIES["bart"].build(), FAMILIES["bart"].tokenizer()
    run = attnlens.load(model=model, tokenizer=tokenizer).capture(source="the dogs bark", target="die Hunde", points=())
    opened = visit(run_report(run), "#L0H1")
    assert opened.page.input_value("#which") == "DL0H1"

    for letter in "EX":
        opened.page.select_option("#stack", letter)
        weights = run.attention(head=f"{letter}L0H0").numpy()
        np.testing.assert_allclose(np.nan_to_num(weights_read(opened)), weights, atol=6e-5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run_html", "heads_html"])
def test_a_report_has_no_serious_finding(request, visit, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    opened = visit(request.getfixturevalue(name), "#L1H2", color_scheme=scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    found = axe.Axe().run(opened.page).response["violations"]

    assert {each["id"]: each["nodes"] for each in found if each["impact"] in ("serious", "critical")} == {}


def test_the_toggle_changes_the_theme(visit, heads_html):
    from attnlens.report.palette import THEMES

    opened = visit(heads_html)

    opened.page.click("#theme")

    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == rgb(THEMES["dark"].paper)


def test_an_address_opens_the_evidence_of_a_head(visit, heads_html):
    opened = visit(heads_html, "#L1H2")

    assert opened.page.locator("#L1H2").get_attribute("open") is not None
    assert opened.page.locator("#L1H2 .forest circle").count() == 2
    opened.page.locator('.labels a[href="#L0H2"]').press("Enter")
    opened.page.wait_for_selector("#L0H2[open] .forest circle", state="attached")


def test_a_report_prints_in_full_and_in_light(visit, run_html, heads_html):
    for html, wanted in ((run_html, "Head"), (heads_html, "does obj")):
        opened = visit(html, color_scheme="dark")

        pdf = opened.page.pdf()

        assert pdf.startswith(b"%PDF-")
        assert wanted in opened.page.locator("body").inner_text() or opened.page.locator("details[open]").count() > 1


@pytest.mark.parametrize("name", ["run_html", "heads_html"])
def test_no_page_scrolls_sideways(request, visit, name):
    opened = visit(request.getfixturevalue(name), viewport={"width": 390, "height": 800})
    opened.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    for width in (390, 768, 1440):
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.page.wait_for_timeout(100)
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
    document["relations"][0]["score"] = -0.4  # a rank correlation can be
    object.__setattr__(run, "anatomy", parse_results(document).anatomy)

    opened = [visit(run_report(run)), visit(heads_report(parse_results(document), run), "#L0H2")]
    classic = visit(classic_page(run, "head"), ready="svg line")

    for page in opened:
        assert page.page.locator("img").count() == 0
        assert page.page.get_by_text(HOSTILE).count() > 0
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
