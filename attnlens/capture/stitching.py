"""The steps of a generation, kept as they run and stitched to one map per head over all tokens.

Each step brings the queries and keys of its new tokens; a key that is once computed stays the same for every later
step, so the new ones are all that has to be kept, whatever a cache does with the old ones (a static cache writes into
one buffer, a sliding one drops what left its window). What each query saw is kept by absolute position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.recorders import EVERYTHING, Extents, PatternRecorder, Wanted
from attnlens.capture.scores import Scores
from attnlens.capture.sites import CROSS, ENCODER, Site
from attnlens.capture.terms import Terms
from attnlens.errors import CaptureError

__all__ = ["StepRecorder"]


@dataclass(frozen=True, eq=False)
class _Place:
    """Where one call of one site stands: its new queries, and its first column, by absolute position."""

    queries: range
    first_key: int


@dataclass(frozen=True, eq=False)
class _ScoresStep:
    """What one call brought: the new queries and keys (in cross-attention the source's), and what the new rows saw."""

    place: _Place
    query: Float[Tensor, "row head query d_head"]
    key: Float[Tensor, "row kv_head new_key d_head"]
    mask: Bool[Tensor, "#row 1 #query key"] | None
    bias: Float[Tensor, "#row #head #query #key"] | None
    causal: bool
    scaling: float
    softcap: float | None
    sinks: Float[Tensor, " head"] | None


@dataclass(frozen=True, eq=False)
class _WeightsStep:
    """Likewise of a family that builds its weights itself: one pattern per row, of the new queries alone."""

    place: _Place
    rows: tuple[DensePattern, ...]


@dataclass(frozen=True)
class _Known:
    """Masks and biases that are stitched already, by what they were stitched from."""

    masks: dict[tuple[int, ...], tuple[Tensor | None, bool]]
    biases: dict[tuple[int, ...], Tensor | None]


class StepRecorder:
    """Receives the attention of every step of one generation, and stitches a path through its rows to patterns.

    The rows are the beams; the encoder, which runs once on the whole source, is let through.
    """

    def __init__(self, *, eager: bool, cached: bool, wanted: Wanted = EVERYTHING) -> None:
        """Set up.

        Args:
            eager: run the family's eager code, where SDPA cannot compute its scores (softcap, sinks).
            cached: each step brings its new tokens alone; else the whole text runs again at every step.
            wanted: which attention to keep.
        """
        self.eager = eager
        self.n_prompt = 0
        self._cached, self._wanted = cached, wanted
        self._done: dict[Site, int] = {}
        self._steps: dict[Site, list[_ScoresStep | _WeightsStep]] = {}
        self._terms = Terms()
        self._in_step: set[Site] = set()
        self._shared: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Run the attention, and keep what is new in it."""
        if call.site.stack != ENCODER:
            place = self._place(call.site, call.query.shape[2], call.key.shape[2])
            if call.site in self._wanted:
                self._steps.setdefault(call.site, []).append(self._scores_step(call, place))
        return call.run_eager() if self.eager else (call.run_fused(), None)

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Keep the new rows of weights that the model built itself."""
        if call.site.stack != ENCODER:
            n_rows, _, n_queries, n_keys = call.weights.shape
            place = self._place(call.site, n_queries, n_keys)
            if call.site in self._wanted:
                self._steps.setdefault(call.site, []).append(self._weights_step(call, place, n_rows))
        return call.weights

    def stitched(self, path: Sequence[int], last: dict[Site, Pattern]) -> dict[Site, Pattern]:
        """One pattern per kept site, over all tokens.

        Args:
            path: for each token but the last, the row in which it ran as a query.
            last: each site's pattern of a run of the whole text, from which the last token's row is taken: it was
                never a query while the text was made.

        Raises:
            CaptureError: the steps do not add up to one text.
        """
        known = _Known({}, {})
        return {site: self._stitch(site, path, last[site], known) for site in sorted(self._steps)}

    def _place(self, site: Site, n_queries: int, n_keys: int) -> _Place:
        """Note that the site attends once more, and say which positions are new."""
        if site in self._in_step:  # the next step begins
            self._in_step.clear()
            self._terms, self._shared = Terms(), {}
        self._in_step.add(site)
        done = self._done.get(site, 0)
        new = n_queries if self._cached else n_queries - done
        self._done[site] = done + new
        self.n_prompt = self.n_prompt or new
        # A cache that keeps everything, or room for more, starts at position 0; one with a window dropped the oldest.
        first_key = 0 if site.stack == CROSS else max(0, done + new - n_keys)
        return _Place(range(done, done + new), first_key)

    def _scores_step(self, call: AttentionCall, place: _Place) -> _ScoresStep:
        scores = self._terms.scores(call, self._wanted.at(call.site), lambda tensor: tensor)
        new = len(place.queries)
        if call.site.stack == CROSS:
            key = scores.key if not self._steps.get(call.site) else scores.key[:, :, :0]
        else:
            key = scores.key[:, :, place.queries.start - place.first_key : place.queries.stop - place.first_key]
        return _ScoresStep(
            place,
            _kept(scores.query[:, :, -new:]),
            _kept(key),
            self._once(scores.mask, new),
            self._once(scores.bias, new),
            scores.causal or (call.site.stack != CROSS and new == 1),
            scores.scaling,
            scores.softcap,
            None if scores.sinks is None else _kept(scores.sinks),
        )

    def _weights_step(self, call: WeightsCall, place: _Place, n_rows: int) -> _WeightsStep:
        whole = PatternRecorder(Extents.everything(n_rows), self._wanted)
        whole.on_weights(call)
        new = len(place.queries)
        rows = []
        for row in range(n_rows):
            pattern = whole.patterns(row)[call.site]
            assert isinstance(pattern, DensePattern)
            rows.append(DensePattern(_kept(pattern.probabilities[:, -new:]), _kept(pattern.seen[-new:]), pattern.heads))
        return _WeightsStep(place, tuple(rows))

    def _once(self, tensor: Tensor | None, new: int) -> Tensor | None:
        """The new rows of a mask or bias; layers that share one share its copy."""
        if tensor is None:
            return None
        known = self._shared.get((id(tensor), new))
        if known is None:
            rows = tensor if tensor.shape[2] == 1 else tensor[:, :, -new:]
            known = self._shared[id(tensor), new] = (tensor, _kept(rows))
        return known[1]

    def _stitch(self, site: Site, path: Sequence[int], last: Pattern, known: _Known) -> Pattern:
        steps = _used(site, self._steps[site], len(path))
        first = steps[0]
        rows = [path[step.place.queries.start] for step in steps]
        if isinstance(first, _WeightsStep):
            assert isinstance(last, DensePattern)
            return _stitched_weights([step for step in steps if isinstance(step, _WeightsStep)], rows, last)
        assert isinstance(last, LazyPattern)
        own = [step for step in steps if isinstance(step, _ScoresStep)]
        return LazyPattern(_stitched_scores(own, rows, last.scores, site.stack == CROSS, known), last.heads)


def _used(
    site: Site, steps: Sequence[_ScoresStep | _WeightsStep], n_positions: int
) -> list[_ScoresStep | _WeightsStep]:
    """The steps that made the first `n_positions` tokens; later ones served texts that were not chosen."""
    used = [step for step in steps if step.place.queries.start < n_positions]
    if not used or used[-1].place.queries.stop != n_positions:
        reached = used[-1].place.queries.stop if used else 0
        raise CaptureError(
            f"the steps of this generation reach token {reached} of {n_positions} at {site}, so they are no one text; "
            "generate without an assistant or any other way of running the model more than once per token."
        )
    if len({step.scaling for step in used if isinstance(step, _ScoresStep)}) > 1:
        raise CaptureError(f"{site} scales its scores by another factor from step to step, so they are no one map.")
    return used


def _stitched_scores(
    steps: Sequence[_ScoresStep],
    rows: Sequence[int],
    last: Scores,
    cross: bool,
    known: _Known,
) -> Scores:
    """Queries and keys one after the other, and what is hidden and added by absolute position."""
    end = last.of(0, slice(last.shape[2] - 1, None))
    query = torch.cat([*(step.query[row] for step, row in zip(steps, rows, strict=True)), end.query[0]], 1)
    keys = [step.key[row] for step, row in zip(steps, rows, strict=True)]
    key = torch.cat(keys if cross else [*keys, end.key[0, :, -1:]], 1)
    n_queries, n_keys = query.shape[1], key.shape[1]
    masks = _names([step.mask for step in steps], rows, last.mask, cross)
    if masks not in known.masks:
        known.masks[masks] = _stitched_mask(steps, rows, end, n_queries, n_keys)
    biases = _names([step.bias for step in steps], rows, last.bias, cross)
    if biases not in known.biases:
        known.biases[biases] = _stitched_bias(steps, rows, end, n_queries, n_keys)
    mask, causal = known.masks[masks]
    return Scores(
        query=query[None],
        key=key[None],
        scaling=steps[0].scaling,
        mask=mask,
        causal=causal,
        softcap=steps[0].softcap,
        bias=known.biases[biases],
        sinks=steps[0].sinks,
    )


def _names(parts: Sequence[Tensor | None], rows: Sequence[int], last: Tensor | None, cross: bool) -> tuple[int, ...]:
    """What tells the masks (or biases) of one site from those of another; layers that shared them share the result."""
    return (cross, 0 if last is None else last.data_ptr(), *map(id, parts), *rows)


def _stitched_mask(
    steps: Sequence[_ScoresStep], rows: Sequence[int], end: Scores, n_queries: int, n_keys: int
) -> tuple[Bool[Tensor, "1 1 query key"] | None, bool]:
    """The mask over all tokens, and whether causality is all that it would say, so that none is needed."""
    plain = all(step.mask is None for step in steps) and end.mask is None
    if plain and all(step.causal for step in steps):
        return None, True
    if plain and not any(step.causal for step in steps):
        return None, False
    mask = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    for step, row in zip(steps, rows, strict=True):
        places = step.place.queries
        if step.mask is None:
            mask[places.start : places.stop] = torch.ones(len(places), n_keys, dtype=torch.bool).tril(places.start)
        else:
            _put(mask, step.place, _row(step.mask, row)[0])
    mask[-1] = end.visible()[0, 0, 0]
    if n_queries == n_keys and torch.equal(mask, torch.ones_like(mask).tril()):
        return None, True
    return mask[None, None], False


def _stitched_bias(
    steps: Sequence[_ScoresStep], rows: Sequence[int], end: Scores, n_queries: int, n_keys: int
) -> Float[Tensor, "1 head query key"] | None:
    if steps[0].bias is None or end.bias is None:
        return None
    bias = end.bias.new_zeros(end.bias.shape[1], n_queries, n_keys)
    for step, row in zip(steps, rows, strict=True):
        assert step.bias is not None
        _put(bias, step.place, _row(step.bias, row))
    bias[:, -1] = end.bias[0, :, 0]
    return bias[None]


def _stitched_weights(steps: Sequence[_WeightsStep], rows: Sequence[int], last: DensePattern) -> DensePattern:
    weights, seen = torch.zeros_like(last.probabilities), torch.zeros_like(last.seen)
    for step, row in zip(steps, rows, strict=True):
        _put(weights, step.place, step.rows[row].probabilities)
        _put(seen, step.place, step.rows[row].seen)
    weights[:, -1], seen[-1] = last.probabilities[:, -1], last.seen[-1]
    return DensePattern(weights, seen, last.heads)


def _put(whole: Tensor, place: _Place, part: Tensor) -> None:
    """Write a step's rows `[... query key]` where they belong; columns beyond the text are a cache's empty room."""
    stop = min(whole.shape[-1], place.first_key + part.shape[-1])
    rows = whole[..., place.queries.start : place.queries.stop, place.first_key : stop]
    rows.copy_(part[..., : stop - place.first_key])


def _row(tensor: Tensor, row: int) -> Tensor:
    return tensor[row if tensor.shape[0] > 1 else 0]


def _kept(tensor: Tensor) -> Tensor:
    """A copy on the CPU: caches write into their buffers later, and views keep more alive than is wanted."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
