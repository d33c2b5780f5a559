"""GAP (measure C4): which of two names does an ambiguous pronoun look at, and does gender matter?

Two-way accuracy counts rows in which one of the names is right. The official score also lets a system say "neither": it
predicts the name with more attention where that is at least some threshold. F1 is then over the decisions about both
names of all rows, 2 x right / (names predicted + names that are right), and bias is F1 of feminine rows over F1 of
masculine ones. The threshold is chosen on SELECT out of a fixed grid, so that all of it is sums.

Source: Webster et al. 2018 (arXiv:1810.05201, section 3). A causal model is asked where both names come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.coreference.choices import Asked, choices_in, token_contest, word_choice
from probes.coreference.contests import Contest
from probes.split import Split
from probes.statistics import Resampling, interval
from probes.tally import UNIT, Cell, Key
from probes.words import Reading

__all__ = [
    "BOTH_BEFORE",
    "GAP",
    "GENDERS",
    "GRID",
    "NAME",
    "GapResult",
    "gap_result",
    "is_count",
    "of_gender",
    "predicted_key",
    "right_key",
    "token_contests",
    "word_contests",
]

NAME = "gap"
GAP = Key("gap")
BOTH_BEFORE = Key("gap (both names before)")
GENDERS = ("masculine", "feminine")
GRID = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the attention from which a name is predicted."""


def of_gender(gender: str) -> Key:
    """Two-way accuracy on the rows of one gender."""
    return Key(f"gap ({gender})")


def right_key(gender: str, least: float) -> Key:
    """Rows in which some name is right; hits: the predicted one is."""
    return Key(f"gap ({gender}) predicted from {least:g}", "right")


def predicted_key(gender: str, least: float) -> Key:
    """All rows; hits: some name is predicted."""
    return Key(f"gap ({gender}) predicted from {least:g}", "any")


def is_count(key: Key) -> bool:
    """Whether a key is a count that F1 is made of, and no question to a head."""
    return key.relation.startswith("gap (") and " predicted from " in key.relation


def word_contests(reading: Reading, rules: Mapping[str, int], n_rules: int) -> Iterator[Contest]:
    """Two-way choices of a text.

    Args:
        reading: the text.
        rules: columns of the rules "nearest mention" and "second option".
        n_rules: columns in all.
    """
    for asked in choices_in(reading, NAME):
        if len(asked.choice.gold) == 1:
            genders = [of_gender(tag) for tag in asked.choice.tags if tag in GENDERS]
            keys = (GAP, *genders, *((BOTH_BEFORE,) if asked.before else ()))
            points = np.zeros((len(asked.options), n_rules), dtype=bool)
            points[asked.nearest, rules["nearest mention"]] = True
            points[-1, rules["second option"]] = True
            yield word_choice(asked, keys, _right(asked), points)


def token_contests(reading: Reading, n_rules: int) -> Iterator[Contest]:
    """Choices with "neither", at every threshold of the grid."""
    for asked in choices_in(reading, NAME):
        for gender in asked.choice.tags:
            for least in GRID if gender in GENDERS else ():
                anything = np.ones(len(asked.options), dtype=bool)
                yield token_contest(reading, asked, (predicted_key(gender, least),), anything, least, n_rules)
                if asked.choice.gold:
                    yield token_contest(reading, asked, (right_key(gender, least),), _right(asked), least, n_rules)


def _right(asked: Asked) -> Bool[np.ndarray, " option"]:
    return np.isin(np.arange(len(asked.options)), asked.choice.gold)


@dataclass(frozen=True)
class GapResult:
    """F1 of every head on CONFIRM, with the threshold that it had on SELECT; NaN where nothing was asked.

    Attributes:
        n: rows of each gender.
        least: threshold of each head.
        f1: of both genders together, masculine, feminine.
        bias: feminine F1 over masculine F1; NaN where that is 0.
        bias_ci: its 95 % interval.
    """

    n: dict[str, int]
    least: Float64[np.ndarray, " head"]
    f1: dict[str, Float64[np.ndarray, " head"]]
    bias: Float64[np.ndarray, " head"]
    bias_ci: Float64[np.ndarray, "2 head"]

    def of_head(self, head: int) -> dict[str, Any]:
        """One head's figures by name."""
        return {
            "threshold": float(self.least[head]),
            "f1": float(self.f1["all"][head]),
            "f1_masculine": float(self.f1["masculine"][head]),
            "f1_feminine": float(self.f1["feminine"][head]),
            "bias": float(self.bias[head]),
            "bias_ci": [float(bound) for bound in self.bias_ci[:, head]],
        }


