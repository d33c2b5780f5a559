"""`attnlens figure`: one picture for a paper, or the same in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    HeadOption,
    ModelOfText,
    TargetOption,
    TrustRemoteCode,
)
from attnlens.cli.paths import check_output
from attnlens.errors import UsageError
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.report.maps import Window

__all__ = ["figure"]

TERMINAL = "-"


def figure(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="head, matrix, map, mixing, forest, evidence, layers or compare.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="TEXT|RUN|DIR", help="With -m a sentence; else a .attn file, or a folder of probe."),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="OUT.svg, OUT.pdf or OUT.png; '-' prints it as text."),
    ] = TERMINAL,
    model: ModelOfText = None,
    head: HeadOption = None,
    words: Annotated[bool, typer.Option("--words", help="Whole words instead of tokens.")] = False,
    hide_special: Annotated[bool, typer.Option("--hide-special", help="Leave out [CLS], <s> and the like.")] = False,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="0:40", help="Only these tokens of a long text.")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Colours a map: entropy, distance, ...")
    ] = "max",
    measure: Annotated[
        str, typer.Option("--measure", metavar="NAME", help="Of mixing: rollout, value-zeroing, alti, ...")
    ] = "rollout",
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Of layers: upos, tree distance, ... (default: first).")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="DIR", help="Probe results whose labels a map carries.")
    ] = None,
    width: Annotated[
        str, typer.Option("--width", metavar="WIDTH", help="column (84 mm), page (174 mm) or millimetres.")
    ] = "",
    dpi: Annotated[int, typer.Option("--dpi", metavar="DPI", help="Of a PNG.")] = 300,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    target: TargetOption = None,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Draw one picture for a paper: SVG, PDF or PNG; or as text.

    head and matrix show --head on a text, map every head by --metric or, of a folder of probe, by label, mixing a
    measure of several heads. Of a folder of probe, forest shows the scores of --head, evidence the sentences behind
    its label, layers what was read off the residual stream. compare is of two texts or runs, with --head of one head
    in both. The caption goes to stderr.
    """
    from attnlens.cli.figure_kinds import KINDS, Asked

    if kind not in KINDS:
        raise UsageError(f"{kind[:40]!r} is no kind of figure; choose one of {', '.join(KINDS)}.")
    if output != TERMINAL:
        _check_output(output, width, dpi, sources if model is None else [], force)
    options = {"device": device, "dtype": dtype, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    asked = Asked(
        sources=tuple(sources),
        model=model,
        head=None if head is None else Head.parse(head),
        words=words,
        hide_special=hide_special,
        window=_window(tokens),
        metric=metric,
        measure=measure,
        task=task,
        labels=labels,
        width=width,
        target=target,
        options=options,
    )
    drawn = KINDS[kind](asked)
    if output == TERMINAL:
        console.out(*drawn.text)
        return
    from attnlens.report import still

    picture = drawn.picture()
    missing = still.save(picture, output, dpi=dpi)
    console.say(f"caption: {picture.caption}")
    if missing:
        console.say(f"no installed font has {missing}; an SVG leaves fonts to the program that opens it")
    console.out(output)


def _check_output(output: str, width: str, dpi: int, sources: list[str], force: bool) -> None:
    """Mistakes that need no model to be found."""
    from attnlens.report.still.picture import width_of
    from attnlens.report.still.saving import check_dpi, format_of

    format_of(output)
    check_dpi(dpi)
    if width:
        width_of(width)
    check_output(Path(output), sources, force)


def _window(tokens: str | None) -> Window | None:
    if tokens is None:
        return None
    first, colon, last = tokens.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"--tokens {tokens[:40]!r}: write the first and the one after the last, such as 0:40.")
    from attnlens.report.maps import Window

    stretch = (int(first), int(last))
    return Window(stretch, stretch)
