"""Syntax (measure S1): does a head attend along a dependency relation, more than a rule about position would?

The share of arcs on which the strongest word is the gold one, for each relation and both directions, at the word and at
the place where it is predicted (see `probes.syntax.trials`). A causal model sees only earlier words, so there `d2h` is
scored where the dependent is the later word and `h2d` where the head is; the rest lowers `reach`, not the score.

Sources: Clark et al. 2019 (arXiv:1906.04341, section 4.2) for the accuracy and the offset baseline, which here is
fitted on one half and scored on the other; Voita et al. 2019 (arXiv:1905.09418, section 5.2.1).
The offset-matched control is ours: within each trial, the same offsets (in `h2d` all of a head word's together) are
scored at other words, and selectivity compares the two over the trials that have such words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.questions import OptionTrials, RowTrials
from probes.syntax.relations import Arcs, relation_labels
from probes.syntax.rules import RULES
from probes.syntax.trials import COLUMN, LABELLED, column_trials, row_trials
from probes.tally import Key
from probes.texts import Kind
from probes.words import Reading

__all__ = ["SyntaxProbe"]

DIRECTIONS = {"d2h": "dependent -> head", "h2d": "head -> dependent"}


@dataclass(frozen=True)
class SyntaxProbe:
    """Accuracy of every head on every relation in both directions, beside offsets and matched controls.

    `seed` draws the control words.
    """

    seed: int = 0
    name: ClassVar[str] = "syntax"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = RULES
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Trees are needed."""
        if corpus.n_trees:
            return None
        return f"{corpus.name} has no dependency arcs (HEAD is '_' throughout)"

    def ask(self, reading: Reading) -> Iterator[RowTrials | OptionTrials]:
        """One sentence's arcs in all directions."""
        (sentence,) = reading.sentences
        arcs = Arcs.of(sentence, reading.kept)
        if arcs.names:
            yield row_trials(reading, arcs, self._random(reading.key))
            if reading.masked is None:
                yield column_trials(reading, arcs)

    def _random(self, key: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}\0{key}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every relation of the sentences, in the directions that labels come from."""
        labels = {label for sentence in sentences for name in sentence.relations for label in relation_labels(name)}
        return {Key(label, direction, at) for label in labels for direction in LABELLED for at in ("word", "pred")}

    def wording(self, key: Key) -> Wording | None:
        """Consistent with, not tracks: nearness by part of speech has not been ruled out."""
        if key.direction not in LABELLED:
            return None
        where = "" if key.at == "word" else ", where the word is predicted"
        return Wording(key.relation, f"consistent with {key.relation} ({DIRECTIONS[key.direction]}{where})")

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The sentence's first scored trial of the question: the row that asks, and all of the row's right answers."""
        (sentence,) = reading.sentences
        arcs = Arcs.of(sentence, reading.kept)
        if not arcs.names or key.direction == COLUMN:
            return None
        trials = row_trials(reading, arcs, self._random(reading.key))
        if key not in trials.keys:
            return None
        mine = trials.question[trials.targets.of] == trials.keys.index(key)
        if not mine.any():
            return None
        first = int(trials.targets.query[mine].min())
        targets = trials.targets.key[mine & (trials.targets.query == first)]
        return Pointer(
            first, tuple(targets.tolist()), tuple(np.flatnonzero(reading.candidates[first]).tolist()), "word"
        )
