"""Models whose heads' functions are known because their weights were written by hand.

`plant` builds one from heads (`attnlens.zoo.planted_heads`); `planted_model` builds the three that come with attnlens.
No weights are stored: a model is made in about a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlens.errors import UsageError
from attnlens.zoo.planted_heads import PlantedHead, uniform
from attnlens.zoo.planted_stream import WIDTH, block, token_vectors
from attnlens.zoo.planted_weights import HEADS_PER_LAYER, LONGEST, Plan, build_model
from attnlens.zoo.planted_words import SPECIALS, Words, grammar_words, new_tokenizer

__all__ = ["Annotations", "PlantedModel", "plant", "pointers"]

Annotations = Sequence[Sequence[tuple[str, int]]]

_LOUDNESS = 10.0
_FAINT = 1e-3


@dataclass(frozen=True)
class PlantedModel:
    """A planted model with its tokenizer and the heads that it was made of, layer by layer."""

    model: Any
    tokenizer: Any
    heads: tuple[tuple[PlantedHead, ...], ...]

    @property
    def sha256(self) -> str:
        """Of all weights, in the order of their names."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().numpy().tobytes())
        return digest.hexdigest()


def plant(
    family: str,
    layers: Sequence[Sequence[PlantedHead]],
    *,
    words: Words | None = None,
    classed: bool = True,
    annotations: Annotations = (),
    readout: Sequence[tuple[str, str, int, float]] | None = None,
) -> PlantedModel:
    """A model with these heads.

    Args:
        family: "bert" (masked), "gpt2" (causal) or "llama" (causal, rotary positions, no heads that read POS or PTR).
        layers: up to six heads per layer; the rest of a layer is uniform. In a layer where nothing is copied the last
            head copies a thousandth of TOK into OUT, since a model is only opened if its attention changes its output.
        words: the vocabulary; None takes the words of the embedded grammar.
        classed: tokens carry their class in FEAT; switch it off where annotations write there.
        annotations: what token types put into the stream, as axes (block, index), equally many for each type. The
            model then has to be given `token_type_ids` (GPT-2: numbers from the vocabulary's size on). BERT always has
            token types; its default is `pointers()`.
        readout: what the output reads, as (token, block, axis, weight); None reads the token that was copied to OUT.

    Raises:
        UsageError: an unknown family, too many heads, or a head that the family cannot make.
    """
    if family not in SPECIALS:
        raise UsageError(f"there is no planted {family!r}; expected {', '.join(SPECIALS)}.")
    for heads in layers:
        if len(heads) > HEADS_PER_LAYER:
            raise UsageError(f"a layer was given {len(heads)} heads; it has room for {HEADS_PER_LAYER}.")
    if family == "bert" and not annotations:
        annotations = pointers()
    if len({len(axes) for axes in annotations}) > 1:
        raise UsageError("every annotation has to set equally many axes, so that all tokens weigh the same.")
    vocabulary = grammar_words(family) if words is None else words
    full = tuple(_audible((*heads, *[uniform()] * (HEADS_PER_LAYER - len(heads)))) for heads in layers)
    plan = Plan(
        family=family,
        layers=full,
        words=vocabulary,
        classed=classed,
        annotations=tuple(tuple(axes) for axes in annotations),
        readout=_readout(vocabulary, readout),
    )
    return PlantedModel(build_model(plan), new_tokenizer(family, vocabulary, LONGEST), full)


def _audible(heads: tuple[PlantedHead, ...]) -> tuple[PlantedHead, ...]:
    if any(head.write is not None for head in heads):
        return heads
    return (*heads[:-1], heads[-1].writing("TOK", "OUT", _FAINT))


def pointers() -> Annotations:
    """One token type per position, which points there."""
    return [[("PTR", position)] for position in range(LONGEST)]


def _readout(words: Words, wanted: Sequence[tuple[str, str, int, float]] | None) -> np.ndarray:
    rows = np.zeros((len(words), WIDTH))
    if wanted is None:
        rows[:, block("OUT")] = _LOUDNESS * token_vectors(words.rarity)
    else:
        for token, name, axis, weight in wanted:
            rows[words.number(token), block(name).start + axis] = weight
    return rows
