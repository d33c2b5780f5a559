"""Two runs side by side: two texts, two models, two checkpoints, or one head and another.

Runs are aligned first: words (or tokens) with the same label are matched in order, and what only one side has is left
out of the rows; in the columns it counts together as one more key. What is compared are the maps over what both have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from attnlens.capture.alignment import Alignment, align
from attnlens.capture.run import Capture
from attnlens.capture.tokens import Unit
from attnlens.errors import TextError, UsageError
from attnlens.heads import Head
from attnlens.measures.likeness import js_divergence, match_heads, summed_divergence
from attnlens.measures.likeness_measures import held_heads
from attnlens.measures.patterns import over_queries
from attnlens.measures.rows import n_heads_of

if TYPE_CHECKING:
    from attnlens.models.encode import Text
    from attnlens.models.lens import Lens

__all__ = [
    "HeadComparison",
    "HeadMatch",
    "ModelComparison",
    "RunComparison",
    "compare_heads",
    "compare_models",
    "compare_runs",
]


@dataclass(frozen=True)
class HeadMatch:
    """A head and its counterpart, and the mean divergence between them in nats (0 to ln 2)."""

    first: Head
    second: Head
    divergence: float


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs over the words that both have.

    Attributes:
        first, second: the runs.
        stacks: letter of the stack that is looked at in each.
        rows, columns: what the rows and columns of the maps below stand for.
        words: whether they are words; else tokens.
    """

    first: Capture
    second: Capture
    stacks: tuple[str, str]
    rows: Alignment
    columns: Alignment
    words: bool

    @cached_property
    def keep(self) -> Bool[Tensor, " row"]:
        """True for the rows that count in means: those that are no special tokens."""
        units = _units(self.first, self.stacks[0], self.words)[0]
        return torch.tensor([not units[row].special for row in self.rows.first])

    def maps(
        self, head: object, other: object = None
    ) -> tuple[Float[Tensor, "row column"], Float[Tensor, "row column"]]:
        """A head's map in the first run and in the second (or there that of `other`), over what both have."""
        heads = self._head(0, head), self._head(1, head if other is None else other)
        return self._map(0, heads[0]), self._map(1, heads[1])

    def difference(self, head: object, other: object = None) -> Float[Tensor, "row column"]:
        """Weight in the second run minus weight in the first, -1 to 1; more is more in the second."""
        one, two = self.maps(head, other)
        return two - one

    def between(self, head: object, other: object = None) -> float:
        """Mean divergence of a head's rows in the two runs, or from those of `other` in the second, in nats, 0 to ln 2.

        NaN where both have nothing but special tokens in common.
        """
        return float(over_queries(js_divergence(*self.maps(head, other)), self.keep))

    def divergence(self) -> Float64[Tensor, "layer head"]:
        """How far each head's rows are from those of the same head in the other run, in nats, 0 to ln 2.

        The mean Jensen-Shannon divergence over rows that are no special tokens. NaN for heads that a run does not hold.

        Raises:
            UsageError: the models differ in layers or heads, so that no head is the same; take `matched`.
        """
        sizes = [_size(run, stack) for run, stack in zip((self.first, self.second), self.stacks, strict=True)]
        if sizes[0] != sizes[1]:
            shown = " and ".join(f"{layers} layers x {heads} heads" for layers, heads in sizes)
            raise UsageError(f"the models have {shown}, so no head is the same in both; take matched().")
        found = torch.full(sizes[0], torch.nan, dtype=torch.float64)
        here, there = ({(h.layer, h.head): h for h in heads} for heads in self.heads)
        for place in here.keys() & there.keys():
            maps = self._map(0, here[place]), self._map(1, there[place])
            found[place] = over_queries(js_divergence(*maps), self.keep)
        return found

    @cached_property
    def heads(self) -> tuple[tuple[Head, ...], tuple[Head, ...]]:
        """The heads that each run holds: what the axes of `distances` stand for."""
        return held_heads(self.first, self.stacks[0]), held_heads(self.second, self.stacks[1])

    @property
    def same_heads(self) -> bool:
        """Whether both runs hold heads of the same addresses, so that a head is compared with itself."""
        return self.heads[0] == self.heads[1]

    def distances(self) -> Float64[Tensor, "head other"]:
        """Mean divergence of every head of the first run from every head of the second, in nats, 0 to ln 2."""
        sums, n_rows = self._sums(), int(self.keep.sum())
        return sums / n_rows if n_rows else torch.full_like(sums, torch.nan)

    def matched(self, *, within_layers: bool = False) -> tuple[HeadMatch, ...]:
        """The counterpart of each head: pairs whose divergences sum to the least possible, each head used once.

        Args:
            within_layers: let a head's counterpart stand in the same layer.
        """
        return _matched(self.distances(), *self.heads, within_layers)

    def _sums(self) -> Float64[Tensor, "head other"]:
        maps = [torch.stack([self._map(side, head) for head in self.heads[side]]) for side in (0, 1)]
        return summed_divergence(maps[0], maps[1], self.keep)

    def _map(self, side: int, head: Head) -> Float[Tensor, "row column"]:
        run = (self.first, self.second)[side]
        rows, columns = ((part.first, part.second)[side] for part in (self.rows, self.columns))
        return run.attention(head=head, words=self.words)[rows][:, columns]

    def _head(self, side: int, given: object) -> Head:
        head, stack = Head.parse(given), self.stacks[side]
        run = (self.first, self.second)[side]
        return Head(head.layer, head.head, stack).within(*_size(run, stack))


