"""What a probe family offers: the built-in ones keep this contract, and so does a plug-in.

A family is registered in the entry point group `attnlens.probes` under its name, as a class that takes `seed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from probes.corpora.data import Corpus, Sentence
from probes.tally import Key, Tally
from probes.words import Observation

__all__ = ["Pointer", "Probe", "Wording"]


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

    Attributes:
        name: as in `attnlens probe NAME`.
        reads: whether texts are single sentences, or windows of whole sentences of one document.
        baselines: names of the rules without a model that `observe` scores beside the heads.
        contrast: True where scores are tested against those rules; False where thresholds on the score decide.
        controlled: True where `observe` also scores offset-matched controls.
    """

    name: str
    reads: Literal["sentence", "window"]
    baselines: tuple[str, ...]
    contrast: bool
    controlled: bool

    def refusal(self, corpus: Corpus) -> str | None:
        """Why this corpus cannot serve (what is missing), or None."""
        ...

    def observe(self, tally: Tally, seen: Observation) -> None:
        """Add one text to the tally. Depends on the text alone, so that any order gives the same tally."""
        ...

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """The questions that a text can be an example of, from its annotation alone."""
        ...

    def wording(self, key: Key) -> Wording | None:
        """The label that a good score on `key` earns; None where it is reported only."""
        ...

    def pointer(self, key: Key, seen: Observation) -> Pointer | None:
        """The first query that `key` asks about in this text, for an example."""
        ...
