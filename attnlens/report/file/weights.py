"""Weights inside a page: base64 of 8 or 16 bits for each cell that the mask leaves visible, and the error of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from attnlens.capture.run import Capture
from attnlens.errors import OutputError, UsageError
from attnlens.heads import Head
from attnlens.report.maps import Choice, map_caption
from attnlens.report.packed import STEPS, codes_of, thumbnail_codes

__all__ = ["LIMIT", "PRECISIONS", "PackedStack", "fitting", "pack_stack", "unpack_stack"]

PRECISIONS = (8, 16)
# Characters of base64: up to FINE a page takes 16 bits by itself; beyond MOST it leaves heads out by itself.
FINE, MOST = 3_200_000, 30_000_000
# Bytes beyond which no report is written.
LIMIT = 50_000_000
_COARSE = 255  # steps of a weight in 8 bits
_PICTURE = 48  # cells along a side of the picture of a head whose weights are left out
_ALL, _CAUSAL = "all", "causal"


@dataclass(frozen=True)
class PackedStack:
    """The heads of one stack, ready for JSON.

    Attributes:
        letter: of the stack; empty where there is one only.
        n_layers, n_heads: of the model's stack.
        bits: 8 (nearest of 255 equal steps) or 16 (the middle of one of 60,000 equal intervals; the first means 0).
        error: the largest difference between a stored weight and the run's.
        masks: "all", "causal", or base64 of `[query key]` bits, row by row, most significant bit first: 1 is visible.
        mask_of: for each layer its place in `masks`; None where the layer was not kept.
        heads: address -> base64 of the weights of the visible cells, row by row, little-endian.
        pictures: address -> rows, columns and base64 of steps of 1/254 (255 hidden), of heads that are left out.
        captions: what one has to know to read a map, after the head's name; each sentence once.
        caption_of: address -> its place in `captions`.
    """

    letter: str
    n_layers: int
    n_heads: int
    bits: int
    error: float
    masks: tuple[str, ...]
    mask_of: tuple[int | None, ...]
    heads: Mapping[str, str]
    pictures: Mapping[str, tuple[int, int, str]]
    captions: tuple[str, ...]
    caption_of: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def fitting(run: Capture, heads: Sequence[Head], bits: int | None) -> tuple[tuple[Head, ...], int]:
    """Which of `heads`, from the first on, a page holds, and in how many bits.

    Args:
        run: whose.
        heads: the most important first.
        bits: 8 or 16; None takes 16 where that is small, and leaves heads out where even 8 bits are too much.

    Raises:
        UsageError: another number of bits.
        OutputError: with these bits the file would be larger than `LIMIT`; the message says what to leave out.
    """
    if bits not in (None, *PRECISIONS):
        raise UsageError(f"precision {bits!r} does not exist; choose 8 or 16 bits for each weight.")
    cells = {(h.stack, h.layer): int(run.visible(h.layer, stack=h.stack or None).sum()) for h in heads}
    visible = [cells[head.stack, head.layer] for head in heads]
    sizes = {n: np.cumsum([_base64_length(n // 8 * size) for size in visible]) for n in PRECISIONS}
    if bits is None:
        bits = 16 if sizes[16][-1] <= FINE else 8
        n_fitting = max(1, int(np.searchsorted(sizes[bits], MOST, side="right")))
        return tuple(heads[:n_fitting]), bits
    if (size := int(sizes[bits][-1])) > LIMIT:
        other = f" --precision 8 makes {sizes[8][-1] / 1e6:.0f} MB;" if bits == 16 else ""
        raise OutputError(
            f"the weights of {len(heads)} heads on {len(run.tokens):,} tokens would take {size / 1e6:.0f} MB in {bits} "
            f"bits, and a report holds {LIMIT // 10**6} MB.{other} leave --precision out to keep the leading heads, "
            "or capture fewer: attnlens capture --layers or --heads, or a shorter text."
        )
    return tuple(heads), bits


def pack_stack(run: Capture, letter: str, heads: Sequence[Head], left_out: Sequence[Head], bits: int) -> PackedStack:
    """The weights of some heads of a stack, and small pictures of others.

    Args:
        run: the run.
        letter: of the stack.
        heads: whose weights are kept, layer by layer.
        left_out: whose are not.
        bits: 8 or 16.
    """
    stack = letter or None
    patterns = run.patterns_of(stack=stack)
    layers = [layer for layer, pattern in enumerate(patterns) if pattern is not None]
    visible = {layer: run.visible(layer, stack=stack).numpy() for layer in layers}
    masks = {layer: _mask(seen) for layer, seen in visible.items()}
    different = tuple(dict.fromkeys(masks.values()))
    packed, error, captions = {}, 0.0, {}
    for layer, members in groupby(heads, key=lambda head: head.layer):
        for head, weights in _weights(run, list(members)):
            cells = weights[visible[layer]]
            codes, decoded = _coded(cells, bits)
            error = max(error, float(np.abs(decoded - cells).max(initial=0)))
            packed[str(head)] = _base64(codes.tobytes())
            captions[str(head)] = _caption(weights, visible[layer])
    said = tuple(dict.fromkeys(captions.values()))
    return PackedStack(
        letter=letter,
        n_layers=len(patterns),
        n_heads=run.anatomy.stack(letter).n_heads if run.anatomy.stacks else run.n_heads,
        bits=bits,
        error=error,
        masks=different,
        mask_of=tuple(different.index(masks[layer]) if layer in masks else None for layer in range(len(patterns))),
        heads=packed,
        pictures={str(head): _picture(run, head) for head in left_out},
        captions=said,
        caption_of={name: said.index(caption) for name, caption in captions.items()},
    )


def unpack_stack(
    document: Mapping[str, Any], n_queries: int, n_keys: int
) -> tuple[dict[str, Float[np.ndarray, "query key"]], list[Bool[np.ndarray, "query key"] | None]]:
    """The inverse: each head's weights (0 where hidden), and each layer's mask.

    Raises:
        ValueError: the numbers do not fit the sizes; the message says which.
    """
    masks = [_unmask(text, n_queries, n_keys) for text in document["masks"]]
    of_layer = [None if at is None else masks[at] for at in document["mask_of"]]
    found = {}
    for name, text in document["heads"].items():
        head = Head.parse(name)
        visible = of_layer[head.layer] if head.layer < len(of_layer) else None
        if visible is None:
            raise ValueError(f"{name} has no mask")
        codes = np.frombuffer(_bytes(text, name), dtype="u1" if document["bits"] == 8 else "<u2")
        if len(codes) != visible.sum():
            raise ValueError(f"{name} has {len(codes):,} weights for {int(visible.sum()):,} visible cells")
        weights = np.zeros((n_queries, n_keys), np.float32)
        weights[visible] = _decoded(codes, document["bits"])
        found[name] = weights
    return found, of_layer


def _weights(run: Capture, heads: Sequence[Head]) -> list[tuple[Head, Float[np.ndarray, "query key"]]]:
    """Each head's weights; a layer is formed at once where all of it is asked for."""
    first = heads[0]
    pattern = run.patterns_of(stack=first.stack or None)[first.layer]
    if pattern is not None and pattern.heads is None and len(heads) == pattern.n_heads:
        whole = run.attention(first.layer, stack=first.stack or None).numpy()
        return [(head, whole[head.head]) for head in heads]
    return [(head, run.attention(head=head).numpy()) for head in heads]


