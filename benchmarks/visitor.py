"""A person at the Explore page, as a real browser: what is drawn when, what is asked of the server, what is sent."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

PATIENCE_MS = 60_000
QUIET_S = 0.6  # without a drawing or a request: nothing more will come
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

# Notes the moment of every drawing, of the last key and of the last click. The two pictures write attributes of their
# canvas when they have drawn; the map has its numbers once it has a legend.
_WATCH = """
window.seen = { map: [], links: [], key: 0, click: 0 };
new MutationObserver((records) => {
  const legend = document.getElementById("head-map-legend");
  for (const { target } of records) {
    if (target.closest("#links")) window.seen.links.push(performance.now());
    if (target.closest("#head-map") && legend.childElementCount) window.seen.map.push(performance.now());
  }
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-row", "data-cell"] });
addEventListener("keydown", (event) => { window.seen.key = event.timeStamp; }, true);
addEventListener("click", (event) => { window.seen.click = event.timeStamp; }, true);
"""
_COUNT_NODES = """() => {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let n = 1;
  while (walker.nextNode()) n += 1;
  return n;
}"""
_START_FRAMES = """() => {
  window.frames_at = [];
  const tick = (at) => { window.frames_at.push(at); window.ticking = requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
_END_FRAMES = "() => { cancelAnimationFrame(window.ticking); return window.frames_at; }"


@dataclass
class Traffic:
    """What has gone over the wire since it was last emptied."""

    asked: list[Any] = field(default_factory=list)  # playwright requests
    n_open: int = 0
    latest: float = 0.0  # when something was last asked or answered
    bytes_by_kind: dict[str, int] = field(default_factory=dict)


class Visitor:
    """One page in one window."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(_WATCH)
        self.traffic = Traffic()
        self._listen(context)

    def opens(self, address: str) -> float:
        """Milliseconds from navigation until map, numbers and lines of a head are drawn."""
        self.page.goto(address, wait_until="commit")
        self.page.wait_for_function("() => window.seen.map.length && window.seen.links.length")
        return float(self.page.evaluate("Math.max(window.seen.map[0], window.seen.links[0])"))

    def runs(self, text: str) -> float:
        """Milliseconds from the click on Run until map and numbers of the new text are drawn for good."""
        self.page.fill("#text", text)
        self.is_quiet()
        self._forget()
        self.page.click("#run-button")
        self.page.wait_for_function("() => window.seen.map.length")
        self.is_quiet()
        return float(self.page.evaluate("window.seen.map.at(-1) - window.seen.click"))

    def presses(self, key: str) -> tuple[float, int]:
        """Milliseconds from a key until the next head is drawn, and the requests that it caused, then or later."""
        self._forget()
        self.page.keyboard.press(key)
        self.page.wait_for_function("() => window.seen.links.length")
        took = float(self.page.evaluate("window.seen.links[0] - window.seen.key"))
        self.is_quiet()
        return took, len(self.traffic.asked)

    def frames(self, seconds: float) -> list[float]:
        """Milliseconds of every frame while the page is scrolled, and while the pointer runs over its pictures."""
        page, size = self.page, self.page.viewport_size
        page.evaluate(_START_FRAMES)
        until, step = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            if time.monotonic() < until - seconds / 2:
                page.mouse.wheel(0, 120 if step % 20 < 10 else -120)
            else:
                place = (37 * step % 997) / 997, (53 * step % 499) / 499
                page.mouse.move(size["width"] * (0.2 + 0.75 * place[0]), size["height"] * (0.15 + 0.8 * place[1]))
            step += 1
        at = page.evaluate(_END_FRAMES)
        return [later - earlier for earlier, later in pairwise(at)]

    def count_nodes(self) -> int:
        """Nodes of the document, texts and comments included."""
        return int(self.page.evaluate(_COUNT_NODES))

    def main_thread_ms(self) -> float:
        """Processor time of the page's main thread since navigation, which a busy machine stretches least."""
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    def is_quiet(self) -> None:
        """Wait until nothing is asked, answered or drawn any more."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < until:
            self.page.wait_for_timeout(50)
            drawn = self.page.evaluate("performance.now() - Math.max(0, ...window.seen.map, ...window.seen.links)")
            rests = time.monotonic() - self.traffic.latest
            if not self.traffic.n_open and min(drawn / 1000, rests) > QUIET_S:
                return
        raise TimeoutError("the page does not come to rest")

    def close(self) -> None:
        """Close the page."""
        self.page.close()

    def _forget(self) -> None:
        self.page.evaluate("Object.assign(window.seen, { map: [], links: [] })")
        self.traffic.asked.clear()

    def _listen(self, context: Any) -> None:
        traffic = self.traffic

        def ask(request: Any) -> None:
            traffic.asked.append(request)
            traffic.n_open += 1
            traffic.latest = time.monotonic()

        def end(_request: Any) -> None:
            traffic.n_open -= 1
            traffic.latest = time.monotonic()

        self.page.on("request", ask)
        self.page.on("requestfinished", end)
        self.page.on("requestfailed", end)
        self._devtools = devtools = context.new_cdp_session(self.page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        devtools.send("Network.enable")
        kinds: dict[str, str] = {}

        def received(event: dict[str, Any]) -> None:
            kind = kinds.get(event["requestId"], "?")
            traffic.bytes_by_kind[kind] = traffic.bytes_by_kind.get(kind, 0) + int(event["encodedDataLength"])

        devtools.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: event["type"]}))
        devtools.on("Network.loadingFinished", received)


def chromium() -> str | None:
    """Where a Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("ATTNLENS_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browsing() -> Iterator[Any]:
    """A Chromium of playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*_ARGUMENTS, "--no-first-run"])
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any) -> Iterator[Visitor]:
    """A visitor with an empty cache."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    yield Visitor(context)
    context.close()