@dataclass(frozen=True)
class _Counts:
    """What F1 is made of, per threshold: 2 x right, and predicted + gold, per cluster and head."""

    twice_right: Float64[np.ndarray, "threshold cluster head"]
    predicted_and_gold: Float64[np.ndarray, "threshold cluster head"]
    rows: Int64[np.ndarray, " cluster"]

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            self.twice_right + other.twice_right,
            self.predicted_and_gold + other.predicted_and_gold,
            self.rows + other.rows,
        )

    def f1(self, clusters: Bool[np.ndarray, " cluster"]) -> Float64[np.ndarray, "threshold head"]:
        """Over some clusters."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(
                self.twice_right[:, clusters].sum(axis=1) / self.predicted_and_gold[:, clusters].sum(axis=1)
            )

    def resampled(
        self, resampling: Resampling, confirm: Bool[np.ndarray, " cluster"], chosen: Int64[np.ndarray, " head"]
    ) -> Float64[np.ndarray, "replicate head"]:
        """F1 on CONFIRM at each head's own threshold, in every bootstrap replicate."""
        heads = np.arange(self.twice_right.shape[2])
        above, below = (
            resampling.weights @ part[chosen[None, :], np.flatnonzero(confirm)[:, None], heads[None, :]]
            for part in (self.twice_right, self.predicted_and_gold)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(above / below)


def gap_result(cells: Mapping[Key, Cell], split: Split, resampling: Resampling) -> GapResult | None:
    """F1 and bias of every head from the counts of a run; None where GAP was not asked."""
    counts = {gender: _counts(cells, gender) for gender in GENDERS}
    known = [each for each in counts.values() if each is not None]
    if not known:
        return None
    together = known[0] if len(known) == 1 else known[0] + known[1]
    confirm = split.confirm
    chosen = np.nan_to_num(together.f1(~confirm)).argmax(axis=0)
    heads = np.arange(len(chosen))
    f1 = {"all": together.f1(confirm)[chosen, heads]}
    resampled = {}
    for gender, each in counts.items():
        f1[gender] = np.full(len(heads), np.nan) if each is None else each.f1(confirm)[chosen, heads]
        resampled[gender] = (
            np.full((len(resampling.weights), len(heads)), np.nan)
            if each is None
            else each.resampled(resampling, confirm, chosen)
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = f1["feminine"] / f1["masculine"]
        ratios = resampled["feminine"] / resampled["masculine"]
    rows = {gender: 0 if each is None else int(each.rows[confirm].sum()) for gender, each in counts.items()}
    bias = np.where(np.isfinite(ratio), ratio, np.nan)
    return GapResult(rows, np.array(GRID)[chosen], f1, bias, _bounds(ratios))


def _bounds(ratios: Float64[np.ndarray, "replicate head"]) -> Float64[np.ndarray, "2 head"]:
    """The interval of each head, over the replicates in which its ratio exists."""
    bounds = np.full((2, ratios.shape[1]), np.nan)
    for head, values in enumerate(ratios.T):
        defined = values[np.isfinite(values)]
        if len(defined):
            bounds[:, head] = interval(defined[:, None])[:, 0]
    return bounds


def _counts(cells: Mapping[Key, Cell], gender: str) -> _Counts | None:
    twice, below = [], []
    for least in GRID:
        anything, right = cells.get(predicted_key(gender, least)), cells.get(right_key(gender, least))
        if anything is None:
            return None
        gold = np.zeros_like(anything.hits) if right is None else right.trials[:, None]
        twice.append(2 * (np.zeros_like(anything.hits) if right is None else right.hits) / UNIT)
        below.append(anything.hits / UNIT + gold)
    return _Counts(np.stack(twice), np.stack(below), cells[predicted_key(gender, GRID[0])].trials)
