"""`attnlens merge`: results of one model on several corpora as one result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnlens.capture.tokens import printable
from attnlens.cli import console
from attnlens.cli.options import JsonOption
from attnlens.errors import UsageError

__all__ = ["merge"]


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders of `attnlens probe ... --keep-counts -o DIR`.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Write the merged result into this folder.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Merge results of one model on several corpora into one.

    Hits and trials are added up; intervals, tests and labels are made anew.
    """
    if output.resolve() in {folder.resolve() for folder in folders}:
        raise UsageError(f"{output} holds one of the results to merge; write the merged one into another folder.")
    from probes.report import HeadReport, check_folder

    check_folder(output)
    with console.status("merging the results"):
        from probes.merging import merge_reports

        report = merge_reports([HeadReport.open(folder) for folder in folders])
    paths = report.save(output)
    if as_json:
        console.json(report.to_json())
        return
    from probes.tables import draw

    console.out(*draw(report.to_json(), console.stdout_width()))
    console.out("", "written: " + ", ".join(printable(str(path)) for path in paths))
