"""Every positional question of a batch of texts, summed over each text, for the heads of one layer.

Speed shapes this module: a pass over all weights of a corpus costs as much as a few percent of the forward pass. So
each is made once for all questions, and what is summed is in float64, where the order of summing does not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from probes.positional.keys import (
    BREADTH,
    COLUMNS,
    DELIMITER,
    DISTANCE,
    ENTROPY,
    FROM_SEPARATOR,
    NEAREST,
    PATTERNS,
    SEPARATOR,
    START,
    offset_key,
    word_offset_key,
)
from probes.positional.plan import SETS, Contest, Plan, plan_of
from probes.view import LayerView, Sums

__all__ = ["measure"]

AT_ONCE = 300_000  # weights that are worked on together: they stay in a processor's cache
CAUSAL_BREADTH_FROM = 4  # earlier rows see so few keys that any pattern is broad
SHORTEST_PATTERN = 8  # tokens; in a shorter text any two columns hold a good part of any pattern
VERTICAL, DIAGONAL, BOTH, LEAST_OF_BOTH = 0.6, 0.6, 0.75, 0.2

TextSums = Float64[Tensor, "text question head"]


def measure(view: LayerView) -> Iterator[Sums]:
    """All questions, see `probes.positional.keys`."""
    parts = [tuple(_measure(part)) for part in _parts(view)]
    for same in zip(*parts, strict=True):
        yield _joined(same)


def _parts(view: LayerView) -> Iterator[LayerView]:
    """Some texts at a time, without the padding that only the others need."""
    n_heads, start = view.tokens.shape[1], 0
    sizes = [len(reading.labels) for reading in view.readings]
    while start < len(sizes):
        end, longest = start + 1, sizes[start]
        while end < len(sizes) and max(longest, sizes[end]) ** 2 * n_heads * (end + 1 - start) <= AT_ONCE:
            longest, end = max(longest, sizes[end]), end + 1
        words = max(len(reading.kept) for reading in view.readings[start:end])
        yield LayerView(
            view.readings[start:end],
            view.tokens[start:end, :, :longest, :longest],
            view.visible[start:end, :longest, :longest],
            view.words[start:end, :, :words, :words],
        )
        start = end


def _joined(parts: tuple[Sums, ...]) -> Sums:
    """The same questions of some texts and of others."""

    def both(name: str) -> Any:
        return None if getattr(parts[0], name) is None else torch.cat([getattr(part, name) for part in parts])

    return Sums(parts[0].keys, both("trials"), both("hits"), both("mass"), both("chance"), both("mass_chance"))


def _measure(view: LayerView) -> Iterator[Sums]:
    plan = plan_of(view.readings, view.tokens.shape[-1], view.words.shape[-1])
    n_visible = view.visible.sum(-1).clamp_min(1).double()
    exact = view.tokens.double()
    winners = _winners(view.tokens, plan.tokens)
    near = _mass_at(exact, plan.tokens)
    yield Sums(
        tuple(map(offset_key, plan.tokens.offsets)),
        trials=plan.tokens.at_offset.sum(-1),
        hits=_hits_at(winners, plan.tokens, view.tokens.shape[:2]),
        mass=near,
        chance=plan.tokens.chance,
        mass_chance=(plan.tokens.at_offset / n_visible[:, None]).sum(-1),
    )
    queries = torch.stack([plan.asking, plan.separators], 1).double()
    columns = _product(queries[:, None], exact)  # [text head asking|separators key]: weight that each token gets
    places = _places(view, plan, exact, columns, n_visible)
    yield places
    yield _rows(view.tokens, exact, plan, n_visible)
    yield _patterns(plan, columns[:, :, 0], near, places.hits)
    yield from _words(view.words, plan)


@dataclass(frozen=True)
class _Winners:
    """The strongest candidates of all rows, one entry each; `share` is 1, or 1/n where n are equally strong."""

    row: Int64[Tensor, " entry"]
    key: Int64[Tensor, " entry"]
    share: Float64[Tensor, " entry"]


def _winners(weights: Float[Tensor, "text head query key"], contest: Contest) -> _Winners:
    """Rows are counted over texts, heads and queries; a row without a candidate has no winner."""
    allowed = weights + contest.barred.to(weights)
    best = _largest(allowed)
    best = best.masked_fill(best < 0, 9.0)
    places = np.flatnonzero((allowed == best[..., None]).numpy())
    row, key = (torch.from_numpy(part) for part in np.divmod(places, weights.shape[-1]))
    ties = torch.bincount(row, minlength=best.numel())
    return _Winners(row, key, 1 / ties[row].double())


def _largest(weights: Float[Tensor, "text head query key"]) -> Float[Tensor, "text head query"]:
    """The largest weight of each row, by halves: several times as fast as `amax` on rows of some dozen keys."""
    if not weights.shape[-1]:
        return weights.new_full(weights.shape[:-1], -1.0)
    while (n := weights.shape[-1]) > 1:
        half = n // 2
        larger = torch.maximum(weights[..., :half], weights[..., half : 2 * half])
        if n % 2:
            torch.maximum(larger[..., 0], weights[..., -1], out=larger[..., 0])
        weights = larger
    return weights[..., 0]


def _hits_at(winners: _Winners, contest: Contest, n_rows: tuple[int, ...]) -> TextSums:
    """Wins at each offset; a winner is a candidate, so its query has one at that offset."""
    n = contest.at_offset.shape[-1]
    away = winners.key - winners.row % n
    question = torch.full((2 * n - 1,), len(contest.offsets))
    for i, offset in enumerate(contest.offsets):
        if abs(offset) < n:
            question[offset + n - 1] = i
    return _counted(winners, question[away + n - 1], len(contest.offsets), n, n_rows)


def _counted(
    winners: _Winners, question: Int64[Tensor, " entry"], n_questions: int, n_queries: int, n_rows: tuple[int, ...]
) -> TextSums:
    """Shares of wins per text, question and head; `n_questions` stands for none of them."""
    width = n_questions + 1
    place = (winners.row // n_queries) * width + question
    sums = torch.bincount(place, weights=winners.share, minlength=n_rows[0] * n_rows[1] * width)
    return sums.view(*n_rows, width)[..., :n_questions].transpose(1, 2)


def _mass_at(weights: Float64[Tensor, "text head query key"], contest: Contest) -> TextSums:
    """Weight at each offset."""
    n, at_offset = weights.shape[-1], contest.at_offset.double()
    found = weights.new_zeros(len(weights), len(contest.offsets), weights.shape[1])
    for i, offset in enumerate(contest.offsets):
        if abs(offset) < n:
            asked = at_offset[:, None, i, max(0, -offset) : n - max(0, offset)]
            found[:, i] = (torch.diagonal(weights, offset, 2, 3) * asked).sum(-1)
    return found


def _places(
    view: LayerView,
    plan: Plan,
    weights: Float64[Tensor, "text head query key"],
    columns: Float64[Tensor, "text head asking key"],
    n_visible: Float64[Tensor, "text query"],
) -> Sums:
    """Weight on fixed places and on sets of tokens, for the queries that see one of them."""
    text, place = torch.arange(len(columns))[:, None], torch.arange(weights.shape[-1])
    held = columns[text, :, :, plan.columns]  # [text column head asking]
    mass = _product(plan.members, held.flatten(2))
    mass = mass.view(len(columns), len(SETS), *held.shape[2:])
    n_members = _product(plan.members, view.visible.transpose(1, 2)[text, plan.columns].double())  # [text set query]
    asked = (n_members > 0) & plan.asking[:, None]
    separator = SETS.index(SEPARATOR)
    for i in range(min(len(COLUMNS), weights.shape[-1])):  # a place is asked for from itself on
        mass[:, i, :, 0] -= (weights[:, :, :i, i] * plan.asking[:, None, :i]).sum(-1)
        asked[:, i] &= place >= i
    asked = torch.cat([asked, (n_members[:, separator] > 0)[:, None] & plan.separators[:, None]], 1)
    n_members = torch.cat([n_members, n_members[:, [separator]]], 1)
    return Sums(
        (*SETS, FROM_SEPARATOR),
        trials=asked.sum(-1),
        hits=torch.cat([mass[..., 0], mass[:, [separator], :, 1]], 1),
        chance=(asked * n_members / n_visible[:, None]).sum(-1),
    )


def _rows(
    weights: Float[Tensor, "text head query key"],
    exact: Float64[Tensor, "text head query key"],
    plan: Plan,
    n_visible: Float64[Tensor, "text query"],
) -> Sums:
    """The shape of rows: entropy in nats (0 log 0 = 0), entropy over the largest possible, and mean distance."""
    early = plan.causal[:, None] & (torch.arange(weights.shape[-1]) < CAUSAL_BREADTH_FROM)
    broad = plan.asking & (n_visible >= 2) & ~early
    largest = n_visible.log()
    counted = torch.stack([plan.asking.double(), broad / largest.masked_fill(~broad, 1)], 1)
    entropy = -_product(counted[:, None], _times_log(weights).double()).sum(-1).transpose(1, 2)
    distance = _product(exact.flatten(2), plan.gaps.flatten(1)[..., None])
    asked = plan.asking.sum(-1)
    nothing = torch.zeros(len(asked), dtype=torch.float64)
    return Sums(
        (ENTROPY, BREADTH, DISTANCE),
        trials=torch.stack([asked, broad.sum(-1), asked], 1),
        hits=torch.cat([entropy, distance.transpose(1, 2)], 1),
        chance=torch.stack([(largest * plan.asking).sum(-1), nothing, nothing], 1),
    )


def _product(left: Float64[Tensor, "*left n"], right: Float64[Tensor, "*right m"]) -> Float64[Tensor, "*product m"]:
    """Many small matrix products; numpy's take a third of the time of torch's."""
    return torch.from_numpy(np.matmul(left.numpy(), right.numpy()))


def _times_log(weights: Float[Tensor, "text head query key"]) -> Float[Tensor, "text head query key"]:
    """`p log p`; numpy's logarithm of float32 is several times as fast as torch's."""
    given = weights.numpy()
    found = np.maximum(given, np.finfo(given.dtype).tiny)
    np.log(found, out=found)
    return torch.from_numpy(np.multiply(found, given, out=found))


def _patterns(
    plan: Plan,
    columns: Float64[Tensor, "text head key"],
    near: Float64[Tensor, "text offset head"],
    places: Float64[Tensor, "text place head"],
) -> Sums:
    """Which of the patterns of Kovaleva et al. 2019 (arXiv:1908.08593) each text shows, by thresholds (ours).

    Vertical: the two strongest columns, or the first token, separators and punctuation, hold much. Diagonal: the query,
    its predecessor and its successor do. The block pattern takes two segments, and these texts have one.
    """
    n_asking = plan.asking.sum(-1)
    queries = n_asking.clamp_min(1)[:, None].double()
    strongest = columns.topk(min(2, columns.shape[-1]), dim=-1).values.sum(-1)
    delimiters = places[:, SETS.index(DELIMITER)] + places[:, SETS.index(START)]
    vertical = torch.maximum(strongest, delimiters) / queries
    beside = [i for i, offset in enumerate(plan.tokens.offsets) if abs(offset) <= 1]
    trials = plan.tokens.at_offset[:, beside].sum(-1).clamp_min(1)
    diagonal = (near[:, beside] / trials[..., None]).sum(1)
    is_vertical = vertical >= VERTICAL
    is_diagonal = ~is_vertical & (diagonal >= DIAGONAL)
    mixed = (vertical + diagonal >= BOTH) & (torch.minimum(vertical, diagonal) >= LEAST_OF_BOTH)
    is_mixed = ~is_vertical & ~is_diagonal & mixed
    kinds = torch.stack([is_vertical, is_diagonal, is_mixed, ~(is_vertical | is_diagonal | is_mixed)], 1)
    asked = (plan.lengths >= SHORTEST_PATTERN) & (n_asking > 0)
    return Sums(PATTERNS, asked.long()[:, None].expand(-1, len(PATTERNS)), kinds.double())


def _words(words: Float64[Tensor, "text head word other"], plan: Plan) -> Iterator[Sums]:
    """Wins and weights of the word so many words away, and of the nearest of each part of speech."""
    winners = _winners(words, plan.words)
    n, n_rows = words.shape[-1], words.shape[:2]
    yield Sums(
        tuple(map(word_offset_key, plan.words.offsets)),
        trials=plan.words.at_offset.sum(-1),
        hits=_hits_at(winners, plan.words, n_rows),
        mass=_mass_at(words, plan.words),
        chance=plan.words.chance,
    )
    cell = (winners.row // (n * n_rows[1]) * n + winners.row % n) * n + winners.key  # [text word other], flat
    question = plan.near_of.masked_fill(~plan.nearest, len(NEAREST)).flatten()[cell]
    yield Sums(
        tuple(NEAREST),
        trials=plan.near_trials,
        hits=_counted(winners, question, len(NEAREST), n, n_rows),
        mass=_mass_of_nearest(words, plan),
        chance=plan.near_chance,
    )


def _mass_of_nearest(words: Float64[Tensor, "text head word other"], plan: Plan) -> TextSums:
    """Weight on the nearest word of each part of speech, on either side."""
    text, query, other = plan.nearest.nonzero(as_tuple=True)
    sums = words.new_zeros(len(words) * len(NEAREST), words.shape[1])
    place = text * len(NEAREST) + plan.near_of[text, query, other]
    sums.index_add_(0, place, words[text, :, query, other])
    return sums.view(len(words), len(NEAREST), -1)
