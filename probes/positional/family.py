"""The positional family: where heads attend irrespective of words (measures P1, P2, P4, P5, P7, P8 and P10).

Queries are the tokens of the text; special tokens are never queries (but for separators, once), and never win an
argmax. Every score is a mean over the queries for which it is defined: an offset needs a token at that offset which the
query can see. P10 and the offsets of words are asked word by word, beside syntax; of them only the nearest word of a
part of speech is a label, the offsets of words say which rule another label may come down to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.positional.keys import (
    BREADTH,
    DELIMITER,
    FIRST,
    NEAREST,
    OFFSETS,
    PUNCTUATION,
    SEPARATOR,
    offset_key,
)
from probes.positional.measures import measure
from probes.questions import OptionTrials, RowTrials
from probes.tally import Key
from probes.texts import Kind
from probes.view import LayerView, Sums
from probes.words import Reading

__all__ = ["PositionalProbe"]

_PLACES = {
    FIRST: "much of its weight goes to the first token",
    SEPARATOR: "most of its weight goes to separator tokens",
    PUNCTUATION: "most of its weight goes to full stops and commas",
    DELIMITER: "most of its weight goes to separators, full stops and commas",
}
_OFFSETS = {offset_key(offset): offset for offset in OFFSETS}
_NOUNS = {
    "NOUN": "noun",
    "VERB": "verb",
    "PROPN": "proper noun",
    "PUNCT": "punctuation mark",
    "AUX": "auxiliary",
    "ADP": "adposition",
    "ADJ": "adjective",
    "PRON": "pronoun",
}


@dataclass(frozen=True)
class PositionalProbe:
    """Where heads attend irrespective of words. Nothing in it is random; `seed` is there for the contract."""

    seed: int = 0
    name: ClassVar[str] = "positional"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = ()
    contrast: ClassVar[bool] = False
    controlled: ClassVar[bool] = False
    against_random: ClassVar[bool] = True

    def refusal(self, corpus: Corpus) -> str | None:
        """Any text will do; without parts of speech the nearest word of one is not asked for."""
        return None

    def ask(self, reading: Reading) -> tuple[RowTrials | OptionTrials, ...]:
        """Nothing: it measures whole rows."""
        return ()

    def measure(self, view: LayerView) -> Iterator[Sums]:
        """Every question of every token of the texts."""
        return measure(view)

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every question can be asked of every text, the nearest word of a part of speech where there is one."""
        tags = {tag for sentence in sentences for tag in sentence.upos}
        nearest = {key for key, (upos, _) in NEAREST.items() if upos in tags}
        return {*_OFFSETS, FIRST, SEPARATOR, PUNCTUATION, DELIMITER, *nearest}

    def wording(self, key: Key) -> Wording | None:
        """The label of a strong score; labels that depend on two scores are worded where they are decided."""
        if key in _PLACES:
            label = "first-token" if key == FIRST else "delimiter"
            return Wording(label, _PLACES[key])
        if key == BREADTH:
            return Wording("broad", "spreads its weight nearly evenly")
        if key in NEAREST:
            upos, side = NEAREST[key]
            return Wording(f"nearest-{upos}", f"attends to the nearest {_NOUNS[upos]} to the {side}")
        return _offset_wording(_OFFSETS[key]) if key in _OFFSETS else None

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """The middle token (or word) of the text that can see its target."""
        if key in NEAREST:
            return _word_pointer(key, reading)
        allowed = reading.token_candidates if key in _OFFSETS else _visible(reading)
        for query in _from_the_middle(np.flatnonzero(~reading.special), len(reading.labels)):
            targets = [at for at in _targets(key, query, reading) if allowed[query, at]]
            if targets:
                return Pointer(query, tuple(targets), tuple(np.flatnonzero(allowed[query]).tolist()), "token")
        return None


def _offset_wording(offset: int) -> Wording:
    names = {-1: "previous-token", 0: "self", 1: "next-token"}
    places = {-1: "the token before", 0: "the token itself", 1: "the token after"}
    side = "before" if offset < 0 else "after"
    place = places.get(offset, f"the token {abs(offset)} places {side}")
    return Wording(names.get(offset, f"offset {offset:+d}"), f"attends to {place}")


def _from_the_middle(places: Sequence[int] | np.ndarray, n: int) -> list[int]:
    return sorted(map(int, places), key=lambda at: (abs(2 * at - n), at))


def _word_pointer(key: Key, reading: Reading) -> Pointer | None:
    upos, side = NEAREST[key]
    allowed = reading.candidates
    places = [at for at in range(len(allowed)) if reading.upos[at] == upos]
    for query in _from_the_middle(np.flatnonzero(reading.kept), len(allowed)):
        beside = [at for at in places if allowed[query, at] and (at < query) == (side == "left")]
        if beside:
            nearest = min(beside, key=lambda at: abs(at - query))
            return Pointer(query, (nearest,), tuple(np.flatnonzero(allowed[query]).tolist()), "word")
    return None


def _visible(reading: Reading) -> Bool[np.ndarray, "query key"]:
    """Keys that a query can see, special ones too."""
    n = len(reading.labels)
    return np.asarray(np.tri(n, dtype=bool) if reading.causal else np.ones((n, n), dtype=bool))


def _targets(key: Key, query: int, reading: Reading) -> list[int]:
    n = len(reading.labels)
    if key in _OFFSETS:
        at = query + _OFFSETS[key]
        return [at] if 0 <= at < n else []
    separators = [at for at in range(1, n) if reading.special[at]]
    punctuation = [at for at in range(n) if reading.delimiters[at] and not reading.special[at]]
    sets = {FIRST: [0], SEPARATOR: separators, PUNCTUATION: punctuation, DELIMITER: separators + punctuation}
    return sets.get(key, [])
