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


def cell_of(page: Any, picture: str, row: int, column: int) -> tuple[float, float]:
    """The middle of a cell of a matrix, or of the map of heads, in pixels of the window."""
    canvas = page.locator(f"{picture} canvas")
    canvas.scroll_into_view_if_needed()
    left, top, cell = (float(canvas.get_attribute(f"data-{name}")) for name in ("left", "top", "cell"))
    box = canvas.bounding_box()
    return box["x"] + left + cell * (column + 0.5), box["y"] + top + cell * (row + 0.5)


def token_of(page: Any, side: str, at: int) -> tuple[float, float]:
    """A token of the token view, on the "left" or the "right", in pixels of the window."""
    canvas = page.locator("#links canvas")
    canvas.scroll_into_view_if_needed()
    edge, top, row = (float(canvas.get_attribute(f"data-{name}")) for name in (side, "top", "row"))
    box = canvas.bounding_box()
    return box["x"] + edge + (-12 if side == "left" else 12), box["y"] + top + row * (at + 0.5)


def hover(page: Any, picture: str, *cell: int) -> str:
    page.mouse.move(*cell_of(page, picture, *cell))
    return tip_of(page, picture)


def tip_of(page: Any, picture: str) -> str:
    """What is said beside the pointer."""
    tip = page.locator(f"{picture} .al-tip")
    tip.wait_for(state="visible")
    return tip.inner_text()


def is_drawn(page: Any) -> None:
    page.locator("#head-map canvas[data-cell]").wait_for(state="attached")
    page.locator("#links canvas[data-row]").wait_for(state="attached")


def is_settled(page: Any) -> None:
    """Nothing is being asked for any more, and no part of the page is dimmed while it is made."""
    page.wait_for_load_state("networkidle")
    expect(page.locator('[style*="opacity: 0.45"]')).to_have_count(0)
