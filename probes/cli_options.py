"""The options of `attnlens probe`, each with its spelling and its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Address",
    "BatchSize",
    "BatchTokens",
    "Blimp",
    "Bootstrap",
    "Causal",
    "CheckpointEvery",
    "Corpus",
    "Engine",
    "Examples",
    "FamilyArgument",
    "FilesArgument",
    "Frequencies",
    "Headvis",
    "KeepCounts",
    "Layers",
    "Limit",
    "ListFamilies",
    "ModelToProbe",
    "Output",
    "Pieces",
    "RandomModels",
    "Rank",
    "Relations",
    "Resume",
    "Seed",
    "SkipBad",
    "StreamWords",
    "Window",
    "WithStream",
    "Workers",
]

FamilyArgument = Annotated[
    str | None,
    typer.Argument(metavar="FAMILY|all", help="positional, syntax, coreference, ... (see --list), or all."),
]
FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="CORPUS", help="More corpora: -c A B is -c A -c B.", show_default=False),
]
ModelToProbe = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="An embedded model (see 'attnlens models'), a folder or a hub id."
    ),
]
ListFamilies = Annotated[
    bool, typer.Option("--list", help="Print which families are installed and what each needs; nothing is run.")
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        "-c",
        metavar="CORPUS",
        help="CoNLL-U, GAP, WinoBias, BLiMP, pairs.jsonl or plain text; several become one corpus "
        "(default: the embedded attnlens/grammar).",
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out sentences and rows with a fault, and count them.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Write heads.json and cells.parquet into this folder."),
]
Relations = Annotated[
    str | None,
    typer.Option("--relations", metavar="NAMES", help="Test and report these relations or labels only: nsubj,obj."),
]
Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="0,3-5", help="Score and label the heads of these layers only (default: all)."),
]
Examples = Annotated[
    int, typer.Option("--examples", min=0, metavar="N", help="Sentences beside a label: N best, N worst.")
]
KeepCounts = Annotated[bool, typer.Option("--keep-counts", help="Also write counts.parquet, for 'attnlens merge'.")]
Headvis = Annotated[
    Path | None,
    typer.Option("--headvis", metavar="DIR", help="Also write the folder that the HeadVis viewer reads."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Read only the first N sentences.")]
Seed = Annotated[int, typer.Option("--seed", metavar="SEED", help="Of control words and resampling.")]
RandomModels = Annotated[
    int,
    typer.Option("--random-models", min=0, metavar="N", help="Copies with random weights to beat; 0: none, said."),
]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", min=1, metavar="N", help="Resamples of the corpus behind an interval.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Sentences per forward pass.")]
BatchTokens = Annotated[
    int, typer.Option("--batch-tokens", min=1, metavar="N", help="Tokens per forward pass over the corpus.")
]
Engine = Annotated[
    str,
    typer.Option("--engine", metavar="local|ray", help="What counts: this process, or workers of Ray."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Of Ray; they share the cores (default: 2).")
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Of a Ray cluster (default: one on this machine alone)."),
]
CheckpointEvery = Annotated[
    int,
    typer.Option("--checkpoint-every", min=1, metavar="N", help="Sentences that are counted, and kept, together."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what an interrupted run has left in DIR; the same result.")
]
WithStream = Annotated[
    bool,
    typer.Option("--with-stream", help="With 'all': train the probes of the residual stream, too."),
]
StreamWords = Annotated[
    int,
    typer.Option("--stream-words", min=1, metavar="N", help="Words of each half that these probes read at most."),
]
Pieces = Annotated[
    str, typer.Option("--pieces", metavar="mean|first|last", help="Which tokens make a word's vector there.")
]
Rank = Annotated[int, typer.Option("--rank", min=1, metavar="N", help="Of the structural probe.")]
Window = Annotated[
    int, typer.Option("--window", min=1, metavar="WORDS", help="Words of a window of sentences (coreference).")
]
Frequencies = Annotated[
    Path | None,
    typer.Option("--frequencies", metavar="FILE", help="Lines of `word TAB count`, for rare words (lexical)."),
]
Causal = Annotated[
    bool,
    typer.Option(
        "--causal",
        help="Put labels to the test: take their heads away and see what the model still can do (minutes).",
    ),
]
Blimp = Annotated[
    list[Path] | None,
    typer.Option("--blimp", metavar="FILE", help="Minimal pairs for these tests; may be given several times."),
]
