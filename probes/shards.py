"""What one shard of a corpus leaves behind: sums over the clusters that occur in it, which merge in any order.

A shard is a fixed run of sentences of the corpus. Its batches hold no text of another shard, so a shard's result does
not depend on who computes it, or when: the local engine, a Ray worker and a resumed run add up the same integers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from probes.corpora.data import Document
from probes.tally import Tally

__all__ = ["SHARD_SENTENCES", "Shard", "ShardResult", "Totals", "shards_of"]

SHARD_SENTENCES = 512


@dataclass(frozen=True)
class Shard:
    """A run of sentences: whole documents, or parts of documents at its ends.

    Attributes:
        number: of the shard, from 0, in the order of the corpus.
        documents: what it holds; a part of a document says at which sentence it begins (`Document.first`).
    """

    number: int
    documents: tuple[Document, ...]

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return sum(len(document.sentences) for document in self.documents)


def shards_of(documents: Iterable[Document], size: int = SHARD_SENTENCES) -> Iterator[Shard]:
    """Cut a corpus into shards of `size` sentences, one in memory at a time; the last one may be smaller."""
    pieces = _pieces(documents, size)
    for number in itertools.count():
        held: list[Document] = []
        while sum(len(document.sentences) for document in held) < size and (piece := next(pieces, None)) is not None:
            held.append(piece)
        if not held:
            return
        yield Shard(number, tuple(held))


def _pieces(documents: Iterable[Document], size: int) -> Iterator[Document]:
    """Documents cut where a shard is full, so that `size` sentences end exactly at the end of a piece."""
    room = size
    for document in documents:
        at = 0
        while at < len(document.sentences):
            part = document.sentences[at : at + room]
            yield Document(document.id, part, document.first + at)
            at += len(part)
            room = room - len(part) or size


@dataclass(frozen=True)
class ShardResult:
    """Sums of one shard.

    Attributes:
        number: of the shard.
        clusters: the clusters of the whole corpus that the shard's tallies count, in order.
        tallies: by family; each counts `clusters` from 0.
        skipped: names of the sentences that were left out.
        dropped_words: words without a token, by kind of text.
        bos: the tokenizer's first token stood in front of every text; None where it has none.
    """

    number: int
    clusters: Int64[np.ndarray, " local"]
    tallies: Mapping[str, Tally]
    skipped: tuple[str, ...] = ()
    dropped_words: Mapping[str, int] = field(default_factory=dict)
    bos: bool | None = None


class Totals:
    """The sums of all shards seen so far, over all clusters of the corpus: bounded, whatever the corpus's size."""

    def __init__(self, n_clusters: int, n_heads: int, rules: Mapping[str, tuple[str, ...]]) -> None:
        """`rules`: per family, the names of its rules."""
        self.tallies = {family: Tally(n_clusters, n_heads, names) for family, names in rules.items()}
        self.numbers: set[int] = set()
        self.skipped: set[str] = set()
        self.dropped_words: dict[str, int] = {}
        self.bos: bool | None = None

    def absorb(self, result: ShardResult) -> None:
        """Add a shard; one that was added before is left out, so that nothing counts twice."""
        if result.number in self.numbers:
            return
        self.numbers.add(result.number)
        for family, part in result.tallies.items():
            self.tallies[family].absorb(part, result.clusters)
        self.skipped.update(result.skipped)
        for kind, count in result.dropped_words.items():
            self.dropped_words[kind] = self.dropped_words.get(kind, 0) + count
        if result.bos is not None:
            self.bos = result.bos and self.bos is not False
