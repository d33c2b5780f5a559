"""Position: offsets, sinks, delimiters and breadth, on tokens (measures P1, P2, P4, P5 and P7).

Queries are the tokens of the text; special tokens are never queries, and never win an argmax. Every score is a mean
over the queries for which it is defined: an offset needs a token at that offset which the query can see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from attnlens.measures import patterns
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Rule, Wording
from probes.questions import OptionTrials, RowTrials
from probes.tally import Key
from probes.texts import Kind
from probes.view import LayerView, Values
from probes.words import Reading

__all__ = ["OFFSETS", "PositionalProbe", "offset_key"]

OFFSETS = tuple(range(-5, 6))
FIRST, SECOND = Key("first-token"), Key("second-token")
SEPARATOR, PUNCTUATION, DELIMITER = Key("separator"), Key("punctuation"), Key("delimiter")
BREADTH, ENTROPY, DISTANCE = Key("breadth"), Key("entropy"), Key("distance")
CAUSAL_BREADTH_FROM = 4  # earlier rows see so few keys that any pattern is broad

_PLACES = {
    FIRST: "much of its weight goes to the first token",
    SEPARATOR: "most of its weight goes to separator tokens",
    PUNCTUATION: "most of its weight goes to full stops and commas",
    DELIMITER: "most of its weight goes to separators, full stops and commas",
}


def offset_key(offset: int) -> Key:
    """The question whether the strongest key is `offset` tokens away."""
    return Key(f"offset {offset:+d}" if offset else "offset 0")


@dataclass(frozen=True)
class PositionalProbe:
    """Where heads attend irrespective of words. Nothing in it is random; `seed` is there for the contract."""

    seed: int = 0
    name: ClassVar[str] = "positional"
    reads: ClassVar[tuple[Kind, ...]] = ("sentence",)
    rules: ClassVar[tuple[Rule, ...]] = ()
    contrast: ClassVar[bool] = False
    controlled: ClassVar[bool] = False

    def refusal(self, corpus: Corpus) -> str | None:
        """Any text will do."""
        return None

    def ask(self, reading: Reading) -> tuple[RowTrials | OptionTrials, ...]:
        """Nothing: it measures whole rows."""
        return ()

    def measure(self, view: LayerView) -> Iterator[Values]:
        """Every question of every token of the texts."""
        yield from _offsets(view)
        yield from _places(view)

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Every question can be asked of every text."""
        return {*map(offset_key, OFFSETS), FIRST, SEPARATOR, PUNCTUATION, DELIMITER}

    def wording(self, key: Key) -> Wording | None:
        """The label of a strong score; labels that depend on two scores are worded where they are decided."""
        if key in _PLACES:
            label = "first-token" if key == FIRST else "delimiter"
            return Wording(label, _PLACES[key])
        if key == BREADTH:
            return Wording("broad", "spreads its weight nearly evenly")
        for offset in OFFSETS:
            if key == offset_key(offset):
                return _offset_wording(offset)
        return None

    def pointer(self, key: Key, seen: Reading) -> Pointer | None:
        """The middle token of the text that can see its target."""
        allowed = seen.token_candidates
        n = len(seen.labels)
        for query in sorted(np.flatnonzero(~seen.special), key=lambda at: (abs(2 * at - n), at)):
            keys = allowed[query] if key in map(offset_key, OFFSETS) else _visible(seen)[query]
            targets = [int(at) for at in _targets(key, int(query), seen) if keys[at]]
            if targets:
                return Pointer(int(query), tuple(targets), tuple(np.flatnonzero(keys).tolist()), "token")
        return None


def _offset_wording(offset: int) -> Wording:
    names = {-1: "previous-token", 0: "self", 1: "next-token"}
    places = {-1: "the token before", 0: "the token itself", 1: "the token after"}
    side = "before" if offset < 0 else "after"
    place = places.get(offset, f"the token {abs(offset)} places {side}")
    return Wording(names.get(offset, f"offset {offset:+d}"), f"attends to {place}")


