"""What a batch of texts asks by place, from tokens and annotation alone: the same for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.kept import kept_plans
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
from probes.view import in_order, padded
from probes.words import Reading

__all__ = ["SETS", "Contest", "Near", "Plan", "plan_of"]

SETS: tuple[Key, ...] = (*COLUMNS, START, SEPARATOR, FULL_STOP, COMMA, PUNCTUATION, DELIMITER)


@dataclass(frozen=True)
class Contest:
    """Which winner of a row is right for which question about a fixed offset.

    Attributes:
        offsets: the questions.
        question: of each distance from query to key, counted from the most negative one; their number for none.
        at_offset: 1 at queries that have a candidate there.
        trials: per question, how many these are.
        chance: per question, the sum over these queries of what a uniform choice would hit.
    """

    offsets: tuple[int, ...]
    question: Int64[np.ndarray, " distance"]
    at_offset: Float64[np.ndarray, "text question query"]
    trials: Int64[np.ndarray, "text question"]
    chance: Float64[np.ndarray, "text question"]


@dataclass(frozen=True)
class Near:
    """The nearest word of each part of speech on either side of each word.

    Attributes:
        question: index in `NEAREST` that a cell answers, their number for none; flat over `[text word other]`.
        cells: of all questions, ordered by text and question: flat in `[text head word other]`.
        starts: where the cells of each text and question begin; only of those that have any.
        run: text * questions + question of each such run.
        trials, chance: queries that have such a word, and what a uniform choice would hit there.
    """

    question: Int64[np.ndarray, " cell"]
    cells: Int64[np.ndarray, "entry head"]
    starts: Int64[np.ndarray, " run"]
    run: Int64[np.ndarray, " run"]
    trials: Int64[np.ndarray, "text question"]
    chance: Float64[np.ndarray, "text question"]


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
        near: the nearest words of parts of speech.
        columns: tokens that belong to some set, each once per text.
        members: to which of `SETS` these columns belong; none for the padding of `columns`.
    """

    asking: Bool[np.ndarray, "text query"]
    separators: Bool[np.ndarray, "text query"]
    lengths: Int64[np.ndarray, " text"]
    causal: Bool[np.ndarray, " text"]
    gaps: Float64[np.ndarray, "text cell 1"]
    tokens: Contest
    words: Contest
    near: Near
    columns: Int64[np.ndarray, "text column"]
    members: Float64[np.ndarray, "text set column"]


def _plan(readings: tuple[Reading, ...], sizes: tuple[int, int, int]) -> Plan:
    n_heads, n_tokens, n_words = sizes
    asking = _rows([~reading.special for reading in readings], n_tokens)
    separators = _rows([reading.special for reading in readings], n_tokens)
    separators[:, :1] = False
    place = np.arange(n_tokens)
    gaps = np.abs(place[:, None] - place) * asking[:, :, None]
    words = padded([reading.candidates for reading in readings], n_words).numpy()
    columns, members = _sets(readings)
    return Plan(
        asking=asking,
        separators=separators,
        lengths=np.array([len(reading.labels) for reading in readings], dtype=np.int64),
        causal=np.array([reading.causal for reading in readings], dtype=bool),
        gaps=gaps.reshape(len(readings), -1, 1).astype(np.float64),
        tokens=_contest(padded([reading.token_candidates for reading in readings], n_tokens).numpy(), OFFSETS),
        words=_contest(words, WORD_OFFSETS),
        near=_near(readings, words, n_heads),
        columns=columns,
        members=members.astype(np.float64),
    )


plan_of = kept_plans(_plan)


def _rows(rows: Sequence[Bool[np.ndarray, " _"]], n: int) -> Bool[np.ndarray, "text token"]:
    together = np.zeros((len(rows), n), dtype=bool)
    for place, row in zip(together, rows, strict=True):
        place[: len(row)] = row
    return together


def _contest(candidates: Bool[np.ndarray, "text query key"], offsets: tuple[int, ...]) -> Contest:
    n = candidates.shape[-1]
    at_offset = np.zeros((len(candidates), len(offsets), n))
    question = np.full(max(2 * n - 1, 0), len(offsets), dtype=np.int64)
    for i, offset in enumerate(offsets):
        if abs(offset) < n:
            at_offset[:, i, max(0, -offset) : n - max(0, offset)] = np.diagonal(candidates, offset, 1, 2)
            question[offset + n - 1] = i
    by_choice = 1 / np.maximum(candidates.sum(-1), 1)
    return Contest(
        offsets=offsets,
        question=question,
        at_offset=at_offset,
        trials=at_offset.sum(-1).astype(np.int64),
        chance=in_order(at_offset * by_choice[:, None]),
    )


def _near(readings: Sequence[Reading], candidates: Bool[np.ndarray, "text word other"], n_heads: int) -> Near:
    n_texts, n, n_questions = len(readings), candidates.shape[-1], 2 * len(UPOS)
    question = np.where(candidates, _nearest(readings, n) - 1, -1)
    text, query, other = np.nonzero(question >= 0)
    place = text * n_questions + question[text, query, other]
    order = np.argsort(place, kind="stable")
    by_choice = 1 / np.maximum(candidates.sum(-1), 1)
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    found = np.bincount(place, minlength=n_texts * n_questions)
    chance = np.bincount(place, by_choice[text, query], minlength=n_texts * n_questions)
    cells = (text * (n_heads * n) + query) * n + other
    return Near(
        question=np.where(question < 0, n_questions, question).ravel(),
        cells=cells[order][:, None] + np.arange(n_heads) * (n * n),
        starts=starts,
        run=place[order][starts],
        trials=found.reshape(n_texts, n_questions),
        chance=chance.reshape(n_texts, n_questions).astype(np.float64),
    )


def _nearest(readings: Sequence[Reading], n: int) -> Int64[np.ndarray, "text word other"]:
    """1 + index in `NEAREST` at the nearest word of each part of speech, left and right of each word; 0 elsewhere."""
    found = np.zeros((len(readings), n, n), dtype=np.int64)
    for page, reading in zip(found, readings, strict=True):
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


def _sets(readings: Sequence[Reading]) -> tuple[Int64[np.ndarray, "text column"], Bool[np.ndarray, "text set column"]]:
    sets = [_sets_of(reading) for reading in readings]
    used = [np.flatnonzero(each.any(axis=0)) for each in sets]
    width = max(map(len, used))
    columns = np.zeros((len(readings), width), dtype=np.int64)
    members = np.zeros((len(readings), len(SETS), width), dtype=bool)
    for row, (each, places) in enumerate(zip(sets, used, strict=True)):
        columns[row, : len(places)] = places
        members[row, :, : len(places)] = each[:, places]
    return columns, members


def _sets_of(reading: Reading) -> Bool[np.ndarray, "set token"]:
    """The sets' tokens in one text: fixed places, special tokens, full stops and commas."""
    place = np.arange(len(reading.labels))
    is_column = [place == column for column in range(len(COLUMNS))]
    marks = reading.delimiters & ~reading.special
    comma = marks & np.array([label == "," for label in reading.labels], dtype=bool)
    start, separator = reading.special & (place == 0), reading.special & (place > 0)
    return np.stack([*is_column, start, separator, marks & ~comma, comma, marks, marks | separator])
