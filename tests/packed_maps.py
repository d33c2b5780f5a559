"""Packed maps read back as a script does, in numpy."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

STEPS = 60_000  # intervals of a weight from 0 to 1


def unpacked(body: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """The header, and the bytes behind it."""
    length = int.from_bytes(body[:4], "little")
    return json.loads(body[4 : 4 + length]), np.frombuffer(body[4 + length :], np.uint8)


def weights_of(body: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """The header, and `[map row column]`: the middle of each weight's interval, more than 1 where hidden."""
    header, raw = unpacked(body)
    shape = (len(header["names"]), len(header["rows"]["labels"]), len(header["columns"]["labels"]))
    return header, (raw.view("<u2").reshape(shape) + 0.5) / STEPS
