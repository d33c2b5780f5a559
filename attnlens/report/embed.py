"""Data inside a page: JSON that cannot end its script element, and weights as base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.report.metrics import TILE

__all__ = ["MAX_BASE64", "PackedWeights", "fitting", "json_for_script", "pack_weights"]

# Characters of base64: up to EXACT in 32 bits, up to MAX in 16 bits; beyond, heads are left out.
EXACT_BASE64 = 6_000_000
MAX_BASE64 = 30_000_000


def json_for_script(document: Any) -> str:
    """JSON for a script element: no character of it can end the element or start a comment; NaN is refused."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@dataclass(frozen=True)
class PackedWeights:
    """The weights of some heads, ready for JSON.

    Attributes:
        bits: 32 (float32, exact) or 16 (whole numbers of 1/65535).
        error: the largest difference between a stored weight and the run's.
        heads: address -> base64 of the `[query key]` matrix, little-endian, row by row.
        masks: base64 of `[query key]` bits, row by row, most significant bit first: 1 is visible.
        mask_of: layer -> index in `masks`.
    """

    bits: int
    error: float
    heads: dict[str, str]
    masks: tuple[str, ...]
    mask_of: tuple[int, ...]


def fitting(run: Capture, heads: Sequence[Head]) -> tuple[tuple[Head, ...], int]:
    """As many of `heads`, from the first on, as fit into a page, and the bits for each weight."""
    n_weights = len(run.tokens) ** 2
    if _base64_length(4 * n_weights) * len(heads) <= EXACT_BASE64:
        return tuple(heads), 32
    n_fitting = max(1, MAX_BASE64 // max(1, _base64_length(2 * n_weights)))
    return tuple(heads[:n_fitting]), 16


def pack_weights(run: Capture, heads: Sequence[Head], bits: int = 32) -> PackedWeights:
    """The weights of `heads` and the masks of all layers.

    Args:
        run: the run.
        heads: which heads.
        bits: 32 or 16 for each weight.
    """
    packed, error = {}, 0.0
    for head, weights in _weights(run, heads):
        if bits == 16:
            steps = np.rint(weights.clip(0, 1) * 65535).astype("<u2")
            error = max(error, float(np.abs(steps / 65535 - weights).max(initial=0)))
            packed[str(head)] = _base64(steps.tobytes())
        else:
            packed[str(head)] = _base64(weights.astype("<f4").tobytes())
    masks = [pack_mask(run.visible(layer).numpy()) for layer in range(run.n_layers)]
    different = tuple(dict.fromkeys(masks))
    return PackedWeights(bits, error, packed, different, tuple(different.index(mask) for mask in masks))


def pack_mask(visible: Bool[np.ndarray, "query key"]) -> str:
    """One bit per cell."""
    return _base64(np.packbits(visible).tobytes())


def _weights(run: Capture, heads: Sequence[Head]) -> Iterator[tuple[Head, Float[np.ndarray, "query key"]]]:
    """Each head's weights; a layer is recomputed at once where that takes little memory."""
    together = run.n_heads * len(run.tokens) ** 2 <= TILE
    for layer, members in groupby(heads, key=lambda head: head.layer):
        whole = run.attention(layer).numpy() if together else None
        for head in members:
            yield head, run.attention(head=head).numpy() if whole is None else whole[head.head]


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _base64_length(n_bytes: int) -> int:
    return -(-n_bytes // 3) * 4
