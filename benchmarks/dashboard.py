"""How fast the dashboard is, seen from a real browser: each figure against its goal.

Starts the servers on this machine and a Chromium. A busy machine slows browser and server alike: the load is printed,
and with the first picture the processor time of the page's main thread, which says how fast an idle machine could be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import checks
import crowd
import visitor
from checks import Check
from served import BareForward, save_large_model, sentence, served, two_workers

import attnlens

MODEL, N_TOKENS, SHORT_TEXT = "attnlens/minilm", 32, "The keys to the cabinet are on the table."
FIRST_PICTURE_MS, RETURN_MS = 1500, 1500
FORWARDS, BESIDES_MS = 1.3, 250  # a new sentence: so many times the bare forward pass, and so much more
SWITCH_MS = 100
NODES, MEGABYTES, FRAMES = 5000, 3.0, 30
USERS, CLICK_MS = 20, 1000
ROUNDS, CROWD_ROUNDS, FRAME_SECONDS = 5, 12, 6.0


def main() -> int:
    """Measure everything, print the table, keep it as JSON."""
    options = _options()
    if visitor.chromium() is None:
        print("not measured: there is no Chromium (tools/chromium.sh installs Debian's)")
        return 0
    start, load = time.monotonic(), os.getloadavg()
    found: list[Check] = []
    print(checks.HEADING)
    with visitor.browsing() as browser:
        for part in _parts(browser, options):
            print("\n".join(checks.lines(part)), flush=True)
            found += part
        head = _head(browser.version, load, time.monotonic() - start)
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"head": head, "checks": [one.to_json() for one in found]}, indent=2) + "\n")
        print(f"kept in {options.json}")
    return 0


def _parts(browser: Any, options: argparse.Namespace) -> Iterator[list[Check]]:
    """The measurements, each while its server runs."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with served(options.model, SHORT_TEXT, home) as address:
            yield first_pictures(browser, address, options.rounds)
            yield new_sentences(browser, address, options.model, options.rounds)
            yield head_switches(browser, address, 2 * options.rounds)
        with served(str(save_large_model(home / "bert-12x12")), sentence(0, 512), home) as address:
            yield large_map(browser, address)
        with two_workers(options.model, home, _free_port()) as address:
            yield twenty_users(browser, address)


def first_pictures(browser: Any, address: str, rounds: int) -> list[Check]:
    """A visitor who has never been here, and one who comes back; the server has made the run."""
    first, again, busy = [], [], []
    with visitor.visiting(browser) as warming:
        warming.opens(address)
    for _ in range(rounds):
        with visitor.visiting(browser) as one:
            first.append(one.opens(address))
            busy.append(one.main_thread_ms())
            again.append(one.opens(address))
    note = f"{statistics.median(busy):,.0f} ms of processor time of the page's main thread"
    return [
        checks.of_rounds("first picture, empty cache", first, FIRST_PICTURE_MS, note=note),
        checks.of_rounds("first picture, on return", again, RETURN_MS),
    ]


def new_sentences(browser: Any, address: str, model: str, rounds: int) -> list[Check]:
    """A click on Run after another text was typed; in turns with the bare forward pass over the same text."""
    bare, took, forwards, busy = BareForward(model), [], [], []
    with visitor.visiting(browser) as one:
        one.opens(address)
        for at in range(rounds + 1):
            text = sentence(at, N_TOKENS - 2)
            milliseconds, n_tokens = bare.milliseconds(text)
            assert n_tokens == N_TOKENS, n_tokens
            before = one.main_thread_ms()
            updated = one.runs(text)
            if at:  # the round before warms both up
                took.append(updated)
                forwards.append(milliseconds)
                busy.append(one.main_thread_ms() - before)
    bare.close()
    forward = statistics.median(forwards)
    goal = FORWARDS * forward + BESIDES_MS
    note = f"goal: {FORWARDS} x {forward:.1f} ms of the bare forward pass + {BESIDES_MS} ms; "
    note += f"{statistics.median(busy):,.0f} ms of processor time of the page's main thread"
    return [checks.of_rounds(f"new sentence of {N_TOKENS} tokens to its map", took, goal, note=note)]


def head_switches(browser: Any, address: str, rounds: int) -> list[Check]:
    """Arrow keys on the map."""
    with visitor.visiting(browser) as one:
        one.opens(address)
        one.is_quiet()
        one.page.focus("#head-map-frame")
        keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]
        found = [one.presses(keys[at % 4]) for at in range(rounds)]
    return [
        checks.of_rounds("another head by an arrow key", [took for took, _ in found], SWITCH_MS),
        Check("requests of that", max(n for _, n in found), 0, "requests"),
    ]


def large_map(browser: Any, address: str) -> list[Check]:
    """12 x 12 heads at 512 tokens."""
    with visitor.visiting(browser) as one:
        one.opens(address)
        one.is_quiet()
        sent = {kind: n / 1e6 for kind, n in one.traffic.bytes_by_kind.items()}
        own = sum(n for kind, n in sent.items() if kind not in ("Script", "Stylesheet"))
        nodes = one.count_nodes()
        times = one.frames(FRAME_SECONDS)
    slow = statistics.quantiles(times, n=20)[-1]
    kept = f"and {sum(sent.values()) - own:.1f} MB of scripts and styles, the same on every visit"
    return [
        Check("12 x 12 heads, 512 tokens: nodes", nodes, NODES, "nodes"),
        Check("... sent", 1000 * own, 1000 * MEGABYTES, "kB", note=kept),
        Check(
            "... frames while scrolling and hovering",
            1000 * len(times) / sum(times),
            FRAMES,
            "frames/s",
            at_least=True,
            note=f"19 of 20 frames within {slow:.0f} ms",
        ),
    ]


def twenty_users(browser: Any, address: str) -> list[Check]:
    """Clicks on runs that are there, all at the same moment, on two worker processes."""
    texts = [sentence(at, n_words) for at, n_words in enumerate((8, 16, 30))]
    with visitor.visiting(browser) as one:
        clicks = crowd.record(one, address, texts)
    crowd.click_at_once(address, clicks, USERS, 2)  # both workers have seen every run
    answered = crowd.click_at_once(address, clicks, USERS, CROWD_ROUNDS)
    took = [1000 * one.seconds for one in answered]
    errors = [error for one in answered for error in one.errors]
    n_calls = statistics.mean(len(click.calls) for click in clicks)
    note = f"{len(took)} clicks of {n_calls:.1f} requests on average; median {statistics.median(took):,.0f} ms"
    return [
        Check(
            f"{USERS} users at once, 95 of 100 clicks", statistics.quantiles(took, n=20)[-1], CLICK_MS, "ms", note=note
        ),
        Check("... errors", len(errors), 0, "errors", note="; ".join(sorted(set(errors))[:3])),
    ]


def _head(chromium: str, load: Sequence[float], seconds: float) -> dict[str, object]:
    return {
        "attnlens": attnlens.__version__,
        "Chromium": chromium,
        "Python": platform.python_version(),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "load before": f"{load[0]:.1f}",
        "load after": f"{os.getloadavg()[0]:.1f}",
        "seconds": round(seconds),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="the model of all but the large map")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
