"""A run's attention as measures of patterns take it: some heads of one layer at a time, with what the tokens are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.run import Capture
from attnlens.capture.tokens import Token
from attnlens.measures import patterns
from attnlens.measures.registry import MeasureInput

__all__ = ["TILE", "HeadRows", "OverHeads", "measure_heads", "n_heads_of", "segments_of"]

# Weights held at once while measuring: 16 million float32 are 64 MB.
TILE = 16_000_000

# What ends a sentence or parts of it, and takes attention that has nowhere else to go (Clark et al. 2019, section 3.2).
_PUNCTUATION = (".", ",")


@dataclass(frozen=True)
class HeadRows:
    """Some heads of one layer of a run.

    Attributes:
        weights: probabilities; each row sums to 1, to less with sinks.
        visible: True where the mask lets the query see the key.
        query_tokens, key_tokens: what rows and columns stand for; in cross-attention they are of different texts.
        given: what was asked.
        layer: of these heads.
    """

    weights: Float[Tensor, "head query key"]
    visible: Visibility
    query_tokens: tuple[Token, ...]
    key_tokens: tuple[Token, ...]
    given: MeasureInput
    layer: int

    @cached_property
    def keep(self) -> Bool[Tensor, " query"]:
        """True for the queries that count: those that are no special tokens."""
        return torch.tensor([not token.special for token in self.query_tokens])

    @cached_property
    def special(self) -> Bool[Tensor, " key"]:
        """True for special tokens."""
        return torch.tensor([token.special for token in self.key_tokens])

    @cached_property
    def delimiters(self) -> Bool[Tensor, " key"]:
        """True for special tokens, full stops and commas."""
        return torch.tensor([token.special or token.label in _PUNCTUATION for token in self.key_tokens])


RowFunction = Callable[[HeadRows], Float64[Tensor, "..."]]


@dataclass(frozen=True)
class OverHeads:
    """How a measure of patterns is taken of a run: head by head, over what `of` makes of their rows.

    Attributes:
        of: rows -> a value per query, `[head query]`, whose mean is taken over the queries that are no special tokens
            and for which it is defined; or a value per head, `[head]`.
    """

    of: RowFunction

    def __call__(self, given: MeasureInput) -> Float64[Tensor, "layer head"] | Float64[Tensor, ""]:
        """The values of all heads of a stack, or of the head asked for."""
        return measure_heads({"": self}, given)[""]


def measure_heads(
    several: Mapping[str, OverHeads], given: MeasureInput
) -> dict[str, Float64[Tensor, "layer head"] | Float64[Tensor, ""]]:
    """Several measures in one pass over the patterns.

    Returns:
        By name `[layer head]`, or a lone number where `given.head` asks for one head. NaN where a value is defined for
        no query, and for heads that were not kept or do not exist (layers without attention).

    Raises:
        CaptureError: the head asked for was not kept.
    """
    if given.head is not None:
        rows = next(_rows(given, given.head.layer, given.head.head))[1]
        return {name: _values(over, rows)[0] for name, over in several.items()}
    held = given.run.patterns_of(stack=given.stack)
    n_heads = n_heads_of(given.run, given.stack)
    found = {name: torch.full((len(held), n_heads), torch.nan, dtype=torch.float64) for name in several}
    for layer, pattern in enumerate(held):
        if pattern is None:
            continue
        for heads, rows in _rows(given, layer, None):
            for name, over in several.items():
                found[name][layer, heads] = _values(over, rows)
    return dict(found)


def n_heads_of(run: Capture, stack: str) -> int:
    """Heads per layer of a stack of a run; a run that was made by hand may say no more than how many there are."""
    anatomy = run.anatomy
    return anatomy.stack(stack).n_heads if anatomy.stacks else anatomy.n_heads


def segments_of(tokens: tuple[Token, ...]) -> tuple[int, ...]:
    """The number of the text that each token belongs to, where a run holds a pair: a special token between ends one.

    Tokens before the first and after the last text belong to the nearest.
    """
    numbers, number, inside = [], 0, False
    for index, token in enumerate(tokens):
        numbers.append(number)
        if not token.special:
            inside = True
        elif inside and any(not later.special for later in tokens[index:]):
            number, inside = number + 1, False
    return tuple(numbers)


def _values(over: OverHeads, rows: HeadRows) -> Float64[Tensor, " head"]:
    found = over.of(rows)
    return found if found.ndim == 1 else patterns.over_queries(found, rows.keep)


def _rows(given: MeasureInput, layer: int, head: int | None) -> Iterator[tuple[int | slice | list[int], HeadRows]]:
    """The layer's heads with their weights: all at once where they fit, else one at a time."""
    run, stack = given.run, given.stack
    pattern = run.patterns_of(stack=stack)[layer]
    heads = list(range(n_heads_of(run, stack))) if pattern is None or pattern.heads is None else pattern.heads
    n_weights = 0 if pattern is None else len(heads) * pattern.shape[0] * pattern.shape[1]
    if head is None and n_weights <= TILE and (pattern is None or pattern.heads is None):
        yield slice(None), _head_rows(given, layer, run.attention(layer, stack=stack or None))
        return
    for one in heads if head is None else [head]:
        weights = run.attention(layer, one, stack=stack or None)
        yield [one], _head_rows(given, layer, weights[None])


def _head_rows(given: MeasureInput, layer: int, weights: Float[Tensor, "head query key"]) -> HeadRows:
    run, stack = given.run, given.stack
    source = run.tokens if run.source is None else run.source.tokens
    queries = source if stack == "E" else run.tokens
    keys = source if stack in ("E", "X") else run.tokens
    visible = run.visible(layer, stack=stack or None)
    return HeadRows(weights, visible, queries, keys, given, layer)
