"""`attnlens measure` and `attnlens measures`: what a measure says of the heads on one text, and which there are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import (
    AllowPickle,
    Device,
    Dtype,
    HeadOption,
    JsonOption,
    TargetOption,
    TrustRemoteCode,
    load_lens,
    read_text,
    text_or_pair,
)
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from attnlens.measures.registry import Measure, Measured

__all__ = ["measure", "measures"]


def measure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A measure; 'attnlens measures' lists them.")],
    text: Annotated[
        str, typer.Argument(metavar="TEXT|RUN", help="With -m a sentence ('-': stdin); else a .attn file.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="An embedded model, a folder or a hub id, to run TEXT."),
    ] = None,
    target: TargetOption = None,
    head: HeadOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the measure, as offset=-2; can be repeated."),
    ] = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Take one measure of every head, or of one, on one text.

    Of an encoder-decoder the heads of the decoder; --set stack=E or --head EL0H1 names those of the encoder, X those
    that look from the target to the source.
    """
    options = _settings(settings or [])
    if model is None:
        found = _of_run(name, text, head, options)
    else:
        sentence = read_text(text)
        lens = load_lens(
            model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
        given = text_or_pair(lens, sentence, target)
        whole = given["text"] if target is None else (given["source"], given["target"])
        found = lens.measure(name, whole, head, **options)
    if as_json:
        console.json(_document(found))
        return
    from attnlens.cli.measured import draw

    vocabulary = None if model is None or lens.tokenizer is None else lens.tokenizer.convert_ids_to_tokens
    console.out(*draw(found, console.stdout_width(), vocabulary))


def measures(as_json: JsonOption = False) -> None:
    """List the measures that are installed, with what they mean."""
    from attnlens.measures.registry import broken_measures
    from attnlens.measures.registry import measures as installed_measures

    known = installed_measures().values()
    for fault in broken_measures().values():
        console.say(fault)
    if as_json:
        console.json({"measures": [_description(measure) for measure in known]})
        return
    from attnlens.cli.measured import draw_list

    console.out(draw_list(list(known), console.stdout_width()))


def _of_run(name: str, path: str, head: str | None, options: dict[str, Any]) -> Measured:
    """A measure of a run in a file.

    Raises:
        UsageError: there is no model, and no such file either.
    """
    if not path.endswith(".attn") or not Path(path).is_file():
        raise UsageError("say which model reads TEXT by -m MODEL, or give a .attn file that 'attnlens capture' wrote.")
    with console.status(f"opening {path}"):
        from attnlens.capture.bundle import open_run
        from attnlens.measures.registry import find_measure, measure_run

        return measure_run(find_measure(name), open_run(path), head, options)


def _settings(given: list[str]) -> dict[str, Any]:
    """`name=value` as a mapping; a value is JSON (a number, true, "text in quotes") or plain text.

    Raises:
        UsageError: no `=`, or no name in front of it.
    """
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {pair!r} is no setting; write --set NAME=VALUE, such as --set offset=-2.")
        try:
            found[name.strip().replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip().replace("-", "_")] = value
    return found


def _document(found: Measured) -> dict[str, Any]:
    """What `--json` prints; what is not defined is null."""
    run, head = found.run, found.head
    document: dict[str, Any] = {
        "measure": _description(found.measure),
        "model": run.anatomy.model,
        "text": run.text,
        "tokens": [token.label for token in run.tokens],
    }
    if run.source is not None:
        document |= {"source": run.source.text, "source_tokens": [token.label for token in run.source.tokens]}
    return document | {
        "stack": found.stack,
        "head": None if head is None else str(head),
        "options": dict(found.options),
        "axes": list(found.axes),
        "shape": list(found.values.shape),
        "values": _or_null(found.values.tolist()),
        "versions": dict(run.versions),
    }


def _description(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "title": measure.title,
        "description": measure.description,
        "unit": measure.unit,
        "low": _or_null(measure.low),
        "high": _or_null(measure.high),
        "more": measure.more,
        "source": measure.source,
        "axes": list(measure.axes),
        "options": {
            option.name: {"default": option.default, "description": option.description} for option in measure.options
        },
        "aliases": list(measure.aliases),
        "classes": list(measure.classes),
    }


def _or_null(values: Any) -> Any:
    """Nested lists of numbers, with null for what is not finite."""
    if isinstance(values, list):
        return [_or_null(value) for value in values]
    return values if values is None or math.isfinite(values) else None
