"""`attnlens probe`: what every head of a model does, measured on annotated text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
    read_layers,
)
from attnlens.errors import UsageError
from attnlens.files import check_writable
from probes import cli_options as given
from probes.cli_output import print_families, print_report, tell

if TYPE_CHECKING:
    from attnlens.models.lens import Lens
    from probes.corpora.data import Corpus
    from probes.report import HeadReport
    from probes.run_settings import RunSettings

__all__ = ["main", "probe"]


def probe(
    family: given.FamilyArgument = None,
    files: given.FilesArgument = None,
    model: given.ModelToProbe = None,
    list_families: given.ListFamilies = False,
    corpus: given.Corpus = None,
    skip_bad: given.SkipBad = False,
    output: given.Output = None,
    as_json: JsonOption = False,
    relations: given.Relations = None,
    layers: given.Layers = None,
    examples: given.Examples = 10,
    keep_counts: given.KeepCounts = False,
    headvis: given.Headvis = None,
    limit: given.Limit = None,
    seed: given.Seed = 0,
    random_models: given.RandomModels = 5,
    bootstrap: given.Bootstrap = 2000,
    batch_size: given.BatchSize = 16,
    batch_tokens: given.BatchTokens = 2048,
    engine: given.Engine = "local",
    workers: given.Workers = None,
    address: given.Address = None,
    checkpoint_every: given.CheckpointEvery = 512,
    resume: given.Resume = False,
    with_stream: given.WithStream = False,
    stream_words: given.StreamWords = 5000,
    pieces: given.Pieces = "mean",
    rank: given.Rank = 64,
    window: given.Window = 100,
    frequencies: given.Frequencies = None,
    causal: given.Causal = False,
    blimp: given.Blimp = None,
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
        print_families(as_json)
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
    chosen_layers = read_layers(layers)
    with console.status("reading the corpus"):
        from probes.causal import CausalSettings
        from probes.checkpoints import FOLDER
        from probes.run_settings import RunSettings
        from probes.stream.settings import Pieces, StreamSettings

        _check_places(output, headvis)
        settings = RunSettings(
            seed=seed,
            limit=limit,
            skip_bad=skip_bad,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            bootstrap=bootstrap,
            random_models=random_models,
            with_stream=with_stream,
            stream=StreamSettings(words=stream_words, pieces=cast("Pieces", pieces), rank=rank),
            window=window,
            keep_counts=keep_counts,
            options={} if frequencies is None else {"lexical": {"frequencies": frequencies}},
            examples=examples,
            relations=listed(relations),
            layers=chosen_layers,
            shard_sentences=checkpoint_every,
            checkpoints=None if output is None else output / FOLDER,
            resume=resume,
            causal=CausalSettings(seed=seed) if causal or blimp else None,
            blimp=tuple(blimp or ()),
        )
        opened, left_out = _read([*(corpus or []), *(files or [])], family, settings)
    opening: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "allow_pickle": allow_pickle,
        "trust_remote_code": trust_remote_code,
    }
    tell(opened, left_out)
    lens = load_lens(model, **opening)
    of_ray = {"workers": workers, "address": address, "load": {"name": _anywhere(model), **opening}}
    engine_options = of_ray if engine == "ray" else {}
    report = _run(run, lens, family, _Work(opened, left_out, settings, engine_options))
    print_report(report, _write(report, lens, opened, settings, output, headvis), as_json)


@dataclass(frozen=True)
class _Work:
    """What an engine is asked to do.

    Attributes:
        corpus: opened.
        left_out: families that it has no annotation for, with the reason; the user knows of them.
        settings: of the run.
        engine_options: of the engine alone.
    """

    corpus: Corpus
    left_out: Mapping[str, str]
    settings: RunSettings
    engine_options: Mapping[str, Any]


def _check_places(output: Path | None, headvis: Path | None) -> None:
    """Find out before the work whether its results can be written."""
    from probes.report import check_folder

    if output is not None:
        check_folder(output)
    if headvis is not None:
        check_writable(headvis / "config.json")


def _read(sources: Sequence[str], family: str, settings: RunSettings) -> tuple[Corpus, Mapping[str, str]]:
    """The corpus, and the families that are left out on it."""
    from probes.corpora.sources import open_corpus
    from probes.families import choose_families

    opened = open_corpus(list(sources) or None, limit=settings.limit, skip_bad=settings.skip_bad)
    _, left_out = choose_families(
        family, opened, settings.seed, with_stream=settings.with_stream, options=settings.options
    )
    return opened, left_out


def _run(run: Any, lens: Lens, family: str, work: _Work) -> HeadReport:
    """Let the engine do it; what turns out on the way is told."""
    from probes.causal import impossible

    if work.settings.causal is not None and (obstacle := impossible(lens)) is not None:
        console.say(printable(f"no label is put to the test: {obstacle}."))
    with console.progress(f"probing {printable(work.corpus.name)}") as advance:
        report: HeadReport = run(
            lens,
            family,
            work.corpus,
            settings=work.settings,
            progress=advance,
            random_progress=advance,
            causal_progress=advance,
            **work.engine_options,
        )
    for name, reason in report.to_json()["scope"]["left_out"].items():
        if name not in work.left_out:
            console.say(printable(f"{name} is left out: {reason}."))
    return report


def _write(
    report: HeadReport, lens: Lens, corpus: Corpus, settings: RunSettings, output: Path | None, headvis: Path | None
) -> tuple[Path, ...]:
    """Write what was asked for; the paths."""
    paths: tuple[Path, ...] = ()
    if output is not None:
        from probes.checkpoints import FOLDER, remove

        paths = report.save(output)
        remove(output / FOLDER)
    if headvis is not None:
        with console.status("writing what HeadVis reads"):
            from probes.headvis import export_headvis

            shown = export_headvis(lens, corpus, headvis, labels=report.labels, batch_size=settings.batch_size)
            paths = (*paths, shown)
    return paths


def _anywhere(model: str) -> str:
    """A model's name as a process in another working folder understands it."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def main(family: str | None = None) -> None:
    """Run the command as a script: `python -m probes`, or `python -m probes.syntax` for one family.

    Args:
        family: put in front of the arguments where the script is that of one family.
    """
    from attnlens.cli import main as run_command_line

    sys.argv[1:1] = ["probe", *([family] if family else [])]
    run_command_line()
