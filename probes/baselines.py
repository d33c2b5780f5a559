"""What a score has to beat, each as sums per cluster: chance, rules without a model, random weights, shuffled gold.

Where there are several of a kind (offsets, parts of speech) the one with the most hits on SELECT stands for the kind,
so that what is compared on CONFIRM was chosen elsewhere. All of them are measured and printed for every question,
whatever a label asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.conditions import Value
from probes.family import Rule
from probes.tally import UNIT, Cell

__all__ = ["KINDS", "Baseline", "RandomBest", "baselines_of", "value_sums"]

KINDS = {"chance": "b0", "offset": "b1", "other": "b1", "pos": "b2", "random": "b3", "layer 0": "b4", "shuffled": "b5"}
"""Every kind, and its number in the method; a family's other rules count like the offsets."""


@dataclass(frozen=True)
class RandomBest:
    """The best that heads of models with random weights did on one question (baseline b3).

    Attributes:
        hits, mass: score of the best head of the best model, by each value.
        n: trials behind it, of both halves.
    """

    hits: float
    mass: float
    n: int


@dataclass(frozen=True)
class Baseline:
    """One thing to beat.

    Attributes:
        kind: as `Margin.over` names it.
        name: as it is printed.
        sums: hits (or mass) in parts of `UNIT`; one column where it is the same for every head.
        rule: column in `Cell.rules` whose hits are counted trial by trial; None for what is no rule.
    """

    kind: str
    name: str
    sums: Int64[np.ndarray, "cluster column"]
    rule: int | None = None

    def score(
        self, trials: Int64[np.ndarray, " cluster"], half: Bool[np.ndarray, " cluster"]
    ) -> Float64[np.ndarray, " column"]:
        """Per trial on one half; NaN without trials."""
        n = trials[half].sum()
        sums = self.sums[half].sum(axis=0) / UNIT
        return np.asarray(sums / n) if n else np.full(len(sums), np.nan)


def value_sums(cell: Cell, value: Value) -> Int64[np.ndarray, "cluster head"]:
    """The sums that a score is made of."""
    return cell.hits if value == "hits" else cell.mass


def baselines_of(
    cell: Cell,
    rules: Sequence[Rule],
    confirm: Bool[np.ndarray, " cluster"],
    value: Value,
    *,
    named: Iterable[str] = (),
    random: RandomBest | None = None,
    layers: Int64[np.ndarray, " head"] | None = None,
) -> tuple[Baseline, ...]:
    """Every baseline that can be measured on one question, in the order of `KINDS`; then rules asked for by name.

    Args:
        cell: the question's sums.
        rules: of the family, in the order of `Cell.rules`. They answer with a word, so they have no mass.
        confirm: which clusters confirm.
        value: what the score is made of.
        named: names of rules that are wanted beside the best of each kind.
        random: what random weights do; None where not measured.
        layers: the layer of every head; None where there is no first layer to speak of.
    """
    chance = cell.chance if value == "hits" else cell.mass_chance
    found = [Baseline("chance", "chance", chance[:, None])]
    if value == "hits":
        found += _best_rules(cell, rules, confirm)
    if random is not None:
        score = random.hits if value == "hits" else random.mass
        found.append(
            Baseline("random", "random weights", np.rint(score * cell.trials * UNIT).astype(np.int64)[:, None])
        )
    if layers is not None:
        found.append(Baseline("layer 0", "layer 0", _first_layer(value_sums(cell, value), layers, confirm)))
    if value == "hits" and cell.shuffled_hits.any():
        found.append(Baseline("shuffled", "shuffled gold", cell.shuffled_hits))
    if value == "hits":
        names = [rule.name for rule in rules]
        wanted = [name for name in named if name in names]
        found += [Baseline(name, name, cell.rules[:, [names.index(name)]], names.index(name)) for name in wanted]
    return tuple(found)


def _best_rules(cell: Cell, rules: Sequence[Rule], confirm: Bool[np.ndarray, " cluster"]) -> list[Baseline]:
    """Per kind the rule with the most hits on SELECT, the first of equals.

    Rules by part of speech that hit nothing at all speak of a corpus without parts of speech: they were not measured,
    and beating them would mean nothing.
    """
    on_select = cell.rules[~confirm].sum(axis=0)
    found = []
    for kind in ("offset", "other", "pos"):
        columns = [column for column, rule in enumerate(rules) if rule.kind == kind]
        if columns:
            best = max(columns, key=lambda column: (on_select[column], -column))
            if kind == "pos" and not on_select[best]:
                continue
            found.append(Baseline(kind, rules[best].name, cell.rules[:, [best]], best))
    return found


def _first_layer(
    sums: Int64[np.ndarray, "cluster head"], layers: Int64[np.ndarray, " head"], confirm: Bool[np.ndarray, " cluster"]
) -> Int64[np.ndarray, "cluster head"]:
    """Per head what the best other head of the first layer does; 0 where there is no other."""
    first = np.flatnonzero(layers == layers.min()) if len(layers) else np.zeros(0, np.int64)
    ranked = sorted(first.tolist(), key=lambda head: (-sums[~confirm, head].sum(), head))
    result = np.zeros_like(sums)
    if ranked:
        result[:] = sums[:, [ranked[0]]]
        result[:, ranked[0]] = sums[:, ranked[1]] if len(ranked) > 1 else 0
    return result
