"""Changes to attention while a model runs: heads' outputs replaced, edges cut, patterns put in place of a head's own.

Which changes hold is a context variable, so that threads do not mix. They stand between the model and whatever records
it: a capture inside a block of changes keeps the attention of the changed model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnlens.capture.calls import AttentionCall, Recorder, WeightsCall
from attnlens.capture.recorders import PatternRecorder
from attnlens.capture.sites import Site
from attnlens.capture.terms import Terms
from attnlens.errors import UsageError

__all__ = [
    "AttentionEdit",
    "Edge",
    "EdgeCut",
    "HeadEdit",
    "PatternEdit",
    "Replacement",
    "edit_labels",
    "editing",
    "with_edits",
]

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Replacement:
    """Numbers to be put in the place of a model's own, row by row of a batch and position by position.

    Attributes:
        where: True where a number is replaced, `[row position ...]`; an axis of size 1 stands for all, that of the
            positions only where `least` is 0.
        value: what is put there; an axis of size 1 is repeated, and positions beyond the text's are not used.
        least: how many positions a text must have, for which `where` holds one entry each; those after them stay.
        exact: a text must have just as many.
    """

    where: Bool[Tensor, ...]
    value: Float[Tensor, ...]
    least: int = 0
    exact: bool = False

    def apply(self, own: Float[Tensor, "row position ..."]) -> Float[Tensor, "row position ..."]:
        """`own` with the numbers replaced; a new tensor.

        Raises:
            UsageError: the text or the batch has other sizes than this was made for.
        """
        n_rows, n_positions = own.shape[:2]
        if n_positions < self.least or (self.exact and n_positions != self.least):
            raise UsageError(
                f"the text has {n_positions} positions, and the intervention was made for "
                f"{'' if self.exact else 'at least '}{self.least}; name positions that the text has, or take a run of "
                "a text of the same length."
            )
        for part in (self.where, self.value):
            if part.shape[0] not in (1, n_rows):
                raise UsageError(f"the batch has {n_rows} rows, and the intervention was made for {part.shape[0]}.")
        where, value = self.where.to(own.device), self.value.to(own)
        if self.least:
            where = _fitted(where, n_positions)
        if value.shape[1] > 1:
            value = _fitted(value, n_positions)
        return torch.where(where, value, own)


def _fitted(part: Tensor, n_positions: int) -> Tensor:
    """`part` cut to a text's positions, or with zeros (False) for those after its last."""
    missing = n_positions - part.shape[1]
    if missing <= 0:
        return part[:, :n_positions]
    return torch.cat([part, part.new_zeros(part.shape[0], missing, *part.shape[2:])], 1)


class AttentionEdit:
    """A change to the attention of some sites; the base changes nothing."""

    sites: frozenset[Site] = frozenset()

    def hidden(self, site: Site, shape: Shape, device: torch.device) -> Bool[Tensor, "#batch #head query key"] | None:
        """True at edges that are cut before the softmax, for weights of `shape`."""
        return None

    def steered(self, site: Site, weights: Float[Tensor, "batch head query key"]) -> Tensor | None:
        """`weights` with patterns put in; None where no pattern of the site is replaced."""
        return None

    def output(
        self, site: Site, z: Float[Tensor, "batch query head d_head"]
    ) -> Float[Tensor, "batch query head d_head"]:
        """What the heads pass on, changed."""
        return z


@dataclass(frozen=True, eq=False)
class HeadEdit(AttentionEdit):
    """Replaces what heads pass on (z, before W_O).

    Attributes:
        replacements: site -> `where` of `[row position head 1]`, `value` of `[row position head d_head]`.
    """

    replacements: Mapping[Site, Replacement]

    @property
    def sites(self) -> frozenset[Site]:  # type: ignore[override]
        """Sites whose heads are changed."""
        return frozenset(self.replacements)

    def output(
        self, site: Site, z: Float[Tensor, "batch query head d_head"]
    ) -> Float[Tensor, "batch query head d_head"]:
        """`z` with the numbers replaced."""
        return self.replacements[site].apply(z) if site in self.replacements else z


@dataclass(frozen=True)
class Edge:
    """One edge to be cut: of one row of the batch and one head, or of all where these are None."""

    query: int
    key: int
    head: int | None = None
    row: int | None = None


