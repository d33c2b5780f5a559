"""A served dashboard and a real browser: what every page's tests share."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from at_the_page import PATIENCE_MS, SENTENCE, is_local


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with a random BERT."""
    from random_models import BUILDERS

    folder = tmp_path_factory.mktemp("models") / "random-bert"
    model, tokenizer = BUILDERS["bert"]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def results(model, tmp_path_factory) -> Path:
    """A `heads.json` for it: L1H2 is labelled."""
    from sample_results import heads_document

    import attnlens

    file = tmp_path_factory.mktemp("results") / "heads.json"
    file.write_text(json.dumps(heads_document(attnlens.load(str(model)).anatomy, "L1H2", "L2H0")))
    return file


@pytest.fixture(scope="module")
def server(chromium, model) -> Iterator[str]:
    """The address of a running `attnlens serve`."""
    command = [sys.executable, "-m", "dashboards", SENTENCE, "-m", str(model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    yield re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Any]:
    """One Chromium for all tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install attnlens[dev]")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*arguments, "--no-first-run"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context_with(browser) -> Iterator[Any]:
    """`context_with(**options)`: a browser context, kept for the next test that asks for the same, with its cache."""
    contexts: dict[str, Any] = {}

    def find(**options: Any) -> Any:
        key = repr(sorted(options.items()))
        if key not in contexts:
            contexts[key] = browser.new_context(**({"viewport": {"width": 1440, "height": 1000}} | options))
        return contexts[key]

    yield find
    for context in contexts.values():
        context.close()


@pytest.fixture
def visit(context_with, server):
    """`visit("?head=L1H2", **options)` opens the page; in the end nothing has complained or asked elsewhere."""
    pages, problems = [], []

    def open_page(query: str = "", **options: Any) -> Any:
        page = context_with(**options).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: is_local(request.url, server) or problems.append(request.url))
        page.on("response", lambda answer: answer.status < 400 or problems.append(f"{answer.status} {answer.url}"))
        page.goto(server + query)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert problems == []
