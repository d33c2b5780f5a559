"""What a forward pass can be sent through to keep its attention: lazily, exactly, or with every weight built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlens.capture.attend import attend_dense, attend_reduced
from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.scores import Scores
from attnlens.capture.sites import CROSS, ENCODER, Site
from attnlens.capture.terms import Terms, own_memory, some_heads
from attnlens.capture.tiles import Workspace
from attnlens.errors import UnsupportedModelError
from attnlens.measures.running import Reducer, WeightTile

__all__ = [
    "DenseRecorder",
    "ExactRecorder",
    "Extents",
    "LazyRecorder",
    "PatternRecorder",
    "ReduceRecorder",
    "Wanted",
    "seen_by_scores",
]

Rows = tuple[slice, ...]


@dataclass(frozen=True)
class Extents:
    """Where the real positions of each text of a batch stand; the rest is padding.

    Attributes:
        own: per text, its positions in the only stack, or in the decoder.
        source: likewise in the encoder of an encoder-decoder.
    """

    own: Rows
    source: Rows = ()

    @classmethod
    def of_lengths(cls, lengths: Sequence[int]) -> Extents:
        """Texts padded on the right."""
        return cls(tuple(slice(0, length) for length in lengths))

    @classmethod
    def everything(cls, n_rows: int) -> Extents:
        """Rows without padding, of any length."""
        return cls((slice(None),) * n_rows, (slice(None),) * n_rows)

    def queries(self, site: Site, row: int) -> slice:
        """Real queries of the text in `row`."""
        return self.source[row] if site.stack == ENCODER else self.own[row]

    def keys(self, site: Site, row: int) -> slice:
        """Real keys of the text in `row`."""
        return self.source[row] if site.stack in (ENCODER, CROSS) else self.own[row]


@dataclass(frozen=True)
class Wanted:
    """Which attention to keep: every layer and head, or some.

    Attributes:
        heads: site -> its heads in order, or None for all of them; None keeps every site.
    """

    heads: Mapping[Site, tuple[int, ...] | None] | None = None

    def __contains__(self, site: Site) -> bool:
        return self.heads is None or site in self.heads

    def has_layer(self, layer: int) -> bool:
        """Whether anything of this layer is kept, in whichever stack; vectors are kept by layer, like the stream."""
        return self.heads is None or any(site.layer == layer for site in self.heads)

    def at(self, site: Site) -> tuple[int, ...] | None:
        """The heads to keep at `site`; None for all."""
        return None if self.heads is None else self.heads[site]


EVERYTHING = Wanted()


class PatternRecorder:
    """Keeps every wanted site's attention of a batch, and cuts each text's pattern out of it."""

    eager = False

    def __init__(self, extents: Extents, wanted: Wanted = EVERYTHING, vectors: Sequence[str] = ()) -> None:
        """Set up.

        Args:
            extents: the texts of the batch.
            wanted: which attention to keep of them.
            vectors: which of the heads' `q`, `k`, `v` and `z` to keep beside it.
        """
        self.extents, self.wanted = extents, wanted
        self.calls: list[Site] = []
        self.rows: set[int] = set()
        self._kept: dict[Site, Scores | tuple[Tensor, Tensor]] = {}
        self._vectors: dict[str, dict[Site, Tensor]] = {name: {} for name in vectors}
        self._terms = Terms()
        self._workspace = Workspace()

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Run the attention and keep it if it is wanted."""
        self.calls.append(call.site)
        self.rows.add(call.query.shape[0])
        output, weights = self.record(call)
        self.keep_vectors(call, output)
        return output, weights

    def keep_vectors(self, call: AttentionCall, output: Float[Tensor, "batch query head d_head"]) -> None:
        """Keep the vectors that were asked for; once more, where an intervention changed what the heads passed on."""
        if self._vectors and self.wanted.has_layer(call.site.layer):
            given = {"q": call.query, "k": call.key, "v": call.value, "z": output.transpose(1, 2)}
            for name, kept in self._vectors.items():
                kept[call.site] = own_memory(given[name])

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Keep weights that the model built itself, in every mode: there are no queries and keys to keep instead."""
        self.calls.append(call.site)
        self.rows.add(call.weights.shape[0])
        if call.site in self.wanted:
            heads = self.wanted.at(call.site)
            self._kept[call.site] = (own_memory(some_heads(call.weights, heads)), seen_by_scores(call.scores).cpu())
        return call.weights

    def record(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Compute the output as the mode does, and keep what is wanted."""
        raise UnsupportedModelError("PatternRecorder is a base; use LazyRecorder, DenseRecorder or ExactRecorder.")

    def pass_by(self, call: AttentionCall) -> tuple[Tensor, None]:
        """The fast attention of a site that nobody asked for; our own, on tiles, where SDPA cannot compute it."""
        if call.fits_fused:
            return call.run_fused(), None
        scores = self._terms.scores(call, None, lambda tensor: tensor)
        return attend_reduced(scores, call.value, (), call.site, workspace=self._workspace), None

    def patterns(self, row: int) -> dict[Site, Pattern]:
        """Every kept site's pattern of the text in `row`, as views of the batch."""
        return {site: self._pattern(site, row) for site in sorted(self._kept)}

    def vectors(self) -> Iterator[tuple[str, str, list[Tensor]]]:
        """Stack, name, and one tensor `[batch head position d_head]` per kept layer."""
        for name, kept in self._vectors.items():
            for stack in dict.fromkeys(site.stack for site in sorted(kept)):
                yield stack, name, [kept[site] for site in sorted(kept) if site.stack == stack]

    def _pattern(self, site: Site, row: int) -> Pattern:
        kept, heads = self._kept[site], self.wanted.at(site)
        queries, keys = self.extents.queries(site, row), self.extents.keys(site, row)
        if isinstance(kept, Scores):
            n_batch, _, n_queries, n_keys = kept.shape
            cut = (n_batch, *queries.indices(n_queries)[:2], *keys.indices(n_keys)[:2])
            whole = cut == (1, 0, n_queries, 0, n_keys)
            return LazyPattern(kept if whole else kept.of(row, queries, keys), heads)
        weights, seen = kept
        own = seen[row if seen.shape[0] > 1 else 0, 0, queries, keys]
        return DensePattern(weights[row, :, queries, keys], own, heads)


