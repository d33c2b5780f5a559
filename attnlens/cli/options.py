"""Options and arguments that several commands share, so that each has one spelling and one help text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.errors import TextError, UsageError

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = [
    "AllowPickle",
    "Device",
    "Dtype",
    "HeadOption",
    "JsonOption",
    "MaxMemory",
    "ModelOfText",
    "ModelOption",
    "TargetOption",
    "TextArgument",
    "TrustRemoteCode",
    "listed",
    "load_lens",
    "read_layers",
    "read_text",
    "text_or_pair",
]

_MOST_LAYERS = 10_000  # no model has more; a slip of the finger in a range must not fill the memory

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="An embedded model (see 'attnlens models'), a folder or a hub id."
    ),
]
ModelOfText = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="An embedded model, a folder or a hub id, to run TEXT."),
]
TextArgument = Annotated[str, typer.Argument(metavar="TEXT", help="The sentence; '-' reads it from stdin.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout and nothing else.")]
HeadOption = Annotated[
    str | None, typer.Option("--head", metavar="HEAD", help="One head, such as L3H1, counted from 0.")
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", metavar="TEXT", help="What an encoder-decoder writes; it reads the other TEXT."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Refuse a run that takes more, such as 2G (default: 80% free)."),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load a checkpoint that has no safetensors (with weights_only=True).")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code that comes with the model. Read it first.")
]
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, mps, ... (default: cpu).")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="DTYPE", help="float32, bfloat16, ... (default: as stored).")
]


def read_text(text: str) -> str:
    """The text of an argument, or of stdin for `-`, without the line break at its end.

    Raises:
        TextError: it is not valid UTF-8.
        UsageError: `-` was given and stdin is a terminal.
    """
    if text == "-":
        if sys.stdin.isatty():
            raise UsageError("'-' reads the text from stdin, and stdin is a terminal; pipe the text in.")
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise TextError(f"stdin is not UTF-8 text ({error.reason}); convert it first.") from error
        text = text.removesuffix("\n").removesuffix("\r")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise TextError("the text is not valid UTF-8; convert it first.")
    return text


def text_or_pair(lens: Lens, text: str, target: str | None) -> dict[str, Any]:
    """What `lens.capture` is called with: a text, or what an encoder-decoder reads and writes.

    Raises:
        UsageError: a target is missing, or there is nothing that could write it.
    """
    name = lens.anatomy.model
    if lens.anatomy.is_encoder_decoder and target is None:
        raise UsageError(f"{name} is an encoder-decoder: TEXT is what it reads; say what it writes by --target TEXT.")
    if not lens.anatomy.is_encoder_decoder and target is not None:
        raise UsageError(f"{name} has one stack, so it has no target to write; leave --target out.")
    return {"text": text} if target is None else {"source": text, "target": target}


def listed(given: str | None) -> tuple[str, ...] | None:
    """What stands between commas; None where nothing was given."""
    return None if given is None else tuple(part.strip() for part in given.split(",") if part.strip())


def read_layers(given: str | None) -> tuple[int, ...] | None:
    """Numbers of layers between commas, or from one to another, such as `0,3-5`; None where nothing was given.

    Raises:
        UsageError: something else.
    """
    parts = listed(given)
    if parts is None:
        return None
    found: list[int] = []
    for part in parts:
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last) < _MOST_LAYERS)):
            raise UsageError(f"--layers {given!r} is no list of layers; write numbers from 0 on: --layers 0,3-5.")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def load_lens(model: str, *, device: str | None = None, **options: Any) -> Lens:
    """Open a model, with a spinner, since importing torch takes seconds.

    Raises:
        UsageError: there is no such device here.
        AttnlensError: what `attnlens.load` raises.
    """
    from attnlens.cli import console

    with console.status(f"opening {model}"):
        from attnlens.models.lens import load

        if device is not None:
            _check_device(device)
        return load(model, device=device, **options)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"there is no device {device!r} here; 'attnlens doctor' lists those that are.") from error
