"""Maps as bytes for a script that draws them: one header in JSON, then the numbers.

A weight from 0 to 1 takes 16 bits: in which of 60,000 equal intervals it lies. Every number of up to four decimals
that it could round to begins and ends at the edge of such an interval, so that what a script shows with four decimals
(it takes the middle of the interval) is the weight itself, rounded once. Other units are sent as float32.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from attnlens.report.maps import Maps

__all__ = ["HIDDEN", "STEPS", "codes_of", "pack_maps", "pack_thumbnails", "packed", "thumbnail_codes"]

STEPS = 60_000
HIDDEN = 65_535  # a cell that the mask hides
_HIDDEN_THUMB = 255


def pack_maps(maps: Maps, **more: Any) -> bytes:
    """Maps with labels and captions; `more` goes into the header as it is."""
    shares = not maps.unit
    header = {
        "names": maps.names,
        "captions": maps.captions,
        "rows": {"labels": maps.rows.labels, "places": maps.rows.places},
        "columns": {"labels": maps.columns.labels, "places": maps.columns.places},
        "level": maps.level,
        "size": maps.size,
        "window": None if maps.window is None else [*maps.window.queries, *maps.window.keys],
        "unit": maps.unit,
        "kind": "u2" if shares else "f4",
    }
    body = codes_of(maps.weights) if shares else maps.weights.astype("<f4")
    return packed(header | more, body.tobytes())


def pack_thumbnails(thumbnails: dict[str, UInt8[np.ndarray, "row column"]], **more: Any) -> bytes:
    """Small pictures of heads, by address, as `thumbnail_codes` makes them."""
    sizes = {name: picture.shape for name, picture in thumbnails.items()}
    return packed({"sizes": sizes} | more, b"".join(picture.tobytes() for picture in thumbnails.values()))


def codes_of(weights: Float[np.ndarray, "*axes"]) -> UInt16[np.ndarray, "*axes"]:
    """The interval that each weight lies in, `HIDDEN` for NaN; little-endian."""
    hidden = np.isnan(weights)
    steps = np.floor(np.where(hidden, 0, weights).astype(np.float64) * STEPS).clip(0, STEPS - 1)
    return np.where(hidden, HIDDEN, steps).astype("<u2")


def thumbnail_codes(weights: Float[np.ndarray, "row column"]) -> UInt8[np.ndarray, "row column"]:
    """Weights in steps of 1/254, for pictures only; 255 for NaN."""
    hidden = np.isnan(weights)
    steps = np.rint(np.where(hidden, 0, weights).clip(0, 1) * (_HIDDEN_THUMB - 1))
    return np.where(hidden, _HIDDEN_THUMB, steps).astype(np.uint8)


def packed(header: dict[str, Any], body: bytes) -> bytes:
    """The length of the header (4 bytes, little-endian), the header, filled up to a multiple of 4, and the body."""
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text + body