class LazyRecorder(PatternRecorder):
    """The fast attention runs; queries, keys and the mask are kept, and the values are let go."""

    def record(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """SDPA, or the eager code where SDPA cannot compute the scores."""
        if call.site in self.wanted:
            self._kept[call.site] = self.scores(call)
        return call.run_eager() if self.eager else (call.run_fused(), None)

    def scores(self, call: AttentionCall) -> Scores:
        """What the weights of the wanted heads follow from, on the CPU."""
        return self._terms.scores(call, self.wanted.at(call.site), own_memory)


class LazyEagerRecorder(LazyRecorder):
    """Lazy recording for families whose attention SDPA cannot compute (softcap, sinks)."""

    eager = True


class DenseRecorder(LazyRecorder):
    """Weights are built once, in place, and the output is computed from them: nothing is computed twice."""

    def record(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Our own attention on tiles, which leaves the weights behind."""
        if call.site not in self.wanted:
            return self.pass_by(call)
        scores = self._terms.scores(call, None, lambda tensor: tensor)
        output, weights = attend_dense(scores, call.value, workspace=self._workspace)
        kept = some_heads(weights, self.wanted.at(call.site)).cpu()
        self._kept[call.site] = (kept, scores.visible_to_any_head()[:, None].cpu())
        return output, None


class ExactRecorder(PatternRecorder):
    """The family's own eager code runs and its weights are kept, bit by bit."""

    eager = True

    def record(self, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """The eager code."""
        output, weights = call.run_eager()
        if call.site in self.wanted:
            seen = self._terms.scores(call, None, lambda tensor: tensor).visible_to_any_head()[:, None]
            self._kept[call.site] = (own_memory(some_heads(weights, self.wanted.at(call.site))), seen.cpu())
        return output, weights


class ReduceRecorder(PatternRecorder):
    """One layer's weights at a time pass by reducers, tile by tile, and are gone."""

    def __init__(self, extents: Extents, wanted: Wanted, reducers: Sequence[Reducer]) -> None:
        """`extents`: the texts of the batch; `wanted`: the sites to reduce; `reducers`: what adds them up."""
        super().__init__(extents, wanted)
        self._reducers = reducers
        self._keeps: dict[str, tuple[Bool[Tensor, "batch query"] | None, tuple[int, ...]]] = {}

    def record(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Our own attention on tiles, of which each reducer sees every one."""
        if call.site not in self.wanted:
            return self.pass_by(call)
        scores = self._terms.scores(call, None, lambda tensor: tensor)
        keep, starts = self._rows(call.site, scores.shape[2], call.query.device)
        output = attend_reduced(
            scores, call.value, self._reducers, call.site, keep=keep, text_starts=starts, workspace=self._workspace
        )
        return output, None

    def on_weights(self, call: WeightsCall) -> Tensor:
        """The model's own weights of a site are one tile."""
        self.calls.append(call.site)
        self.rows.add(call.weights.shape[0])
        if call.site in self.wanted:
            n_batch, n_heads, n_queries, _ = call.weights.shape
            keep, starts = self._rows(call.site, n_queries, call.weights.device)
            everything = slice(0, n_batch), slice(0, n_heads), slice(0, n_queries)
            mask = seen_by_scores(call.scores)
            tile = WeightTile(call.site, *everything, n_heads, call.weights, mask=mask, keep=keep, text_starts=starts)
            for reducer in self._reducers:
                reducer.add(tile)
        return call.weights

    def _rows(
        self, site: Site, n_queries: int, device: torch.device
    ) -> tuple[Bool[Tensor, "batch query"] | None, tuple[int, ...]]:
        """Which queries are real, and where each text's keys start."""
        if site.stack not in self._keeps:
            rows = range(len(self.extents.own))
            queries = [self.extents.queries(site, row).indices(n_queries) for row in rows]
            starts = tuple(self.extents.keys(site, row).start or 0 for row in rows)
            padded = any((start, stop) != (0, n_queries) for start, stop, _ in queries)
            places = torch.arange(n_queries, device=device)
            keep = torch.stack([(places >= start) & (places < stop) for start, stop, _ in queries]) if padded else None
            self._keeps[site.stack] = keep, starts if any(starts) else ()
        return self._keeps[site.stack]


def seen_by_scores(scores: Float[Tensor, "batch head query key"]) -> Bool[Tensor, "batch 1 query key"]:
    """Keys that the model's own code did not hide: their score is not lower than any real one could be.

    Families hide a key with the lowest number of the precision, with -inf, or with -1e4 and below; a real score so far
    below its row's highest would have a weight of exactly 0 as well.
    """
    lowest = torch.finfo(scores.dtype).min / 2
    highest = scores.amax(-1, keepdim=True)
    seen: Tensor = (scores > lowest) & (scores > highest - 9000)
    return seen.any(1, keepdim=True)
