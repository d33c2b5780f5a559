"""`attnlens export`: a run or probe results in the form of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    ModelOfText,
    TargetOption,
    TrustRemoteCode,
    listed,
    load_lens,
    read_text,
    text_or_pair,
)
from attnlens.cli.paths import check_output, holds_results
from attnlens.errors import UsageError
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.capture.run import Capture

__all__ = ["export"]


def export(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN|DIR|TEXT", help="A .attn file, a folder of probe, or with -m a sentence."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="The file, or for headvis the folder.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="FORM", help="See --list (default: by the ending of OUT).")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Print which forms there are; nothing is written.")] = False,
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="L3H1,L5H2", help="Only these heads (default: all).")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="DIR", help="Probe results whose labels headvis shows.")
    ] = None,
    model: ModelOfText = None,
    points: Annotated[
        str, typer.Option("--points", metavar="NAMES", help="With -m: what transformerlens gets beside attention.")
    ] = "embed,attn_out,mlp_out,resid_post,q,k,v,z",
    target: TargetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a run or probe results in another form: CSV, parquet, JSON, numpy, and what other tools read.

    A .attn file, or a text that --model runs, gives weights; a folder of probe gives its table of questions and heads.
    """
    if listing:
        _print_forms()
        return
    if not sources or output is None:
        raise UsageError("say what to export, and where to: attnlens export run.attn -o weights.csv.")
    from attnlens.exports.registry import Wanted, chosen
    from attnlens.exports.registry import export as write

    names = listed(heads)
    only = None if names is None else tuple(Head.parse(name) for name in names)
    if model is None and _is_results(sources):
        _check_output(output, chosen("results", output, to), "results", sources, force)
        wanted = Wanted(results=Path(sources[0]), labels=labels, heads=only)
    else:
        form = chosen("run", output, to)
        _check_output(output, form, "run", sources if model is None else [], force)
        options = {"device": device, "dtype": dtype, "allow_pickle": allow_pickle}
        options |= {"trust_remote_code": trust_remote_code}
        kept = (listed(points) or ()) if form == "transformerlens" else ()
        runs = _opened(sources, target) if model is None else _made(sources, model, target, kept, options)
        wanted = Wanted(runs=runs, labels=labels, heads=only)
    with console.status("writing"):
        left_out = write(wanted, output, to)
    if left_out:
        console.say(f"left out: {left_out}")
    console.out(str(output))


def _check_output(output: Path, form: str, kind: str, sources: list[str], force: bool) -> None:
    """Before long work: whether the file, or the first of the folder's, may be written."""
    from attnlens.exports.registry import exports_of

    is_file = bool(exports_of(kind)[form].endings)
    check_output(output if is_file else output / "config.json", sources, force)


def _is_results(sources: list[str]) -> bool:
    found = holds_results(Path(sources[0]))
    if found and len(sources) > 1:
        raise UsageError(f"{len(sources)} folders of results; export them one by one, or put them together by merge.")
    return found


def _opened(sources: list[str], target: str | None) -> tuple[Capture, ...]:
    from attnlens.capture.bundle import open_run

    if target is not None:
        raise UsageError("--target belongs to a text that a model runs: -m MODEL TEXT --target TEXT.")
    for source in sources:
        if not source.endswith(".attn"):
            raise UsageError(
                f"{source[:60]!r} is no .attn file and no folder of probe; to run a text, name the model: -m MODEL."
            )
    return tuple(open_run(source) for source in sources)


def _made(
    sources: list[str], model: str, target: str | None, points: tuple[str, ...], options: dict[str, Any]
) -> tuple[Capture, ...]:
    """Runs of the texts; points that the model does not have are left out."""
    texts = [read_text(source) for source in sources]
    lens = load_lens(model, **options)
    there = {point for stack in lens.anatomy.stacks for point in stack.residual_points}
    kept = tuple(point for point in points if point in there)
    return tuple(lens.capture(**text_or_pair(lens, text, target), points=kept) for text in texts)


def _print_forms() -> None:
    from rich.table import Table

    from attnlens.exports.registry import KINDS, exports_of

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("of", "form", "ends in", "what is written"):
        table.add_column(name, overflow="fold")
    for kind in KINDS:
        for name, form in exports_of(kind).items():
            table.add_row(kind, name, ", ".join(form.endings) or "(folder)", form.description)
    console.out(table)
