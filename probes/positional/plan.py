"""What a batch of texts asks by place, from tokens and annotation alone: the same for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from probes.positional.keys import (
    COLUMNS,
    COMMA,
    DELIMITER,
    FULL_STOP,
    OFFSETS,
    PUNCTUATION,
    SEPARATOR,
    START,
    UPOS,
    WORD_OFFSETS,
)
from probes.tally import Key
from probes.view import padded
from probes.words import Reading

__all__ = ["SETS", "Contest", "Plan", "plan_of"]

SETS: tuple[Key, ...] = (*COLUMNS, START, SEPARATOR, FULL_STOP, COMMA, PUNCTUATION, DELIMITER)


@dataclass(frozen=True)
class Contest:
    """Who may win a row, and which winner is right for which question.

    Attributes:
        barred: 0 at candidates and -2 elsewhere, to be added to weights.
        offsets: the questions that ask for a fixed offset.
        at_offset: queries that have a candidate there.
        chance: per question, the sum over these queries of what a uniform choice would hit.
    """

    barred: Float64[Tensor, "text 1 query key"]
    offsets: tuple[int, ...]
    at_offset: Bool[Tensor, "text question query"]
    chance: Float64[Tensor, "text question"]


@dataclass(frozen=True)
class Plan:
    """Masks and places of a batch; texts are padded on the right.

    Attributes:
        asking: tokens of the text, which are the queries.
        separators: special tokens after the first position.
        lengths: tokens of each text.
        causal: texts that are read from left to right only.
        gaps: distance between query and key in tokens, 0 for queries that do not ask.
        tokens, words: of tokens at `OFFSETS`, and of words at `WORD_OFFSETS`.
        nearest: per query word, 1 at the word that is the nearest of its part of speech on its side.
        near_of: index in `NEAREST` of the question that a word answers for a query; 0 where it answers none.
        near_trials, near_chance: queries that have such a word, and what a uniform choice would hit there.
        columns: tokens that belong to some set, each once per text.
        members: to which of `SETS` these columns belong; none for the padding of `columns`.
    """

    asking: Bool[Tensor, "text query"]
    separators: Bool[Tensor, "text query"]
    lengths: Int64[Tensor, " text"]
    causal: Bool[Tensor, " text"]
    gaps: Float64[Tensor, "text query key"]
    tokens: Contest
    words: Contest
    nearest: Bool[Tensor, "text word other"]
    near_of: Int64[Tensor, "text word other"]
    near_trials: Int64[Tensor, "text question"]
    near_chance: Float64[Tensor, "text question"]
    columns: Int64[Tensor, "text column"]
    members: Float64[Tensor, "text set column"]


class _Same:
    """Readings, equal only to themselves: they hold arrays, which do not compare."""

    def __init__(self, readings: tuple[Reading, ...], n_tokens: int, n_words: int) -> None:
        self.readings, self.size = readings, (n_tokens, n_words)

    def __hash__(self) -> int:
        return hash((self.size, *map(id, self.readings)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same)
            and self.size == other.size
            and len(self.readings) == len(other.readings)
            and all(one is two for one, two in zip(self.readings, other.readings, strict=True))
        )


def plan_of(readings: tuple[Reading, ...], n_tokens: int, n_words: int) -> Plan:
    """The plan of a batch, padded to these sizes; the last ones are kept, since layer after layer asks."""
    return _plan(_Same(readings, n_tokens, n_words))


@lru_cache(maxsize=64)
def _plan(same: _Same) -> Plan:
    readings, (n_tokens, n_words) = same.readings, same.size
    asking = _rows([~reading.special for reading in readings], n_tokens)
    separators = _rows([reading.special for reading in readings], n_tokens)
    separators[:, :1] = False
    place = torch.arange(n_tokens)
    words = padded([reading.candidates for reading in readings], n_words)
    near_of = _nearest(readings, n_words).masked_fill(~words, 0)
    by_choice = 1 / words.sum(-1).clamp_min(1).double()
    found = torch.nn.functional.one_hot(near_of, 2 * len(UPOS) + 1)[..., 1:].sum(2)  # [text word question]
    columns, members = _sets(readings)
    return Plan(
        asking=asking,
        separators=separators,
        lengths=torch.tensor([len(reading.labels) for reading in readings]),
        causal=torch.tensor([reading.causal for reading in readings]),
        gaps=(place[:, None] - place).abs().double() * asking[:, :, None],
        tokens=_contest(padded([reading.token_candidates for reading in readings], n_tokens), OFFSETS),
        words=_contest(words, WORD_OFFSETS),
        nearest=near_of > 0,
        near_of=(near_of - 1).clamp_min(0),
        near_trials=found.sum(1),
        near_chance=(found * by_choice[:, :, None]).sum(1),
        columns=columns,
        members=members.double(),
    )


def _rows(rows: Sequence[Bool[np.ndarray, " _"]], n: int) -> Bool[Tensor, "text token"]:
    together = torch.zeros(len(rows), n, dtype=torch.bool)
    for place, row in zip(together, rows, strict=True):
        place[: len(row)] = torch.from_numpy(row)
    return together


def _contest(candidates: Bool[Tensor, "text query key"], offsets: tuple[int, ...]) -> Contest:
    n = candidates.shape[-1]
    at_offset = torch.zeros(len(candidates), len(offsets), n, dtype=torch.bool)
    for i, offset in enumerate(offsets):
        row = at_offset[:, i, max(0, -offset) : n - max(0, offset)]
        row[:] = torch.diagonal(candidates, offset, 1, 2) if abs(offset) < n else False
    by_choice = 1 / candidates.sum(-1).clamp_min(1).double()
    return Contest(
        barred=torch.where(candidates, 0.0, -2.0).double()[:, None],
        offsets=offsets,
        at_offset=at_offset,
        chance=(at_offset * by_choice[:, None]).sum(-1),
    )


def _nearest(readings: Sequence[Reading], n: int) -> Int64[Tensor, "text word other"]:
    """1 + index in `NEAREST` at the nearest word of each part of speech, left and right of each word; 0 elsewhere."""
    found = torch.zeros(len(readings), n, n, dtype=torch.int64)
    for page, reading in zip(found.numpy(), readings, strict=True):
        size = len(reading.kept)
        query = np.arange(size)
        is_one = (np.array(reading.upos, dtype=object)[None, :] == np.array(UPOS)[:, None]) & reading.kept
        left = np.maximum.accumulate(np.where(is_one, query, -1), axis=1)
        right = np.minimum.accumulate(np.where(is_one, query, size)[:, ::-1], axis=1)[:, ::-1]
        for index in range(len(UPOS)):
            before, after = left[index, :-1], right[index, 1:]
            has = before >= 0
            page[query[1:][has], before[has]] = 1 + index
            has = after < size
            page[query[:-1][has], after[has]] = 1 + len(UPOS) + index
    return found


def _sets(readings: Sequence[Reading]) -> tuple[Int64[Tensor, "text column"], Bool[Tensor, "text set column"]]:
    sets = [_sets_of(reading) for reading in readings]
    used = [np.flatnonzero(each.any(axis=0)) for each in sets]
    width = max(map(len, used))
    columns = torch.zeros(len(readings), width, dtype=torch.int64)
    members = torch.zeros(len(readings), len(SETS), width, dtype=torch.bool)
    for row, (each, places) in enumerate(zip(sets, used, strict=True)):
        columns[row, : len(places)] = torch.from_numpy(places)
        members[row, :, : len(places)] = torch.from_numpy(each[:, places])
    return columns, members


def _sets_of(reading: Reading) -> Bool[np.ndarray, "set token"]:
    """The sets' tokens in one text: fixed places, special tokens, full stops and commas."""
    place = np.arange(len(reading.labels))
    is_column = [place == column for column in range(len(COLUMNS))]
    marks = reading.delimiters & ~reading.special
    comma = marks & np.array([label == "," for label in reading.labels], dtype=bool)
    start, separator = reading.special & (place == 0), reading.special & (place > 0)
    return np.stack([*is_column, start, separator, marks & ~comma, comma, marks, marks | separator])
