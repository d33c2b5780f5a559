"""Syntax (measure S1): does a head attend along a dependency relation, more than a rule about position would?

For each relation, in both directions: the share of arcs on which the strongest word of the query's row is the gold
one. `d2h`: the dependent looks at its head. `h2d`: the head looks at one of its dependents of that relation (one trial
per head word, since a row has one strongest word). A causal model sees only earlier words, so there an arc is scored
at the later of its two words and the rest lowers `reach`, not the score.

Sources: Clark et al. 2019 (arXiv:1906.04341, section 4.2) for the accuracy and the offset baseline, which here is
fitted on one half and scored on the other; Voita et al. 2019 (arXiv:1905.09418, section 5.2.1).
The offset-matched control is ours: within each trial, the same offsets (in `h2d` all of a head word's together) are
scored at other words, and selectivity compares the two over the trials that have such words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int64

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.questions import Cells, RowTrials
from probes.tally import Key
from probes.texts import Kind
from probes.words import Reading

__all__ = ["OFFSETS", "SyntaxProbe", "relation_labels"]

KEPT_APART = frozenset({"nsubj:pass", "aux:pass", "nmod:poss", "acl:relcl", "compound:prt"})
NOT_SCORED = frozenset({"root", "punct"})
OFFSETS = tuple(offset for offset in range(-10, 11) if offset)
N_CONTROLS = 5
DIRECTIONS = {"d2h": "dependent -> head", "h2d": "head -> dependent"}


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
    """A sentence's arcs, one entry per label that an arc counts under."""

    names: tuple[str, ...]
    relation: Int64[np.ndarray, " entry"]
    dependent: Int64[np.ndarray, " entry"]
    head: Int64[np.ndarray, " entry"]
    is_of: Bool[np.ndarray, "word relation"]

    @classmethod
    def of(cls, sentence: Sentence, kept: Bool[np.ndarray, " word"]) -> Arcs:
        """Arcs between words that the model saw; the others leave numerator and denominator."""
        found = [
            (label, word, head)
            for word, (head, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True))
            if head >= 0 and kept[word] and kept[head]
            for label in relation_labels(relation)
        ]
        names = tuple(sorted({label for label, _, _ in found}))
        index = {name: i for i, name in enumerate(names)}
        is_of = np.zeros((len(sentence), len(names)), dtype=bool)
        for label, word, _ in found:
            is_of[word, index[label]] = True
        columns = np.array([(index[label], word, head) for label, word, head in found], dtype=np.int64).reshape(-1, 3)
        return cls(names, columns[:, 0], columns[:, 1], columns[:, 2], is_of)

    def directed(self, direction: str) -> tuple[Int64[np.ndarray, " entry"], Int64[np.ndarray, " entry"]]:
        """(query, target) of every entry."""
        return (self.dependent, self.head) if direction == "d2h" else (self.head, self.dependent)

    def where(self, rows: Bool[np.ndarray, " entry"]) -> Arcs:
        """These entries only; names and `is_of` stay those of the sentence."""
        return replace(self, relation=self.relation[rows], dependent=self.dependent[rows], head=self.head[rows])


@dataclass(frozen=True)
class Trials:
    """Which arcs are scored together: the trial of every entry, and the relation of every trial."""

    of_entry: Int64[np.ndarray, " entry"]
    relation: Int64[np.ndarray, " trial"]


