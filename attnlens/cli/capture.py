"""`attnlens capture`: run sentences and keep the runs as files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    JsonOption,
    MaxMemory,
    ModelOption,
    TargetOption,
    TrustRemoteCode,
    listed,
    load_lens,
    read_layers,
    read_text,
    text_or_pair,
)
from attnlens.errors import OutputError, TextError, UsageError
from attnlens.files import check_writable

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["capture"]

SUFFIX = ".attn"


class Mode(StrEnum):
    """How a run is recorded."""

    LAZY = "lazy"
    EXACT = "exact"


class Precision(StrEnum):
    """What numbers a file keeps."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@dataclass(frozen=True)
class Kept:
    """What is kept of each run, as options of `lens.capture`; None leaves the library's choice.

    Attributes:
        precision: of queries and keys in the file.
        n_new: how many tokens the model writes; None where it only reads.
    """

    mode: str | None
    layers: tuple[int, ...] | None
    heads: tuple[str, ...] | None
    points: tuple[str, ...] | None
    max_memory: str | None
    precision: str | None
    n_new: int | None = None

    def options(self) -> dict[str, Any]:
        """Arguments for `lens.capture` or `lens.generate`."""
        given = {
            "mode": self.mode,
            "layers": self.layers,
            "heads": self.heads,
            "points": self.points,
            "max_memory": self.max_memory,
            "max_new_tokens": self.n_new,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Written:
    """One file that was written, and what is in it."""

    path: str
    text: str
    tokens: int
    layers: int
    heads: int
    mode: str
    bytes: int


def capture(
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The file, run.attn; with -i also a folder.")
    ],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The sentence; '-' reads it from stdin.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="A text file, one sentence per line.")
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            "--mode",
            help="lazy keeps queries and keys, exact the weights (default: lazy where possible).",
            show_default=False,
        ),
    ] = None,
    target: TargetOption = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="0,3", help="The layers to keep (default: all).")
    ] = None,
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="L3H1,L5H2", help="The heads to keep (default: all).")
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(
            "--points",
            metavar="NAMES",
            help="What to keep beside attention: resid_pre, attn_out, q, k, v, z, ... "
            "(default: embed,resid_post,final; '' for none).",
        ),
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option("--generate", metavar="N", min=1, help="Let the model write N more tokens; keep one map of all."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", help="Of queries and keys in the file (default: the model's).", show_default=False),
    ] = None,
    max_memory: MaxMemory = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run sentences and keep every head's attention as files.

    A .attn file holds one run and needs no model to be read. An encoder-decoder reads TEXT and writes --target; in
    a file, source and target stand on one line with a tab between them.

    With -i, OUT is a folder that gets one file per sentence, named by its line (0001.attn, 0002.attn, ...), or,
    where the file holds a single sentence, one file whose name ends in .attn. All files are written, or none.
    """
    if (text is None) == (input_file is None):
        raise UsageError("give either TEXT or -i FILE; see: attnlens capture --help")
    if input_file is not None and target is not None:
        raise UsageError("--target goes with TEXT; in a file, write the target behind a tab on its line.")
    if generate is not None and (target is not None or mode is not None):
        raise UsageError("--generate lets the model write by itself and chooses the mode; leave --target, --mode out.")
    kept = Kept(
        None if mode is None else mode.value,
        read_layers(layers),
        listed(heads),
        listed(points),
        max_memory,
        None if precision is None else precision.value,
        generate,
    )
    sentences = {1: read_text(text)} if text is not None else _read_lines(_required(input_file))
    into_folder = input_file is not None and output.suffix != SUFFIX
    if not into_folder and len(sentences) > 1:
        raise UsageError(
            f"{input_file} holds {len(sentences)} sentences and {output} is one file; let -o name a folder."
        )
    if into_folder and output.is_file():
        raise OutputError(f"cannot write {output}: it is a file; let -o name a folder, or a file that ends in .attn.")
    check_writable(output / f"0001{SUFFIX}" if into_folder else output)
    lens = load_lens(model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    runs = _runs(lens, sentences, kept, input_file, target)
    save = _Saver(kept.precision)
    written = _save_all(save, runs, output) if into_folder else [save(next(runs)[1], output, output)]
    _print_written(written, as_json)


def _read_lines(path: Path) -> dict[int, str]:
    """Line number, from 1 -> sentence; blank lines are left out.

    Raises:
        TextError: the file cannot be read as UTF-8 text, or holds no sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first."
        ) from error
    except OSError as error:
        raise TextError(
            f"cannot read {path}: {error.strerror}; expected a text file, one sentence per line."
        ) from error
    sentences = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not sentences:
        raise TextError(f"{path} holds no sentence; expected one per line.")
    return sentences


def _required(path: Path | None) -> Path:
    assert path is not None
    return path


def _runs(
    lens: Lens, sentences: dict[int, str], kept: Kept, source: Path | None, target: str | None
) -> Iterator[tuple[int, Capture]]:
    """Each sentence's run, one at a time, so that a long file needs no more memory than its longest line."""
    with console.progress("capturing", quiet=len(sentences) == 1) as advance:
        for done, (number, sentence) in enumerate(sentences.items(), 1):
            try:
                run = _run(lens, sentence, kept, target, in_file=source is not None)
            except TextError as error:
                raise TextError(f"{source}, line {number}: {error}" if source else str(error)) from error
            yield number, run
            advance(done, len(sentences))


def _run(lens: Lens, text: str, kept: Kept, target: str | None, in_file: bool) -> Capture:
    options = kept.options()
    if kept.n_new is not None:
        given = {"source" if lens.anatomy.is_encoder_decoder else "text": text}
        return lens.generate(**given | options)
    if in_file and lens.anatomy.is_encoder_decoder:
        text, target = _source_and_target(text)
    return lens.capture(**text_or_pair(lens, text, target), **options)


def _source_and_target(line: str) -> tuple[str, str]:
    """A line of a file for an encoder-decoder.

    Raises:
        TextError: there is no tab in it.
    """
    source, tab, target = line.partition("\t")
    if not tab:
        raise TextError("an encoder-decoder reads a source and writes a target; put a tab between them.")
    return source.strip(), target.strip()


@dataclass(frozen=True)
class _Saver:
    """Saves runs in one precision and tells what was written."""

    precision: str | None

    def __call__(self, run: Capture, path: Path, shown: Path) -> Written:
        import torch

        run.save(path, dtype=None if self.precision is None else getattr(torch, self.precision))
        return Written(str(shown), run.text, len(run.tokens), run.n_layers, run.n_heads, run.mode, path.stat().st_size)


def _save_all(save: _Saver, runs: Iterator[tuple[int, Capture]], folder: Path) -> list[Written]:
    """Save into a folder beside the target first, so that a sentence that fails leaves nothing behind."""
    with _whole_folder(folder) as part:
        return [save(run, part / name, folder / name) for number, run in runs for name in [f"{number:04}{SUFFIX}"]]


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder within `folder` to fill; its files move up when the block ends without an exception."""
    is_new = not folder.exists()
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".", suffix=".part"))
        yield part
        for file in sorted(part.iterdir()):
            file.replace(folder / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another output path.") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # not empty: everything went well
                folder.rmdir()


def _print_written(written: list[Written], as_json: bool) -> None:
    if as_json:
        console.json([asdict(file) for file in written])
        return
    for file in written:
        size = f"{file.tokens} tokens, {file.layers} layers x {file.heads} heads, {file.bytes / 2**20:.2f} MiB"
        console.out(f"{file.path}  {size}")