def compare_runs(
    first: Capture, second: Capture, *, words: bool = True, stack: str | tuple[str, str] | None = None
) -> RunComparison:
    """Put two runs side by side: of two texts, or of one text in two models or two checkpoints of one.

    Args:
        first: a run.
        second: another one.
        words: compare by words; False by tokens, for models with the same tokenizer.
        stack: letter of the stack to look at ("E", "D", "X"), or one for each run; None for the main one of each.

    Raises:
        TextError: the texts have nothing in common.
        CaptureError, HeadAddressError: a run has no such stack.
    """
    given = stack if isinstance(stack, tuple) else (stack, stack)
    letters = [
        run.anatomy.main_stack if letter is None else letter.upper()
        for run, letter in zip((first, second), given, strict=True)
    ]
    for run, letter in zip((first, second), letters, strict=True):
        run.patterns_of(stack=letter or None)  # refuses a stack that the run does not have
    here, there = (_units(run, letter, words) for run, letter in zip((first, second), letters, strict=True))
    rows, columns = align(here[0], there[0]), align(here[1], there[1])
    if not rows.pairs or not columns.pairs:
        what = "word" if words else "token"
        raise TextError(f"the two runs have no {what} in common, so nothing can be compared; choose texts that do.")
    return RunComparison(first, second, (letters[0], letters[1]), rows, columns, words)


@dataclass(frozen=True, eq=False)
class HeadComparison:
    """Two heads of one run.

    Attributes:
        first, second: the heads.
        labels: of the queries.
        difference: weight of the second minus weight of the first, -1 to 1.
        divergence: between the two rows of each query, in nats, 0 (the same) to ln 2 (no key in common).
        mean: of the divergence, over queries that are no special tokens.
    """

    first: Head
    second: Head
    labels: tuple[str, ...]
    difference: Float[Tensor, "query key"]
    divergence: Float64[Tensor, " query"]
    mean: float


