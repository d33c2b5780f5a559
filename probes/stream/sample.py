"""Which sentences a probe is fitted, stopped and scored on: a sample of bounded size, in a fixed order."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from attnlens.errors import ProbeDataError
from probes.corpora.data import Corpus, Sentence
from probes.split import Split

__all__ = ["PARTS", "Part", "Sampled", "draw_sample"]

Part = Literal["fit", "stop", "confirm"]
PARTS: tuple[Part, ...] = ("fit", "stop", "confirm")

TENTH = 10


@dataclass(frozen=True)
class Sampled:
    """One sentence of the sample.

    Attributes:
        key: a name that no other sentence of the corpus has.
        part: "fit" and "stop" are of the SELECT half (a tenth of its units stops training and chooses layers).
        cluster: index of its unit in the split.
        sentence: the words.
    """

    key: str
    part: Part
    cluster: int
    sentence: Sentence


def draw_sample(
    corpus: Corpus, split: Split, *, words: int, seed: int, usable: Callable[[Sentence], bool]
) -> tuple[list[Sampled], int]:
    """Sentences in an order that depends on their names and the seed alone, and how many did not fit the model.

    Each half gives whole sentences until it has `words` words or is used up, SELECT a tenth of them for stopping.
    Memory holds the sample, never the corpus.

    Raises:
        ProbeDataError: nothing is left to fit, to stop or to score on.
    """
    stopping = max(1, words // TENTH)
    parts = {"fit": _Lowest(max(1, words - stopping)), "stop": _Lowest(stopping), "confirm": _Lowest(words)}
    for rank, sampled in _ranked(corpus, split, seed):
        parts[sampled.part].offer(rank, sampled)
    drawn = [sampled for part in parts.values() for sampled in part.in_order()]
    kept = [sampled for sampled in drawn if usable(sampled.sentence)]
    for part in PARTS:
        if not any(sampled.part == part for sampled in kept):
            raise ProbeDataError(
                f"{corpus.name} leaves no sentence to {_PURPOSES[part]}: a probe that is trained needs at least three "
                "documents or sentences that the model can read; use a larger corpus or limit."
            )
    return kept, len(drawn) - len(kept)


_PURPOSES = {"fit": "fit a probe on", "stop": "stop the fitting with", "confirm": "score a probe on"}


def _ranked(corpus: Corpus, split: Split, seed: int) -> Iterator[tuple[bytes, Sampled]]:
    n_select = int((~split.confirm).sum())
    stopping = min(TENTH, n_select) - 1
    for document in corpus.documents():
        for index, sentence in enumerate(document.sentences):
            key = document.key(index)
            cluster = split.cluster(document.id, key)
            part: Part = "confirm" if split.confirm[cluster] else "stop" if cluster % TENTH == stopping else "fit"
            rank = hashlib.sha256(f"{seed} {key}".encode()).digest()
            yield rank, Sampled(key, part, cluster, sentence)


class _Lowest:
    """Keeps the sentences of the lowest ranks that together have enough words."""

    def __init__(self, words: int) -> None:
        self._enough, self._words = words, 0
        self._heap: list[tuple[int, str, Sampled]] = []

    def offer(self, rank: bytes, sampled: Sampled) -> None:
        """Take a sentence, and let go of those that are no longer needed."""
        heapq.heappush(self._heap, (-int.from_bytes(rank, "big"), sampled.key, sampled))
        self._words += len(sampled.sentence)
        while self._words - len(self._heap[0][2].sentence) >= self._enough:
            self._words -= len(heapq.heappop(self._heap)[2].sentence)

    def in_order(self) -> list[Sampled]:
        """The sentences kept, by rank."""
        return [sampled for _, _, sampled in sorted(self._heap, key=lambda entry: -entry[0])]
