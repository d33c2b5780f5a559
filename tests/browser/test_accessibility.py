"""Every page, light and dark, by the rules of axe-core: no finding that is serious or critical."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from at_the_page import expect, is_settled

pytestmark = pytest.mark.browser

PAGES = {
    "?query=3&key=1&details=1": "#drawer .facts",
    f"compare?against_text={quote('the dogs bark')}": "#pair .heatmaplayer image",
    "heads": "#page .card",
    "stream": "#page .figure .main-svg",
    "intervene?off=L0H1&cut=3-1": "#outcome .figure .main-svg",
    "inside": "#model-diagram svg",
    "inside/head?at=3&step=weights": "#steps-board .board",
    "inside/heads?at=3": "#beside-board .board",
    "inside/positions": ".inside-page .figure .main-svg",
    "inside/masks": ".inside-page .figure .main-svg",
    "inside/generation": ".inside-page .card",
    "inside/size": ".inside-page .figure .main-svg",
    "inside/kinds": ".inside-page .card",
    "inside/block?part=attention": "#step-feed-forward .figure .main-svg",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_serious_finding(visit, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = visit(f"{path}{'&' if '?' in path else '?'}head=L1H2", color_scheme=scheme)
    page.locator(PAGES[path]).first.wait_for(state="attached")
    expect(page.locator("#summary")).to_contain_text("self-check passed")
    is_settled(page)

    found = axe.Axe().run(page).response["violations"]

    serious = {
        each["id"]: [node["html"][:200] for node in each["nodes"]]
        for each in found
        if each["impact"] in ("serious", "critical")
    }
    assert serious == {}
