"""`attnlens report`: one HTML file about a run, or about the heads of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    load_lens,
    read_text,
    text_or_pair,
)
from attnlens.cli.paths import check_output, existing_path, holds_results
from attnlens.errors import UsageError
from attnlens.files import write_text
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["report"]


@dataclass(frozen=True)
class Asked:
    """What a report on a run is to show, beside the run."""

    labels: Path | None
    head: Head | None
    precision: int | None
    measures: tuple[str, ...]
    ablate: tuple[str, ...]

    @property
    def of_runs(self) -> bool:
        """Whether anything was asked that only a run can answer."""
        return self.beside_precision or self.precision is not None

    @property
    def beside_precision(self) -> bool:
        """Whether anything was asked that only a report on one run shows."""
        return bool(self.labels or self.head or self.measures or self.ablate)


def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write, such as report.html.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(metavar="TEXT|RUN|DIR", help="With -m a sentence; else a .attn file, or a folder of probe."),
    ] = None,
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="Another of the same kind: a report on both side by side.")
    ] = None,
    model: ModelOfText = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="DIR", help="Probe results of the same model: its heads carry their labels."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="MODEL", help="Run TEXT through this model too."),
    ] = None,
    target: TargetOption = None,
    head: HeadOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", metavar="NAME", help="Show this measure too; repeatable (see 'attnlens measures')."),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option("--ablate", metavar="HEAD", help="Show the prediction without this head; repeatable (needs -m)."),
    ] = None,
    precision: Annotated[
        int | None,
        typer.Option("--precision", metavar="BITS", help="Bits of each weight, 8 or 16 (default: by size)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    offline_check: Annotated[
        bool, typer.Option("--offline-check", help="Open it in a browser with the network off and watch what it does.")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a report as one HTML file that opens from disk, with no network.

    From -m MODEL TEXT or a .attn file: every head on one text. From a folder that 'attnlens probe -o' wrote: what the
    model's heads do, with the evidence. With a second text, run or folder, or --against: what differs between the two.
    'attnlens open' gives back what is inside.
    """
    if source is None:
        raise UsageError("nothing to report on: give -m MODEL TEXT, a .attn file, or a folder of attnlens probe.")
    shown = None if head is None else Head.parse(head)
    asked = Asked(labels, shown, precision, tuple(measure or ()), tuple(ablate or ()))
    check_output(output, [each for each in (source, other) if each is not None] if model is None else [], force)
    options: dict[str, Any] = {"device": device, "dtype": dtype, "allow_pickle": allow_pickle}
    options["trust_remote_code"] = trust_remote_code
    if other is not None or against is not None:
        html = _of_two(source, other, model, against, target, asked, options)
    elif model is not None:
        html = _of_text(model, read_text(source), target, asked, options)
    elif target is not None:
        raise UsageError("--target belongs to a text that a model runs: -m MODEL TEXT --target TEXT.")
    elif holds_results(existing_path(source)):
        if asked.of_runs:
            raise UsageError(
                "--labels, --head, --measure, --ablate and --precision belong to a text or a .attn file; a folder "
                "brings its own heads."
            )
        html = _of_results(Path(source))
    else:
        html = _of_file(Path(source), asked)
    write_text(output, html)
    console.say(f"{len(html.encode()) / 1e6:.1f} MB, opens in any browser, loads nothing from the network")
    console.out(str(output))
    if offline_check:
        from attnlens.cli.open import say_offline

        say_offline(output)


def _of_text(model: str, text: str, target: str | None, asked: Asked, options: dict[str, Any]) -> str:
    from attnlens.report.file.extras import points_of
    from attnlens.report.results import load_results

    results = None if asked.labels is None else load_results(asked.labels)
    points = points_of(asked.measures)
    lens = load_lens(model, **options)
    if results is not None:
        results.check_same_model(lens.anatomy)
    again = text_or_pair(lens, text, target)
    return _of_run(lens.capture(**again, points=points), asked, lens, again)


def _of_two(
    source: str,
    other: str | None,
    model: str | None,
    against: str | None,
    target: str | None,
    asked: Asked,
    options: dict[str, Any],
) -> str:
    """Two texts in a model, a text in two models, two runs, or two probe results."""
    from attnlens.report.html import comparison_report

    if asked.beside_precision:
        raise UsageError("--labels, --head, --measure and --ablate belong to a report on one text; leave them out.")
    if model is None:
        if other is None or against is not None or target is not None:
            raise UsageError("--against and --target belong to a text that a model runs: -m MODEL TEXT.")
        first, second = _pair_of_files(existing_path(source), existing_path(other))
    else:
        if other is not None and against is not None:
            raise UsageError("either two texts in one model, or --against another model with one text; not both.")
        lens = load_lens(model, **options)
        there = lens if against is None else load_lens(against, **options)
        texts = read_text(source), read_text(source if other is None else other)
        first, second = (
            each.capture(**text_or_pair(each, text, target), points=())
            for each, text in zip((lens, there), texts, strict=True)
        )
    with console.status("writing the report"):
        return comparison_report(first, second, precision=asked.precision)


def _pair_of_files(first: Path, second: Path) -> tuple[Any, Any]:
    from attnlens.capture.bundle import open_run
    from attnlens.report.results import load_results

    if holds_results(first) != holds_results(second):
        raise UsageError("a run is compared with a run, a folder of probe results with a folder; give two of a kind.")
    read = load_results if holds_results(first) else open_run
    return read(first), read(second)


def _of_file(path: Path, asked: Asked) -> str:
    from attnlens.capture.bundle import open_run

    return _of_run(open_run(path), asked)


def _of_run(run: Capture, asked: Asked, lens: Lens | None = None, again: dict[str, Any] | None = None) -> str:
    from attnlens.report.html import run_report
    from attnlens.report.results import load_results

    results = None if asked.labels is None else load_results(asked.labels)
    with console.status("writing the report"):
        return run_report(
            run,
            results,
            heads=None if asked.head is None else [asked.head],
            precision=asked.precision,
            measures=asked.measures,
            ablate=asked.ablate,
            lens=lens,
            again=again,
        )


def _of_results(path: Path) -> str:
    from attnlens.report.html import heads_report
    from attnlens.report.results import load_results

    results = load_results(path)
    with console.status("writing the report"):
        return heads_report(results)
