"""The README's commands run as printed, in its order, from an empty folder; so does its Python."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = Path(sys.executable).parent / "attnlens"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


def test_every_command_runs_as_printed(tmp_path: Path) -> None:
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "attnlens"]
    assert {words[0] for words in commands} == {"serve", "show", "probe", "report", "models", "capture", "doctor"}

    for words in commands:
        if words[0] == "serve":
            continue
        done = subprocess.run([PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (words, done.stderr)
        assert done.stdout, words

    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tiny-bert",
        "heads.html",
        "run.html",
        "a.attn",
        "a.html",
    }


def test_the_dashboard_answers_as_printed(tmp_path: Path) -> None:
    line = next(line for block in blocks("sh") for line in block.splitlines() if line.startswith("attnlens serve"))
    server = subprocess.Popen(
        [PROGRAM, *shlex.split(line)[1:], "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
        assert address is not None
        with urllib.request.urlopen(address[0], timeout=60) as answer:
            assert answer.status == 200
            assert "Content-Security-Policy" in answer.headers
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 130
        assert server.stdout is not None
        server.stdout.close()


def test_the_python_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "readme.py").write_text("\n".join(blocks("python")))

    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ
    )

    assert done.returncode == 0, done.stderr
