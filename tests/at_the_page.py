"""What a person at the page does and waits for, as functions of a playwright page."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

SENTENCE = "The keys to the cabinet are on the table"
N_LAYERS, N_HEADS = 3, 4
PATIENCE_MS = 60_000  # two busy cores


def is_local(address: str, server: str) -> bool:
    return address.startswith((server, "data:", "blob:", "about:"))


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    return expect(locator)


def shows_head(page: Any, head: str) -> None:
    expect(page.locator("#head-title")).to_have_text(head, timeout=PATIENCE_MS)


def given_in(page: Any) -> dict[str, str]:
    """The address of the page as a mapping."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def waits_for_address(page: Any, **expected: str) -> None:
    from playwright.sync_api import expect

    pattern = ".*".join(
        re.escape(f"{name}={quote(value, safe='').replace('%20', '+')}") for name, value in expected.items()
    )
    expect(page).to_have_url(re.compile(pattern), timeout=PATIENCE_MS)


def cell_of(page: Any, plot: str, row: int, column: int, n_rows: int, n_columns: int) -> tuple[float, float]:
    """The middle of a cell of a drawn heatmap, in pixels of the window."""
    area = page.locator(f"{plot} .nsewdrag")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    x = box["x"] + box["width"] * (column + 0.5) / n_columns
    return x, box["y"] + box["height"] * (row + 0.5) / n_rows


def hover(page: Any, plot: str, *cell: int) -> str:
    page.mouse.move(*cell_of(page, plot, *cell))
    label = page.locator(f"{plot} .hoverlayer .hovertext").first
    label.wait_for(state="attached")
    return label.text_content()


def is_drawn(page: Any) -> None:
    page.locator("#head-map .heatmaplayer image").first.wait_for(state="attached")
    page.locator("#links .textpoint").first.wait_for(state="attached")
