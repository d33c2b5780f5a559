"""Up to three sentences for each label: the first short ones that ask its question, hits and misses alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from attnlens.capture.tokens import printable
from probes.family import Pointer, Probe
from probes.tally import Key
from probes.texts import Text
from probes.words import Observation

__all__ = ["Example", "Pool", "example_of"]

PER_QUESTION = 3
SHORTEST = 4
SHORT: dict[str, int] = {"sentence": 14, "window": 110}  # words that read at a glance, where there are such texts
LONGEST: dict[str, int] = {"sentence": 40, "window": 110}


@dataclass(frozen=True)
class Example:
    """One query of one text of the CONFIRM half, and what a head did with it.

    `argmax` is the strongest of the keys that could win; `weight` is the attention on all targets together.
    """

    tokens: tuple[str, ...]
    query: int
    target: int
    argmax: int
    weight: float
    hit: bool


@dataclass
class Pool:
    """Texts kept back while the corpus passes: a few short ones of the CONFIRM half for each question."""

    wanted: dict[tuple[str, Key], list[Text]] = field(default_factory=dict)

    def offer(self, text: Text, probes: Iterable[Probe]) -> None:
        """Keep the text where it is short and a question still lacks examples."""
        if not text.confirm:
            return
        for probe in probes:
            if SHORTEST <= len(text.spans) <= LONGEST[probe.reads[0]]:
                for key in probe.asks(text.sentences):
                    _keep(self.wanted.setdefault((probe.name, key), []), text, SHORT[probe.reads[0]])

    def serves(self, text: Text, question: tuple[str, Key]) -> bool:
        """Whether the text was kept for this question."""
        return any(text.key == kept.key for kept in self.wanted.get(question, []))

    def texts(self, questions: Iterable[tuple[str, Key]]) -> list[Text]:
        """The texts that serve these questions, each once."""
        return list({text.key: text for question in questions for text in self.wanted.get(question, [])}.values())


def _keep(kept: list[Text], text: Text, short: int) -> None:
    """Add a text while there is room; after that a short one takes the place of the longest that is not short."""
    if len(kept) < PER_QUESTION:
        kept.append(text)
        return
    longest = max(kept, key=lambda other: len(other.spans))
    if len(text.spans) <= short < len(longest.spans):
        kept[kept.index(longest)] = text


def example_of(probe: Probe, key: Key, head: int, seen: Observation) -> Example | None:
    """The text's first query that `key` asks about, as the head answers it; None where the model saw no such query."""
    pointer = probe.pointer(key, seen)
    if pointer is None:
        return None
    weights = (seen.words if pointer.level == "word" else seen.attention)[head, pointer.query]
    best = max(pointer.candidates, key=lambda at: (weights[at], -at))
    target = best if best in pointer.targets else max(pointer.targets, key=lambda at: (weights[at], -at))
    labels, first = _excerpt(seen, pointer, best)
    return Example(
        tokens=labels,
        query=pointer.query - first,
        target=target - first,
        argmax=best - first,
        weight=float(weights[list(pointer.targets)].sum()),
        hit=best in pointer.targets,
    )


def _excerpt(seen: Observation, pointer: Pointer, best: int) -> tuple[tuple[str, ...], int]:
    """The text's labels; of a window only the sentences from the first to the last word that matters."""
    if pointer.level == "token":
        return seen.labels, 0
    used: Sequence[int] = (pointer.query, best, *pointer.targets)
    starts = seen.starts
    first = int(starts[np.searchsorted(starts, min(used), side="right") - 1])
    after = starts[np.searchsorted(starts, max(used), side="right") :]
    end = int(after[0]) if len(after) else len(seen.forms)
    return tuple(printable(form) for form in seen.forms[first:end]), first
