"""Put what `attnlens COMMAND --help` prints into docs/cli.md, between its markers; a test holds the page to it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
BLOCK = re.compile(r"(<!-- help: (?P<command>[a-z-]*) -->\n```text\n)(?:(?!```).)*(```\n)", re.DOTALL)


def help_of(command: str) -> str:
    """The help text of a command, or of attnlens itself for an empty name, as a terminal of 80 columns shows it."""
    from attnlens.cli import main

    os.environ["COLUMNS"] = "80"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*filter(None, [command]), "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def renewed(page: str) -> str:
    """`page` with every help block as it is today."""
    return BLOCK.sub(lambda match: f"{match[1]}{help_of(match['command'])}\n{match[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
