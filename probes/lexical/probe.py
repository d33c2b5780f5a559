"""The lexical family: what it reads, asks and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from probes.conditions import Conditions, Margin, Need
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.lexical import entities, rare
from probes.lexical.frequencies import Frequencies, fitting, read_frequencies
from probes.questions import OptionTrials, RowTrials
from probes.syntax.rules import RULES
from probes.tally import Key
from probes.texts import Kind
from probes.view import LayerView, Sums
from probes.words import Reading

__all__ = ["LexicalProbe"]

READ = 1_500  # sentences in which rare words are asked for, however large the corpus
LEAST = 0.5
TIMES_CHANCE = 3.0
TURNED = 0.25
"""How far the rank of an entity head's labels lies above 1/2 at least: half of all heads lie a little above it, since
names are rare words, and it takes more than that to say so."""
NEAREST = Rule("nearest mention")
REPORTED = Conditions(margins=(), selectivity=None, target_mass=None, significant=False, strong=None, explicable=False)


@dataclass(frozen=True)
class LexicalProbe:
    """Whether a head looks at the rarest word, and at words of named entities.

    Attributes:
        seed: draws control words, and the sentences in which rare words are asked for.
        frequencies: a file of `word TAB count`; None for the list that fits the corpus.
        words: the list, once it is known.
        missing: why there is none.
        share: of the sentences in which rare words are asked for.
    """

    seed: int = 0
    frequencies: str | Path | None = None
    words: Frequencies | None = field(default=None, kw_only=True)
    missing: str | None = field(default=None, kw_only=True)
    share: float = field(default=1.0, kw_only=True)
    name: ClassVar[str] = "lexical"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = (*RULES, NEAREST)
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def prepared(self, corpus: Corpus) -> LexicalProbe:
        """The family with a list of words that fits the corpus, or the reason why there is none."""
        given = self.words if self.frequencies is None else read_frequencies(self.frequencies)
        words, missing = fitting(corpus, given)
        share = min(1.0, READ / max(corpus.n_sentences, 1))
        return replace(self, words=words, missing=missing, share=share)

    def omissions(self, corpus: Corpus) -> Mapping[str, str]:
        """Rare words are not asked for without a list."""
        return {} if self.missing is None else {f"{self.name} (rare words)": self.missing}

    def refusal(self, corpus: Corpus) -> str | None:
        """A list of words or mentions are needed."""
        probe = self if self.words or self.missing else self.prepared(corpus)
        return probe.missing if probe.words is None and not corpus.n_mentions else None

    def ask(self, reading: Reading) -> Iterator[RowTrials | OptionTrials]:
        """What happens inside and between the mentions of one text."""
        if any(sentence.mentions for sentence in reading.sentences):
            inside = entities.inside(reading, self.seed, len(self.rules))
            if inside is not None:
                yield inside
            others = entities.same_type(reading, len(self.rules), len(RULES))
            if others is not None:
                yield others

    def measure(self, view: LayerView) -> Iterator[Sums]:
        """Rare words in the sentences that were drawn, and attention on named entities."""
        if self.words is not None:
            yield from rare.measure(view, rare.Asked(self.words, self.seed, self.share))
        yield from entities.measure(view)

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Questions with a place to show: rare words, and words inside mentions."""
        asked = {entities.INSIDE} if any(sentence.mentions for sentence in sentences) else set()
        if any(mention.named for sentence in sentences for mention in sentence.mentions):
            asked.add(entities.ENTITY)
        return {*asked, rare.RARE} if self.words is not None else asked

    def wording(self, key: Key) -> Wording | None:
        """Two labels: the other questions are conditions of them, or reported only."""
        if key == rare.RARE:
            return Wording("rare-word", "attends to the least frequent word of the sentence")
        if key == entities.ENTITY:
            return Wording("entity", "attends to words of named entities, more than where they stand explains")
        return None

    def conditions(self, key: Key) -> Conditions:
        """Rare words: half of the rows, three times chance, whatever the pieces; entities: a lift of 2, beyond turns.

        All thresholds are ours.
        """
        if key == rare.RARE:
            needs = (
                Need(rare.RARE_PER_PIECE, least=LEAST),
                Need(rare.CORRELATION, low=0.0),
                Need(rare.CORRELATION_PER_PIECE, low=0.0),
            )
            return replace(REPORTED, least=LEAST, times_chance=TIMES_CHANCE, needs=needs)
        if key == entities.ENTITY:
            turned, lift = Margin(("chance",), TURNED), Need(entities.TWICE, least=0.0)
            return replace(REPORTED, margins=(turned,), significant=True, needs=(lift,))
        if key in (entities.INSIDE, entities.INSIDE_BEYOND_TREE):
            return Conditions()
        if key == entities.SAME_TYPE:
            return Conditions(selectivity=None, strong=None)
        return REPORTED

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The first query of the text that can see what the key asks for."""
        if key == entities.INSIDE:
            found = entities.inside(reading, self.seed, len(self.rules))
            if found is None or not len(found.question):
                return None
            return _pointer(reading, found.targets.query[:1], found.targets.key[:1])
        place = _targets(key, reading, self.words)
        return _pointer(reading, np.flatnonzero(reading.candidates[:, place].any(axis=1)), place)


def _pointer(
    reading: Reading, asking: Int64[np.ndarray, " query"], place: Int64[np.ndarray, " word"]
) -> Pointer | None:
    """The first of some queries, and what it can see of the places that are right."""
    if not len(asking):
        return None
    query = int(asking[0])
    targets = tuple(int(at) for at in place if reading.candidates[query, at])
    return Pointer(query, targets, tuple(np.flatnonzero(reading.candidates[query]).tolist()), "word")


def _targets(key: Key, reading: Reading, words: Frequencies | None) -> Int64[np.ndarray, " word"]:
    if key == rare.RARE and words is not None:
        return np.flatnonzero(rare.rarest_words(reading, words, 1))
    if key == entities.ENTITY:
        return np.flatnonzero(np.concatenate([entities.named_words(sentence) for sentence in reading.sentences]))
    return np.zeros(0, dtype=np.int64)
