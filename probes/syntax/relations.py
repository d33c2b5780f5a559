"""A sentence's arcs, under every label that they count for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int64

from probes.corpora.data import Sentence

__all__ = ["Arcs", "relation_labels"]

KEPT_APART = frozenset({"nsubj:pass", "aux:pass", "nmod:poss", "acl:relcl", "compound:prt"})
NOT_SCORED = frozenset({"root", "punct"})


@lru_cache(maxsize=1024)
def relation_labels(relation: str) -> tuple[str, ...]:
    """The labels that an arc counts under: as written, and without what follows the colon.

    `nsubj:pass`, `aux:pass`, `nmod:poss`, `acl:relcl` and `compound:prt` count under their full name only; `root` and
    `punct` are not scored.
    """
    base = relation.partition(":")[0]
    if base in NOT_SCORED or base == "_":
        return ()
    return (relation,) if relation == base or relation in KEPT_APART else (relation, base)


@dataclass(frozen=True)
class Arcs:
    """A sentence's arcs, one entry per label that an arc counts under.

    Attributes:
        names: the labels, sorted.
        relation: index in `names` of each entry.
        dependent, head: words.
        arc: number of the arc that the entry belongs to; entries of one arc differ in the label only.
    """

    names: tuple[str, ...]
    relation: Int64[np.ndarray, " entry"]
    dependent: Int64[np.ndarray, " entry"]
    head: Int64[np.ndarray, " entry"]
    arc: Int64[np.ndarray, " entry"]

    @property
    def n_arcs(self) -> int:
        """Number of arcs that count under some label."""
        return int(self.arc[-1]) + 1 if len(self.arc) else 0

    @classmethod
    def of(cls, sentence: Sentence, kept: Bool[np.ndarray, " word"] | Sequence[bool]) -> Arcs:
        """Arcs between words that the model saw; the others leave numerator and denominator."""
        present = list(kept)
        found: list[tuple[str, int, int, int]] = []
        n_arcs = 0
        for word, (head, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
            if head >= 0 and present[word] and present[head]:
                labels = relation_labels(relation)
                found += [(label, word, head, n_arcs) for label in labels]
                n_arcs += bool(labels)
        names = tuple(sorted({entry[0] for entry in found}))
        index = {name: i for i, name in enumerate(names)}
        rows = [(index[label], word, head, arc) for label, word, head, arc in found]
        columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        return cls(names, columns[0], columns[1], columns[2], columns[3])
