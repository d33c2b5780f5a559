"""The commands that the project's own texts tell a reader to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


def console_lines(page: Path) -> list[str]:
    """Commands in the page's fenced blocks: lines of `console`, `sh` and `bash` blocks, prompts removed."""
    blocks = re.findall(r"^```(?:console|sh|bash|shell)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.strip() and not line.startswith("#")]


def commands_of(program: str) -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for line in console_lines(page):
            words = shlex.split(line, comments=True)
            if words and words[0] == program:
                found.append((f"{page.name}: {line}", words[1:]))
    return found
