"""Sentences that arrive one by one, as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from probes.corpora.data import Document, Sentence

__all__ = ["LONGEST_DOCUMENT", "gather"]

LONGEST_DOCUMENT = 1000  # sentences in memory at once; longer documents come in parts


def gather(sentences: Iterable[tuple[str, Sentence]], *, alone: bool = False) -> Iterator[Document]:
    """Sentences with the names of their documents -> documents in parts of at most 1,000 sentences.

    A document that comes back later goes on counting. With `alone` every sentence is a part of its own: texts that
    do not follow each other are never read in one window.
    """
    seen: Counter[str] = Counter()
    held: list[Sentence] = []
    current = ""

    def part() -> Document:
        document = Document(current, tuple(held), seen[current])
        seen[current] += len(held)
        held.clear()
        return document

    for name, sentence in sentences:
        if held and (alone or name != current or len(held) == LONGEST_DOCUMENT):
            yield part()
        current = name
        held.append(sentence)
    if held:
        yield part()