@dataclass(frozen=True)
class SyntaxProbe:
    """Accuracy of every head on every relation in both directions, beside offsets and matched controls.

    `seed` draws the control words.
    """

    seed: int = 0
    name: ClassVar[str] = "syntax"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = tuple(Rule(f"offset {offset:+d}", "offset") for offset in OFFSETS)
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Trees are needed."""
        if corpus.n_trees:
            return None
        return f"{corpus.name} has no dependency arcs (HEAD is '_' throughout)"

    def ask(self, reading: Reading) -> Iterator[RowTrials]:
        """One sentence's arcs in both directions."""
        (sentence,) = reading.sentences
        arcs = Arcs.of(sentence, reading.kept)
        if arcs.names:
            for direction in DIRECTIONS:
                yield self._ask(reading, arcs, direction)

    def _ask(self, reading: Reading, arcs: Arcs, direction: str) -> RowTrials:
        asked = np.bincount(_trials(arcs, direction).relation, minlength=len(arcs.names))
        query, target = arcs.directed(direction)
        arcs = arcs.where(reading.candidates[query, target])
        query, target = arcs.directed(direction)
        trials = _trials(arcs, direction)
        n_candidates = np.maximum(reading.candidates.sum(axis=1), 1)
        chance = np.zeros(len(trials.relation))
        np.add.at(chance, trials.of_entry, 1 / n_candidates[query])
        controls, paired = self._controls(reading, arcs, trials, direction)
        return RowTrials(
            keys=tuple(Key(name, direction) for name in arcs.names),
            asked=asked,
            question=trials.relation,
            chance=chance,
            targets=Cells.at(trials.of_entry, query, target),
            points=(target - query)[:, None] == np.array(OFFSETS)[None, :],
            paired=paired,
            controls=controls,
        )

    def _controls(
        self, seen: Reading, arcs: Arcs, trials: Trials, direction: str
    ) -> tuple[Cells, Bool[np.ndarray, " trial"]]:
        """Up to five other words of the sentence per trial, at which none of its offsets is the relation.

        All of a trial's offsets lie inside the sentence at these words, so that a head which always looks at one
        offset hits all of them where it hits the trial, and none where it misses it.

        Returns:
            The cells at the control words, which share in the mean over their trial's control words, and which trials
            have a control word.
        """
        query, target = arcs.directed(direction)
        n_words = len(seen.kept)
        word = np.arange(n_words)[None, :]
        other = word + (target - query)[:, None]
        inside = (other >= 0) & (other < n_words)
        other = np.where(inside, other, 0)
        dependent, head = (word, other) if direction == "d2h" else (other, word)
        heads = np.array(seen.sentences[0].heads)
        same = (heads[dependent] == head) & arcs.is_of[dependent, arcs.relation[:, None]]
        fits = inside & seen.candidates[word, other] & ~same & (word != query[:, None])
        usable = np.ones((len(trials.relation), n_words), dtype=bool)
        np.logical_and.at(usable, trials.of_entry, fits)
        order = np.where(usable, self._random(seen.key, direction).random(usable.shape), 2.0)
        chosen = np.argsort(order, axis=1)[:, :N_CONTROLS]
        valid = np.take_along_axis(usable, chosen, axis=1)
        n_valid = np.maximum(valid.sum(axis=1), 1)
        at = chosen[trials.of_entry]
        entry, column = np.nonzero(valid[trials.of_entry])
        trial = trials.of_entry[entry]
        controls = Cells(trial, at[entry, column], other[entry, at[entry, column]], 1 / n_valid[trial])
        return controls, np.asarray(valid.any(axis=1))

    def _random(self, key: str, direction: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}\0{direction}\0{key}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every relation of the sentences, in both directions."""
        labels = {label for sentence in sentences for name in sentence.relations for label in relation_labels(name)}
        return {Key(label, direction) for label in labels for direction in DIRECTIONS}

    def wording(self, key: Key) -> Wording:
        """Consistent with, not tracks: nearness by part of speech has not been ruled out."""
        return Wording(key.relation, f"consistent with {key.relation} ({DIRECTIONS[key.direction or 'd2h']})")

    def pointer(self, key: Key, seen: Reading) -> Pointer | None:
        """The sentence's first scored arc of the relation; all dependents of that head in `h2d`."""
        (sentence,) = seen.sentences
        arcs = Arcs.of(sentence, seen.kept)
        if key.relation not in arcs.names:
            return None
        query, target = arcs.directed(key.direction or "d2h")
        mine = (arcs.relation == arcs.names.index(key.relation)) & seen.candidates[query, target]
        if not mine.any():
            return None
        first = int(query[mine].min())
        targets = tuple(int(each) for each in target[mine & (query == first)])
        return Pointer(first, targets, tuple(np.flatnonzero(seen.candidates[first]).tolist()), "word")


def _trials(arcs: Arcs, direction: str) -> Trials:
    """One trial per arc; in `h2d` one per relation and head word, since a row has one strongest word."""
    if direction == "d2h":
        return Trials(np.arange(len(arcs.relation)), arcs.relation)
    n_words = len(arcs.is_of)
    numbers, of_entry = np.unique(arcs.relation * n_words + arcs.head, return_inverse=True)
    return Trials(of_entry, numbers // n_words)


if __name__ == "__main__":
    from probes.cli import main

    main("syntax")
