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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probes.conditions import Conditions, Margin
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.questions import OptionTrials, RowTrials
from probes.sample import rank
from probes.syntax.agreement import AGREEMENT, agreement_trials, contests
from probes.syntax.alignment import alignment_sums
from probes.syntax.draws import Draws
from probes.syntax.relations import Arcs, relation_labels
from probes.syntax.rules import RULES, Near
from probes.syntax.trials import COLUMN, LABELLED, column_trials, row_trials
from probes.tally import Key
from probes.texts import Kind
from probes.view import LayerView, Sums
from probes.words import Reading

if TYPE_CHECKING:
    from probes.close_reading import CloseReading

__all__ = ["SyntaxProbe"]

DIRECTIONS = {"d2h": "dependent -> head", "h2d": "head -> dependent"}
POSITIONS = ("word", "pred")
MOST_VERBS = 2

# Section "agreement" of docs/probes.md. One of two nouns is right by chance; that the better rule about parts of speech
# ("the second noun to the left") is beaten as well makes the label strong.
_AGREEMENT = Conditions(
    margins=(Margin(("chance",), 0.10),),
    low=0.60,
    selectivity=None,
    strong=Margin(("offset", "pos"), 0.10),
    explicable=False,
)


@dataclass(frozen=True)
class SyntaxProbe:
    """Accuracy of every head on every relation in both directions, beside offsets and matched controls.

    `seed` draws the control words.
    """

    seed: int = 0
    name: ClassVar[str] = "syntax"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence", "masked")
    rules: ClassVar[tuple[Rule, ...]] = RULES
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Trees are needed, or marked agreement."""
        if corpus.n_trees or corpus.n_choices.get(AGREEMENT):
            return None
        return f"{corpus.name} has no dependency arcs (HEAD is '_' throughout)"

    def ask(self, reading: Reading) -> Iterator[RowTrials | OptionTrials]:
        """One sentence's arcs in all directions."""
        (sentence,) = reading.sentences
        arcs = Arcs.of(sentence, reading.kept)
        near = Near(reading.upos, reading.kept)
        if arcs.names:
            rows = row_trials(reading, arcs, near, Draws(self.seed, reading.key))
            if rows.keys:  # of a masked word that no arc touches nothing is asked
                yield rows
            if reading.masked is None:
                yield column_trials(reading, arcs, near)
        if (agreement := agreement_trials(reading, sentence, near)) is not None:
            yield agreement

    def measure(self, view: LayerView) -> Iterator[Sums]:
        """Attention along arcs of any relation."""
        yield alignment_sums(view)

    def masks(self, sentences: Sequence[Sentence]) -> Iterator[int]:
        """The first two verbs that could agree with the wrong noun, and one word of the tree, by hash."""
        (sentence,) = sentences
        yield from [contest.query[0] for contest in contests(sentence) if len(contest.query) == 1][:MOST_VERBS]
        words = [word for word, head in enumerate(sentence.heads) if head >= 0 and sentence.relations[word] != "punct"]
        if words:
            yield min(words, key=lambda word: rank(self.seed, sentence.text, str(word)))

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every relation of the sentences, in the directions that labels come from, and agreement."""
        labels = {label for sentence in sentences for name in sentence.relations for label in relation_labels(name)}
        keys = {Key(label, direction, at) for label in labels for direction in LABELLED for at in POSITIONS}
        if any(map(contests, sentences)):
            keys |= {Key(AGREEMENT, None, at) for at in POSITIONS}
        return keys

    def conditions(self, key: Key) -> Conditions:
        """Those of a syntactic label, except for agreement."""
        return _AGREEMENT if key.relation == AGREEMENT else Conditions()

    def wording(self, key: Key) -> Wording | None:
        """Consistent with, not tracks: nearness by part of speech has not been ruled out."""
        if key.relation == AGREEMENT:
            return Wording(AGREEMENT, "looks from the verb's place at its subject") if key.at == "pred" else None
        if key.direction not in LABELLED:
            return None
        where = "" if key.at == "word" else ", where the word is predicted"
        return Wording(key.relation, f"consistent with {key.relation} ({DIRECTIONS[key.direction]}{where})")

    def read_closely(self, reading: CloseReading) -> dict[str, Any]:
        """`trees`, `ensembles` and `parser`: what takes whole matrices."""
        from probes.syntax.close_results import read_closely

        return read_closely(reading)

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The sentence's first scored trial of the question: the row that asks, and all of the row's right answers."""
        (sentence,) = reading.sentences
        if key.relation == AGREEMENT:
            return _agreement_pointer(key, reading, sentence)
        arcs = Arcs.of(sentence, reading.kept)
        if not arcs.names or key.direction == COLUMN:
            return None
        near = Near(reading.upos, reading.kept)
        trials = row_trials(reading, arcs, near, Draws(self.seed, reading.key))
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


def _agreement_pointer(key: Key, reading: Reading, sentence: Sentence) -> Pointer | None:
    """The text's first contest: the verb's row, or that of the place where it is predicted."""
    trials = agreement_trials(reading, sentence, Near(reading.upos, reading.kept))
    if trials is None or key not in trials.keys:
        return None
    mine = trials.question[trials.option_trial[trials.cells.of]] == trials.keys.index(key)
    if not mine.any():
        return None
    of, query, word = trials.cells.of[mine], trials.cells.query[mine], trials.cells.key[mine]
    first = (trials.option_trial[of] == trials.option_trial[of[0]]) & (query == query[0])
    right = trials.right[of]
    return Pointer(int(query[0]), tuple(word[first & right].tolist()), tuple(sorted(word[first].tolist())), "word")
