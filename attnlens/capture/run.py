"""One text run through one model: what every head attended to, the residual stream, the logits, the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.patterns import Pattern
from attnlens.capture.residual import ONCE, PER_LAYER
from attnlens.capture.tokens import Token, Unit, Word, units_of
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy

__all__ = ["Capture"]


@dataclass(frozen=True, eq=False, repr=False)
class Capture:
    """A run of one text; everything is on the CPU and detached.

    Attributes:
        text: the text; the two of a pair stand on two lines.
        tokens: what the model saw, in order.
        words: the words that tokens belong to.
        anatomy: of the model that ran.
        mode: "lazy" (weights recomputed in float32 from queries and keys) or "exact" (as the eager code built them).
        settings: how the run was made, as JSON values.
        versions: of the libraries that made it.
        patterns: one per layer.
        stream: residual points that were kept, `[layer position d_model]` (`embed`, `final`: `[position d_model]`).
        logits: `[position vocab]` in the model's dtype; None where there is no language-model head or nobody asked.
    """

    text: str
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    anatomy: Anatomy
    mode: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    patterns: tuple[Pattern, ...]
    stream: Mapping[str, Tensor]
    logits: Float[Tensor, "position vocab"] | None = None

    def __repr__(self) -> str:
        size = (
            f"{self.n_layers} layers x {self.n_heads} heads, {len(self.tokens)} tokens, {self.nbytes / 2**20:.1f} MiB"
        )
        return f"Capture({self.text[:60]!r}, {self.anatomy.model!r}, {self.mode}: {size})"

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.patterns)

    @property
    def n_heads(self) -> int:
        """Number of query heads per layer."""
        return self.patterns[0].n_heads

    @property
    def nbytes(self) -> int:
        """Bytes held in tensors."""
        logits = 0 if self.logits is None else self.logits.nbytes
        return sum(p.nbytes for p in self.patterns) + sum(t.nbytes for t in self.stream.values()) + logits

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Rows and columns of the word-level maps: one per word that has a token, one per token without a word."""
        return units_of(self.tokens, self.words)

    def attention(
        self,
        layer: SupportsIndex | None = None,
        head: SupportsIndex | str | tuple[int, int] | Head | None = None,
        *,
        words: bool = False,
        queries: slice = slice(None),
        keys: slice = slice(None),
        kind: str = "self",
    ) -> Float[Tensor, ...]:
        """Attention weights: probabilities in float32 (float64 for a float64 model), each whole row sums to 1.

        Args:
            layer: one layer; None for all.
            head: an index within `layer`, or an address ("L3H1", "3.1", (3, 1), Head) without `layer`; None for all.
            words: map pieces to words: the sum over the pieces of the word attended to, the mean over the pieces of the
                word that attends (Clark et al. 2019, arXiv:1906.04341, section 4.1). Rows and columns are `units`.
            queries: part of the rows.
            keys: part of the columns, cut after the softmax, so that such rows sum to less.
            kind: "self"; models of this version have no other.

        Returns:
            `[layer head query key]`, without the axes that were chosen.

        Raises:
            UsageError: a layer without meaning, or both ways of naming a head at once.
            HeadAddressError: the model has no such head.
            CaptureError: a kind that the model does not have.
        """
        if kind != "self":
            raise CaptureError(f"this run holds self-attention only, not {kind!r}.")
        at_layer, at_head = self._address(layer, head)
        chosen = range(self.n_layers) if at_layer is None else (at_layer,)
        heads = slice(None) if at_head is None else slice(at_head, at_head + 1)
        maps = torch.stack([self._map(self.patterns[at], heads, words, queries, keys) for at in chosen])
        if at_head is not None:
            maps = maps.squeeze(1)
        return maps if at_layer is None else maps.squeeze(0)

    def visible(self, layer: SupportsIndex = 0, *, words: bool = False) -> Visibility:
        """True where the mask let a query see a key; the rest is "not visible", which is not the same as weight 0.

        With `words`, a word sees another if any piece of it sees any piece of the other.
        """
        seen = self.patterns[self._layer(layer)].visible()
        if not words:
            return seen
        members = self._membership(torch.float32)
        return members @ seen.to(torch.float32) @ members.T > 0

    def residual(self, point: str, layer: SupportsIndex | None = None) -> Float[Tensor, ...]:
        """A point of the residual stream in the model's dtype.

        Args:
            point: "embed" and "final" (once per run), or "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post".
            layer: one layer: `[position d_model]`; None: `[layer position d_model]`.

        Raises:
            CaptureError: no such point, or it was not kept, or it cannot be proven for this model.
        """
        if point in ONCE and layer is not None:
            raise UsageError(f"{point!r} exists once per run; leave `layer` out.")
        if point == "resid_pre" and point not in self.stream and {"embed", "resid_post"} <= self.stream.keys():
            values = torch.cat([self.stream["embed"][None], self.stream["resid_post"][:-1]])
        elif point in self.stream:
            values = self.stream[point]
        else:
            raise CaptureError(self._why_no(point))
        return values if layer is None else values[self._layer(layer)]

    def save(self, path: str | Path) -> Path:
        """Write the run to one file (safetensors with a JSON manifest), whole or not at all; `attnlens.open` reads it.

        Raises:
            OutputError: the file cannot be written.
        """
        from attnlens.capture.bundle import save_run

        return save_run(self, path)

    def _repr_html_(self) -> str:
        from attnlens.report.classic import head_view

        return str(head_view(self, html_action="return"))

    def _why_no(self, point: str) -> str:
        if point not in ONCE + PER_LAYER:
            return f"{point!r} is no point of the residual stream; expected one of {', '.join(ONCE + PER_LAYER)}."
        if reason := self.anatomy.absent.get(point):
            return f"{point!r} is not available for this model: {reason}"
        return f"{point!r} was not kept; capture with points=({point!r}, ...)."

    def _layer(self, layer: SupportsIndex) -> int:
        if not 0 <= (number := index(layer)) < self.n_layers:
            raise UsageError(f"layer {layer} does not exist: the model has layers 0 to {self.n_layers - 1}.")
        return number

    def _address(
        self, layer: SupportsIndex | None, head: SupportsIndex | str | tuple[int, int] | Head | None
    ) -> tuple[int | None, int | None]:
        if head is None:
            return (None if layer is None else self._layer(layer)), None
        if isinstance(head, SupportsIndex):
            if layer is None:
                raise UsageError(f"head={head} needs a layer; write layer=..., head={head} or head='L0H{head}'.")
            address = Head(self._layer(layer), index(head))
        else:
            address = Head.parse(head)
            if layer is not None and index(layer) != address.layer:
                raise UsageError(f"layer={layer} contradicts head={address}; give one of them.")
        address = address.within(self.n_layers, self.n_heads)
        return address.layer, address.head

    def _map(
        self, pattern: Pattern, heads: slice, words: bool, queries: slice, keys: slice
    ) -> Float[Tensor, "head query key"]:
        if not words:
            return pattern.weights(heads, queries)[..., keys]
        weights = pattern.weights(heads)
        members = self._membership(weights.dtype)
        means = members / members.sum(1, keepdim=True)
        return (means @ weights @ members.T)[:, queries, keys]

    def _membership(self, dtype: torch.dtype) -> Float[Tensor, "unit token"]:
        """1 where the token belongs to the unit."""
        members = torch.zeros(len(self.units), len(self.tokens), dtype=dtype)
        for row, unit in enumerate(self.units):
            members[row, list(unit.tokens)] = 1
        return members
