"""How much memory a run will take, told before it runs, and the length of text that would fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlens.capture.run import HEAD_POINTS, ONCE
from attnlens.errors import UsageError
from attnlens.models.anatomy import Anatomy, Stack

__all__ = ["MemoryEstimate", "Request", "available_bytes", "longest_that_fits", "parse_bytes", "shown_bytes"]

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_FLOAT32 = 4


@dataclass(frozen=True)
class Request:
    """What a run is asked to keep.

    Attributes:
        weights: every weight is built (exact mode, or `weights=True`), rather than queries and keys kept.
        heads: share of the heads kept, of each stack's letter; all where a letter is missing.
        points: points of the stream and of the heads.
        logits: whether logits are kept.
        batch: texts at a time.
    """

    weights: bool = False
    heads: dict[str, float] | None = None
    points: Sequence[str] = ()
    logits: bool = True
    batch: int = 1


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes above the loaded model: what the run keeps, and the most that it needs while it runs."""

    kept: int
    peak: int

    @classmethod
    def of(cls, anatomy: Anatomy, n_tokens: int, request: Request, itemsize: int, n_source: int = 0) -> MemoryEstimate:
        """Estimate a run.

        Args:
            anatomy: of the model.
            n_tokens: tokens of each text, the longest counts.
            request: what is kept.
            itemsize: bytes of one number of the model.
            n_source: tokens of an encoder-decoder's source.
        """
        kept = sum(_pattern_bytes(stack, n_tokens, n_source, request, itemsize) for stack in anatomy.stacks)
        n_positions = n_tokens + n_source
        for point in request.points:
            width = anatomy.d_model if point not in HEAD_POINTS else anatomy.n_heads * _head_width(anatomy, point)
            layers = 1 if point in ONCE else anatomy.n_layers
            kept += layers * n_positions * width * itemsize * request.batch
        logits = anatomy.vocab_size * n_tokens * itemsize * request.batch
        working = 6 * n_positions * anatomy.d_model * itemsize * request.batch
        if request.weights:
            working += 2 * anatomy.n_heads * n_tokens * max(n_tokens, n_source) * itemsize * request.batch
        return cls(kept + request.logits * logits, kept + logits + working)


def _pattern_bytes(stack: Stack, n_tokens: int, n_source: int, request: Request, itemsize: int) -> int:
    queries = n_source if stack.letter == "E" else n_tokens
    keys = n_source if stack.letter in ("E", "X") else n_tokens
    if request.weights:
        per_layer = stack.n_heads * queries * keys * max(itemsize, _FLOAT32) + queries * keys
    else:
        per_layer = (stack.n_heads * queries + stack.n_kv_heads * keys) * stack.d_head * itemsize
    share = 1.0 if request.heads is None else request.heads.get(stack.letter, 0.0)
    return int(len(stack.attention_layers) * per_layer * share) * request.batch


def _head_width(anatomy: Anatomy, point: str) -> int:
    return anatomy.d_model if point == "write" else anatomy.d_head


def longest_that_fits(estimate: Callable[[int], int], limit: int, longest: int) -> int:
    """The largest number of tokens from 0 to `longest` whose `estimate` is within `limit`; estimates grow with it."""
    low, high = 0, longest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate(middle) <= limit else (low, middle - 1)
    return low


def available_bytes() -> int | None:
    """Memory that the system could give to a new program now; None where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def parse_bytes(amount: int | float | str) -> int:
    """A number of bytes, written as one or with a unit.

    >>> parse_bytes("2G"), parse_bytes("512 MiB"), parse_bytes(1000)
    (2147483648, 536870912, 1000)

    Raises:
        UsageError: anything else.
    """
    if isinstance(amount, int | float) and amount > 0:
        return int(amount)
    if isinstance(amount, str):
        text = amount.strip().upper().removesuffix("IB").removesuffix("B").strip()
        number, unit = (text, "") if text[-1:].isdigit() else (text[:-1].strip(), text[-1:])
        try:
            if unit in _UNITS and (value := float(number)) > 0:
                return int(value * _UNITS[unit])
        except ValueError:
            pass
    raise UsageError(f"{amount!r} is not an amount of memory; write bytes, or 512M, 2G, 1.5GiB.")


def shown_bytes(amount: int) -> str:
    """A number of bytes for a reader.

    >>> shown_bytes(1500), shown_bytes(3 << 20)
    ('1.5 KiB', '3.0 MiB')
    """
    value, unit = float(amount), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
