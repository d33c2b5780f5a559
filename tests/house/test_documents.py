"""What the project's own texts say is so: commands, options, targets and links exist, and no machine shows through."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from documents import PAGES, ROOT, commands_of

# Written in parts, so that this file does not contain what it looks for.
FOLDERS = re.compile(rb"(?<![\w.~}-])/(?:" + b"|".join([b"root", b"home", b"Users", b"work", b"tmp"]) + rb")/")
HOSTS = [
    b".".join(parts)
    for parts in ([b"pypi", b"org"], [b"python" + b"hosted", b"org"], [b"download", b"pytorch", b"org"])
]


@pytest.mark.parametrize(("where", "words"), commands_of("attnlens"))
def test_commands_in_the_documents_exist_with_their_options(where, words):
    from attnlens.cli.run import application

    commands = application().commands
    if words[0].startswith("-"):
        return
    assert words[0] in commands, where
    known = {
        option for parameter in commands[words[0]].params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}

    assert used <= known | {"--help", "-h", "--traceback"}, where


@pytest.mark.parametrize(("where", "words"), commands_of("make"))
def test_make_targets_in_the_documents_exist(where, words):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))

    assert {word for word in words if "=" not in word} <= targets, where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    targets = [link.split("#")[0] for pair in links for link in pair if link]
    relative = [target for target in targets if target and "://" not in target and not target.startswith("mailto:")]

    assert [target for target in relative if not (page.parent / target).exists()] == []


def test_the_help_in_the_documents_is_what_the_commands_print(monkeypatch):
    """When this fails: .venv/bin/python tools/help_blocks.py"""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(ROOT / "tools")
    import help_blocks

    from attnlens.cli.commands import GROUP
    from attnlens.cli.run import application
    from attnlens.plugins import installed

    own = ("attnlens.", "probes.", "dashboards.")
    plugged = {name for name, point in installed(GROUP).items() if not point.value.startswith(own)}
    page = help_blocks.PAGE.read_text(encoding="utf-8")

    assert page == help_blocks.renewed(page)
    assert {match["command"] for match in help_blocks.BLOCK.finditer(page)} == {"", *application().commands} - plugged


def test_the_cost_of_a_large_corpus_in_the_documents_is_what_the_rates_make_it(monkeypatch):
    """When this fails: .venv/bin/python tools/scale_table.py. By hand: a tenth of 36,000 words at 10 a second (two
    cores) or at 8 (taking in), walked through once at 100 a second, and 3,600 s: 450 + 36 + 3,600 s."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import scale_table

    page = scale_table.PAGE.read_text(encoding="utf-8")
    rates = scale_table.Rates(counted=5, taken_in=8, read=100, walks=1, after_s=3600, cores=2)

    assert page == scale_table.renewed(page)
    assert len(scale_table.BLOCK.findall(page)) == 1
    assert scale_table.hours(36_000, 10, rates) == pytest.approx((450 + 36 + 3600) / 3600)
    assert scale_table.most_cores(rates) == pytest.approx(1.6)


def project_files() -> list[Path]:
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [
        path
        for top in ("attnlens", "probes", "dashboards", "tests")
        for path in (ROOT / top).rglob("*.*")
        if path.is_file()
    ]


def test_no_file_names_a_folder_of_some_machine_or_a_package_host():
    found = []
    for path in project_files():
        content = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {match[0].decode()}" for match in FOLDERS.finditer(content)]
        found += [f"{path.relative_to(ROOT)}: {host.decode()}" for host in HOSTS if host in content]

    assert found == []


def test_the_search_for_machine_folders_finds_one():
    assert FOLDERS.search(b"see " + b"/" + b"home" + b"/me/x")
    assert not FOLDERS.search(b"src/homework/x")
