"""The answers of families that measure rows, added to the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from probes.scoring.ledger import COUNTED, PER_HEAD_SUMS, Ledger, code_of
from probes.tally import in_units
from probes.view import Sums, Values
from probes.words import Reading

__all__ = ["Measured"]

_HITS, _MASS = PER_HEAD_SUMS.index("hits"), PER_HEAD_SUMS.index("mass")


class Measured:
    """What measuring families found in one batch, layer after layer."""

    def __init__(self, readings: Sequence[Reading], ledger: Ledger) -> None:
        """`readings`: the texts of the batch."""
        self.ledger = ledger
        self.clusters = np.array([reading.cluster for reading in readings], dtype=np.int64)
        self._counted: set[tuple[str, int]] = set()

    def add(self, family: str, index: int, values: Values | Sums, first_head: int) -> None:
        """Add one answer of one layer; `index` says which of the family's answers it is.

        What does not depend on the head is taken from the first layer that answers.
        """
        sums = values if isinstance(values, Sums) else summed(values)
        trials = sums.trials.numpy()
        text, column = np.nonzero(trials)
        if not len(text):
            return
        question = np.array(self.ledger.questions(family, sums.keys), dtype=np.int64)[column]
        cluster = self.clusters[text]
        if (family, index) not in self._counted:
            self._counted.add((family, index))
            self._count(question, cluster, sums, text, column)
        hits = _units(sums.hits)[text, column]
        mass = hits if sums.mass is None else _units(sums.mass)[text, column]
        codes = np.concatenate([code_of(question, _HITS, cluster), code_of(question, _MASS, cluster)])
        unique, row = np.unique(codes, return_inverse=True)
        order = np.argsort(row, kind="stable")
        starts = np.flatnonzero(np.diff(row[order], prepend=-1))
        amounts = np.add.reduceat(np.concatenate([hits, mass])[order], starts, axis=0)
        self.ledger.add(self.ledger.rows(unique), first_head, amounts)

    def _count(
        self,
        question: Int64[np.ndarray, " entry"],
        cluster: Int64[np.ndarray, " entry"],
        sums: Sums,
        text: Int64[np.ndarray, " entry"],
        column: Int64[np.ndarray, " entry"],
    ) -> None:
        trials = sums.trials.numpy()[text, column].astype(np.int64)
        nothing = np.zeros(len(text), np.int64)
        chance = nothing if sums.chance is None else _units(sums.chance)[text, column]
        mass_chance = chance if sums.mass_chance is None else _units(sums.mass_chance)[text, column]
        parts = {"trials": trials, "asked": trials, "chance": chance, "mass_chance": mass_chance}
        codes = [code_of(question, COUNTED.index(name), cluster) for name in parts]
        self.ledger.count(np.concatenate(codes), np.concatenate(list(parts.values())))


def summed(values: Values) -> Sums:
    """One question's values as sums over each text; each value is rounded to parts of the unit before it is added."""
    defined = ~values.hits.isnan().any(1)

    def over_items(given: Tensor) -> Tensor:
        kept = given.double().masked_fill(~(defined[:, None] if given.ndim == 3 else defined), 0.0)
        exact = torch.from_numpy(in_units(kept.nan_to_num().numpy()).sum(axis=-1))
        return exact[:, None]

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


def _units(given: Tensor) -> Int64[np.ndarray, ...]:
    """Whole parts of the unit; amounts that are whole already stay as they are."""
    return given.numpy() if given.dtype == torch.int64 else in_units(given.double().numpy())
