"""`attnlens report`: one HTML file about a run, or about the heads of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    HeadOption,
    TargetOption,
    TrustRemoteCode,
    load_lens,
    read_text,
    text_or_pair,
)
from attnlens.errors import OutputError, UsageError
from attnlens.files import check_writable, write_text
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["report"]

RESULTS = "heads.json"


def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write, such as report.html.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(metavar="TEXT|RUN|DIR", help="With -m a sentence; else a .attn file, or a folder of probe."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="An embedded model, a folder or a hub id, to run TEXT."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="DIR", help="Probe results of the same model: its heads carry their labels."),
    ] = None,
    target: TargetOption = None,
    head: HeadOption = None,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a report as one HTML file that opens from disk, with no network.

    From -m MODEL TEXT or a .attn file: every head on one text; of an encoder-decoder the heads of the decoder. From a
    folder that 'attnlens probe -o' wrote: what the model's heads do, with the evidence.
    """
    if source is None:
        raise UsageError("nothing to report on: give -m MODEL TEXT, a .attn file, or a folder of attnlens probe.")
    shown = None if head is None else Head.parse(head)
    check_writable(output)
    if model is not None:
        text = read_text(source)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "allow_pickle": allow_pickle}
        html = _of_text(model, text, target, labels, shown, options | {"trust_remote_code": trust_remote_code})
    elif target is not None:
        raise UsageError("--target belongs to a text that a model runs: -m MODEL TEXT --target TEXT.")
    elif _holds_results(_existing(source)):
        if labels is not None or shown is not None:
            raise UsageError("--labels and --head belong to a text or a .attn file; a folder brings its own heads.")
        html = _of_results(Path(source))
    else:
        html = _of_file(Path(source), output, labels, shown)
    write_text(output, html)
    console.say(f"{len(html.encode()) / 1e6:.1f} MB, opens in any browser, loads nothing from the network")
    console.out(str(output))


def _existing(source: str) -> Path:
    """The path that the user means, unless it is a sentence without a model."""
    path = Path(source)
    try:
        found = path.exists()
    except OSError:  # longer than a file name can be
        found = False
    if not found:
        shown = source if len(source) <= 60 else f"{source[:60]}..."
        raise UsageError(f"{shown!r} is no file or folder; to run it as a text, name the model: -m MODEL.")
    return path


def _holds_results(path: Path) -> bool:
    """True for a folder and for `heads.json` itself."""
    return path.is_dir() or path.name == RESULTS


def _of_text(
    model: str, text: str, target: str | None, labels: Path | None, head: Head | None, options: dict[str, Any]
) -> str:
    from attnlens.report.results import load_results

    results = None if labels is None else load_results(labels)
    lens = load_lens(model, **options)
    if head is not None:
        head.within(lens.anatomy.n_layers, lens.anatomy.n_heads)
    if results is not None:
        results.check_same_model(lens.anatomy)
    return _of_run(lens.capture(**text_or_pair(lens, text, target), points=()), labels, head)


def _of_file(path: Path, output: Path, labels: Path | None, head: Head | None) -> str:
    from attnlens.capture.bundle import open_run

    if output.exists() and output.samefile(path):
        raise OutputError(f"cannot write {output}: it is the run itself; choose another output path.")
    return _of_run(open_run(path), labels, head)


def _of_run(run: Capture, labels: Path | None, head: Head | None) -> str:
    from attnlens.report.html import run_report
    from attnlens.report.results import load_results

    results = None if labels is None else load_results(labels)
    with console.status("writing the report"):
        return run_report(run, results, heads=None if head is None else [head])


def _of_results(path: Path) -> str:
    from attnlens.report.html import heads_report
    from attnlens.report.results import load_results

    results = load_results(path)
    with console.status("writing the report"):
        return heads_report(results)