def _coded(cells: Float[np.ndarray, " cell"], bits: int) -> tuple[np.ndarray, Float[np.ndarray, " cell"]]:
    codes = np.rint(cells.clip(0, 1) * _COARSE).astype("u1") if bits == 8 else codes_of(cells)
    return codes, _decoded(codes, bits)


def _decoded(codes: np.ndarray, bits: int) -> Float[np.ndarray, " cell"]:
    if bits == 8:
        return (codes / _COARSE).astype(np.float32)
    return np.where(codes == 0, 0, (codes + 0.5) / STEPS).astype(np.float32)


def _caption(weights: Float[np.ndarray, "query key"], visible: Bool[np.ndarray, "query key"]) -> str:
    """A map's caption without the head's name."""
    shown = np.where(visible, weights, np.nan)
    return map_caption("", shown, Choice()).removeprefix(": ")


def _picture(run: Capture, head: Head) -> tuple[int, int, str]:
    over = run.overview(head=head, rows=_PICTURE, columns=_PICTURE).weights.numpy()
    return over.shape[0], over.shape[1], _base64(thumbnail_codes(over).tobytes())


def _mask(visible: Bool[np.ndarray, "query key"]) -> str:
    if visible.all():
        return _ALL
    if np.array_equal(visible, np.tri(*visible.shape, dtype=bool)):
        return _CAUSAL
    return _base64(np.packbits(visible).tobytes())


def _unmask(text: str, n_queries: int, n_keys: int) -> Bool[np.ndarray, "query key"]:
    if text in (_ALL, _CAUSAL):
        whole = np.ones((n_queries, n_keys), dtype=bool)
        return whole if text == _ALL else np.tril(whole)
    bits = np.unpackbits(np.frombuffer(_bytes(text, "a mask"), dtype=np.uint8))
    if len(bits) < n_queries * n_keys:
        raise ValueError(f"a mask has {len(bits):,} cells, expected {n_queries * n_keys:,}")
    return bits[: n_queries * n_keys].astype(bool).reshape(n_queries, n_keys)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what} is no base64 ({error})") from None


def _base64_length(n_bytes: int) -> int:
    return -(-n_bytes // 3) * 4
