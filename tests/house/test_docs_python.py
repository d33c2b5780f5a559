"""The Python of the documentation runs as printed, each page from top to bottom, in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from documents import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, tmp_path):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))

    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(blocks)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_capture_is_among_the_pages():
    assert "capture.md" in [page.name for page in PAGES]
