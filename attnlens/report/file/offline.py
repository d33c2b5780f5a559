"""Proof that a report needs nothing: it is opened in a real browser with the network off, and watched."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlens.errors import OutputError, UsageError

__all__ = ["OfflineCheck", "check_offline"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run")
_MOST_MS = 120_000
_OPEN_ALL = "for (const part of document.querySelectorAll('details')) part.open = true"
_NEEDS = (
    "--offline-check needs a browser: pip install playwright, and a Chromium by 'playwright install chromium' or the "
    "system's packages (ATTNLENS_CHROMIUM names its path)"
)


@dataclass(frozen=True)
class OfflineCheck:
    """What a browser saw of a report, with the network off and every part of it opened.

    Attributes:
        requests: addresses that the page asked for, beside itself.
        dialogs: messages that it showed.
        errors: what it logged as errors or warnings.
        ready: whether it drew itself.
        n_nodes: elements of the page when it was ready, before its tables were opened.
    """

    requests: tuple[str, ...]
    dialogs: tuple[str, ...]
    errors: tuple[str, ...]
    ready: bool
    n_nodes: int

    @property
    def passed(self) -> bool:
        """Whether the page drew itself and did nothing else."""
        return self.ready and not (self.requests or self.dialogs or self.errors)

    def require(self, path: Path) -> None:
        """Refuse a page that did not pass.

        Raises:
            OutputError: what it did.
        """
        if self.passed:
            return
        seen = [f"asked for {url[:100]}" for url in self.requests]
        seen += [f"showed {text[:100]!r}" for text in self.dialogs] + [f"logged {text[:200]!r}" for text in self.errors]
        raise OutputError(f"{path} did not pass the offline check: it {'; '.join(seen) or 'never drew itself'}.")


def check_offline(path: str | Path) -> OfflineCheck:
    """Open a page from disk in Chromium with the network off, open all of its parts, and say what it did.

    Raises:
        UsageError: there is no browser; the message says how to install one.
        OutputError: the browser could not be started or did not open the page.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise UsageError(f"{_NEEDS}; playwright is not installed.") from None
    try:
        with sync_playwright() as playwright:
            browser = _launched(playwright)
            try:
                return _watched(browser, Path(path).resolve())
            finally:
                browser.close()
    except Error as error:
        raise OutputError(f"the browser could not open {path}: {str(error).splitlines()[0][:200]}.") from error


def _launched(playwright: Any) -> Any:
    own = playwright.chromium.executable_path
    found = os.environ.get("ATTNLENS_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and not Path(own).exists():
        raise UsageError(f"{_NEEDS}; no Chromium was found.")
    as_root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    return playwright.chromium.launch(executable_path=found, args=[*_ARGUMENTS, *as_root])


def _watched(browser: Any, path: Path) -> OfflineCheck:
    requests: list[str] = []
    dialogs: list[str] = []
    errors: list[str] = []

    def dismissed(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_default_timeout(_MOST_MS)
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", dismissed)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(path.as_uri())
    page.wait_for_timeout(200)
    ready = page.locator("html[data-ready]").count() == 1
    n_nodes = int(page.evaluate("document.querySelectorAll('*').length"))
    page.evaluate(_OPEN_ALL)
    page.wait_for_timeout(200)
    elsewhere = [url for url in requests if url.partition("#")[0] != path.as_uri()]
    return OfflineCheck(tuple(elsewhere), tuple(dialogs), tuple(errors), ready, n_nodes)
