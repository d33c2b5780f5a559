"""What calibration models are planted from: a corpus, its arcs and antecedents, and a vocabulary of its words."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from attnlens.zoo.planted_words import Words, make_words
from probes.corpora.data import Corpus, Document
from probes.corpora.sources import open_corpus
from probes.syntax import relation_labels

__all__ = ["Arc", "Material", "Place", "Trial", "best_offset", "grammar_material", "material_of", "misled"]

_WHOLE_WORDS = 100  # the most frequent words are never cut
_CUT_FROM = 6  # letters of a word that may be cut in two
_OFFSETS = tuple(offset for offset in range(-10, 11) if offset)
_FEWEST = 130  # occurrences from which on both halves almost surely hold 50

Place = tuple[str, int, int]
"""Document, sentence within it, word within that."""


@dataclass(frozen=True)
class Arc:
    """A gold arc, in words of one sentence."""

    document: str
    sentence: int
    dependent: int
    head: int
    relation: str
    n_words: int

    @property
    def place(self) -> Place:
        """Where the dependent stands."""
        return (self.document, self.sentence, self.dependent)


@dataclass(frozen=True)
class Trial:
    """A word that looks, and the words that it may find: the head of a dependent, or the dependents of a head."""

    place: Place
    targets: tuple[int, ...]
    n_words: int


@dataclass(frozen=True)
class Material:
    """A corpus held in memory, with what is planted from it."""

    corpus: Corpus
    documents: tuple[Document, ...]

    @cached_property
    def arcs(self) -> tuple[Arc, ...]:
        """All arcs that are scored, under the last of their labels (`obl:agent` is an `obl`)."""
        return tuple(self._arcs())

    def _arcs(self) -> Iterator[Arc]:
        for document in self.documents:
            for index, sentence in enumerate(document.sentences):
                for word, (head, name) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
                    labels = relation_labels(name)
                    if head >= 0 and labels:
                        yield Arc(document.id, index, word, head, labels[-1], len(sentence))

    def trials(self, direction: str, *, causal: bool) -> dict[str, list[Trial]]:
        """Words that look along a relation, for relations with enough of them; a causal model looks back only.

        Args:
            direction: "d2h" for dependents that look at their head, "h2d" for heads that look at their dependents.
            causal: see above.
        """
        found: defaultdict[str, dict[Place, Trial]] = defaultdict(dict)
        for arc in self.arcs:
            query, target = (arc.dependent, arc.head) if direction == "d2h" else (arc.head, arc.dependent)
            if causal and target > query:
                continue
            place = (arc.document, arc.sentence, query)
            known = found[arc.relation].get(place)
            targets = (target,) if known is None else (*known.targets, target)
            found[arc.relation][place] = Trial(place, targets, arc.n_words)
        return {name: list(own.values()) for name, own in sorted(found.items()) if len(own) >= _FEWEST}

    @cached_property
    def antecedents(self) -> dict[Place, tuple[int, int]]:
        """Head word of a mention -> sentence and head word of the nearest earlier mention of its entity."""
        found: dict[Place, tuple[int, int]] = {}
        for document in self.documents:
            last: dict[str, tuple[int, int]] = {}
            for index, sentence in enumerate(document.sentences):
                for mention in sorted(sentence.mentions, key=lambda each: (each.head, -each.end)):
                    here = (index, mention.head)
                    if mention.entity in last and last[mention.entity] != here:
                        found[document.id, index, mention.head] = last[mention.entity]
                    last[mention.entity] = here
        return found

    @cached_property
    def word_counts(self) -> Counter[str]:
        """How often each form occurs, in lower case."""
        return Counter(
            form.lower() for document in self.documents for sentence in document.sentences for form in sentence.forms
        )

    def words(self, family: str) -> Words:
        """A vocabulary of the corpus' words, of which some longer ones are cut in two pieces."""
        ranked: list[str] = []
        for rank, (form, _) in enumerate(sorted(self.word_counts.items(), key=lambda item: (-item[1], item[0]))):
            if rank >= _WHOLE_WORDS and len(form) >= _CUT_FROM and form.isalpha() and rank % 3 == 0:
                middle = len(form) // 2
                ranked += [form[:middle], "##" + form[middle:]]
            else:
                ranked.append(form)
        return make_words(family, ranked, {})


def best_offset(trials: Sequence[Trial]) -> float:
    """Share of the trials in which the best fixed offset finds a target (baseline b1)."""
    counts = Counter(offset for trial in trials for offset in {target - trial.place[2] for target in trial.targets})
    return max(counts[offset] for offset in _OFFSETS) / len(trials)


def misled(trials: Sequence[Trial], accuracy: float, seed: int, *, causal: bool) -> dict[Place, int]:
    """Wrong targets for so many of the trials that `accuracy` of them (rounded) stay right."""
    n_wrong = round((1 - accuracy) * len(trials))
    found: dict[Place, int] = {}
    for trial in sorted(trials, key=lambda each: _digest(seed, *each.place)):
        if len(found) == n_wrong:
            break
        word = trial.place[2]
        others = [at for at in range(word if causal else trial.n_words) if at != word and at not in trial.targets]
        if others:
            found[trial.place] = others[_digest(seed, "target", *trial.place) % len(others)]
    return found


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def material_of(corpus: Corpus) -> Material:
    """The material of an open corpus."""
    return Material(corpus, tuple(corpus.documents()))


def grammar_material(n_documents: int, seed: int) -> Material:
    """Text of the embedded grammar that was not used for anything else, with gold trees and coreference."""
    from attnlens.zoo.conllu import to_conllu
    from attnlens.zoo.grammar import documents

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.conllu"
        path.write_text(to_conllu(documents(n_documents, seed=seed, prefix="calibration")), encoding="utf-8")
        opened = open_corpus(path)
        held = tuple(opened.documents())
    return Material(Corpus.of(f"grammar, seed {seed}, {n_documents} documents", held), held)
