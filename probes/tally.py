"""What a pass over a corpus leaves behind: sums and counts per question, cluster and head; never a mean.

Everything is kept in 64-bit integers, in parts of `UNIT` = lcm(1..22): a tie split in up to 22 parts, and so
a score made of them, is exact, other amounts are rounded to 4e-9. Integer sums do not depend on their order,
so shards of a corpus merge to the same result, to the last bit, whichever way it was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["PER_CLUSTER", "PER_HEAD", "UNIT", "Cell", "Key", "Tally", "in_units", "parts"]

UNIT = 232_792_560

PER_CLUSTER = ("trials", "asked", "chance", "mass_chance", "control_trials")
PER_HEAD = (
    "hits", "mass", "rival_mass", "control_hits", "paired_hits", "shuffled_hits", "control_mass", "paired_mass",
)  # fmt: skip


class Key(NamedTuple):
    """One question asked of every head: a relation, a direction where it has two, and where the head is asked.

    Attributes:
        relation: of the question.
        direction: `d2h` (dependent to head), `h2d` (head to dependent), ...; None where there is one only.
        at: "word" where the word itself looks; "pred" where the place looks at which the word is predicted: the token
            before it in a causal model, the mask in its place in a bidirectional one.
    """

    relation: str
    direction: str | None = None
    at: str = "word"

    def __str__(self) -> str:
        named = self.relation if self.direction is None else f"{self.relation} {self.direction}"
        return named if self.at == "word" else f"{named} @{self.at}"


def in_units(amount: Float64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
    """Amounts as integers in parts of `UNIT`."""
    return np.asarray(np.rint(amount * UNIT), dtype=np.int64)


def parts(amount: float) -> int:
    """One amount as an integer in parts of `UNIT`."""
    return round(float(amount) * UNIT)


@dataclass(frozen=True)
class Cell:
    """Sums for one question; `trials`, `asked` and `control_trials` are counts, the rest is in parts of `UNIT`.

    Attributes:
        trials: how often the question was scored.
        asked: how often it occurs; more than `trials` where a causal model cannot see the answer.
        chance: what a uniform choice among the candidates would hit.
        hits: the head's argmax is the target (ties split), or the value itself for measures that are no
            accuracy. mass: attention on the target. rules: what each rule without a model hits.
        rival_mass: attention on the wrong options, where a trial has options.
        mass_chance: mass that uniform attention over all visible tokens, special ones too, puts on the target.
        control_trials, paired_hits, control_hits: trials that have control words (other words, at which the trial's
            offsets are not the relation); the head's hits on these trials, and its hits at their control words,
            averaged within each trial.
        paired_mass, control_mass: attention on the target of these trials, and on their control words, averaged so.
        shuffled_hits: hits on targets that were shuffled within the sentence (baseline b5).
        rule_hits: the head's hits on targets to which a rule points as well, per half (0 SELECT, 1 CONFIRM): how much
            of what a head does a rule does too, and the paired counts of McNemar's test.
    """

    trials: Int64[np.ndarray, " cluster"]
    asked: Int64[np.ndarray, " cluster"]
    chance: Int64[np.ndarray, " cluster"]
    hits: Int64[np.ndarray, "cluster head"]
    mass: Int64[np.ndarray, "cluster head"]
    rival_mass: Int64[np.ndarray, "cluster head"]
    mass_chance: Int64[np.ndarray, " cluster"]
    control_trials: Int64[np.ndarray, " cluster"]
    control_hits: Int64[np.ndarray, "cluster head"]
    paired_hits: Int64[np.ndarray, "cluster head"]
    shuffled_hits: Int64[np.ndarray, "cluster head"]
    paired_mass: Int64[np.ndarray, "cluster head"]
    control_mass: Int64[np.ndarray, "cluster head"]
    rules: Int64[np.ndarray, "cluster rule"]
    rule_hits: Int64[np.ndarray, "2 rule head"]

    @classmethod
    def empty(cls, n_clusters: int, n_heads: int, n_rules: int) -> Cell:
        """All sums zero."""
        counts = {name: np.zeros(n_clusters, np.int64) for name in PER_CLUSTER}
        per_head = {name: np.zeros((n_clusters, n_heads), np.int64) for name in PER_HEAD}
        rules = np.zeros((n_clusters, n_rules), np.int64)
        return cls(**counts, **per_head, rules=rules, rule_hits=np.zeros((2, n_rules, n_heads), np.int64))

    def merge(self, other: Cell) -> Cell:
        """The sums of both."""
        return Cell(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(Cell)})


class Tally:
    """Cells by question, for a fixed set of clusters, heads and rules.

    A pass makes some hundred thousand updates, so `add` works in place; `merge` returns a new tally.
    """

    def __init__(self, n_clusters: int, n_heads: int, rules: Iterable[str] = ()) -> None:
        """An empty tally; `rules` names the columns of `Cell.rules`."""
        self.n_clusters = n_clusters
        self.n_heads = n_heads
        self.rules = tuple(rules)
        self.cells: dict[Key, Cell] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(sorted(self.cells, key=lambda key: (key.relation, key.direction or "", key.at)))

    def cell(self, key: Key) -> Cell:
        """The cell of `key`, made on first use."""
        if key not in self.cells:
            self.cells[key] = Cell.empty(self.n_clusters, self.n_heads, len(self.rules))
        return self.cells[key]

    def add(self, key: Key, cluster: int, half: int, **sums: int | np.int64 | Int64[np.ndarray, ...]) -> None:
        """Add one text's sums to a cell, by the names of `Cell`; amounts are in parts of `UNIT`.

        Args:
            key: the question.
            cluster: of the text.
            half: of the cluster, 0 for SELECT and 1 for CONFIRM.
            sums: per head for the fields that have heads; `rule_hits` is `[rule head]`.
        """
        cell = self.cell(key)
        for name, amount in sums.items():
            getattr(cell, name)[half if name == "rule_hits" else cluster] += amount

    def absorb(self, part: Tally, clusters: Int64[np.ndarray, " local"]) -> None:
        """Add a tally over some clusters in place.

        Args:
            part: it counts its own clusters from 0.
            clusters: which of ours each of these is, each once.

        Raises:
            ValueError: other heads, rules or clusters than ours.
        """
        if (part.n_heads, part.rules, part.n_clusters) != (self.n_heads, self.rules, len(clusters)):
            raise ValueError("a tally of other heads or rules, or without a name for each cluster, cannot be absorbed")
        for key, theirs in part.cells.items():
            ours = self.cell(key)
            for each in fields(Cell):
                where = slice(None) if each.name == "rule_hits" else clusters
                getattr(ours, each.name)[where] += getattr(theirs, each.name)

    def merge(self, other: Tally) -> Tally:
        """The tally of both passes together; the order does not matter.

        Raises:
            ValueError: they count different clusters, heads or rules.
        """
        mine = (self.n_clusters, self.n_heads, self.rules)
        if mine != (other.n_clusters, other.n_heads, other.rules):
            raise ValueError("tallies of different clusters, heads or rules cannot be merged")
        merged = Tally(*mine)
        for key in self.cells | other.cells:
            for part in (tally.cells[key] for tally in (self, other) if key in tally.cells):
                merged.cells[key] = merged.cell(key).merge(part)
        return merged
