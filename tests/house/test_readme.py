"""The commands of the README and of the first pages run as printed, in an empty folder; so does the README's Python."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, console_lines

README = ROOT / "README.md"
FIRST_PAGES = (README, ROOT / "docs" / "index.md", ROOT / "docs" / "start.md")
SCRIPTS = Path(sys.executable).parent


def commands() -> list[list[str]]:
    """Every `attnlens` command of these pages, as words; what stands on several runs once."""
    lines = [tuple(shlex.split(line, comments=True)) for page in FIRST_PAGES for line in console_lines(page)]
    return [list(words) for words in dict.fromkeys(lines) if words and words[0] == "attnlens"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_the_commands_run_in_order_and_leave_what_they_name(folder):
    needs_minilm = "attnlens/minilm"
    for words in commands():
        if words[1] == "serve" or needs_minilm in words:
            continue
        done = subprocess.run([SCRIPTS / words[0], *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
        assert done.stdout, shlex.join(words)
        if "-o" in words:
            assert (folder / words[words.index("-o") + 1]).exists(), shlex.join(words)


@pytest.mark.parametrize("words", [words for words in commands() if words[1] == "serve"], ids=shlex.join)
def test_the_dashboard_starts_and_stops(folder, words):
    command = [SCRIPTS / words[0], *words[1:], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert re.search(r"http://127\.0\.0\.1:\d+", line), err
    assert process.returncode == 130
    assert "Traceback" not in err


def test_the_python_runs(folder):
    (folder / "out").mkdir(exist_ok=True)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ,
    )

    assert blocks
    assert done.returncode == 0, done.stderr
