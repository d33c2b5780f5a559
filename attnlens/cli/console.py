"""What commands print with: results to stdout, everything else to stderr, and nothing that a token could make act.

Strings are printed as they stand: no markup, no emoji codes, no wrapping. Colours come from `rich.text.Text`
objects that the commands build, and only reach a terminal, never a pipe.
"""

from __future__ import annotations

import json as json_module
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "fail",
    "json",
    "make_streams_safe",
    "out",
    "progress",
    "quiet_libraries",
    "say",
    "status",
    "stdout_width",
]

# What a terminal could act on, or a reader cannot see: C1 controls, zero-width, direction and separator characters.
_UNSAFE = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")

_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def out(*things: str | RenderableType) -> None:
    """Print results to stdout: strings as they stand, rich's renderables as tables, text, ..."""
    for thing in things:
        if isinstance(thing, str):
            sys.stdout.write(f"{thing}\n")
        else:
            _print(thing)


def say(text: str) -> None:
    """Print a message to stderr."""
    sys.stderr.write(f"{text}\n")


def fail(message: str) -> None:
    """Print an error as the one line that a user sees: `attnlens: message`."""
    from attnlens.capture.tokens import printable

    say(f"attnlens: {printable(' '.join(message.split()))}")


def json(document: Any) -> None:
    """Print `document` as JSON to stdout, readable in any script; what a terminal could act on is escaped.

    Raises:
        ValueError: `document` holds NaN or infinity; what was not measured is null.
    """
    text = json_module.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


@contextmanager
def progress(description: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while the block runs; yields `callback(done, total)`. Silent when stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_rich(sys.stderr), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner with a message on stderr while the block runs; silent when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    with _rich(sys.stderr).status(Text(message)):
        yield


def stdout_width() -> int:
    """Columns that stdout offers: the terminal's, or COLUMNS, or 80."""
    return _rich(sys.stdout).width


@contextmanager
def quiet_libraries(*, unless: bool = False) -> Iterator[None]:
    """Keep the libraries' own log lines, bars and warnings off the terminal while the block runs.

    What the user has set in the environment stays as it is.

    Args:
        unless: True leaves them alone, for whoever looks for a bug.
    """
    if unless:
        yield
        return
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def make_streams_safe() -> None:
    """A character that the terminal's encoding lacks is printed as an escape instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _print(thing: RenderableType) -> None:
    """Print in colour to a terminal; elsewhere without the blanks that pad rich's lines."""
    screen = _rich(sys.stdout)
    if screen.is_terminal:
        screen.print(thing)
        return
    with screen.capture() as printed:
        screen.print(thing)
    out("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _rich(stream: Any) -> Console:
    """A console on whatever the stream is now (tests and pipes replace it); it interprets nothing in strings."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)
