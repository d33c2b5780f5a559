"""Relations that users mark themselves (measure E4): from the words of a source to the words of a target.

Semantic roles, translations, whatever a file of pairs holds: `{"text": ..., "relation": ..., "source": [start, end],
"target": [start, end]}` per line. Each word of a source asks for any word of its target (`s2t`), and the other way
round (`t2s`); a causal model is asked where the answer comes first. As in syntax, a score stands beside the best fixed
offset and beside the same offsets at other words of the text.

Source of the question: Kovaleva et al. 2019 (arXiv:1908.08593, section 4.3), who looked at semantic roles without
controls. Their data cannot be passed on, so this family brings none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probes.conditions import Conditions
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.marked import Marked, marked_trials
from probes.questions import RowTrials
from probes.syntax.draws import Draws
from probes.syntax.rules import OFFSETS, RULES
from probes.tally import Key
from probes.texts import Kind
from probes.words import Reading

__all__ = ["DIRECTIONS", "PairsProbe"]

DIRECTIONS = {"s2t": "source -> target", "t2s": "target -> source"}


@dataclass(frozen=True)
class PairsProbe:
    """Accuracy of every head on every relation of a file of pairs, in both directions. `seed` draws control words."""

    seed: int = 0
    name: ClassVar[str] = "pairs"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = RULES[: len(OFFSETS)]
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Links are needed."""
        if corpus.n_links:
            return None
        return f"{corpus.name} has no marked pairs (JSON lines with text, relation, source, target)"

    def ask(self, reading: Reading) -> Iterator[RowTrials]:
        """The links of one text, in both directions."""
        trials = marked_trials(reading, list(_marked(reading)), Draws(self.seed, reading.key), len(self.rules))
        if trials is not None:
            yield trials

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every relation of the text in both directions."""
        return {
            Key(link.relation, direction)
            for sentence in sentences
            for link in sentence.links
            for direction in DIRECTIONS
        }

    def wording(self, key: Key) -> Wording:
        """Consistent with, not tracks: nothing is known about parts of speech."""
        direction = DIRECTIONS[key.direction or "s2t"]
        return Wording(key.relation, f"consistent with {key.relation} ({direction}, as marked in the pairs)")

    def conditions(self, key: Key) -> Conditions:
        """Those of a syntactic label, without its strong form: these texts have no parts of speech to beat."""
        return Conditions(strong=None)

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The first word of the text that asks this question and can see an answer."""
        for mark in _marked(reading):
            targets = tuple(word for word in mark.targets if reading.candidates[mark.query, word])
            if mark.key == key and targets:
                return Pointer(
                    mark.query, targets, tuple(np.flatnonzero(reading.candidates[mark.query]).tolist()), "word"
                )
        return None


def _marked(reading: Reading) -> Iterator[Marked]:
    """What the words of sources and targets ask; words of both, and those that the model did not see, are gone."""
    right: dict[tuple[Key, int], set[int]] = {}
    for start, sentence in zip(reading.starts.tolist(), reading.sentences, strict=True):
        for link in sentence.links:
            source, target = (
                {start + word for word in words if reading.kept[start + word]} for words in (link.source, link.target)
            )
            for direction, asking, answers in (("s2t", source, target), ("t2s", target, source)):
                for query in sorted(asking - answers):
                    right.setdefault((Key(link.relation, direction), query), set()).update(answers - asking)
    for (key, query), answers in right.items():
        if answers - {query}:
            yield Marked(key, query, tuple(sorted(answers - {query})))


if __name__ == "__main__":
    from probes.cli import main

    main("pairs")
