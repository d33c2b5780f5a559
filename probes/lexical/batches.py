"""What does not change from layer to layer: plans of a batch, kept while layer after layer asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from probes.words import Reading

__all__ = ["kept_plans", "rows"]

Plan = TypeVar("Plan")
Settings = TypeVar("Settings")


class _Same:
    """Readings, equal only to themselves: they hold arrays, which do not compare."""

    def __init__(self, readings: tuple[Reading, ...], n_words: int, settings: Any) -> None:
        self.readings, self.n_words, self.settings = readings, n_words, settings

    def __hash__(self) -> int:
        return hash((self.n_words, self.settings, *map(id, self.readings)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same)
            and self.n_words == other.n_words
            and self.settings == other.settings
            and len(self.readings) == len(other.readings)
            and all(one is two for one, two in zip(self.readings, other.readings, strict=True))
        )


def kept_plans(
    make: Callable[[tuple[Reading, ...], int, Settings], Plan],
) -> Callable[[tuple[Reading, ...], int, Settings], Plan]:
    """`make(readings, n_words, settings)`, whose last results are kept for the same texts and settings."""

    @lru_cache(maxsize=64)
    def kept(same: _Same) -> Plan:
        return make(same.readings, same.n_words, same.settings)

    def plan(readings: tuple[Reading, ...], n_words: int, settings: Settings) -> Plan:
        return kept(_Same(readings, n_words, settings))

    return plan


def rows(values: Sequence[np.ndarray], n: int, dtype: type = np.float64) -> Tensor:
    """Arrays `[word]` of several texts in one tensor `[text word]`, zeros beyond each text's end."""
    together: np.ndarray = np.zeros((len(values), n), dtype=dtype)
    for row, each in zip(together, values, strict=True):
        row[: len(each)] = each
    return torch.from_numpy(together)
