"""Position: offsets, sinks, delimiters and breadth, on tokens (measures P1, P2, P4, P5 and P7).

Queries are the tokens of the text; special tokens are never queries, and never win an argmax. Every score is a mean
over the queries for which it is defined: an offset needs a token at that offset which the query can see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from attnlens.measures import patterns
from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Wording
from probes.tally import Key, Tally, in_units, parts
from probes.words import Observation

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
    reads: ClassVar[Literal["sentence", "window"]] = "sentence"
    baselines: ClassVar[tuple[str, ...]] = ()
    contrast: ClassVar[bool] = False
    controlled: ClassVar[bool] = False

    def refusal(self, corpus: Corpus) -> str | None:
        """Any text will do."""
        return None

    def observe(self, tally: Tally, seen: Observation) -> None:
        """Add one text."""
        keep = ~seen.special
        if not keep.any():
            return
        attention = torch.from_numpy(seen.attention)
        visible = torch.from_numpy(seen.visible)
        _observe_offsets(tally, seen, attention)
        for key, values, chance in _measures(seen, attention, visible):
            _add(tally, key, seen.cluster, values[:, keep], chance[:, keep])

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

    def pointer(self, key: Key, seen: Observation) -> Pointer | None:
        """The middle token of the text that can see its target."""
        allowed = _allowed(seen)
        n = len(seen.labels)
        for query in sorted(np.flatnonzero(~seen.special), key=lambda at: (abs(2 * at - n), at)):
            keys = allowed[query] if key in map(offset_key, OFFSETS) else seen.visible[0, query]
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


def _allowed(seen: Observation) -> Bool[np.ndarray, "query key"]:
    """Keys that may win: tokens of the text that the query can see."""
    text = ~seen.special
    causal = np.tri(len(text), dtype=bool) if seen.causal else True
    return np.asarray(text[:, None] & text[None, :] & causal)


def _observe_offsets(tally: Tally, seen: Observation, attention: Tensor) -> None:
    allowed = _allowed(seen)
    share = patterns.argmax_share(attention, torch.from_numpy(allowed)).numpy()
    weights = seen.attention.astype(np.float64)
    n_candidates = np.maximum(allowed.sum(axis=1), 1)
    n_visible = np.maximum(seen.visible[0].sum(axis=1), 1)
    for offset in OFFSETS:
        at = allowed.diagonal(offset)
        if not at.any():
            continue
        queries = np.flatnonzero(at) + max(-offset, 0)
        tally.add(
            offset_key(offset),
            seen.cluster,
            trials=int(at.sum()),
            hits=in_units(share[:, queries, queries + offset].sum(axis=-1)),
            mass=in_units(weights[:, queries, queries + offset].sum(axis=-1)),
            chance=parts((1 / n_candidates[queries]).sum()),
            mass_chance=parts((1 / n_visible[queries]).sum()),
        )


def _measures(
    seen: Observation, attention: Tensor, visible: Tensor
) -> list[tuple[Key, Float64[np.ndarray, "head query"], Float64[np.ndarray, "head query"]]]:
    """(question, value per head and query, value of uniform attention), NaN where not defined."""
    n_visible = visible.sum(-1).double()
    none = torch.full_like(n_visible, torch.nan)
    separators = torch.from_numpy(seen.special).clone()
    separators[0] = False
    punctuation = torch.from_numpy(seen.delimiters & ~seen.special)
    breadth = patterns.breadth(attention, visible)
    if seen.causal:
        breadth[:, :CAUSAL_BREADTH_FROM] = torch.nan
    found = [
        (FIRST, patterns.key_mass(attention, 0, visible), 1 / n_visible),
        (ENTROPY, patterns.entropy(attention), n_visible.log()),
        (BREADTH, breadth, none),
        (DISTANCE, patterns.distance(attention), none),
    ]
    if len(seen.labels) > 1:
        found.append((SECOND, patterns.key_mass(attention, 1, visible), 1 / n_visible))
    for key, members in ((SEPARATOR, separators), (PUNCTUATION, punctuation), (DELIMITER, separators | punctuation)):
        n_members = (visible & members).sum(-1)
        mass = patterns.set_mass(attention, members).masked_fill(n_members == 0, torch.nan)
        found.append((key, mass, n_members / n_visible))
    return [(key, values.numpy(), chance.numpy()) for key, values, chance in found]


def _add(
    tally: Tally,
    key: Key,
    cluster: int,
    values: Float64[np.ndarray, "head query"],
    chance: Float64[np.ndarray, "head query"],
) -> None:
    """Add the queries for which the value is defined; these are the same for all heads."""
    defined = ~np.isnan(values).any(axis=0)
    if not defined.any():
        return
    sums = in_units(values[:, defined].sum(axis=-1))
    expected = parts(np.nan_to_num(chance[0, defined]).sum())
    tally.add(key, cluster, trials=int(defined.sum()), hits=sums, mass=sums, chance=expected)


def _targets(key: Key, query: int, seen: Observation) -> list[int]:
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
