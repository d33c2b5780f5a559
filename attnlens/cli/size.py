"""`attnlens size`: how large a model is and what its attention costs, from its config alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import console
from attnlens.cli.options import Dtype, JsonOption, TrustRemoteCode, listed
from attnlens.errors import UsageError

if TYPE_CHECKING:
    from attnlens.models.sizing import ModelSize

__all__ = ["size"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|CONFIG", help="An embedded model, a folder, a hub id, or a config.json.")
    ],
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N,N", help="Tokens of the texts whose cost is told.")
    ] = "128,512,2048,8192,32768",
    as_json: JsonOption = False,
    dtype: Dtype = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Tell parameters, memory, KV cache and what attention costs, without weights.

    Only the config is read, so this works for models that are too large to open here.
    """
    tokens = _lengths(lengths)
    with console.status(f"reading {model}"):
        from attnlens.models.loading import as_dtype, load_config
        from attnlens.models.sizing import model_size

        precision = None if dtype is None else as_dtype(dtype)
        config = load_config(model, trust_remote_code=trust_remote_code)
        found = model_size(config, dtype=precision, lengths=tokens, trust_remote_code=trust_remote_code)
    if as_json:
        console.json(_document(model, found))
    else:
        _print(model, found)


def _lengths(given: str) -> tuple[int, ...]:
    parts = listed(given) or ()
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--lengths {given!r} is no list of lengths; write numbers from 1 on: --lengths 128,512.")
    return tuple(map(int, parts))


def _document(model: str, found: ModelSize) -> dict[str, Any]:
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
    return {"model": model} | asdict(found) | {"stacks": stacks, "costs": [asdict(cost) for cost in found.costs]}


def _print(model: str, found: ModelSize) -> None:
    from rich.table import Table
    from rich.text import Text

    from attnlens.capture.tokens import printable

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row("family", f"{found.family} ({found.architecture})")
    table.add_row("parameters", f"{found.n_parameters:,}, {_bytes(found.weight_bytes)} in {found.dtype}")
    for stack in found.stacks:
        shared = f" on {stack.n_kv_heads} key-value heads" if stack.n_kv_heads != stack.n_heads else ""
        name = f"attention {stack.letter}".strip()
        table.add_row(name, f"{stack.n_layers} layers x {stack.n_heads} heads of {stack.d_head} dimensions{shared}")
    longest = "no limit" if found.max_length is None else f"{found.max_length:,} tokens"
    table.add_row("longest text", longest)
    cache = f"{_bytes(found.kv_bytes_per_token)} per token" if found.kv_bytes_per_token else "none"
    table.add_row("KV cache", cache)
    console.out(Text(printable(model), style="bold"), table, "", _costs(found))
    if not all(cost.fits for cost in found.costs):
        console.out("* longer than the model's positions")


def _costs(found: ModelSize) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("tokens", "KV cache", "lazy run", "all weights", "attention"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in found.costs:
        row = (cost.kv_cache, cost.lazy, cost.weights)
        tokens = f"{cost.n_tokens:,}{'' if cost.fits else '*'}"
        table.add_row(tokens, *(_bytes(part) if part else "none" for part in row), _flops(cost.attention_flops))
    return table


def _bytes(amount: int) -> str:
    value, unit = float(amount), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:,.1f} {_UNITS[unit]}"


def _flops(amount: int) -> str:
    for name, size_ in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if amount >= size_:
            return f"{amount / size_:,.1f} {name}"
    return f"{amount / 1e3:,.1f} kFLOP"
