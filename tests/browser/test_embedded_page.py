"""The dashboard in other people's pages: below a path of their server, and in a notebook's frame."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from at_the_page import PATIENCE_MS, expect

pytestmark = pytest.mark.browser

MODEL, TEXT = "attnlens/tiny-gpt2", "The dogs bark."


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, str]]:
    """Addresses: the dashboard below a path of a server, and a page of that server with a notebook's frame in it."""
    from flask import Flask
    from werkzeug.serving import make_server

    from dashboards.app import DashboardConfig, create_app
    from dashboards.notebook import show

    shown = show(MODEL, TEXT)
    server = Flask("somebody")
    server.get("/notebook")(lambda: f"<!doctype html><link rel=icon href=data:,>{shown._repr_html_()}")
    create_app(DashboardConfig(model=MODEL, text=TEXT), server=server, prefix="/attn/")
    served = make_server("127.0.0.1", 0, server, threaded=True)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield {name: f"http://127.0.0.1:{served.server_port}/{name}" for name in ("attn/?tab=classic", "notebook")}
    shown.close()
    served.shutdown()
    served.server_close()


@pytest.fixture
def page(context_with) -> Iterator[Any]:
    """A page on which nothing has complained in the end."""
    page, problems = context_with().new_page(), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda answer: answer.status < 400 or problems.append(f"{answer.status} {answer.url}"))
    yield page
    page.close()
    assert problems == []


def test_pages_frames_and_addresses_stay_below_the_prefix(page, pages):
    page.goto(pages["attn/?tab=classic"])

    expect(page.locator("#summary")).to_contain_text("6 tokens")
    page.frame_locator("iframe.classic").locator("svg").first.wait_for(state="attached")
    page.get_by_role("link", name="Heads").click()
    page.wait_for_url("**/attn/heads?*")
    page.go_back()
    page.wait_for_url("**/attn/?*")


def test_a_notebooks_frame_shows_its_text(page, pages):
    page.goto(pages["notebook"])

    frame = page.frame_locator("iframe")
    expect(frame.locator("#summary")).to_contain_text("6 tokens")
    assert frame.locator("#text").input_value() == TEXT
