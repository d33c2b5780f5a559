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

__all__ = ["UNIT", "Cell", "Key", "Tally", "in_units", "parts"]

UNIT = 232_792_560


class Key(NamedTuple):
    """One question asked of every head: a relation, and a direction where it has two (`d2h`, `h2d`)."""

    relation: str
    direction: str | None = None

    def __str__(self) -> str:
        return self.relation if self.direction is None else f"{self.relation} {self.direction}"


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
            accuracy. mass: attention on the target. baselines: what each rule without a model hits.
        mass_chance: mass that uniform attention over all visible tokens, special ones too, puts on the target.
        control_trials, paired_hits, control_hits: trials that have control words (other words, at which the trial's
            offsets are not the relation); the head's hits on these trials, and its hits at their control words,
            averaged within each trial.
    """

    trials: Int64[np.ndarray, " cluster"]
    asked: Int64[np.ndarray, " cluster"]
    chance: Int64[np.ndarray, " cluster"]
    hits: Int64[np.ndarray, "cluster head"]
    mass: Int64[np.ndarray, "cluster head"]
    mass_chance: Int64[np.ndarray, " cluster"]
    control_trials: Int64[np.ndarray, " cluster"]
    control_hits: Int64[np.ndarray, "cluster head"]
    paired_hits: Int64[np.ndarray, "cluster head"]
    baselines: Int64[np.ndarray, "cluster baseline"]

    @classmethod
    def empty(cls, n_clusters: int, n_heads: int, n_baselines: int) -> Cell:
        """All sums zero."""
        counts = ("trials", "asked", "chance", "mass_chance", "control_trials")
        per_head = ("hits", "mass", "control_hits", "paired_hits")
        sums: dict[str, Int64[np.ndarray, ...]] = {name: np.zeros(n_clusters, np.int64) for name in counts}
        sums |= {name: np.zeros((n_clusters, n_heads), np.int64) for name in per_head}
        return cls(**sums, baselines=np.zeros((n_clusters, n_baselines), np.int64))

    def merge(self, other: Cell) -> Cell:
        """The sums of both."""
        return Cell(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(Cell)})


class Tally:
    """Cells by question, for a fixed set of clusters, heads and baselines.

    A pass makes some hundred thousand updates, so `add` works in place; `merge` returns a new tally.
    """

    def __init__(self, n_clusters: int, n_heads: int, baselines: Iterable[str] = ()) -> None:
        """An empty tally; `baselines` names the columns of `Cell.baselines`."""
        self.n_clusters = n_clusters
        self.n_heads = n_heads
        self.baselines = tuple(baselines)
        self.cells: dict[Key, Cell] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(sorted(self.cells, key=lambda key: (key.relation, key.direction or "")))

    def cell(self, key: Key) -> Cell:
        """The cell of `key`, made on first use."""
        if key not in self.cells:
            self.cells[key] = Cell.empty(self.n_clusters, self.n_heads, len(self.baselines))
        return self.cells[key]

    def add(
        self,
        key: Key,
        cluster: int,
        *,
        trials: int,
        hits: Int64[np.ndarray, " head"],
        mass: Int64[np.ndarray, " head"],
        chance: int = 0,
        mass_chance: int | None = None,
        asked: int | None = None,
        control_trials: int = 0,
        control_hits: Int64[np.ndarray, " head"] | None = None,
        paired_hits: Int64[np.ndarray, " head"] | None = None,
        baselines: Int64[np.ndarray, " baseline"] | None = None,
    ) -> None:
        """Add one sentence's sums (amounts in parts of `UNIT`) to a cell; `mass_chance` is `chance` if not given."""
        cell = self.cell(key)
        cell.trials[cluster] += trials
        cell.asked[cluster] += trials if asked is None else asked
        cell.chance[cluster] += chance
        cell.mass_chance[cluster] += chance if mass_chance is None else mass_chance
        cell.hits[cluster] += hits
        cell.mass[cluster] += mass
        cell.control_trials[cluster] += control_trials
        if control_hits is not None:
            cell.control_hits[cluster] += control_hits
        if paired_hits is not None:
            cell.paired_hits[cluster] += paired_hits
        if baselines is not None:
            cell.baselines[cluster] += baselines

    def merge(self, other: Tally) -> Tally:
        """The tally of both passes together; the order does not matter.

        Raises:
            ValueError: they count different clusters, heads or baselines.
        """
        mine = (self.n_clusters, self.n_heads, self.baselines)
        if mine != (other.n_clusters, other.n_heads, other.baselines):
            raise ValueError("tallies of different clusters, heads or baselines cannot be merged")
        merged = Tally(*mine)
        for key in self.cells | other.cells:
            for part in (tally.cells[key] for tally in (self, other) if key in tally.cells):
                merged.cells[key] = merged.cell(key).merge(part)
        return merged
