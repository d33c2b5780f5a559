"""One text run through one model: what every head attended to, the residual stream, the logits, the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.overview import Overview, pooled
from attnlens.capture.patterns import Pattern
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY, STACKS
from attnlens.capture.stream import Stream
from attnlens.capture.tokens import EncodedText, Token, Unit, Word, units_of
from attnlens.errors import CaptureError, HeadAddressError, UsageError
from attnlens.heads import Head
from attnlens.models.wiring import LAYER_POINTS
from attnlens.models.wiring import STACK_POINTS as ONCE

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy

__all__ = ["HEAD_POINTS", "ONCE", "POINTS", "Capture", "Patterns"]

# Of each head: its queries, keys, values and output, and what it writes into the stream.
HEAD_POINTS = ("q", "k", "v", "z", "write")
POINTS = tuple(point for point in dict.fromkeys((*ONCE, *LAYER_POINTS, *HEAD_POINTS)) if point != "cross_z")

Patterns = tuple[Pattern | None, ...]
_ALL = slice(None)


@dataclass(frozen=True, eq=False, repr=False)
class Capture:
    """A run of one text; everything is on the CPU and detached.

    Attributes:
        text: the text; the two of a pair stand on two lines. The target, in an encoder-decoder.
        tokens: what the model saw, in order.
        words: the words that tokens belong to.
        anatomy: of the model that ran.
        mode: "lazy" (weights recomputed in float32 from queries and keys) or "exact" (as the eager code built them).
        settings: how the run was made, as JSON values.
        versions: of the libraries that made it.
        patterns: one per layer, of the only stack or of the decoder; None where a layer was not kept or cannot attend.
        stream: points that were kept, `[layer position d_model]` (`embed`, `final`: `[position d_model]`; those of
            heads: `[layer head position d_head]`). In an encoder-decoder the stack's letter stands in front:
            `E.resid_post`.
        logits: `[position vocab]` in the model's dtype; None where there is no language-model head or nobody asked.
        source: what an encoder-decoder read.
        encoder, cross: patterns of the encoder, and from the target to the source.
        n_prompt: how many tokens were given; the rest was generated. None where nothing was generated.
    """

    text: str
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    anatomy: Anatomy
    mode: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    patterns: Patterns
    stream: Mapping[str, Tensor]
    logits: Float[Tensor, "position vocab"] | None = None
    source: EncodedText | None = None
    encoder: Patterns = ()
    cross: Patterns = ()
    n_prompt: int | None = None

    def __repr__(self) -> str:
        size = (
            f"{self.n_layers} layers x {self.n_heads} heads, {len(self.tokens)} tokens, {self.nbytes / 2**20:.1f} MiB"
        )
        return f"Capture({self.text[:60]!r}, {self.anatomy.model!r}, {self.mode}: {size})"

    @property
    def n_layers(self) -> int:
        """Number of layers of the only stack, or of the decoder."""
        return len(self.patterns)

    @property
    def n_heads(self) -> int:
        """Number of query heads per layer."""
        return self.anatomy.n_heads

    @property
    def nbytes(self) -> int:
        """Bytes held in tensors; what layers share, such as a mask, counts once per layer."""
        logits = 0 if self.logits is None else self.logits.nbytes
        patterns = (pattern for stack in self._stacks.values() for pattern in stack if pattern is not None)
        points = self.stream.nbytes if isinstance(self.stream, Stream) else sum(t.nbytes for t in self.stream.values())
        return sum(p.nbytes for p in patterns) + points + logits

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Rows and columns of the word-level maps: one per word that has a token, one per token without a word."""
        return units_of(self.tokens, self.words)

    @cached_property
    def source_units(self) -> tuple[Unit, ...]:
        """Likewise for what an encoder-decoder read; empty without a source."""
        return () if self.source is None else units_of(self.source.tokens, self.source.words)

    def attention(
        self,
        layer: SupportsIndex | None = None,
        head: SupportsIndex | str | tuple[int, int] | Head | None = None,
        *,
        words: bool = False,
        queries: slice = _ALL,
        keys: slice = _ALL,
        kind: str = "self",
        stack: str | None = None,
        out: Tensor | None = None,
    ) -> Float[Tensor, ...]:
        """Attention weights: probabilities in float32 (float64 for a float64 model), each whole row sums to 1.

        Rows of models with sinks sum to less: the rest goes to no token.

        Args:
            layer: one layer; None for all.
            head: an index within `layer`, or an address ("L3H1", "3.1", (3, 1), Head) without `layer`; None for all.
                In an encoder-decoder "EL3H1", "DL3H1" and "XL3H1" name the stack as well.
            words: map pieces to words: the sum over the pieces of the word attended to, the mean over the pieces of the
                word that attends (Clark et al. 2019, arXiv:1906.04341, section 4.1). Rows and columns are `units`
                (of the encoder, and the columns of cross-attention: `source_units`).
            queries: part of the rows.
            keys: part of the columns, cut after the softmax, so that such rows sum to less.
            kind: "self", or "cross" for what the target attends to in the source.
            stack: "E", "D" or "X" instead of `kind`; "E" is the only way to the encoder without an address.
            out: a tensor of the right shape to write to, so that many runs can share one.

        Returns:
            `[layer head query key]`, without the axes that were chosen.

        Raises:
            UsageError: a layer without meaning, or both ways of naming a head at once.
            HeadAddressError: the model has no such head.
            CaptureError: a kind that the model does not have, or what was not kept.
        """
        letter = self._letter(head, kind, stack)
        at_layer, at_head = self._address(layer, head, letter)
        chosen = range(len(self._stacks[letter])) if at_layer is None else (at_layer,)
        maps = [self._map(letter, at, at_head, words, queries, keys) for at in chosen]
        found = maps[0] if at_layer is not None else torch.stack(maps)
        if at_head is not None:
            found = found.squeeze(-3)
        return found if out is None else out.copy_(found)

    def overview(
        self,
        layer: SupportsIndex | None = None,
        head: SupportsIndex | str | tuple[int, int] | Head | None = None,
        *,
        rows: int = 256,
        columns: int = 256,
        pool: str = "max",
        kind: str = "self",
        stack: str | None = None,
    ) -> Overview:
        """The map of one head, or of each head of a layer, pooled to a grid that fits a screen.

        The whole map is never built, so this serves texts of any length; `attention(queries=..., keys=...)` gives the
        exact weights behind a cell.

        Args:
            layer: the layer; not needed where `head` is an address.
            head: as in `attention`; None for every head of `layer`.
            rows: cells along the queries; at most one per query.
            columns: cells along the keys; at most one per key.
            pool: what a cell shows: "max", its largest weight, or "mean" over what is visible of it.
            kind: "self" or "cross", as in `attention`.
            stack: "E", "D" or "X", as in `attention`.

        Returns:
            Cells (`weights`, `[row column]` for one head, else `[head row column]`; NaN where nothing is visible), the
            share of each that is visible, and the positions at which they begin.

        Raises:
            UsageError: neither a layer nor a head, a grid without cells, another way of pooling.
            HeadAddressError, CaptureError: as in `attention`.
        """
        letter = self._letter(head, kind, stack)
        at_layer, at_head = self._address(layer, head, letter)
        if at_layer is None:
            raise UsageError("an overview is of one layer or head; give layer=... or head='L0H0'.")
        found = pooled(*self._chosen(letter, at_layer, at_head), rows, columns, pool)
        return found if at_head is None else replace(found, weights=found.weights[0])

    def visible(self, layer: SupportsIndex = 0, *, words: bool = False, stack: str | None = None) -> Visibility:
        """True where the mask let a query see a key; the rest is "not visible", which is not the same as weight 0.

        With `words`, a word sees another if any piece of it sees any piece of the other.
        """
        letter = self._letter(None, "self", stack)
        seen = self._pattern(letter, self._layer(layer, letter)).visible()
        if not words:
            return seen
        rows, columns = self._members(letter, torch.float32)
        return rows @ seen.to(torch.float32) @ columns.T > 0

    def residual(
        self, point: str, layer: SupportsIndex | None = None, *, stack: str | None = None
    ) -> Float[Tensor, ...]:
        """A point of the residual stream, or of the heads, in the model's dtype.

        Args:
            point: "embed" and "final" (once per run), or "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"
                (with cross-attention also "cross_out", "resid_cross"); of heads "q", "k", "v", "z" and "write".
            layer: one layer: `[position d_model]`; None: `[layer position d_model]`. Of heads `[head position d_head]`
                ("write": `[head position d_model]`).
            stack: "E" for the encoder of an encoder-decoder.

        Raises:
            CaptureError: no such point, or it was not kept, or it cannot be proven for this model.
        """
        letter = self._letter(None, "self", stack)
        front = f"{letter}." if letter else ""
        names = {name.removeprefix(front) for name in self.stream if name.startswith(front)}
        if point in ONCE and layer is not None:
            raise UsageError(f"{point!r} exists once per run; leave `layer` out.")
        every_layer = self.settings.get("layers") is None
        if point == "resid_pre" and point not in names and every_layer and {"embed", "resid_post"} <= names:
            values = torch.cat([self.stream[f"{front}embed"][None], self.stream[f"{front}resid_post"][:-1]])
        elif point not in names:
            raise CaptureError(self._why_no(point, letter))
        elif layer is None or not isinstance(self.stream, Stream):
            values = self.stream[f"{front}{point}"]
        else:
            return self.stream.layer(f"{front}{point}", self._held_at(point, layer, letter))
        return values if layer is None else values[self._held_at(point, layer, letter)]

    def save(self, path: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Write the run to one file (safetensors with a JSON manifest), whole or not at all; `attnlens.open` reads it.

        Args:
            path: where to.
            dtype: precision to keep queries, keys and weights in; None keeps the model's. What the file says under
                `settings["stored"]` is that precision and the largest difference that it makes to a weight.

        Raises:
            OutputError: the file cannot be written.
            UsageError: no precision for this, or one that cannot hold the run's numbers.
        """
        from attnlens.capture.bundle import save_run

        return save_run(self, path, dtype=dtype)

    def to_numpy(
        self, *, kind: str = "self", stack: str | None = None, max_memory: int | str | None = None
    ) -> Float[np.ndarray, "layer head query key"]:
        """Every weight of one kind as one float32 array; see `attnlens.capture.exchange.to_numpy`."""
        from attnlens.capture.exchange import to_numpy

        return to_numpy(self, kind=kind, stack=stack, max_memory=max_memory)

    def to_attentions(self, *, kind: str = "self", stack: str | None = None) -> tuple[Tensor | None, ...]:
        """One tensor `[1 head query key]` per layer, as transformers has them; None where none was kept."""
        from attnlens.capture.exchange import to_attentions

        return to_attentions(self, kind=kind, stack=stack)

    def to_model_output(self) -> Any:
        """What a call with `output_attentions=True` gives in transformers, for code that was written for it."""
        from attnlens.capture.exchange import to_model_output

        return to_model_output(self)

    def patterns_of(self, *, kind: str = "self", stack: str | None = None) -> Patterns:
        """The patterns of one kind of attention, one per layer; None where a layer was not kept or cannot attend.

        Args:
            kind: as in `attention`.
            stack: likewise.
        """
        return self._stacks[self._letter(None, kind, stack)]

    def _repr_html_(self) -> str:
        from attnlens.report.notebook.heads import run_html

        return run_html(self)

    @property
    def _stacks(self) -> dict[str, Patterns]:
        if not self.anatomy.is_encoder_decoder:
            return {ONLY: self.patterns}
        encoder = {ENCODER: self.encoder} if self.encoder else {}  # torch's TransformerDecoder stands alone
        return encoder | {DECODER: self.patterns, CROSS: self.cross}

    def _letter(self, head: object, kind: str, stack: str | None) -> str:
        """The stack that a call means."""
        address = Head.parse(head) if head is not None and not isinstance(head, SupportsIndex) else None
        if kind not in ("self", "cross"):
            raise CaptureError(f"there is no {kind!r} attention; expected kind='self' or kind='cross'.")
        named = address.stack if address is not None and address.stack else stack
        if kind == "cross" and named in (None, DECODER):
            named = CROSS
        letter = self.anatomy.main_stack if named is None else named.upper()
        if letter in self._stacks:
            return letter
        if letter not in STACKS:
            raise UsageError(f"stack {stack!r} does not exist; expected E, D or X.")
        if letter in (ENCODER, CROSS) or kind == "cross":
            raise CaptureError(f"this run holds self-attention only: {self.anatomy.model} is a model of one stack.")
        raise HeadAddressError(f"{self.anatomy.model} is a model of one stack; write L0H0 without {letter!r} in front.")

    def _why_no(self, point: str, letter: str) -> str:
        if point not in POINTS:
            return f"{point!r} is no point of the residual stream; expected one of {', '.join(POINTS)}."
        absent = self.anatomy.stack(letter).absent if self.anatomy.stacks else self.anatomy.absent
        if reason := absent.get(point):
            return f"{point!r} is not available for this model: {reason}"
        return f"{point!r} was not kept; capture with points=({point!r}, ...)."

    def _layer(self, layer: SupportsIndex, letter: str) -> int:
        if not 0 <= (number := index(layer)) < len(self._stacks[letter]):
            raise UsageError(
                f"layer {layer} does not exist: the model has layers 0 to {len(self._stacks[letter]) - 1}."
            )
        return number

    def _held_at(self, point: str, layer: SupportsIndex, letter: str) -> int:
        """Where a layer stands on the first axis of a point."""
        number, held = self._layer(layer, letter), self._layers_of(point, letter)
        if number not in held:
            raise CaptureError(f"{point!r} of layer {number} was not kept; capture with layers=({number}, ...).")
        return held.index(number)

    def _layers_of(self, point: str, letter: str) -> list[int]:
        """The layers on the first axis of a point: those that were kept, and of heads those that have attention."""
        kept, layers = self.settings.get("layers"), range(len(self._stacks[letter]))
        if point in HEAD_POINTS and self.anatomy.stacks:
            return [layer for layer in self.anatomy.stack(letter).attention_layers if kept is None or layer in kept]
        return [layer for layer in layers if kept is None or layer in kept]

    def _address(
        self, layer: SupportsIndex | None, head: SupportsIndex | str | tuple[int, int] | Head | None, letter: str
    ) -> tuple[int | None, int | None]:
        if head is None:
            return (None if layer is None else self._layer(layer, letter)), None
        if isinstance(head, SupportsIndex):
            if layer is None:
                raise UsageError(f"head={head} needs a layer; write layer=..., head={head} or head='L0H{head}'.")
            address = Head(self._layer(layer, letter), index(head), letter)
        else:
            address = Head.parse(head)
            if layer is not None and index(layer) != address.layer:
                raise UsageError(f"layer={layer} contradicts head={address}; give one of them.")
        n_heads = self.anatomy.stack(letter).n_heads if self.anatomy.stacks else self.n_heads
        address = address.within(len(self._stacks[letter]), n_heads)
        return address.layer, address.head

    def _place(self, layer: int) -> int:
        """Where a layer stands in the points that were kept."""
        kept = self.settings.get("layers")
        if kept is None:
            return layer
        if layer not in kept:
            raise CaptureError(f"layer {layer} was not kept; capture with layers=({layer}, ...).")
        return sorted(kept).index(layer)

    def _pattern(self, letter: str, layer: int) -> Pattern:
        pattern = self._stacks[letter][layer]
        if pattern is not None:
            return pattern
        if self.anatomy.stacks and layer not in self.anatomy.stack(letter).attention_layers:
            raise CaptureError(f"layer {layer} of {self.anatomy.model} has no attention; other layers have.")
        raise CaptureError(f"the attention of layer {layer} was not kept; capture with layers=({layer}, ...).")

    def _map(
        self, letter: str, layer: int, head: int | None, words: bool, queries: slice, keys: slice
    ) -> Float[Tensor, "head query key"]:
        pattern, heads = self._chosen(letter, layer, head)
        if not words:
            return pattern.weights(heads, queries, keys)
        weights = pattern.weights(heads)
        rows, columns = self._members(letter, weights.dtype)
        means = rows / rows.sum(1, keepdim=True)
        return (means @ weights @ columns.T)[:, queries, keys]

    def _chosen(self, letter: str, layer: int, head: int | None) -> tuple[Pattern, slice]:
        """A layer's pattern, and which of its heads."""
        pattern = self._pattern(letter, layer)
        heads = _ALL if head is None else self._held(pattern, layer, head)
        if head is None and pattern.heads is not None:
            kept = ", ".join(str(Head(layer, held, letter)) for held in pattern.heads)
            raise CaptureError(f"layer {layer} keeps {kept} only; ask for one of them by head=.")
        return pattern, heads

    def _held(self, pattern: Pattern, layer: int, head: int) -> slice:
        if pattern.heads is not None and head not in pattern.heads:
            raise CaptureError(f"L{layer}H{head} was not kept; capture with heads=('L{layer}H{head}', ...).")
        place = head if pattern.heads is None else pattern.heads.index(head)
        return slice(place, place + 1)

    def _members(
        self, letter: str, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "row query"], Float[Tensor, "column key"]]:
        """1 where the token belongs to the unit, for the rows and for the columns of a stack's maps."""
        own = _membership(self.units, len(self.tokens), dtype)
        if self.source is None or letter not in (ENCODER, CROSS):
            return own, own
        source = _membership(self.source_units, len(self.source.tokens), dtype)
        return (source if letter == ENCODER else own), source


def _membership(units: tuple[Unit, ...], n_tokens: int, dtype: torch.dtype) -> Float[Tensor, "unit token"]:
    members = torch.zeros(len(units), n_tokens, dtype=dtype)
    for row, unit in enumerate(units):
        members[row, list(unit.tokens)] = 1
    return members
