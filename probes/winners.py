"""Who wins each row of a batch's weights: found once per layer, for all families that ask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

__all__ = ["Winners", "bars", "most", "strongest"]

AT_ONCE = 100_000  # weights that are worked on together: they stay in a processor's cache
_BARRED = -2.0  # added to weights that may not win: below any weight
_NOBODY = 9.0  # above any weight

Index = Int64[np.ndarray, " entry"]


@dataclass(frozen=True)
class Winners:
    """The strongest candidates of all rows of `[text head query key]`, one entry each, in this order.

    Attributes:
        shape: of the weights.
        place: of each winner in the weights, flat.
        ties: how many are equally strong in its row (or column).
    """

    shape: tuple[int, int, int, int]
    place: Index
    ties: Index

    @cached_property
    def front(self) -> Index:
        """Text and head: text * heads + head."""
        return np.asarray(self.place // (self.shape[2] * self.shape[3]))

    @cached_property
    def text(self) -> Index:
        """The texts."""
        return np.asarray(self.front // self.shape[1])

    @cached_property
    def cell(self) -> Index:
        """Where the winner stands in `[text query key]`, flat: the same for every head."""
        return np.asarray(self.place - (self.front - self.text) * (self.shape[2] * self.shape[3]))

    @cached_property
    def query(self) -> Index:
        """The queries."""
        return np.asarray(self.place // self.shape[3] % self.shape[2])

    @cached_property
    def key(self) -> Index:
        """The keys."""
        return np.asarray(self.place % self.shape[3])


def bars(candidates: Bool[np.ndarray, "text query key"]) -> Float[np.ndarray, "text 1 query key"]:
    """What to add to weights so that only candidates can win: 0 there, and -2 elsewhere."""
    return np.where(candidates, 0.0, _BARRED)[:, None]


def strongest(
    weights: Float[np.ndarray, "text head query key"],
    barred: Float[np.ndarray, "text 1 query key"],
    axis: Literal[-1, -2] = -1,
) -> Winners:
    """Who wins; a row without a candidate has no winner.

    Args:
        weights: from 0 to 1.
        barred: see `bars`.
        axis: -1 where the cells of a row compete, -2 for those of a column.
    """
    n_texts, n_heads, n_queries, n_keys = weights.shape
    size, barred = n_heads * n_queries * n_keys, barred.astype(weights.dtype, copy=False)
    n_contests = n_texts * n_heads * (n_queries if axis == -1 else n_keys)
    step = max(1, AT_ONCE // max(1, size))
    room = np.empty((min(step, n_texts), *weights.shape[1:]), weights.dtype)
    places = []
    for start in range(0, n_texts if size else 0, step):
        part = weights[start : start + step]
        allowed = np.add(part, barred[start : start + step], out=room[: len(part)])
        best = most(allowed, axis)
        best[best < 0] = _NOBODY
        places.append(np.flatnonzero(allowed == np.expand_dims(best, axis)) + start * size)
    place = np.concatenate([np.zeros(0, np.int64), *places])
    row, key = np.divmod(place, max(1, n_keys))
    contest = row if axis == -1 else row // n_queries * n_keys + key
    return Winners((n_texts, n_heads, n_queries, n_keys), place, np.bincount(contest, minlength=n_contests)[contest])


def most(weights: Float[np.ndarray, "text head query key"], axis: int) -> Float[np.ndarray, "text head contest"]:
    """The largest weights along an axis; torch's take half the time of numpy's on rows of some dozen keys."""
    return torch.from_numpy(weights).amax(axis).numpy()
