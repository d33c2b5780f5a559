"""Twenty users who click at the same moment: what a browser asks for at each click, recorded once and asked again."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from visitor import Visitor

PATIENCE_S = 60
_NOTICE = re.compile(rb'"notice":\{[^{}]*"hide":false')  # what the page says when something did not work


@dataclass(frozen=True)
class Call:
    """One request, as the browser sent it."""

    method: str
    path: str
    body: str | None


@dataclass(frozen=True)
class Click:
    """One thing that a person does, and what the browser asks for then; scripts and styles it has already."""

    name: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Answered:
    """How one click went: seconds until its last answer, and the answers that were refusals."""

    name: str
    seconds: float
    errors: tuple[str, ...]


def record(visitor: Visitor, address: str, texts: Sequence[str]) -> list[Click]:
    """Do each thing once in the browser, which makes the runs, too, and keep what it asked for."""
    page = visitor.page
    clicks = []

    def done(name: str) -> None:
        visitor.is_quiet()
        clicks.append(Click(name, tuple(_call(asked) for asked in visitor.traffic.asked if _counts(asked))))
        visitor.traffic.asked.clear()

    visitor.opens(address)
    done("opens the page")
    for text in texts:
        visitor.runs(text)
        done("runs a text")
    page.locator("#words").get_by_text("Words").click()
    done("asks for words")
    page.focus("#head-map-frame")
    page.keyboard.press("ArrowRight")
    done("chooses a head")
    page.get_by_role("link", name="Stream").click()
    done("opens Stream")
    return [click for click in clicks if click.calls]


def click_at_once(address: str, clicks: Sequence[Click], n_users: int, rounds: int) -> list[Answered]:
    """In each round every user does one thing; all begin at the same moment, each over a connection of its own."""
    together = threading.Barrier(n_users, timeout=PATIENCE_S)
    answered: list[Answered] = []

    def one_user(number: int) -> None:
        drawn = random.Random(number)
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S)
        for _ in range(rounds):
            together.wait()
            answered.append(_ask(connection, drawn.choice(clicks), address))
            connection.close()  # the server ends one that rests, as it likes

    users = [threading.Thread(target=one_user, args=(number,)) for number in range(n_users)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    return answered


def _ask(connection: http.client.HTTPConnection, click: Click, address: str) -> Answered:
    errors = []
    start = time.perf_counter()
    for call in click.calls:
        headers = {"Origin": address.rstrip("/"), "Content-Type": "application/json"} if call.body else {}
        try:
            connection.request(call.method, call.path, body=call.body, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            errors.append(f"{call.path[:60]}: {type(error).__name__}")
            continue
        if answer.status >= 400 or _NOTICE.search(said):
            errors.append(f"{call.path[:60]}: {answer.status}")
    return Answered(click.name, time.perf_counter() - start, tuple(errors))


def _counts(asked: Any) -> bool:
    return asked.resource_type not in ("script", "stylesheet", "font", "image")


def _call(asked: Any) -> Call:
    parts = urlsplit(asked.url)
    return Call(asked.method, parts.path + (f"?{parts.query}" if parts.query else ""), asked.post_data)
