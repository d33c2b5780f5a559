"""The answers of families that measure rows, added to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from probes.scoring.layout import Segments
from probes.scoring.ledger import COUNTED, PER_HEAD_SUMS, Ledger, code_of
from probes.tally import UNIT, in_units
from probes.view import Sums, Values
from probes.words import Reading

__all__ = ["Measured"]

_HITS, _MASS = PER_HEAD_SUMS.index("hits"), PER_HEAD_SUMS.index("mass")


@dataclass(frozen=True)
class _Place:
    """Where an answer's sums go, found at the first layer of a batch and kept for the others.

    Attributes:
        trials: per text and question, as the first layer had them.
        text, column: texts and questions with any trial.
        hits, mass: which of `[text question]` enter which row of the ledger.
    """

    trials: Int64[np.ndarray, "text question"]
    text: Int64[np.ndarray, " entry"]
    column: Int64[np.ndarray, " entry"]
    hits: Segments
    mass: Segments
    rows: Int64[np.ndarray, " row"]


class Measured:
    """What measuring families found in one batch, layer after layer."""

    def __init__(self, readings: Sequence[Reading], ledger: Ledger) -> None:
        """`readings`: the texts of the batch."""
        self.ledger = ledger
        self.clusters = np.array([reading.cluster for reading in readings], dtype=np.int64)
        self._places: dict[tuple[str, int], _Place] = {}

    def add(self, family: str, index: int, values: Values | Sums, first_head: int) -> None:
        """Add one answer of one layer; `index` says which of the family's answers it is.

        What does not depend on the head is taken from the first layer that answers.
        """
        sums = values if isinstance(values, Sums) else summed(values)
        trials = sums.trials.numpy()
        place = self._places.get((family, index))
        if place is None or not np.array_equal(trials, place.trials):
            known, place = place, self._place(family, sums, trials)
            if known is None:
                self._places[family, index] = place
                self._count(family, sums, place)
        totals = np.zeros((len(place.rows), sums.hits.shape[-1]), np.int64)
        hits = _units(sums.hits).reshape(-1, sums.hits.shape[-1])
        place.hits.add(hits, totals)
        place.mass.add(hits if sums.mass is None else _units(sums.mass).reshape(hits.shape), totals)
        self.ledger.add(place.rows, first_head, totals)

    def _place(self, family: str, sums: Sums, trials: Int64[np.ndarray, "text question"]) -> _Place:
        text, column = np.nonzero(trials)
        question = np.array(self.ledger.questions(family, sums.keys), dtype=np.int64)[column]
        codes = [code_of(question, field, self.clusters[text]) for field in (_HITS, _MASS)]
        unique, row = np.unique(np.concatenate(codes), return_inverse=True)
        entries = text * trials.shape[1] + column
        hits, mass = (Segments.of(entries, part) for part in np.split(row, 2))
        return _Place(trials, text, column, hits, mass, self.ledger.rows(unique))

    def _count(self, family: str, sums: Sums, place: _Place) -> None:
        text, column = place.text, place.column
        question = np.array(self.ledger.questions(family, sums.keys), dtype=np.int64)[column]
        trials = place.trials[text, column].astype(np.int64)
        nothing = np.zeros(len(text), np.int64)
        chance = nothing if sums.chance is None else _units(sums.chance)[text, column]
        mass_chance = chance if sums.mass_chance is None else _units(sums.mass_chance)[text, column]
        parts = {"trials": trials, "asked": trials, "chance": chance, "mass_chance": mass_chance}
        codes = [code_of(question, COUNTED.index(name), self.clusters[text]) for name in parts]
        self.ledger.count(np.concatenate(codes), np.concatenate(list(parts.values())))


def summed(values: Values) -> Sums:
    """One question's values as sums over each text; each value is rounded to parts of the unit before it is added."""
    defined = ~values.hits.isnan().any(1)

    def over_items(given: Tensor) -> Tensor:
        kept = given.double().masked_fill(~(defined[:, None] if given.ndim == 3 else defined), 0.0)
        exact = torch.from_numpy(in_units(kept.nan_to_num().numpy()).sum(axis=-1))
        return exact[:, None].double() / UNIT  # whole parts of the unit again once they are multiplied by it

    def optional(given: Tensor | None) -> Tensor | None:
        return None if given is None else over_items(given)

    return Sums(
        (values.key,),
        trials=defined.sum(-1)[:, None],
        hits=over_items(values.hits),
        mass=optional(values.mass),
        chance=optional(values.chance),
        mass_chance=optional(values.mass_chance),
    )


def _units(given: Tensor) -> Int64[np.ndarray, "*shape"]:
    """Whole parts of the unit."""
    return in_units(given.double().numpy())
