"""Coreference (measure C1, closed): does a mention's head word attend to an earlier mention of its entity?

The candidates are the head words of all earlier mentions in the window, except mentions that contain the anaphor or
lie in it: the same choice that the rules without a model have. Scores on mentions whose antecedents all have another
form are kept apart, since a head that looks for equal words scores high on the rest; only they can earn a label.

Source: Clark et al. 2019 (arXiv:1906.04341, section 4.3), which does not say what the candidates were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probes.corpora.data import Corpus, Mention, Sentence
from probes.corpora.entities import BACKWARD_LINKS
from probes.family import Pointer, Rule, Wording
from probes.questions import Cells, OptionTrials
from probes.tally import Key
from probes.texts import Kind
from probes.words import Reading

__all__ = ["ALL", "NON_IDENTICAL", "Anaphor", "CoreferenceProbe", "anaphors_in"]

ALL = Key("antecedent")
NON_IDENTICAL = Key("antecedent (other form)")
OFFSETS = tuple(range(-10, 0))
# The last two answer as the first does where no earlier mention has the same word, or fits in number, gender, person.
RULES = ("nearest mention", "same word", "compatible mention")


@dataclass(frozen=True)
class Anaphor:
    """A mention that points back, in words of its window.

    Attributes:
        head: head word of the mention.
        candidates: head words of earlier mentions not nested with it, in order.
        targets: those among them that are mentions of its entity.
        guesses: what each rule of `RULES` answers.
        identical: some target has the head's lowercase form.
        kind: "pronoun", "proper" or "nominal", by the head's part of speech.
    """

    head: int
    candidates: tuple[int, ...]
    targets: tuple[int, ...]
    guesses: tuple[int, ...]
    identical: bool
    kind: str

    @property
    def keys(self) -> tuple[Key, ...]:
        """The questions it counts for."""
        return (ALL, Key(f"antecedent ({self.kind})"), *(() if self.identical else (NON_IDENTICAL,)))


def anaphors_in(sentences: Sequence[Sentence]) -> Iterator[Anaphor]:
    """The anaphors of a window of sentences that have an antecedent in it, in order."""
    words = [(sentence, i) for sentence in sentences for i in range(len(sentence))]
    first, placed = 0, []
    for sentence in sentences:
        placed += [(mention, first) for mention in sentence.mentions]
        first += len(sentence)
    for index, (mention, start) in enumerate(placed):
        if mention.link not in BACKWARD_LINKS or mention.split:
            continue
        head = start + mention.head
        earlier = [
            (other.entity, at + other.head)
            for other, at in placed[:index]
            if at + other.head != head and not (at == start and _nested(mention, other))
        ]
        targets = tuple(sorted({word for entity, word in earlier if entity == mention.entity}))
        if targets:
            yield _anaphor(words, head, tuple(sorted({word for _, word in earlier})), targets)


def _nested(one: Mention, other: Mention) -> bool:
    inside = one.start >= other.start and one.end <= other.end
    around = one.start <= other.start and one.end >= other.end
    return inside or around


def _anaphor(
    words: Sequence[tuple[Sentence, int]], head: int, candidates: tuple[int, ...], targets: tuple[int, ...]
) -> Anaphor:
    forms = [sentence.forms[i].lower() for sentence, i in (words[word] for word in candidates)]
    sentence, own = words[head]
    form, grammar = sentence.forms[own].lower(), _grammar(sentence, own)
    same = [word for word, other in zip(candidates, forms, strict=True) if other == form]
    fitting = [word for word in candidates if _compatible(_grammar(*words[word]), grammar)]
    upos = sentence.upos[own] if sentence.upos else "_"
    return Anaphor(
        head=head,
        candidates=candidates,
        targets=targets,
        guesses=(candidates[-1], (same or candidates)[-1], (fitting or candidates)[-1]),
        identical=any(word in targets for word in same),
        kind={"PRON": "pronoun", "PROPN": "proper"}.get(upos, "nominal"),
    )


def _grammar(sentence: Sentence, word: int) -> dict[str, str]:
    """Number, gender and person of a word; every word but a pronoun is third person."""
    features = sentence.features[word] if sentence.features else "_"
    known = dict(part.partition("=")[::2] for part in features.split("|") if "=" in part)
    is_pronoun = bool(sentence.upos) and sentence.upos[word] == "PRON"
    person = known.get("Person", "3") if is_pronoun else "3"
    return {name: known[name] for name in ("Number", "Gender") if name in known} | {"Person": person}


def _compatible(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


@dataclass(frozen=True)
class CoreferenceProbe:
    """Antecedent accuracy of every head, beside the nearest mention and two better rules."""

    seed: int = 0
    name: ClassVar[str] = "coreference"
    reads: ClassVar[tuple[Kind, ...]] = ("window",)
    rules: ClassVar[tuple[Rule, ...]] = (
        *(Rule(name) for name in RULES),
        *(Rule(f"offset {offset:+d}", "offset") for offset in OFFSETS),
    )
    contrast: ClassVar[bool] = True
    controlled: ClassVar[bool] = False

    def refusal(self, corpus: Corpus) -> str | None:
        """Mentions are needed."""
        return None if corpus.n_mentions else f"{corpus.name} has no coreference (no `Entity=` in MISC)"

    def ask(self, reading: Reading) -> Iterator[OptionTrials]:
        """Every anaphor of one window: its options are the head words of earlier mentions."""
        for anaphor in anaphors_in(reading.sentences):
            if reading.kept[anaphor.head]:
                yield self._ask(reading, anaphor)

    def _ask(self, reading: Reading, anaphor: Anaphor) -> OptionTrials:
        candidates = np.array([word for word in anaphor.candidates if reading.candidates[anaphor.head, word]], np.int64)
        right = np.isin(candidates, anaphor.targets)
        n_keys, n_options = len(anaphor.keys), len(candidates)
        scored = n_keys if right.any() else 0
        guesses = candidates[:, None] == np.array(anaphor.guesses)[None, :]
        offsets = (candidates - anaphor.head)[:, None] == np.array(OFFSETS)[None, :]
        option = np.arange(scored * n_options)
        return OptionTrials(
            keys=anaphor.keys,
            asked=np.ones(n_keys, dtype=np.int64),
            question=np.arange(scored),
            chance=np.full(scored, right.sum() / max(n_options, 1)),
            option_trial=np.repeat(np.arange(scored), n_options),
            right=np.tile(right, scored),
            cells=Cells.at(option, np.full(len(option), anaphor.head), np.tile(candidates, scored)),
            points=np.tile(np.hstack([guesses, offsets]), (scored, 1)),
        )

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every kind of anaphor in the window."""
        return {key for anaphor in anaphors_in(sentences) for key in anaphor.keys}

    def wording(self, key: Key) -> Wording | None:
        """Only mentions whose antecedents all look different can earn the label."""
        if key != NON_IDENTICAL:
            return None
        return Wording("coreference", "consistent with coreference (mention -> earlier mention of the same entity)")

    def pointer(self, key: Key, seen: Reading) -> Pointer | None:
        """The window's first anaphor of this kind."""
        for anaphor in anaphors_in(seen.sentences):
            candidates = tuple(word for word in anaphor.candidates if seen.candidates[anaphor.head, word])
            targets = tuple(word for word in anaphor.targets if word in candidates)
            if key in anaphor.keys and targets:
                return Pointer(anaphor.head, targets, candidates, "word")
        return None


if __name__ == "__main__":
    from probes.cli import main

    main("coreference")
