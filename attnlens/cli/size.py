"""`attnlens size`: how large a model is and what it costs, from its config alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import Dtype, JsonOption, TrustRemoteCode, listed
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from attnlens.models.sizing import Cost, ModelSize
    from attnlens.sizes.presets import Preset

__all__ = ["size"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL|CONFIG", help="An embedded model, a folder, a hub id, or a config.json."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="A published configuration instead: gpt3, ...")
    ] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List these with their sources.")] = False,
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N,N", help="Tokens of the texts whose cost is told.")
    ] = "128,512,2048,8192,32768",
    as_json: JsonOption = False,
    dtype: Dtype = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Tell parameters, memory, KV cache and what attention costs, without weights.

    Only the config is read, so this works for models that are too large to open
    here.
    """
    if presets:
        _list(as_json=as_json)
        return
    if (model is None) == (preset is None):
        raise UsageError("name one model or config, or --preset NAME; attnlens size --presets lists presets.")
    tokens = _lengths(lengths)
    with console.status(f"reading {model or preset}"):
        from attnlens.models.loading import as_dtype, load_config
        from attnlens.models.sizing import model_size
        from attnlens.sizes.presets import find_preset

        precision = None if dtype is None else as_dtype(dtype)
        known = None if preset is None else find_preset(preset)
        config = load_config(model or "", trust_remote_code=trust_remote_code) if known is None else known.config()
        found = model_size(config, dtype=precision, lengths=tokens, trust_remote_code=trust_remote_code)
    if as_json:
        console.json(_document(model or preset or "", known, found))
    else:
        _print(model or (known.title if known else ""), known, found)


def _lengths(given: str) -> tuple[int, ...]:
    parts = listed(given) or ()
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--lengths {given!r} is no list of lengths; write numbers from 1 on: --lengths 128,512.")
    return tuple(map(int, parts))


def _list(*, as_json: bool) -> None:
    from rich.table import Table

    from attnlens.sizes.presets import PRESETS

    if as_json:
        names = ("name", "title", "source", "parameters", "active", "note")
        console.json({"presets": [{name: getattr(one, name) for name in names} for one in PRESETS.values()]})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("preset", no_wrap=True)
    table.add_column("published", justify="right", no_wrap=True)
    table.add_column("source", overflow="fold")
    for one in PRESETS.values():
        table.add_row(one.name, _count(one.parameters), one.source)
    console.out(table)


def _document(model: str, preset: Preset | None, found: ModelSize) -> dict[str, Any]:
    stacks = [
        {
            "letter": stack.letter,
            "causal": stack.causal,
            "layers": stack.n_layers,
            "heads": stack.n_heads,
            "kv_heads": stack.n_kv_heads,
            "d_head": stack.d_head,
        }
        for stack in found.stacks
    ]
    counted = found.counted
    parts = {
        "parts": counted.parts.to_json(),
        "active_parameters": counted.active,
        "tied_output": counted.tied,
        "preset": None if preset is None else {"name": preset.name, "source": preset.source, "note": preset.note},
    }
    document = {"model": model} | asdict(found) | {"stacks": stacks, "costs": [asdict(cost) for cost in found.costs]}
    del document["counted"]
    return document | parts


def _print(model: str, preset: Preset | None, found: ModelSize) -> None:
    from rich.text import Text

    from attnlens.capture.tokens import printable

    console.out(Text(printable(model), style="bold"), _shape(found), "", _parts(found), "", _costs(found))
    console.out("", _training(found))
    if not all(cost.fits for cost in found.costs):
        console.out("* longer than the model's positions")
    if preset is not None:
        note = f"; {preset.note}" if preset.note else ""
        console.out(f"published: {_count(preset.parameters)} parameters, {preset.source}{note}")


def _shape(found: ModelSize) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row("family", f"{found.family} ({found.architecture})")
    table.add_row("parameters", f"{found.n_parameters:,}, {_bytes(found.weight_bytes)} in {found.dtype}")
    if found.counted.active != found.n_parameters:
        table.add_row("active", f"{found.counted.active:,} for each token")
    for stack in found.stacks:
        shared = f" on {stack.n_kv_heads} key-value heads" if stack.n_kv_heads != stack.n_heads else ""
        name = f"attention {stack.letter}".strip()
        table.add_row(name, f"{stack.n_layers} layers x {stack.n_heads} heads of {stack.d_head} dimensions{shared}")
    longest = "no limit" if found.max_length is None else f"{found.max_length:,} tokens"
    table.add_row("longest text", longest)
    table.add_row("KV cache", _cache(found))
    training = found.training
    states = (found.weight_bytes, training.gradients, training.optimizer)
    shown = " + ".join(_bytes(part) for part in states)
    table.add_row("training", f"{shown} of weights, gradients and Adam")
    table.add_row("square part", f"outweighs the linear one from {found.crossing:,} tokens on")
    return table


def _cache(found: ModelSize) -> str:
    """Of one token, beside what it would be if heads shared their keys otherwise."""
    if not found.kv_bytes_per_token:
        return "none"
    others = ", ".join(f"{_bytes(n)} as {kind}" for kind, n in found.kv_by_sharing.items())
    return f"{_bytes(found.kv_bytes_per_token)} per token ({others})"


def _parts(found: ModelSize) -> Any:
    """Parameters by what they are for."""
    table = _table("part", "parameters", "share")
    for name, n in found.counted.parts.to_json().items():
        table.add_row(name, f"{n:,}", f"{n / found.n_parameters:.1%}")
    if found.counted.tied:
        table.add_row("output layer", "tied to embeddings", "")
    return table


def _costs(found: ModelSize) -> Any:
    table = _table("tokens", "KV cache", "lazy run", "all weights", "attention", "all else")
    for cost in found.costs:
        row = (cost.kv_cache, cost.lazy, cost.weights)
        flops = (_flops(cost.attention_flops), _flops(cost.linear_flops))
        table.add_row(_tokens(cost), *(_bytes(part) if part else "none" for part in row), *flops)
    return table


def _training(found: ModelSize) -> Any:
    """What a backward pass keeps and what attention moves, with eager and with fused attention."""
    table = _table("tokens", "training, eager", "training, fused", "moved, eager", "moved, fused")
    for cost in found.costs:
        kept = (cost.activations.eager, cost.activations.fused, cost.moved["eager"], cost.moved["fused"])
        table.add_row(_tokens(cost), *map(_bytes, kept))
    return table


def _table(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    return table


def _tokens(cost: Cost) -> str:
    return f"{cost.n_tokens:,}{'' if cost.fits else '*'}"


def _bytes(amount: int) -> str:
    value, unit = float(amount), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:,.1f} {_UNITS[unit]}"


def _count(amount: float) -> str:
    value, unit = (amount / 1e9, "B") if amount >= 1e9 else (amount / 1e6, "M")
    return f"{value:,.4g}{unit}"


def _flops(amount: int) -> str:
    for name, size_ in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if amount >= size_:
            return f"{amount / size_:,.1f} {name}"
    return f"{amount / 1e3:,.1f} kFLOP"
