"""WinoBias (measure C5) as a report on bias: does a pronoun look at the occupation that its gender is usual for?

Each item has two occupations and a pronoun that refers to one of them; its twin differs in the pronoun's gender alone.
gap = accuracy on the pro-stereotypical items less accuracy on their anti-stereotypical twins. A gap says that gender
moves the attention of a head, and nothing about whether the head finds antecedents: it never gives or supports a label.
In type 2 the right occupation is always the second, so that "the nearest" is right throughout.

Source: Zhao et al. 2018 (arXiv:1804.06876).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from probes.coreference.choices import choices_in, word_choice
from probes.coreference.contests import Contest
from probes.split import Split
from probes.statistics import Resampling, interval, replicates
from probes.tally import UNIT, Cell, Key
from probes.words import Reading

__all__ = ["NAME", "SIDES", "Bias", "bias_results", "contests", "side_key"]

NAME = "winobias"
SIDES = ("pro", "anti")


def side_key(question: str, side: str) -> Key:
    """The items of one side that have a twin."""
    return Key(question, side)


def contests(reading: Reading, rules: Mapping[str, int], n_rules: int) -> Iterator[Contest]:
    """Every item counts for its question; one with a twin also for its side.

    Args:
        reading: the text.
        rules: columns of the rules "nearest mention" and "second option".
        n_rules: columns in all.
    """
    for asked in choices_in(reading, NAME):
        choice = asked.choice
        sides = [side_key(choice.name, tag) for tag in choice.tags if tag in SIDES and choice.pair]
        points = np.zeros((len(asked.options), n_rules), dtype=bool)
        points[asked.nearest, rules["nearest mention"]] = True
        points[-1, rules["second option"]] = True
        right = np.isin(np.arange(len(asked.options)), choice.gold)
        yield word_choice(asked, (Key(choice.name), *sides), right, points)


@dataclass(frozen=True)
class Bias:
    """One question's bias in every head, on CONFIRM, over items with a twin.

    Attributes:
        question: "winobias type 1", "winobias type 2" (or without a type).
        n_pairs: pairs of twins.
        pro, anti: accuracy on each side.
        gap: pro less anti; `ci` is its 95 % interval, resampled by pairs.
        preference: attention on the right occupation less that on the other, on each side.
        gap_select: the gap on SELECT.
    """

    question: str
    n_pairs: int
    pro: Float64[np.ndarray, " head"]
    anti: Float64[np.ndarray, " head"]
    gap: Float64[np.ndarray, " head"]
    ci: Float64[np.ndarray, "2 head"]
    preference: dict[str, Float64[np.ndarray, " head"]]
    gap_select: Float64[np.ndarray, " head"]

    @property
    def chosen(self) -> int:
        """The head with the largest gap on SELECT, in either direction."""
        return int(np.abs(np.nan_to_num(self.gap_select)).argmax())

    def of_head(self, head: int) -> dict[str, Any]:
        """One head's figures by name."""
        return {
            "pro": float(self.pro[head]),
            "anti": float(self.anti[head]),
            "gap": float(self.gap[head]),
            "gap_ci": [float(bound) for bound in self.ci[:, head]],
            "preference_pro": float(self.preference["pro"][head]),
            "preference_anti": float(self.preference["anti"][head]),
        }

    def sentence(self, name: str) -> str:
        """What was found, in plain words; `name` is that of the chosen head."""
        head = self.chosen
        low, high = 100 * self.ci[:, head]
        clear = int((self.ci[0] > 0).sum()), int((self.ci[1] < 0).sum())
        place = " The right occupation is always the second one here, the nearer one." if "2" in self.question else ""
        return (
            f"In {self.n_pairs} pairs of sentences that differ in the pronoun's gender alone, {name} looks from the "
            f"pronoun at the right occupation in {100 * self.pro[head]:.1f} % where the gender is the usual one for it "
            f"and in {100 * self.anti[head]:.1f} % where it is not: a gap of {100 * self.gap[head]:+.1f} points "
            f"[{low:+.1f}, {high:+.1f}]. It is the head with the largest gap on the other half of the pairs, out of "
            f"{len(self.gap)}; the mean gap over all heads is {100 * float(self.gap.mean()):+.1f}, and the interval "
            f"lies above 0 for {clear[0]} heads and below 0 for {clear[1]} (not corrected for their number).{place} "
            "This is a report on bias, not evidence that a head resolves coreference."
        )


def bias_results(cells: Mapping[Key, Cell], split: Split, resampling: Resampling) -> list[Bias]:
    """The bias of every head on every WinoBias question of a run, from its counts."""
    questions = sorted({key.relation for key in cells if key.relation.startswith(NAME) and key.direction in SIDES})
    found = []
    for question in questions:
        pro, anti = (cells.get(side_key(question, side)) for side in SIDES)
        if pro is not None and anti is not None:
            bias = _bias(question, pro, anti, split, resampling)
            found += [bias] if bias.n_pairs else []
    return found


def _bias(question: str, pro: Cell, anti: Cell, split: Split, resampling: Resampling) -> Bias:
    confirm = split.confirm

    def rate(cell: Cell, amount: np.ndarray, clusters: np.ndarray) -> Float64[np.ndarray, " head"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(amount[clusters].sum(axis=0) / UNIT / cell.trials[clusters].sum())

    drawn = [
        replicates(resampling, cell.hits[confirm] / UNIT, cell.trials[confirm].astype(np.float64))
        for cell in (pro, anti)
    ]
    right = [rate(cell, cell.hits, confirm) for cell in (pro, anti)]
    select = [rate(cell, cell.hits, ~confirm) for cell in (pro, anti)]
    return Bias(
        question=question,
        n_pairs=int(min(cell.trials[confirm].sum() for cell in (pro, anti))),
        pro=right[0],
        anti=right[1],
        gap=right[0] - right[1],
        ci=interval(drawn[0] - drawn[1]),
        preference={
            side: rate(cell, cell.mass - cell.rival_mass, confirm)
            for side, cell in zip(SIDES, (pro, anti), strict=True)
        },
        gap_select=select[0] - select[1],
    )
