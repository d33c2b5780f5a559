"""`attnlens probe`: what every head of a model does, measured on annotated text."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from attnlens.capture.tokens import printable
from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    JsonOption,
    TrustRemoteCode,
    listed,
    load_lens,
)
from attnlens.errors import UsageError
from attnlens.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.report import HeadReport

__all__ = ["main", "probe"]


def probe(
    family: Annotated[
        str | None,
        typer.Argument(metavar="FAMILY|all", help="positional, syntax, coreference, ... (see --list), or all."),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="CORPUS", help="More corpora: -c A B is -c A -c B.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="An embedded model (see 'attnlens models'), a folder or a hub id."
        ),
    ] = None,
    list_families: Annotated[
        bool, typer.Option("--list", help="Print which families are installed and what each needs; nothing is run.")
    ] = False,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            "-c",
            metavar="CORPUS",
            help="CoNLL-U, GAP, WinoBias, BLiMP, pairs.jsonl or plain text; several become one corpus "
            "(default: the embedded attnlens/grammar).",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out sentences and rows with a fault, and count them.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write heads.json and cells.parquet into this folder."),
    ] = None,
    as_json: JsonOption = False,
    relations: Annotated[
        str | None,
        typer.Option("--relations", metavar="NAMES", help="Test and report these relations or labels only: nsubj,obj."),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, metavar="N", help="Sentences beside a label: N best, N worst.")
    ] = 10,
    keep_counts: Annotated[
        bool, typer.Option("--keep-counts", help="Also write counts.parquet, for 'attnlens merge'.")
    ] = False,
    headvis: Annotated[
        Path | None,
        typer.Option("--headvis", metavar="DIR", help="Also write the folder that the HeadVis viewer reads."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Read only the first N sentences.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="SEED", help="Of control words and resampling.")] = 0,
    random_models: Annotated[
        int,
        typer.Option("--random-models", min=0, metavar="N", help="Copies with random weights to beat; 0: none, said."),
    ] = 5,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=1, metavar="N", help="Resamples of the corpus behind an interval.")
    ] = 2000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="N", help="Sentences per forward pass.")
    ] = 16,
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", min=1, metavar="N", help="Tokens per forward pass over the corpus.")
    ] = 2048,
    engine: Annotated[
        str,
        typer.Option("--engine", metavar="local|ray", help="What counts: this process, or workers of Ray."),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Of Ray; they share the cores (default: 2).")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="Of a Ray cluster (default: one on this machine alone)."),
    ] = None,
    checkpoint_every: Annotated[
        int,
        typer.Option("--checkpoint-every", min=1, metavar="N", help="Sentences that are counted, and kept, together."),
    ] = 512,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an interrupted run has left in DIR; the same result.")
    ] = False,
    with_stream: Annotated[
        bool,
        typer.Option("--with-stream", help="With 'all': train the probes of the residual stream, too."),
    ] = False,
    stream_words: Annotated[
        int,
        typer.Option("--stream-words", min=1, metavar="N", help="Words of each half that these probes read at most."),
    ] = 5000,
    pieces: Annotated[
        str, typer.Option("--pieces", metavar="mean|first|last", help="Which tokens make a word's vector there.")
    ] = "mean",
    rank: Annotated[int, typer.Option("--rank", min=1, metavar="N", help="Of the structural probe.")] = 64,
    window: Annotated[
        int, typer.Option("--window", min=1, metavar="WORDS", help="Words of a window of sentences (coreference).")
    ] = 100,
    frequencies: Annotated[
        Path | None,
        typer.Option("--frequencies", metavar="FILE", help="Lines of `word TAB count`, for rare words (lexical)."),
    ] = None,
    causal: Annotated[
        bool,
        typer.Option(
            "--causal",
            help="Put labels to the test: take their heads away and see what the model still can do (minutes).",
        ),
    ] = False,
    blimp: Annotated[
        list[Path] | None,
        typer.Option("--blimp", metavar="FILE", help="Minimal pairs for these tests; may be given several times."),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Find out what each head does, from annotated text.

    Every score stands beside the best rule that needs no model, chosen on one half of the corpus and scored on the
    other. With 'all', families that the corpus has no annotation for are left out. Results in DIR are replaced.
    """
    from attnlens.plugins import load_plugin

    if list_families:
        _print_families(as_json)
        return
    if family is None:
        raise UsageError("say which FAMILY to run, or all; 'attnlens probe --list' names those that are installed.")
    if model is None:
        raise UsageError("say which model by -m MODEL; 'attnlens models' lists those that come with attnlens.")
    run = load_plugin("attnlens.engines", engine)
    if resume and output is None:
        raise UsageError("--resume needs -o DIR, the folder of the interrupted run.")
    if keep_counts and output is None:
        raise UsageError("--keep-counts needs -o DIR, the folder that gets counts.parquet.")
    if engine == "local" and (workers is not None or address is not None):
        raise UsageError("--workers and --address are for workers of Ray; add --engine ray.")
    with console.status("reading the corpus"):
        from probes.causal import CausalSettings, impossible
        from probes.checkpoints import FOLDER, remove
        from probes.corpora.sources import open_corpus, told
        from probes.engine import choose_families
        from probes.report import check_folder
        from probes.stream.settings import Pieces, StreamSettings

        options = StreamSettings(words=stream_words, pieces=cast("Pieces", pieces), rank=rank)
        if output is not None:
            check_folder(output)
        if headvis is not None:
            check_writable(headvis / "config.json")
        opened = open_corpus([*(corpus or []), *(files or [])] or None, limit=limit, skip_bad=skip_bad)
        own = {} if frequencies is None else {"lexical": {"frequencies": frequencies}}
        _, left_out = choose_families(family, opened, seed, with_stream=with_stream, options=own)
    for line in told(opened):
        console.say(printable(line))
    for name, reason in left_out.items():
        console.say(printable(f"{name} is left out: {reason}."))
    opening: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "allow_pickle": allow_pickle,
        "trust_remote_code": trust_remote_code,
    }
    lens = load_lens(model, **opening)
    of_ray = {"workers": workers, "address": address, "load": {"name": _anywhere(model), **opening}}
    testing = CausalSettings(seed=seed) if causal or blimp else None
    if testing is not None and (obstacle := impossible(lens)) is not None:
        console.say(printable(f"no label is put to the test: {obstacle}."))
    with console.progress(f"probing {printable(opened.name)}") as advance:
        report: HeadReport = run(
            lens,
            family,
            opened,
            seed=seed,
            relations=listed(relations),
            examples=examples,
            keep_counts=keep_counts,
            bootstrap=bootstrap,
            random_models=random_models,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            with_stream=with_stream,
            stream=options,
            window=window,
            options=own,
            shard_sentences=checkpoint_every,
            checkpoints=None if output is None else output / FOLDER,
            resume=resume,
            causal=testing,
            blimp=tuple(blimp or ()),
            progress=advance,
            causal_progress=advance,
            **(of_ray if engine == "ray" else {}),
        )
    for name, reason in report.to_json()["scope"]["left_out"].items():
        if name not in left_out:
            console.say(printable(f"{name} is left out: {reason}."))
    paths = report.save(output) if output is not None else ()
    if output is not None:
        remove(output / FOLDER)
    if headvis is not None:
        with console.status("writing what HeadVis reads"):
            from probes.headvis import export_headvis

            paths = (*paths, export_headvis(lens, opened, headvis, labels=report.labels, batch_size=batch_size))
    _print(report, paths, as_json)


def _print_families(as_json: bool) -> None:
    with console.status("loading the families"):
        from probes.listing import draw_families, families

        entries = families()
    if as_json:
        console.json({"families": [asdict(entry) for entry in entries]})
        return
    console.out(*draw_families(entries, console.stdout_width()))


def _anywhere(model: str) -> str:
    """A model's name as a process in another working folder understands it."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def _print(report: HeadReport, paths: Sequence[Path], as_json: bool) -> None:
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


def main(family: str | None = None) -> None:
    """Run the command as a script: `python -m probes`, or `python -m probes.syntax` for one family.

    Args:
        family: put in front of the arguments where the script is that of one family.
    """
    from attnlens.cli import main as run_command_line

    sys.argv[1:1] = ["probe", *([family] if family else [])]
    run_command_line()
