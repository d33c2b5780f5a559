"""From what a caller asks of a run to what it keeps, proven possible and small enough before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from attnlens.capture.recorders import Wanted
from attnlens.capture.sites import Site
from attnlens.errors import CaptureError, TextError, UsageError
from attnlens.heads import Head
from attnlens.models.inputs import Batch
from attnlens.models.memory import (
    MemoryEstimate,
    Request,
    available_bytes,
    longest_that_fits,
    parse_bytes,
    shown_bytes,
)
from attnlens.models.opening import Opened
from attnlens.models.running import Plan, check_points

__all__ = ["DEFAULT_POINTS", "Planner"]

DEFAULT_POINTS = ("embed", "resid_post", "final")
_MODES = ("lazy", "exact")
# Share of the memory that is free which a run may plan with, where the caller sets no limit.
_SHARE = 0.8
# Below this nobody has to be asked how much is free.
_UNCHECKED_BYTES = 256 << 20


@dataclass(frozen=True)
class Planner:
    """Plans the runs of one opened model."""

    opened: Opened

    def plan(
        self,
        mode: str | None,
        weights: bool,
        layers: Iterable[int] | None,
        heads: Iterable[object] | None,
        points: Sequence[str],
        logits: bool,
    ) -> Plan:
        """What a run keeps, proven possible.

        Raises:
            UsageError: no such mode, layer or point.
            HeadAddressError: no such head.
            CaptureError: lazy, for a family that builds its weights itself; a point that the model does not give.
        """
        recorders, anatomy = self.opened.recorders, self.opened.anatomy
        chosen = next(name for name in _MODES if name in recorders) if mode is None else mode
        if chosen not in _MODES:
            raise UsageError(f"mode {mode!r} does not exist; expected one of {', '.join(_MODES)}.")
        if chosen not in recorders:
            raise CaptureError(
                f"{anatomy.architecture} runs in mode='exact' only, since it builds its weights with code of its "
                "own and hands over no queries and keys."
            )
        if weights and chosen == "lazy":
            chosen = "dense"
        if points is DEFAULT_POINTS:  # a module of the user's own may have none of them
            given = {point for stack in anatomy.stacks for point in stack.residual_points}
            points = [point for point in points if point in given]
        check_points(self.opened.anatomy, points)
        kept = None if layers is None else self._layers(layers)
        wanted = Wanted() if heads is None and kept is None else self._wanted(kept, heads)
        if heads is not None:
            kept = tuple(sorted({site.layer for site in wanted.heads or ()}))
        return Plan(chosen, wanted, kept, tuple(points), logits)

    def _layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        n_layers = max(stack.n_layers for stack in self.opened.anatomy.stacks)
        kept = tuple(sorted({int(layer) for layer in layers}))
        if not kept or kept[0] < 0 or kept[-1] >= n_layers:
            raise UsageError(f"layers={list(kept)} is not within the model's layers, 0 to {n_layers - 1}.")
        return kept

    def _wanted(self, layers: tuple[int, ...] | None, heads: Iterable[object] | None) -> Wanted:
        if heads is None:
            sites = [Site(stack.letter, at) for stack in self.opened.anatomy.stacks for at in stack.attention_layers]
            return Wanted({site: None for site in sites if layers is None or site.layer in layers})
        chosen: dict[Site, list[int]] = {}
        for given in heads:
            head = Head.parse(given)
            letter = head.stack or self.opened.anatomy.main_stack
            stack = self.opened.anatomy.stack(letter)
            head = head.within(stack.n_layers, stack.n_heads)
            if layers is None or head.layer in layers:
                chosen.setdefault(Site(letter, head.layer), []).append(head.head)
        if not chosen:
            raise UsageError("heads names no head of the layers asked for.")
        return Wanted({site: tuple(sorted(set(numbers))) for site, numbers in chosen.items()})

    def estimate(self, plan: Plan, n_tokens: int, n_source: int, n_texts: int) -> MemoryEstimate:
        """What a run of so many texts of so many tokens takes."""
        request = self._request(plan, n_texts)
        return MemoryEstimate.of(self.opened.anatomy, n_tokens, request, self._itemsize, n_source)

    @property
    def _itemsize(self) -> int:
        return int(getattr(torch, self.opened.anatomy.dtype).itemsize)

    def _request(self, plan: Plan, n_texts: int) -> Request:
        return Request(plan.mode != "lazy", self._shares(plan), plan.points, plan.logits, n_texts)

    def _shares(self, plan: Plan) -> dict[str, float] | None:
        """The share of each stack's heads that is kept."""
        if plan.wanted.heads is None:
            return None
        shares = {}
        for stack in self.opened.anatomy.stacks:
            kept = [heads for site, heads in plan.wanted.heads.items() if site.stack == stack.letter]
            n_kept = sum(stack.n_heads if heads is None else len(heads) for heads in kept)
            shares[stack.letter] = n_kept / (stack.n_heads * len(stack.attention_layers))
        return shares

    def check_memory(self, batch: Batch, plan: Plan, max_memory: int | str | None) -> None:
        """Refuse a run that would not fit, with the length that would.

        Raises:
            TextError: the run takes more than `max_memory`, or than the system has left.
        """
        n_tokens, n_source = (
            max((len(t.tokens) for t in side if t), default=0) for side in (batch.texts, batch.sources)
        )
        request = self._request(plan, len(batch.texts))

        def peak(n: int) -> int:
            return MemoryEstimate.of(self.opened.anatomy, n, request, self._itemsize, n_source).peak

        needed = peak(n_tokens)
        if max_memory is None and needed < _UNCHECKED_BYTES:
            return
        free = available_bytes() if max_memory is None else None
        limit = parse_bytes(max_memory) if max_memory is not None else None if free is None else int(_SHARE * free)
        if limit is None or needed <= limit:
            return
        fits = longest_that_fits(peak, limit, n_tokens)
        how = "" if plan.mode == "lazy" else ", take mode='lazy'" * ("lazy" in self.opened.recorders)
        raise TextError(
            f"{n_tokens} tokens would take about {shown_bytes(needed)}, and {shown_bytes(limit)} are allowed; "
            f"about {fits} tokens would fit. Shorten the text, keep fewer layers or heads{how}, or raise max_memory."
        )