@dataclass(frozen=True, eq=False)
class EdgeCut(AttentionEdit):
    """Hides keys from queries, as a mask would: the softmax runs over the keys that are left.

    A query that has no key left gets weights of 0, and its head passes on 0 there.
    """

    edges: Mapping[Site, Sequence[Edge]]

    @property
    def sites(self) -> frozenset[Site]:  # type: ignore[override]
        """Sites in which edges are cut."""
        return frozenset(self.edges)

    def hidden(self, site: Site, shape: Shape, device: torch.device) -> Bool[Tensor, "#batch #head query key"] | None:
        """True at the edges of the site.

        Raises:
            UsageError: an edge between positions that the text does not have.
        """
        if site not in self.edges:
            return None
        n_rows, n_heads, n_queries, n_keys = shape
        hidden = torch.zeros(n_rows, n_heads, n_queries, n_keys, dtype=torch.bool, device=device)
        every = slice(None)
        for edge in self.edges[site]:
            if edge.query >= n_queries or edge.key >= n_keys:
                raise UsageError(
                    f"there is no edge from query {edge.query} to key {edge.key} at {site}: it has {n_queries} queries "
                    f"(0 to {n_queries - 1}) and {n_keys} keys (0 to {n_keys - 1})."
                )
            row, head = (every if part is None else part for part in (edge.row, edge.head))
            hidden[row, head, edge.query, edge.key] = True
        return hidden


@dataclass(frozen=True, eq=False)
class PatternEdit(AttentionEdit):
    """Puts given patterns in the place of heads' own.

    Attributes:
        patterns: site -> head -> weights, each `[query key]`.
    """

    patterns: Mapping[Site, Mapping[int, Float[Tensor, "query key"]]]

    @property
    def sites(self) -> frozenset[Site]:  # type: ignore[override]
        """Sites in which patterns are replaced."""
        return frozenset(self.patterns)

    def steered(self, site: Site, weights: Float[Tensor, "batch head query key"]) -> Tensor | None:
        """`weights` with the given patterns, the same in every row.

        Raises:
            UsageError: a pattern of another size.
        """
        if site not in self.patterns:
            return None
        layers = list(weights.unbind(1))
        for head, pattern in self.patterns[site].items():
            if pattern.shape != weights.shape[2:]:
                raise UsageError(
                    f"the pattern for {site}H{head} has {pattern.shape[0]} queries and {pattern.shape[1]} keys; "
                    f"this text needs {weights.shape[2]} and {weights.shape[3]}."
                )
            layers[head] = pattern.to(weights).expand_as(layers[head])
        return torch.stack(layers, 1)


@dataclass(frozen=True)
class _Active:
    model: nn.Module
    edits: tuple[AttentionEdit, ...]
    label: str


_active: ContextVar[tuple[_Active, ...]] = ContextVar("attnlens_edits", default=())


@contextmanager
def editing(model: nn.Module, edits: Sequence[AttentionEdit], label: str) -> Iterator[None]:
    """Let `edits` hold for every recording of `model` that begins while the block runs, in this context only."""
    before = _active.set((*_active.get(), _Active(model, tuple(edits), label)))
    try:
        yield
    finally:
        _active.reset(before)


def edit_labels(model: nn.Module) -> tuple[str, ...]:
    """What holds for `model` now, outermost first, in words."""
    return tuple(active.label for active in _active.get() if active.model is model)


def with_edits(recorder: Recorder, model: nn.Module) -> Recorder:
    """`recorder`, behind the edits that hold for `model` now."""
    edits = [edit for active in _active.get() if active.model is model for edit in active.edits]
    return _EditedRecorder(recorder, edits) if edits else recorder


