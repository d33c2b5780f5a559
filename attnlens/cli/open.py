"""`attnlens open`: what is inside a report, and the run or the probe results back as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import JsonOption
from attnlens.cli.paths import RESULTS, check_output
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.report.file.opened import OpenedReport
    from attnlens.report.results import HeadResults

__all__ = ["open_command"]


def open_command(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="A file that 'attnlens report' wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Restore: run.attn for a run, a folder for probe results."),
    ] = None,
    which: Annotated[
        int, typer.Option("--which", metavar="N", min=1, max=2, help="Of a report on two, the first or the second.")
    ] = 1,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    offline_check: Annotated[
        bool, typer.Option("--offline-check", help="Open it in a browser with the network off and watch what it does.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is inside a report, or restore it.

    Weights differ from the run's by the error that the report states at most; probe results come back as they were.
    """
    from attnlens.report.file.opened import open_report

    opened = open_report(report)
    if output is not None:
        console.out(str(_restored(opened, output, which - 1, force)))
    elif as_json:
        console.json(_summary(opened))
    else:
        _print(report, opened)
    if offline_check:
        say_offline(report)


def say_offline(path: Path) -> None:
    """Check a page in a browser, and say what was seen.

    Raises:
        UsageError: there is no browser.
        OutputError: the page asked for something, showed a dialog, logged an error, or did not draw itself.
    """
    from attnlens.report.file.offline import check_offline

    with console.status("opening it with the network off"):
        found = check_offline(path)
    found.require(path)
    console.say(f"offline check passed: no request, no dialog, no error; {found.n_nodes:,} nodes")


def _restored(opened: OpenedReport, output: Path, at: int, force: bool) -> Path:
    if output.suffix == ".attn":
        if at >= len(opened.runs):
            raise UsageError(f"the report holds {len(opened.runs)} runs, so there is none to write as number {at + 1}.")
        check_output(output, [], force)
        return opened.runs[at].save(output)
    if at >= len(opened.results):
        hint = " A run is restored to a file that ends in .attn." if opened.runs else ""
        raise UsageError(f"the report holds {len(opened.results)} probe results, none as number {at + 1}.{hint}")
    from attnlens.files import write_text

    target = output if output.suffix == ".json" else output / RESULTS
    check_output(target, [], force)
    write_text(target, json.dumps(opened.results[at].document, ensure_ascii=False, indent=1) + "\n")
    return target


def _summary(opened: OpenedReport) -> dict[str, Any]:
    return {
        "kind": opened.kind,
        "attnlens": opened.version,
        "bytes": opened.n_bytes,
        "bits": opened.bits,
        "largest_difference": opened.error,
        "runs": [_of_run(run) for run in opened.runs],
        "results": [_of_results(results) for results in opened.results],
    }


def _of_run(run: Capture) -> dict[str, Any]:
    from attnlens.report.maps import held_heads

    letters = ("D", "E", "X") if run.anatomy.is_encoder_decoder else ("",)
    held = sum(len(held_heads(run, letter)) for letter in letters if letter != "E" or run.encoder)
    return {"model": run.anatomy.model, "text": run.text, "tokens": len(run.tokens), "heads": held}


def _of_results(results: HeadResults) -> dict[str, Any]:
    return {
        "model": results.anatomy.model,
        "corpus": results.corpus.get("name"),
        "heads": len(results.heads),
        "labelled": len(results.labelled),
    }


def _print(path: Path, opened: OpenedReport) -> None:
    from attnlens.capture.tokens import printable

    console.out(f"{path}: a report on {_KINDS[opened.kind]}, attnlens {opened.version}, {opened.n_bytes / 1e6:.1f} MB")
    for part in map(_of_run, opened.runs):
        text = part["text"] if len(part["text"]) <= 70 else f"{part['text'][:70]}..."
        console.out(f"  run of {printable(part['model'])}: {part['heads']} heads, {part['tokens']} tokens: {text!r}")
    if opened.runs:
        console.out(
            f"  weights in {opened.bits} bits, at most {opened.error:.1e} from the run's; -o run.attn restores it"
        )
    for part in map(_of_results, opened.results):
        labelled = f"{part['labelled']} of {part['heads']} heads labelled"
        of = printable(f"{part['model']} on {part['corpus']}")
        console.out(f"  probe results of {of}: {labelled}; -o DIR restores them")


_KINDS = {"run": "one text", "heads": "a model's heads", "comparison": "two side by side"}
