"""A bounded sample that does not depend on order: of everything offered, the keys with the smallest hashes.

Which texts are looked at closely must not depend on how a corpus was cut into shards, or on who finished first. So each
text gets a rank, the SHA-256 of seed, question and key, and the lowest ranks stay (bottom-k sampling: without
replacement, and the sample of a union is a sample of the samples).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Sample", "rank"]

Item = TypeVar("Item")


def rank(seed: int, question: str, key: str) -> int:
    """Where `key` stands in the queue for `question`: a number of 256 bits; lower ones are sampled first."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{question}\0{key}".encode()).digest(), "big")


class Sample(Generic[Item]):
    """At most `size` items, those whose keys rank lowest; `offer` works in place, `merge` returns a new sample."""

    def __init__(self, size: int, *, seed: int = 0, question: str = "") -> None:
        """An empty sample.

        Args:
            size: the most items it holds.
            seed: another seed draws another sample.
            question: what the sample is for; two questions draw independently of each other.
        """
        self.size = size
        self.seed = seed
        self.question = question
        self._held: dict[str, Item] = {}
        self._queue: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Item]:
        """The items, lowest rank first."""
        for _, key in sorted(self._queue, reverse=True):
            yield self._held[key]

    def wants(self, key: str) -> bool:
        """Whether an item with this key would be taken now; ask before making an expensive one."""
        if key in self._held or not self.size:
            return False
        return len(self._held) < self.size or -rank(self.seed, self.question, key) > self._queue[0][0]

    def offer(self, key: str, item: Item) -> None:
        """Take an item if its key ranks low enough, and let the highest rank go; a key that is held stays as it is."""
        if not self.wants(key):
            return
        self._held[key] = item
        heapq.heappush(self._queue, (-rank(self.seed, self.question, key), key))
        if len(self._held) > self.size:
            _, gone = heapq.heappop(self._queue)
            del self._held[gone]

    def merge(self, other: Sample[Item]) -> Sample[Item]:
        """The sample of everything that was offered to either.

        Raises:
            ValueError: they were drawn for different questions, seeds or sizes.
        """
        mine = (self.size, self.seed, self.question)
        if mine != (other.size, other.seed, other.question):
            raise ValueError("samples of different questions, seeds or sizes cannot be merged")
        merged: Sample[Item] = Sample(self.size, seed=self.seed, question=self.question)
        for sample in (self, other):
            for key, item in sample._held.items():
                merged.offer(key, item)
        return merged
