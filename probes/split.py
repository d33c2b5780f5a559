"""Two halves of a corpus: heads and baselines are chosen on SELECT, every printed number comes from CONFIRM.

The unit that is split, and later resampled, is the document; with fewer than 15 documents it is the sentence.
Units are ordered by the SHA-256 of their names and cut in the middle, so that the same corpus always splits
the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool

from probes.corpora.data import Corpus

__all__ = ["FEWEST_DOCUMENTS", "MOST_CLUSTERS", "RULE", "Split", "split_corpus"]

FEWEST_DOCUMENTS = 15
MOST_CLUSTERS = 400  # bounds the memory of the counts; more units share clusters, which only widens intervals
RULE = "units ordered by the SHA-256 of their names; the first half selects, the second confirms"


@dataclass(frozen=True)
class Split:
    """Which cluster each document or sentence counts in, and which clusters confirm.

    Attributes:
        unit: what is split and resampled.
        confirm: per cluster, True where it belongs to CONFIRM.
        n_select, n_confirm: units in each half.
        sha256: of the units' names in order with their halves, to tell two splits apart.
        clusters: unit name -> cluster.
    """

    unit: Literal["document", "sentence"]
    confirm: Bool[np.ndarray, " cluster"]
    n_select: int
    n_confirm: int
    sha256: str
    clusters: Mapping[str, int] = field(repr=False)

    def cluster(self, document: str, key: str) -> int:
        """Cluster of a sentence, from its document's name and its own key."""
        return self.clusters[document if self.unit == "document" else key]


def split_corpus(corpus: Corpus) -> Split:
    """Split `corpus` by documents, or by sentences where it has fewer than 15 documents."""
    if corpus.n_documents >= FEWEST_DOCUMENTS:
        return split_units("document", list(corpus.sizes))
    keys = [f"{name}#{index}" for name, size in corpus.sizes.items() for index in range(size)]
    return split_units("sentence", keys)


def split_units(unit: Literal["document", "sentence"], names: list[str]) -> Split:
    """Split by the names of the units alone."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    half = (len(ranked) + 1) // 2
    n_select, n_confirm = min(half, MOST_CLUSTERS // 2), min(len(ranked) - half, MOST_CLUSTERS // 2)
    clusters = {name: rank % n_select for rank, name in enumerate(ranked[:half])}
    clusters |= {name: n_select + rank % n_confirm for rank, name in enumerate(ranked[half:])}
    listed = "\n".join(ranked[:half]) + "\n\n" + "\n".join(ranked[half:])
    return Split(
        unit=unit,
        confirm=np.arange(n_select + n_confirm) >= n_select,
        n_select=half,
        n_confirm=len(ranked) - half,
        sha256=hashlib.sha256(listed.encode()).hexdigest(),
        clusters=clusters,
    )