class _EditedRecorder:
    """Changes calls before a recorder sees them, and heads' outputs after."""

    def __init__(self, recorder: Recorder, edits: Sequence[AttentionEdit]) -> None:
        self._recorder, self._edits = recorder, edits
        # Own weights are needed beside given ones; the family's eager code is the one that has them.
        self.eager = recorder.eager or any(isinstance(edit, PatternEdit) for edit in edits)

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """The recorder's attention on the changed call."""
        edits = [edit for edit in self._edits if call.site in edit.sites]
        if not edits:
            return self._recorder.on_attention(call)
        given = _cut_call(call, edits, self.eager)
        weights: Tensor | None
        if any(isinstance(edit, PatternEdit) for edit in edits):
            output, weights = self._attend_as_given(given, edits)
        else:
            output, weights = self._recorder.on_attention(given)
            if isinstance(given, _CutCall):
                output = given.without_blind(output)
        for edit in edits:
            output = edit.output(call.site, output)
        if isinstance(self._recorder, PatternRecorder):
            self._recorder.keep_vectors(call, output)
        return output, weights

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Weights that the model built itself, changed; its heads' outputs are changed where W_O reads them."""
        edits = [edit for edit in self._edits if call.site in edit.sites]
        weights = _steered(_cut_weights(call, edits), call.site, edits)
        return self._recorder.on_weights(replace(call, weights=weights))

    def _attend_as_given(self, call: AttentionCall, edits: Sequence[AttentionEdit]) -> tuple[Tensor, Tensor]:
        """Attention with given patterns; the recorder keeps the weights, since queries and keys no longer give them."""
        weights = _steered(call.run_eager()[1], call.site, edits)
        seen = _visible(call)
        lowest = torch.finfo(weights.dtype).min
        scores = torch.zeros_like(weights).masked_fill(~seen, lowest)
        weights = self._recorder.on_weights(WeightsCall(call.site, call.module, scores, weights))
        group = weights.shape[1] // call.value.shape[1]
        value = call.value.repeat_interleave(group, dim=1) if group > 1 else call.value
        return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), weights


def _steered(weights: Tensor, site: Site, edits: Sequence[AttentionEdit]) -> Tensor:
    for edit in edits:
        given = edit.steered(site, weights)
        weights = weights if given is None else given
    return weights


@dataclass(frozen=True)
class _CutCall(AttentionCall):
    """A call some of whose edges are cut.

    Attributes:
        inner: the same call with its new mask.
        blind: True for queries that have lost every key.
    """

    inner: AttentionCall = field(kw_only=True)
    blind: Bool[Tensor, "batch head query 1"] = field(kw_only=True)

    def run_eager(self) -> tuple[Tensor, Tensor]:
        output, weights = self.inner.run_eager()
        return self.without_blind(output), weights.masked_fill(self.blind, 0.0)

    def run_fused(self) -> Tensor:
        return self.without_blind(self.inner.run_fused())

    def without_blind(self, output: Tensor) -> Tensor:
        """The kernel gives anything at all, NaN included, for a query without a key; the head gives nothing."""
        return output.masked_fill(self.blind.transpose(1, 2), 0.0)


def _cut_call(call: AttentionCall, edits: Sequence[AttentionEdit], eager: bool) -> AttentionCall:
    shape = (call.query.shape[0], call.query.shape[1], call.query.shape[2], call.key.shape[2])
    cuts = [cut for edit in edits if (cut := edit.hidden(call.site, shape, call.query.device)) is not None]
    if not cuts:
        return call
    seen = _visible(call)
    left = seen
    for cut in cuts:
        left = left & ~cut
    blind = seen.any(-1, keepdim=True) & ~left.any(-1, keepdim=True)
    mask, dtype = call.mask, call.query.dtype
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.expand(shape).masked_fill(seen & ~left, torch.finfo(mask.dtype).min)
    elif eager:
        mask = torch.zeros(shape, dtype=dtype, device=left.device).masked_fill(~left, torch.finfo(dtype).min)
    else:
        mask = left
    inner = replace(call, mask=mask)
    return _CutCall(
        call.site, call.module, call.query, call.key, call.value, mask, call.options, inner=inner, blind=blind
    )


def _visible(call: AttentionCall) -> Bool[Tensor, "batch head query key"]:
    return Terms().scores(call, None, lambda tensor: tensor).visible()


def _cut_weights(call: WeightsCall, edits: Sequence[AttentionEdit]) -> Tensor:
    """The softmax of the model's own scores over the keys that are left; rows without a cut stay bit by bit."""
    shape = tuple(call.weights.shape)
    cuts = [cut for edit in edits if (cut := edit.hidden(call.site, shape, call.weights.device)) is not None]  # type: ignore[arg-type]
    if not cuts:
        return call.weights
    cut = cuts[0]
    for other in cuts[1:]:
        cut = cut | other
    precise = torch.promote_types(call.scores.dtype, torch.float32)
    scores = call.scores.to(precise)
    seen = scores > torch.finfo(call.scores.dtype).min / 2
    weights = scores.masked_fill(cut, -torch.inf).softmax(-1)
    weights = weights.masked_fill((seen & ~cut).any(-1, keepdim=True).logical_not(), 0.0)
    return torch.where(cut.any(-1, keepdim=True), weights.to(call.weights.dtype), call.weights)
