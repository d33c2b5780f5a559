"""Make the pictures of the dashboard in the README and the guides, each light and dark: stills, and a recording.

Needs Chromium (tools/chromium.sh) and the development tools. With --results the heads carry labels of a probe result.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
MODEL = "attnlens/minilm"
STILL = "The girl said that she had given the old book to her brother."
TYPED = "The keys to the cabinet are on the table."
STILL_SIZE, SIZE = (1440, 1000), (1440, 880)
NARROW = (390, 844)
# Pages of `/inside` in the guide -> size, and what they show.
INSIDE = {
    "inside-head": ("inside/head", SIZE, {"model": "attnlens/tiny-llama", "head": "L1H3", "at": "5", "step": "scaled"}),
    "inside-block": ("inside/block", SIZE, {"model": "attnlens/tiny-gpt2", "head": "L2H1", "at": "5"}),
    "inside-generation": ("inside/generation", NARROW, {"model": "attnlens/tiny-gpt2", "head": "L2H1"}),
    "inside-masks": ("inside/masks", NARROW, {"model": "attnlens/tiny-llama", "head": "L1H3"}),
}
MOST_BYTES = 1_500_000
REST_MS = 400  # the page has drawn what it was asked for
_POINTER = """() => {
  const pointer = document.createElement("div");
  pointer.style.cssText = "position:fixed;z-index:9999;width:18px;height:18px;margin:-9px 0 0 -9px;border-radius:50%;" +
    "border:2px solid #c2410c;background:#c2410c55;pointer-events:none;left:-99px";
  document.body.append(pointer);
  addEventListener("mousemove", (event) => {
    pointer.style.left = event.clientX + "px";
    pointer.style.top = event.clientY + "px";
  }, true);
}"""


class Recording:
    """Pictures of a page, each with the time that it stands."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._pictures: list[Image.Image] = []
        self._milliseconds: list[int] = []

    def keep(self, milliseconds: int) -> None:
        """The page as it is now."""
        self._pictures.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self._milliseconds.append(milliseconds)

    def goes_to(self, x: float, y: float, steps: int = 3, rest: int = 60) -> None:
        """Move the pointer there from where it is, in sight."""
        for step in range(1, steps + 1):
            self.page.mouse.move(*(a + (b - a) * step / steps for a, b in zip(self._at, (x, y), strict=True)))
            self.page.wait_for_timeout(40)
            self.keep(rest)
        self._at = (x, y)

    _at = (SIZE[0] / 2, SIZE[1] / 2)

    def save(self, path: Path) -> None:
        """As an animated picture that runs for ever."""
        first, *others = self._pictures
        first.save(
            path, save_all=True, append_images=others, duration=self._milliseconds, loop=0, lossless=True, method=4
        )
        seconds, size = sum(self._milliseconds) / 1000, path.stat().st_size
        print(f"{path.name}: {len(self._pictures)} pictures, {seconds:.1f} s, {size / 1000:,.0f} kB")  # noqa: T201
        assert size <= MOST_BYTES, "too large for a README"


def main() -> None:
    """Make all four."""
    options = _options()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as home:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        with _served(Path(home), options.results) as address:
            for scheme in ("light", "dark"):
                still(browser, address, scheme, options)
                record(browser, address, scheme)
                for name in INSIDE:
                    inside(browser, address, scheme, name)
        browser.close()


def still(browser: Any, address: str, scheme: str, options: argparse.Namespace) -> None:
    """The page with one head, as it stands."""
    page = _open(browser, address, scheme, STILL_SIZE, _view(STILL, options.head, options.results))
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(256).save(FOLDER / f"dashboard-{scheme}.png", optimize=True)
    page.close()


def inside(browser: Any, address: str, scheme: str, name: str) -> None:
    """A page of `/inside`; of a narrow one what stands below the rail."""
    path, size, view = INSIDE[name]
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(120_000)
    page.goto(f"{address}{path}?{urlencode({'text': TYPED} | view)}")
    page.locator(".inside-page .card").nth(1).wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(4 * REST_MS)
    if size == NARROW:
        page.locator(".inside-page .sections").evaluate("part => part.scrollIntoView()")
        page.wait_for_timeout(REST_MS)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(128).save(FOLDER / f"{name}-{scheme}.png", optimize=True)
    page.close()


def record(browser: Any, address: str, scheme: str) -> None:
    """Type a sentence, run it, walk through heads with the arrow keys, follow a token."""
    page = _open(browser, address, scheme, SIZE, _view(STILL, "L0H2", None))
    page.evaluate(_POINTER)
    recording = Recording(page)
    recording.keep(900)
    recording.goes_to(*_middle(page, "#text"))
    page.click("#text")
    page.keyboard.press("Control+A")
    recording.keep(250)
    for at, letter in enumerate(TYPED):
        page.keyboard.type(letter)
        if at % 3 == 2:
            recording.keep(90)
    recording.keep(250)
    recording.goes_to(*_middle(page, "#run-button"))
    page.click("#run-button")
    page.wait_for_timeout(60)
    recording.keep(120)
    _wait_until_drawn(page)
    recording.keep(900)
    page.focus("#head-map-frame")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        page.wait_for_timeout(REST_MS)
        recording.keep(420)
    for token in (4, 6, 7):
        recording.goes_to(*_token(page, token), steps=2)
        page.wait_for_timeout(REST_MS)
        recording.keep(800)
    recording.keep(900)
    recording.save(FOLDER / f"dashboard-{scheme}.webp")
    page.close()


def _view(text: str, head: str, results: Path | None) -> dict[str, str]:
    labels = {} if results is None else {"results": results.name, "metric": "labels"}
    return {"model": MODEL, "text": text, "head": head, "hide_special": "1"} | labels


def _open(browser: Any, address: str, scheme: str, size: tuple[int, int], view: dict[str, str]) -> Any:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(120_000)
    page.goto(f"{address}?{urlencode(view)}")
    _wait_until_drawn(page)
    return page


def _wait_until_drawn(page: Any) -> None:
    page.locator("#head-map canvas[data-cell]").wait_for()
    page.locator("#links canvas[data-row]").wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(4 * REST_MS)


def _middle(page: Any, place: str) -> tuple[float, float]:
    box = page.locator(place).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _token(page: Any, at: int) -> tuple[float, float]:
    """A token on the left of the links, in pixels of the window."""
    canvas = page.locator("#links canvas")
    edge, top, row = (float(canvas.get_attribute(f"data-{name}")) for name in ("left", "top", "row"))
    box = canvas.bounding_box()
    return box["x"] + edge - 12, box["y"] + top + row * (at + 0.5)


@contextmanager
def _served(home: Path, results: Path | None) -> Iterator[str]:
    command = [sys.executable, "-m", "dashboards", STILL, "-m", MODEL, "--port", "0"]
    command += [] if results is None else ["--results", str(results)]
    own = {"ATTNLENS_CACHE": str(home / "runs"), "ATTNLENS_JOBS": str(home / "jobs"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found, "the server did not start"
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


def _chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("ATTNLENS_CHROMIUM") or next(filter(None, map(shutil.which, names)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="what `attnlens probe -o` wrote, for the still")
    parser.add_argument("--head", default="L1H4", help="the head of the still")
    return parser.parse_args()


if __name__ == "__main__":
    main()
