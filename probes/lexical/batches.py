"""Rows of several texts as one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["rows"]


def rows(values: Sequence[np.ndarray], n: int, dtype: type = np.float64) -> np.ndarray:
    """Arrays `[word]` of several texts in one `[text word]`, zeros beyond each text's end."""
    together: np.ndarray = np.zeros((len(values), n), dtype=dtype)
    for row, each in zip(together, values, strict=True):
        row[: len(each)] = each
    return together
