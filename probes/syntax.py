"""Syntax (measure S1): does a head attend along a dependency relation, more than a rule about position would?

For each relation, in both directions: the share of arcs on which the strongest word of the query's row is the gold
one. `d2h`: the dependent looks at its head. `h2d`: the head looks at one of its dependents of that relation (one trial
per head word, since a row has one strongest word). A causal model sees only earlier words, so there an arc is scored
at the later of its two words and the rest lowers `reach`, not the score.

Sources: Clark et al. 2019 (arXiv:1906.04341, section 4.2) for the accuracy and the offset baseline, which here is
fitted on one half and scored on the other; Voita et al. 2019 (arXiv:1905.09418, section 5.2.1).
The offset-matched control is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Wording
from probes.tally import Key, Tally, in_units
from probes.words import Observation

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


@dataclass(frozen=True)
class SyntaxProbe:
    """Accuracy of every head on every relation in both directions, beside offsets and matched controls.

    `seed` draws the control words.
    """

    seed: int = 0
    name: ClassVar[str] = "syntax"
    reads: ClassVar[Literal["sentence", "window"]] = "sentence"
    baselines: ClassVar[tuple[str, ...]] = tuple(f"offset {offset:+d}" for offset in OFFSETS)
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Trees are needed."""
        if corpus.n_trees:
            return None
        return f"{corpus.name} has no dependency arcs (HEAD is '_' throughout)"

    def observe(self, tally: Tally, seen: Observation) -> None:
        """Score one sentence's arcs in both directions."""
        (sentence,) = seen.sentences
        arcs = Arcs.of(sentence, seen.kept)
        if not arcs.names:
            return
        for direction in DIRECTIONS:
            self._observe(tally, seen, arcs, direction)

    def _observe(self, tally: Tally, seen: Observation, arcs: Arcs, direction: str) -> None:
        query, target = arcs.directed(direction)
        of_relation = np.zeros((len(query), len(arcs.names)))
        of_relation[np.arange(len(query)), arcs.relation] = 1
        scored = seen.candidates[query, target]
        counted = of_relation * scored[:, None]
        n_candidates = np.maximum(seen.candidates.sum(axis=1), 1)
        controls, n_controls = self._controls(seen, arcs, direction, scored)
        asked = _trials(arcs, query, of_relation, direction)
        trials = _trials(arcs, query, counted, direction)
        offsets = (target - query)[:, None] == np.array(OFFSETS)[None, :]
        hits = in_units((seen.winners[:, query, target] @ counted).T)
        mass = in_units((seen.words[:, query, target] @ counted).T)
        chance = in_units((1 / n_candidates[query]) @ counted)
        control_hits = in_units((controls @ counted).T)
        control_trials = (n_controls @ counted).astype(np.int64)
        baselines = in_units(counted.T @ offsets)
        for i, relation in enumerate(arcs.names):
            tally.add(
                Key(relation, direction),
                seen.cluster,
                trials=int(trials[i]),
                asked=int(asked[i]),
                chance=int(chance[i]),
                hits=hits[i],
                mass=mass[i],
                control_trials=int(control_trials[i]),
                control_hits=control_hits[i],
                baselines=baselines[i],
            )

    def _controls(
        self, seen: Observation, arcs: Arcs, direction: str, scored: Bool[np.ndarray, " entry"]
    ) -> tuple[Float64[np.ndarray, "head entry"], Int64[np.ndarray, " entry"]]:
        """For each entry, up to five other words of the sentence at which the same offset is not the relation.

        Returns the hits at these words, and how many they are.
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
        usable = inside & seen.candidates[word, other] & ~same & (word != query[:, None]) & scored[:, None]
        order = np.where(usable, self._random(seen.key, direction).random(usable.shape), 2.0)
        chosen = np.argsort(order, axis=1)[:, :N_CONTROLS]
        valid = np.take_along_axis(usable, chosen, axis=1)
        hits = seen.winners[:, chosen, np.take_along_axis(other, chosen, axis=1)] * valid
        return hits.sum(axis=-1), valid.sum(axis=1)

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

    def pointer(self, key: Key, seen: Observation) -> Pointer | None:
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


def _trials(
    arcs: Arcs,
    query: Int64[np.ndarray, " entry"],
    counted: Float64[np.ndarray, "entry relation"],
    direction: str,
) -> Int64[np.ndarray, " relation"]:
    """Trials per relation: arcs, or in `h2d` head words with at least one counted dependent."""
    if direction == "d2h":
        return np.asarray(counted.sum(axis=0), dtype=np.int64)
    at = np.zeros((len(arcs.is_of), counted.shape[1]), dtype=bool)
    rows = counted[np.arange(len(query)), arcs.relation] > 0
    at[query[rows], arcs.relation[rows]] = True
    return np.asarray(at.sum(axis=0), dtype=np.int64)


if __name__ == "__main__":
    from probes.cli import main

    main("syntax")
