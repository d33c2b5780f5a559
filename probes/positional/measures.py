"""Every positional question of a batch of texts, summed over each text, for the heads of one layer.

Speed shapes this module: a pass over all weights of a corpus costs as much as a percent of the forward pass. So each
is made once for all questions, in numpy, whose small products and logarithms are several times as fast as torch's; and
what is summed is in float64, where the order of summing does not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from probes.kept import kept_plans
from probes.positional.keys import (
    BREADTH,
    COLUMNS,
    DELIMITER,
    DISTANCE,
    ENTROPY,
    FROM_SEPARATOR,
    NEAREST,
    OFFSETS,
    PATTERNS,
    SEPARATOR,
    START,
    WORD_OFFSETS,
    offset_key,
    word_offset_key,
)
from probes.positional.plan import SETS, Contest, Near, Plan, plan_of
from probes.view import LayerView, Sums, in_order
from probes.winners import Winners
from probes.words import Reading

__all__ = ["measure"]

AT_ONCE = 100_000  # weights that are worked on together: they stay in a processor's cache
CAUSAL_BREADTH_FROM = 4  # earlier rows see so few keys that any pattern is broad
SHORTEST_PATTERN = 8  # tokens; in a shorter text any two columns hold a good part of any pattern
VERTICAL, DIAGONAL, BOTH, LEAST_OF_BOTH = 0.6, 0.6, 0.75, 0.2
_SEPARATOR, _DELIMITER, _START = (SETS.index(key) for key in (SEPARATOR, DELIMITER, START))

TextSums = Float64[np.ndarray, "text question head"]


def measure(view: LayerView) -> Iterator[Sums]:
    """All questions, see `probes.positional.keys`."""
    n_heads, n_tokens = view.tokens.shape[1:3]
    plan = plan_of(view.readings, (n_heads, n_tokens, view.words.shape[-1]))
    sight, words = _sight(view, plan), view.words.numpy()
    rows = _Rows.of(view.tokens.numpy(), plan, sight)
    places = _places(plan, rows)
    patterns = _patterns(plan, rows, places)
    answers = (
        (_hits_at(view.token_wins, plan.tokens), rows.at_offset),
        (places, places),
        (rows.shape, rows.shape),
        (patterns, patterns),
        (_hits_at(view.word_wins, plan.words), _mass_at(words, plan.words)),
        (_hits_near(view.word_wins, plan.near), _mass_near(words, plan.near)),
    )
    hits, mass = (torch.from_numpy(np.concatenate(parts, axis=1)) for parts in zip(*answers, strict=True))
    trials, chance, mass_chance = (torch.from_numpy(part) for part in (sight.trials, sight.chance, sight.mass_chance))
    yield Sums(_QUESTIONS, trials, hits, mass, chance, mass_chance)


_QUESTIONS = (
    *map(offset_key, OFFSETS),
    *(*SETS, FROM_SEPARATOR),
    *(ENTROPY, BREADTH, DISTANCE),
    *PATTERNS,
    *map(word_offset_key, WORD_OFFSETS),
    *NEAREST,
)


@dataclass(frozen=True)
class _Sight:
    """What follows from the plan and from what queries see; the same for every head, mostly for every layer.

    Attributes:
        visible: which keys a query can see.
        counted: per query, what its entropy counts in the mean entropy and in the mean breadth.
        trials, chance, mass_chance: of all questions.
    """

    visible: Bool[np.ndarray, "text query key"]
    counted: Float64[np.ndarray, "text 2 query"]
    trials: Int64[np.ndarray, "text question"]
    chance: Float64[np.ndarray, "text question"]
    mass_chance: Float64[np.ndarray, "text question"]


def _nothing_yet(readings: tuple[Reading, ...], sizes: tuple[int, ...]) -> list[_Sight]:
    """Room for what is found at the first layer of a batch."""
    return []


_last_sight = kept_plans(_nothing_yet)


def _sight(view: LayerView, plan: Plan) -> _Sight:
    """Of the layer before, where queries see the same there."""
    visible, known = view.visible.numpy(), _last_sight(view.readings, tuple(view.tokens.shape))
    if not known or not np.array_equal(known[0].visible, visible):
        known[:] = [_sight_of(visible.copy(), plan)]
    return known[0]


def _sight_of(visible: Bool[np.ndarray, "text query key"], plan: Plan) -> _Sight:
    n_visible = np.maximum(visible.sum(-1), 1).astype(np.float64)
    early = plan.causal[:, None] & (np.arange(visible.shape[-1]) < CAUSAL_BREADTH_FROM)
    broad = plan.asking & (n_visible >= 2) & ~early
    largest = np.log(n_visible)
    asked = plan.asking.sum(-1)
    place_trials, place_chance = _asked_places(visible, plan, n_visible)
    has_pattern = (plan.lengths >= SHORTEST_PATTERN) & (asked > 0)
    trials = (
        plan.tokens.trials,
        place_trials,
        np.stack([asked, broad.sum(-1), asked], axis=1),
        np.repeat(has_pattern[:, None], len(PATTERNS), axis=1),
        plan.words.trials,
        plan.near.trials,
    )
    others = (
        place_chance,
        in_order(largest * plan.asking)[:, None],
        np.zeros((len(asked), 2 + len(PATTERNS))),
        plan.words.chance,
        plan.near.chance,
    )
    by_sight = in_order(plan.tokens.at_offset / n_visible[:, None])
    return _Sight(
        visible=visible,
        counted=np.stack([plan.asking, broad / np.where(broad, largest, 1)], axis=1),
        trials=np.concatenate(trials, axis=1, dtype=np.int64),
        chance=np.concatenate([plan.tokens.chance, *others], axis=1),
        mass_chance=np.concatenate([by_sight, *others], axis=1),
    )


def _asked_places(
    visible: Bool[np.ndarray, "text query key"], plan: Plan, n_visible: Float64[np.ndarray, "text query"]
) -> tuple[Int64[np.ndarray, "text place"], Float64[np.ndarray, "text place"]]:
    """Queries that see one of the places, and the share that uniform attention would give these."""
    text, place = np.arange(len(visible))[:, None], np.arange(visible.shape[-1])
    n_members = plan.members @ visible.transpose(0, 2, 1)[text, plan.columns].astype(np.float64)
    asked = (n_members > 0) & plan.asking[:, None]
    for i in range(min(len(COLUMNS), visible.shape[-1])):  # a place is asked for from itself on
        asked[:, i] &= place >= i
    separators = n_members[:, _SEPARATOR : _SEPARATOR + 1]
    asked = np.concatenate([asked, (separators > 0) & plan.separators[:, None]], axis=1)
    chance = asked * np.concatenate([n_members, separators], axis=1) / n_visible[:, None]
    return asked.sum(-1), in_order(chance)


@dataclass(frozen=True)
class _Rows:
    """Sums over the rows of a layer's tokens.

    Attributes:
        at_offset: weight at each offset.
        columns: weight that each token gets from the queries, and from separators.
        early: of the first places, the weight that they get from the queries before them.
        shape: entropy in nats (0 log 0 = 0), entropy over the largest possible, and mean distance.
    """

    at_offset: TextSums
    columns: Float64[np.ndarray, "text head 2 key"]
    early: Float64[np.ndarray, "text place head"]
    shape: Float64[np.ndarray, "text measure head"]

    @classmethod
    def of(cls, weights: Float[np.ndarray, "text head query key"], plan: Plan, sight: _Sight) -> _Rows:
        """Some texts at a time."""
        n_texts, n_heads, n, _ = weights.shape
        queries = np.stack([plan.asking, plan.separators], axis=1).astype(np.float64)
        sums = cls(
            at_offset=np.zeros((n_texts, len(OFFSETS), n_heads)),
            columns=np.empty((n_texts, n_heads, 2, n)),
            early=np.zeros((n_texts, len(COLUMNS), n_heads)),
            shape=np.empty((n_texts, 3, n_heads)),
        )
        step = max(1, AT_ONCE // max(1, n_heads * n * n))
        for start in range(0, n_texts, step):
            part = slice(start, start + step)
            exact = weights[part].astype(np.float64)
            _add_at(exact, plan.tokens.offsets, plan.tokens.at_offset[part], sums.at_offset[part])
            np.matmul(queries[part, None], exact, out=sums.columns[part])
            for i in range(1, min(len(COLUMNS), n)):
                sums.early[part, i] = np.einsum("thq,tq->th", exact[:, :, :i, i], queries[part, 0, :i])
            sums.shape[part, 2:] = np.matmul(exact.reshape(*exact.shape[:2], -1), plan.gaps[part]).transpose(0, 2, 1)
            spread = _times_log(weights[part]).astype(np.float64).sum(-1)
            sums.shape[part, :2] = -np.matmul(sight.counted[part], spread.transpose(0, 2, 1))
        return sums


def _times_log(weights: Float[np.ndarray, "text head query key"]) -> Float[np.ndarray, "text head query key"]:
    """`p log p`."""
    found: np.ndarray = np.maximum(weights, np.finfo(weights.dtype).tiny)
    np.log(found, out=found)
    found *= weights
    return found


def _places(plan: Plan, rows: _Rows) -> TextSums:
    """Weight on fixed places and on sets of tokens, from the queries that see one of them; on separators from some."""
    text = np.arange(len(rows.columns))[:, None]
    held = rows.columns.transpose(0, 3, 2, 1)[text, plan.columns]  # [text column asking|separators head]
    mass = np.matmul(plan.members, held.reshape(*plan.columns.shape, -1)).reshape(len(held), len(SETS), *held.shape[2:])
    places = np.concatenate([mass[:, :, 0], mass[:, _SEPARATOR : _SEPARATOR + 1, 1]], axis=1)
    places[:, : len(COLUMNS)] -= rows.early
    return np.asarray(places)


def _patterns(
    plan: Plan, rows: _Rows, places: Float64[np.ndarray, "text place head"]
) -> Float64[np.ndarray, "text pattern head"]:
    """Which of the patterns of Kovaleva et al. 2019 (arXiv:1908.08593) each text shows, by thresholds (ours).

    Vertical: the two strongest columns, or the first token, separators and punctuation, hold much. Diagonal: the query,
    its predecessor and its successor do. The block pattern takes two segments, and these texts have one.
    """
    queries = np.maximum(plan.asking.sum(-1), 1)[:, None].astype(np.float64)
    two = max(0, rows.columns.shape[-1] - 2)
    strongest = np.partition(rows.columns[:, :, 0], two, axis=-1)[..., two:].sum(-1)
    vertical = np.maximum(strongest, places[:, _DELIMITER] + places[:, _START]) / queries
    beside = [i for i, offset in enumerate(OFFSETS) if abs(offset) <= 1]
    trials = np.maximum(plan.tokens.trials[:, beside], 1)
    diagonal = (rows.at_offset[:, beside] / trials[..., None]).sum(1)
    is_vertical = vertical >= VERTICAL
    is_diagonal = ~is_vertical & (diagonal >= DIAGONAL)
    mixed = (vertical + diagonal >= BOTH) & (np.minimum(vertical, diagonal) >= LEAST_OF_BOTH)
    is_mixed = ~is_vertical & ~is_diagonal & mixed
    kinds = np.stack([is_vertical, is_diagonal, is_mixed, ~(is_vertical | is_diagonal | is_mixed)], axis=1)
    return kinds.astype(np.float64)


def _hits_at(winners: Winners, contest: Contest) -> TextSums:
    """Wins at each offset; a winner is a candidate, so its query has one at that offset."""
    question = contest.question[winners.key - winners.query + winners.shape[-1] - 1]
    return _counted(winners, question, len(contest.offsets))


def _hits_near(winners: Winners, near: Near) -> TextSums:
    """Wins of the nearest word of each part of speech."""
    return _counted(winners, near.question[winners.cell], len(NEAREST))


def _counted(winners: Winners, question: Int64[np.ndarray, " entry"], n_questions: int) -> TextSums:
    """Shares of wins per text, question and head; `n_questions` stands for none of them."""
    n_texts, n_heads, width = *winners.shape[:2], n_questions + 1
    place = winners.front * width + question
    sums = np.bincount(place, weights=1 / winners.ties, minlength=n_texts * n_heads * width)
    return sums.reshape(n_texts, n_heads, width)[..., :n_questions].transpose(0, 2, 1).astype(np.float64)


def _mass_at(weights: Float64[np.ndarray, "text head query key"], contest: Contest) -> TextSums:
    """Weight at each offset."""
    found = np.zeros((len(weights), len(contest.offsets), weights.shape[1]))
    _add_at(weights, contest.offsets, contest.at_offset, found)
    return found


def _add_at(
    weights: Float64[np.ndarray, "text head query key"],
    offsets: tuple[int, ...],
    at_offset: Float64[np.ndarray, "text question query"],
    into: TextSums,
) -> None:
    n = weights.shape[-1]
    for i, offset in enumerate(offsets):
        if abs(offset) < n:
            asked = at_offset[:, i, max(0, -offset) : n - max(0, offset)]
            into[:, i] = np.einsum("thq,tq->th", weights.diagonal(offset, 2, 3), asked)


def _mass_near(words: Float64[np.ndarray, "text head word other"], near: Near) -> TextSums:
    """Weight on the nearest word of each part of speech, on either side."""
    sums = np.zeros((near.trials.size, words.shape[1]))
    if len(near.starts):
        sums[near.run] = np.add.reduceat(np.take(words.reshape(-1), near.cells), near.starts, axis=0)
    return sums.reshape(*near.trials.shape, -1)
