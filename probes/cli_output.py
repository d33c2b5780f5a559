"""What `attnlens probe` prints: results on stdout, everything else on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.capture.tokens import printable
from attnlens.cli import console

if TYPE_CHECKING:
    from probes.corpora.data import Corpus
    from probes.report import HeadReport

__all__ = ["print_families", "print_report", "tell"]


def print_families(as_json: bool) -> None:
    """The installed families."""
    with console.status("loading the families"):
        from probes.listing import draw_families, families

        entries = families()
    if as_json:
        console.json({"families": [asdict(entry) for entry in entries]})
        return
    console.out(*draw_families(entries, console.stdout_width()))


def tell(corpus: Corpus, left_out: Mapping[str, str]) -> None:
    """What should be known of the corpus, and the families that are left out on it."""
    from probes.corpora.sources import told

    for line in told(corpus):
        console.say(printable(line))
    for name, reason in left_out.items():
        console.say(printable(f"{name} is left out: {reason}."))


def print_report(report: HeadReport, paths: Sequence[Path], as_json: bool) -> None:
    """The tables, or the document; then which files were written."""
    if as_json:
        console.json(report.to_json())
        return
    from probes.stream.tables import draw_layers
    from probes.tables import draw

    document, width = report.to_json(), console.stdout_width()
    if set(document["scope"]["families"]) - set(document["scope"].get("stream", ())):
        console.out(*draw(document, width))
    console.out(*draw_layers(document, width))
    if paths:
        console.out("", "written: " + ", ".join(printable(str(path)) for path in paths))
