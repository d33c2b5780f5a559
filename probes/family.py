"""What a probe family offers: the built-in ones keep this contract, and so does a plug-in.

A family is registered in the entry point group `attnlens.probes` under its name, as a class that takes `seed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from attnlens.models.anatomy import Anatomy
from probes.conditions import Conditions
from probes.corpora.data import Corpus, Sentence
from probes.questions import OptionTrials, RowTrials
from probes.tally import Key
from probes.texts import Kind, Stimulus
from probes.view import LayerView, Sums, Values
from probes.words import Reading

__all__ = [
    "HeldAgainstRandom",
    "Judging",
    "Masking",
    "Measuring",
    "Pointer",
    "Probe",
    "Rule",
    "Stimulating",
    "Wording",
    "meets_random",
    "rule_names",
]


class Rule(NamedTuple):
    """A rule without a model that answers the same questions as the heads.

    Attributes:
        name: as it is printed.
        kind: "offset" for one fixed offset (baseline b1), "pos" for the nearest word of a part of speech (b2), "other"
            for what a family brings itself (the nearest mention, ...), which counts like b1.
    """

    name: str
    kind: Literal["offset", "pos", "other"] = "other"


@dataclass(frozen=True)
class Wording:
    """What a label is called, and what it says about the head in half a sentence."""

    label: str
    text: str


@dataclass(frozen=True)
class Pointer:
    """One query of an observation and where a label expects it to attend.

    Attributes:
        query, targets, candidates: indices of words or of tokens; only candidates can win.
        level: which of the two.
    """

    query: int
    targets: tuple[int, ...]
    candidates: tuple[int, ...]
    level: Literal["word", "token"]


@runtime_checkable
class Probe(Protocol):
    """A family of questions asked of every head.

    A family whose questions need no annotation and look at whole rows also keeps the contract of `Measuring`, one whose
    labels ask for something else than a syntactic label that of `Judging`.

    Attributes:
        name: as in `attnlens probe NAME`.
        reads: the kinds of text that it asks about; see `probes.texts.Kind`.
        rules: the rules without a model whose answers `ask` gives beside the right ones.
        contrast: True where the label rule of `probes.labels` decides (see `Judging`); False where a family's questions
            are reported without labels, as those of `positional` are, which has a rule of its own (and is
            `HeldAgainstRandom`).
        controlled: True where `ask` also gives offset-matched controls.
    """

    name: str
    reads: tuple[Kind, ...]
    rules: tuple[Rule, ...]
    contrast: bool
    controlled: bool

    def refusal(self, corpus: Corpus) -> str | None:
        """Why this corpus cannot serve (what is missing), or None."""
        ...

    def ask(self, reading: Reading) -> Iterable[RowTrials | OptionTrials]:
        """The trials of one text. Depends on the text alone, so that any order gives the same tally."""
        ...

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """The questions that a text can be an example of, from its annotation alone."""
        ...

    def wording(self, key: Key) -> Wording | None:
        """The label that a good score on `key` earns; None where it is reported only."""
        ...

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The first query that `key` asks about in this text, for an example."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A family that measures whole rows."""

    def measure(self, view: LayerView) -> Iterable[Values | Sums]:
        """Values of its questions over a batch of texts, for the heads of one layer."""
        ...


@runtime_checkable
class Judging(Protocol):
    """A family that states what its labels ask for; without it they ask for what a syntactic label does."""

    def conditions(self, key: Key) -> Conditions:
        """What a head must show on `key` to earn the label of `Probe.wording`; asked only where there is one.

        Depends on nothing but the key: how a head is judged is fixed before anything is measured.
        """
        ...


@runtime_checkable
class HeldAgainstRandom(Protocol):
    """A family that wants to know what copies with random weights do, though the label rule does not decide over it.

    Attributes:
        against_random: True where the copies are to read for it, as they do for every family with `contrast`.
    """

    against_random: bool


@runtime_checkable
class Masking(Protocol):
    """A family that asks where a word is predicted: it reads "masked" texts.

    In a bidirectional model with a mask token and a language-model head, each (sentence, word) that some family wants
    is read once, with the mask token in place of the word, by every family that has "masked" in `reads`; the text's
    `Reading.masked` is the word, whose only piece the mask token is. Elsewhere there are no masked texts: in a causal
    model the word is predicted at the token before it, so the family asks its "pred" questions of the ordinary text.
    """

    def masks(self, sentences: Sequence[Sentence]) -> Iterable[int]:
        """Words of one text (of one sentence) that the family wants to see predicted.

        Chosen from annotation, and from a hash where there are too many of them: the fewer, the better, since each is
        a forward pass of the whole sentence.
        """
        ...


@runtime_checkable
class Stimulating(Protocol):
    """A family that brings texts of its own, as token ids: it reads "stimulus" texts.

    Each family reads its own stimuli only. A `Reading` of one has no words and no sentences: `ids` are the tokens as
    they were given, `special` those that the stimulus marks so, `key` the stimulus's. They go through `ask` (with
    trials of level "token") and `measure` like any other text.
    """

    def stimuli(self, anatomy: Anatomy, tokenizer: Any, seed: int) -> Iterable[Stimulus]:
        """The texts for this model, the same for the same seed; nothing where it cannot be asked (not causal, ...)."""
        ...


def meets_random(probe: Probe) -> bool:
    """Whether copies with random weights read for a family (baseline b3)."""
    return probe.contrast or (isinstance(probe, HeldAgainstRandom) and probe.against_random)


def rule_names(probe: Probe) -> tuple[str, ...]:
    """The names of a family's rules, in order: the columns of `Cell.rules`."""
    return tuple(rule.name for rule in probe.rules)