def compare_heads(run: Capture, head: object, other: object, *, words: bool = False) -> HeadComparison:
    """Put two heads of one run side by side.

    Args:
        run: what both attended in.
        head: an address.
        other: another one, of a stack that looks from and to the same texts.
        words: compare by words instead of tokens.

    Raises:
        HeadAddressError, CaptureError: no such head, or it was not kept.
        UsageError: the two look from or to different texts.
    """
    heads = []
    for given in (head, other):
        parsed = Head.parse(given)
        stack = run.anatomy.stack(parsed.stack or run.anatomy.main_stack)
        heads.append(Head(parsed.layer, parsed.head, stack.letter).within(stack.n_layers, stack.n_heads))
    rows = _units(run, heads[0].stack, words)
    if heads[0].stack != heads[1].stack:
        raise UsageError(f"{heads[0]} and {heads[1]} look from or to different texts; choose heads of one stack.")
    one, two = (run.attention(head=address, words=words) for address in heads)
    divergence = js_divergence(one, two)
    keep = torch.tensor([not unit.special for unit in rows[0]])
    labels = tuple(unit.label for unit in rows[0])
    return HeadComparison(heads[0], heads[1], labels, two - one, divergence, float(over_queries(divergence, keep)))


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Two models, or two checkpoints of one, on the same texts.

    Attributes:
        first, second: the heads of each, which the axes of `distances` stand for.
        distances: mean divergence of every head from every head of the other model, in nats, 0 to ln 2.
        n_rows: rows that the means are over.
        n_texts: texts.
    """

    first: tuple[Head, ...]
    second: tuple[Head, ...]
    distances: Float64[Tensor, "head other"]
    n_rows: int
    n_texts: int

    def divergence(self) -> dict[Head, float]:
        """How far each head is from the head of the same address, for addresses that both models have."""
        places = {head: place for place, head in enumerate(self.second)}
        return {head: float(self.distances[row, places[head]]) for row, head in enumerate(self.first) if head in places}

    def matched(self, *, within_layers: bool = False) -> tuple[HeadMatch, ...]:
        """As `RunComparison.matched`."""
        return _matched(self.distances, self.first, self.second, within_layers)


def compare_models(first: Lens, second: Lens, texts: Sequence[Text], *, words: bool = True) -> ModelComparison:
    """Compare two opened models, text by text.

    Args:
        first: a model.
        second: another one, or another checkpoint of it.
        texts: what both read.
        words: compare by words; False by tokens.

    Raises:
        UsageError: there is no text.
        TextError: see `compare_runs`.
    """
    if not texts:
        raise UsageError("give at least one text.")
    sums, n_rows = torch.zeros((), dtype=torch.float64), 0
    for here, there in zip(first.captures(texts), second.captures(texts), strict=True):
        comparison = compare_runs(here, there, words=words)
        sums = sums + comparison._sums()
        n_rows += int(comparison.keep.sum())
    distances = sums / n_rows if n_rows else torch.full_like(sums, torch.nan)
    return ModelComparison(*comparison.heads, distances, n_rows, len(texts))


def _matched(
    distances: Float64[Tensor, "head other"], first: Sequence[Head], second: Sequence[Head], within_layers: bool
) -> tuple[HeadMatch, ...]:
    allowed = distances.clone()
    if within_layers:
        layers = [torch.tensor([head.layer for head in heads]) for heads in (first, second)]
        allowed[layers[0][:, None] != layers[1][None, :]] = torch.nan
    pairs = [(one, other) for one, other in match_heads(allowed).tolist() if not math.isnan(allowed[one, other])]
    return tuple(HeadMatch(first[one], second[other], float(allowed[one, other])) for one, other in pairs)


def _units(run: Capture, stack: str, words: bool) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """What rows and columns of a stack's maps stand for."""
    own, source = (run.units, run.source_units) if words else (_tokens(run), _tokens(run.source))
    if run.source is None or stack not in ("E", "X"):
        return own, own
    return (source if stack == "E" else own), source


def _tokens(text: object) -> tuple[Unit, ...]:
    tokens = getattr(text, "tokens", ())
    return tuple(Unit(token.label, (index,), token.word, token.special) for index, token in enumerate(tokens))


def _size(run: Capture, stack: str) -> tuple[int, int]:
    return len(run.patterns_of(stack=stack or None)), n_heads_of(run, stack)
