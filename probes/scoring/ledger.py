"""Where the sums of a shard grow: one row per question, sort of sum and cluster that occurs, one column per head."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from probes.tally import PER_CLUSTER, PER_HEAD, Key, Tally

__all__ = ["COUNTED", "PER_HEAD_SUMS", "Ledger", "code_of"]

PER_HEAD_SUMS = (*PER_HEAD, "rule_hits")
COUNTED = (*PER_CLUSTER, "rules")
_FIELDS = 16
_PLACES = 1 << 32

Codes = Int64[np.ndarray, " _"]


def code_of(question: Codes, field: int, place: Codes) -> Codes:
    """One number for a question, a sort of sum (index in `PER_HEAD_SUMS` or `COUNTED`) and a place.

    The place is the cluster; for `rule_hits` half * rules + rule.
    """
    return np.asarray((question * _FIELDS + field) * _PLACES + place)


class Ledger:
    """Sums of one shard for all families; what occurs nowhere takes no room. Several threads may add at once."""

    def __init__(self, rules: Mapping[str, tuple[str, ...]], n_heads: int) -> None:
        """`rules`: per family, the names of its rules."""
        self.rules = rules
        self.n_heads = n_heads
        self._questions: dict[tuple[str, Key], int] = {}
        self._rows: dict[int, int] = {}
        self._sums = np.zeros((256, n_heads), np.int64)
        self._counts: dict[int, int] = {}
        self._rule_rows: dict[int, int] = {}
        self._rule_sums = np.zeros((256, max(map(len, rules.values()), default=0)), np.int64)
        self._lock = threading.Lock()

    def questions(self, family: str, keys: Sequence[Key]) -> list[int]:
        """A number for each question of a family."""
        known = self._questions
        with self._lock:
            return [known.setdefault((family, key), len(known)) for key in keys]

    def rows(self, codes: Codes) -> Int64[np.ndarray, " entry"]:
        """The rows of these codes, each given once."""
        known = self._rows
        with self._lock:
            found = np.array([known.setdefault(code, len(known)) for code in codes.tolist()], dtype=np.int64)
            self._sums = _grown(self._sums, len(known))
        return found

    def add(self, rows: Int64[np.ndarray, " row"], first_head: int, amounts: Int64[np.ndarray, "row head"]) -> None:
        """Add to some rows, each given once, for the heads of one layer."""
        with self._lock:
            self._sums[rows, first_head : first_head + amounts.shape[1]] += amounts

    def count(self, codes: Codes, amounts: Int64[np.ndarray, " entry"]) -> None:
        """Add what does not depend on the head; codes may repeat."""
        order = np.argsort(codes)
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        if not len(starts):
            return
        unique, sums = codes[order][starts], np.add.reduceat(amounts[order], starts)
        with self._lock:
            for code, amount in zip(unique.tolist(), sums.tolist(), strict=True):
                self._counts[code] = self._counts.get(code, 0) + amount

    def count_rules(self, codes: Codes, amounts: Int64[np.ndarray, "entry rule"]) -> None:
        """Add what the rules of a family hit; codes may repeat."""
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        if not len(starts) or not amounts.shape[1]:
            return
        unique, sums = codes[order][starts], np.add.reduceat(amounts[order], starts, axis=0)
        known = self._rule_rows
        with self._lock:
            rows = [known.setdefault(code, len(known)) for code in unique.tolist()]
            self._rule_sums = _grown(self._rule_sums, len(known))
            self._rule_sums[rows, : amounts.shape[1]] += sums

    def tallies(self) -> tuple[Int64[np.ndarray, " cluster"], dict[str, Tally]]:
        """The clusters that occur, and each family's tally over them, counted from 0."""
        counted = np.fromiter(self._counts, np.int64, len(self._counts))
        amounts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        codes = np.fromiter(self._rows, np.int64, len(self._rows))
        of_rules = np.fromiter(self._rule_rows, np.int64, len(self._rule_rows))
        clusters = np.unique(counted % _PLACES)  # what is summed over heads or rules has a count beside it
        names = {number: question for question, number in self._questions.items()}
        tallies = {family: Tally(len(clusters), self.n_heads, rules) for family, rules in self.rules.items()}
        for group, places, chosen in _groups(counted):
            family, key = names[group // _FIELDS]
            cell = tallies[family].cell(key)
            getattr(cell, COUNTED[group % _FIELDS])[np.searchsorted(clusters, places)] = amounts[chosen]
        for group, places, chosen in _groups(of_rules):
            family, key = names[group // _FIELDS]
            rules = tallies[family].cell(key).rules
            rules[np.searchsorted(clusters, places)] = self._rule_sums[chosen, : rules.shape[1]]
        for group, places, chosen in _groups(codes):
            family, key = names[group // _FIELDS]
            field, cell = PER_HEAD_SUMS[group % _FIELDS], tallies[family].cell(key)
            if field == "rule_hits":
                cell.rule_hits.reshape(-1, self.n_heads)[places] = self._sums[chosen]
            else:
                getattr(cell, field)[np.searchsorted(clusters, places)] = self._sums[chosen]
        return clusters, tallies


def _grown(sums: Int64[np.ndarray, "row value"], n_rows: int) -> Int64[np.ndarray, "more_row value"]:
    """With room for so many rows."""
    if n_rows <= len(sums):
        return sums
    more = np.zeros((max(n_rows, 2 * len(sums)) - len(sums), sums.shape[1]), np.int64)
    return np.concatenate([sums, more])


def _groups(codes: Codes) -> list[tuple[int, Codes, Codes]]:
    """(question and field, places, indices of the codes) of each question and field."""
    order = np.argsort(codes, kind="stable")
    groups = codes[order] // _PLACES
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    ends = [*starts[1:].tolist(), len(codes)][: len(starts)]  # none where there are no codes
    return [
        (int(groups[start]), codes[order[start:end]] % _PLACES, order[start:end])
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]
