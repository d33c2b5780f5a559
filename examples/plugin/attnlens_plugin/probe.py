"""A probe: where does a word that stood there before look, at its earlier self?"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.marked import Marked, marked_trials
from probes.questions import RowTrials
from probes.syntax.draws import Draws
from probes.syntax.rules import OFFSETS, RULES
from probes.tally import Key
from probes.texts import Kind
from probes.words import Reading

REPEAT = Key("repeat")


class RepeatsProbe:
    """Whether a head looks from a word at an earlier word of the same spelling. Any text will do."""

    name: ClassVar[str] = "repeats"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)  # one sentence at a time
    rules: ClassVar[tuple[Rule, ...]] = RULES[: len(OFFSETS)]  # held against fixed offsets
    contrast: ClassVar[bool] = True  # the label rule decides
    controlled: ClassVar[bool] = True  # and offset-matched controls are drawn

    def __init__(self, seed: int = 0) -> None:
        """`seed` draws the control words."""
        self.seed = seed

    def refusal(self, corpus: Corpus) -> str | None:
        """Nothing is needed of a corpus."""
        return None

    def ask(self, reading: Reading) -> Iterator[RowTrials]:
        """One trial for each word that stood there before: its earlier selves are right."""
        marked = [Marked(REPEAT, word, earlier) for word, earlier in _repeated(_forms(reading))]
        trials = marked_trials(reading, marked, Draws(self.seed, reading.key), len(self.rules))
        if trials is not None:
            yield trials

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """The question, where a word repeats."""
        forms = [form for sentence in sentences for form in sentence.forms]
        return {REPEAT} if _repeated(forms) else set()

    def wording(self, key: Key) -> Wording:
        """What the label is called, and what it says."""
        return Wording("repeat", "looks at an earlier word of the same spelling")

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The first repeated word of the text, for an example."""
        for word, earlier in _repeated(_forms(reading)):
            visible = tuple(np.flatnonzero(reading.candidates[word]).tolist())
            if key == REPEAT and set(earlier) & set(visible):
                return Pointer(word, tuple(sorted(set(earlier) & set(visible))), visible, "word")
        return None


def _forms(reading: Reading) -> list[str]:
    return [form for sentence in reading.sentences for form in sentence.forms]


def _repeated(forms: Sequence[str]) -> list[tuple[int, tuple[int, ...]]]:
    """Each word that stood there before, with where."""
    seen: dict[str, list[int]] = {}
    found = []
    for index, form in enumerate(forms):
        if form in seen:
            found.append((index, tuple(seen[form])))
        seen.setdefault(form, []).append(index)
    return found
