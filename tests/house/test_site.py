"""The documentation builds without a warning, holds every page, and asks no other host for anything."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", folder / "trees"]
    done = subprocess.run([*command, root / "docs", folder / "html"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_built_and_can_be_reached(site, root):
    names = {page.stem for page in (root / "docs").glob("*.md")}
    index = (site / "index.html").read_text(encoding="utf-8")

    assert names
    assert [name for name in sorted(names - {"index"}) if f'href="{name}.html"' not in index] == []


def test_the_reference_has_the_public_names_with_their_shapes(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", page)

    assert all(
        f'id="{name}"' in page for name in ("attnlens.load", "attnlens.Lens.capture", "attnlens.Capture.attention")
    )
    assert "head query key" in text


def test_pages_load_nothing_from_another_host(site):
    loaded = [
        address
        for page in site.glob("*.html")
        for address in re.findall(
            r'<(?:script|img|link|iframe)[^>]+(?:src|href)="([^"]+)"', page.read_text(encoding="utf-8")
        )
    ]

    assert loaded
    assert [address for address in loaded if re.match(r"(?:https?:)?//", address)] == []