def _offsets(view: LayerView) -> Iterator[Values]:
    """Wins and mass at every offset, for the queries that have a token there."""
    n = view.tokens.shape[-1]
    place = torch.arange(n)
    n_candidates = view.token_candidates.sum(-1).clamp_min(1).double()
    n_visible = view.visible.sum(-1).clamp_min(1).double()
    for offset in OFFSETS:
        query = place[(place + offset >= 0) & (place + offset < n)]
        missing = ~view.token_candidates[:, query, query + offset]
        if not len(query) or bool(missing.all()):
            continue
        hits = view.token_winners[:, :, query, query + offset]
        yield Values(
            key=offset_key(offset),
            hits=hits.masked_fill(missing[:, None], torch.nan),
            mass=view.tokens[:, :, query, query + offset].double(),
            chance=1 / n_candidates[:, query],
            mass_chance=1 / n_visible[:, query],
        )


def _places(view: LayerView) -> Iterator[Values]:
    """Attention to places and sets of places, and the shape of rows; queries are the tokens of the text."""
    visible = view.visible[:, None]
    n_visible = visible.sum(-1).double()
    not_asked = ~view.text_tokens[:, None]
    for key, values, chance in _measures(view, view.tokens, visible, n_visible):
        yield Values(key, values.masked_fill(not_asked, torch.nan), chance=None if chance is None else chance[:, 0])


def _measures(
    view: LayerView,
    attention: Float[Tensor, "text head query key"],
    visible: Bool[Tensor, "text 1 query key"],
    n_visible: Float64[Tensor, "text 1 query"],
) -> list[tuple[Key, Float64[Tensor, "text head query"], Float64[Tensor, "text 1 query"] | None]]:
    """(question, value per head and query, value of uniform attention), NaN where not defined."""
    separators, punctuation = _sets(view)
    breadth = patterns.breadth(attention, visible)
    causal = torch.tensor([reading.causal for reading in view.readings])
    breadth[causal, :, :CAUSAL_BREADTH_FROM] = torch.nan
    found = [
        (FIRST, patterns.key_mass(attention, 0, visible), 1 / n_visible),
        (ENTROPY, patterns.entropy(attention), n_visible.log()),
        (BREADTH, breadth, None),
        (DISTANCE, patterns.distance(attention), None),
    ]
    if attention.shape[-1] > 1:
        short = torch.tensor([len(reading.labels) < 2 for reading in view.readings])
        second = patterns.key_mass(attention, 1, visible).masked_fill(short[:, None, None], torch.nan)
        found.append((SECOND, second, 1 / n_visible))
    for key, members in ((SEPARATOR, separators), (PUNCTUATION, punctuation), (DELIMITER, separators | punctuation)):
        n_members = (visible & members[:, None, None, :]).sum(-1)
        mass = (attention.double() * members[:, None, None, :]).sum(-1).masked_fill(n_members == 0, torch.nan)
        found.append((key, mass, n_members / n_visible))
    return found


def _sets(view: LayerView) -> tuple[Bool[Tensor, "text token"], Bool[Tensor, "text token"]]:
    """Special tokens after the first position; full stops and commas."""
    separators = torch.zeros(len(view.readings), view.tokens.shape[-1], dtype=torch.bool)
    punctuation = separators.clone()
    for row, reading in enumerate(view.readings):
        n = len(reading.special)
        separators[row, 1:n] = torch.from_numpy(reading.special[1:])
        punctuation[row, :n] = torch.from_numpy(reading.delimiters & ~reading.special)
    return separators, punctuation


def _visible(seen: Reading) -> Bool[np.ndarray, "query key"]:
    """Keys that a query can see, special ones too."""
    n = len(seen.labels)
    return np.asarray(np.tri(n, dtype=bool) if seen.causal else np.ones((n, n), dtype=bool))


def _targets(key: Key, query: int, seen: Reading) -> list[int]:
    n = len(seen.labels)
    for offset in OFFSETS:
        if key == offset_key(offset):
            return [query + offset] if 0 <= query + offset < n else []
    separators = [at for at in range(1, n) if seen.special[at]]
    punctuation = [at for at in range(n) if seen.delimiters[at] and not seen.special[at]]
    sets = {FIRST: [0], SEPARATOR: separators, PUNCTUATION: punctuation, DELIMITER: separators + punctuation}
    return sets.get(key, [])


if __name__ == "__main__":
    from probes.cli import main

    main("positional")
