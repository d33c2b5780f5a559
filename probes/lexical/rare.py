"""Rare words (measure R1): is the strongest word of a row the least frequent of its sentence?

Asked are the rows of sentences whose rarest word is not among the 500 most frequent ones; of a large corpus a share of
them, drawn by hash. A word of many pieces collects more weight than its pieces do, so everything is asked twice: of the
sum over a word's pieces and of their mean. Beside it stands the rank correlation, within a sentence, of the weight that
words receive (per query that can see them) with how rare they are.

Source: Voita et al. 2019 (arXiv:1905.09418, section 5.2.3). Words that the list does not have are the rarest; only
words of letters can be the rarest, since lists differ in how they cut the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from probes.kept import kept_plans
from probes.lexical.batches import rows
from probes.lexical.frequencies import Frequencies
from probes.tally import Key
from probes.view import LayerView, Sums, in_order, padded
from probes.winners import Winners, bars, strongest
from probes.words import Reading

__all__ = [
    "CORRELATION",
    "CORRELATION_PER_PIECE",
    "RARE",
    "RARE_PER_PIECE",
    "TOP_TWO",
    "TOP_TWO_PER_PIECE",
    "Asked",
    "measure",
    "rarest_words",
]

RARE = Key("rarest word")
TOP_TWO = Key("one of the two rarest words")
CORRELATION = Key("rarity and weight received")
RARE_PER_PIECE = Key("rarest word, per piece")
TOP_TWO_PER_PIECE = Key("one of the two rarest words, per piece")
CORRELATION_PER_PIECE = Key("rarity and weight received, per piece")
FEWEST_WORDS = 4


@dataclass(frozen=True)
class Plan:
    """What a batch asks: only texts with a rare word.

    Attributes:
        texts: their indices in the batch.
        rarest: per text of the batch, the least frequent word, and the two least frequent ones; all of them where they
            tie; none in texts that are not asked.
        trials, chance: of both questions: queries that can see such a word, and what uniform choices would hit.
        barred: words that cannot win, see `probes.winners.bars`.
        n_pieces: tokens of each word; 1 where there is none.
        ranked: words that the model saw.
        rarity: ranks of the words by frequency, the rarest last, centred and of length 1; 0 elsewhere.
        seen_by: queries that can see each word.
    """

    texts: Int64[np.ndarray, " some_text"]
    rarest: Bool[np.ndarray, "some_text 2 word"]
    trials: Int64[np.ndarray, "some_text 2"]
    chance: Float64[np.ndarray, "some_text 2"]
    barred: Float64[np.ndarray, "some_text 1 word other"]
    n_pieces: Float64[np.ndarray, "some_text word"]
    ranked: Bool[np.ndarray, "some_text word"]
    rarity: Float64[np.ndarray, "some_text word"]
    seen_by: Float64[np.ndarray, "some_text word"]


def rarest_words(reading: Reading, frequencies: Frequencies, n: int) -> Bool[np.ndarray, " word"]:
    """The `n` least frequent words of a text, more where they tie; none where the rarest is a common word."""
    return _rarest(reading, frequencies, _counts(reading, frequencies), n)


def _counts(reading: Reading, frequencies: Frequencies) -> Int64[np.ndarray, " word"]:
    return np.array([frequencies.of(form) for form in reading.forms], dtype=np.int64)


def _rarest(
    reading: Reading, frequencies: Frequencies, counts: Int64[np.ndarray, " word"], n: int
) -> Bool[np.ndarray, " word"]:
    worded = np.array([form.isalpha() for form in reading.forms], dtype=bool) & reading.kept
    order = np.flatnonzero(worded)[np.argsort(counts[worded], kind="stable")]
    if len(order) < FEWEST_WORDS or reading.forms[order[0]].lower() in frequencies.common:
        return np.zeros(len(worded), dtype=bool)
    return np.asarray(worded & (counts <= counts[order[n - 1]]))


@dataclass(frozen=True)
class Asked:
    """What rare words are, and where they are asked for.

    Attributes:
        frequencies: the list.
        seed: of the draw.
        share: of the sentences.
    """

    frequencies: Frequencies
    seed: int = 0
    share: float = 1.0

    def drawn(self, key: str) -> bool:
        """Whether a text is asked, by hash of its name."""
        digest = hashlib.sha256(f"{self.seed}\0rare words\0{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


def _plan(readings: tuple[Reading, ...], settings: tuple[int, Asked]) -> Plan:
    n_words, asked = settings
    texts, rarest, ranks = [], [], []
    for index, reading in enumerate(readings):
        if asked.drawn(reading.key):
            counts = _counts(reading, asked.frequencies)
            one = _rarest(reading, asked.frequencies, counts, 1)
            if one.any():
                texts.append(index)
                rarest.append(np.stack([one, _rarest(reading, asked.frequencies, counts, 2)]))
                ranks.append(_rarity(counts, reading.kept))
    chosen = [readings[index] for index in texts]
    candidates = padded([reading.candidates for reading in chosen], n_words).numpy()
    targets = np.zeros((len(chosen), 2, n_words), dtype=bool)
    for page, words in zip(targets, rarest, strict=True):
        page[:, : words.shape[1]] = words
    in_sight = np.einsum("tqk,tnk->tnq", candidates.astype(np.float64), targets.astype(np.float64))
    return Plan(
        texts=np.array(texts, dtype=np.int64),
        rarest=targets,
        trials=(in_sight > 0).sum(-1),
        chance=in_order(in_sight / np.maximum(candidates.sum(-1), 1)[:, None]),
        barred=bars(candidates),
        n_pieces=np.maximum(rows([_n_pieces(reading) for reading in chosen], n_words), 1),
        ranked=rows([reading.kept for reading in chosen], n_words, bool),
        rarity=rows(ranks, n_words),
        seen_by=np.maximum(candidates.sum(1), 1).astype(np.float64),
    )


_plan_of = kept_plans(_plan)


def _n_pieces(reading: Reading) -> Float64[np.ndarray, " word"]:
    words = reading.word_of_token[reading.word_of_token >= 0]
    return np.bincount(words, minlength=len(reading.kept)).astype(np.float64)


def _rarity(counts: Int64[np.ndarray, " word"], kept: Bool[np.ndarray, " word"]) -> Float64[np.ndarray, " word"]:
    """Ranks, the mean of their places where words are equally frequent."""
    own = -counts[kept]
    ordered = np.sort(own)
    places = np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")
    centred = (places - len(own)) / 2
    ranks = np.zeros(len(kept))
    ranks[kept] = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return ranks


def measure(view: LayerView, asked: Asked) -> Iterator[Sums]:
    """R1 of the batch's texts, for the sum over a word's pieces and for their mean."""
    plan = _plan_of(view.readings, (view.words.shape[-1], asked))
    if not len(plan.texts):
        return
    received = view.received[plan.texts]
    per_piece = strongest(view.words.numpy()[plan.texts] / plan.n_pieces[:, None, None, :], plan.barred)
    n_heads = received.shape[1]
    nowhere = np.zeros((len(view.readings), *plan.rarest.shape[1:]), dtype=bool)
    nowhere[plan.texts] = plan.rarest
    hits = np.stack([_hits(view.word_wins, nowhere)[plan.texts], _hits(per_piece, plan.rarest)])
    amounts = np.stack([received, received / plan.n_pieces[:, None]])
    correlation = _correlation(plan, amounts / plan.seen_by[:, None])[:, :, None]
    mass = np.matmul(plan.rarest.astype(np.float64), amounts.transpose(0, 1, 3, 2))
    ones, zeros = np.ones((len(plan.texts), 1), dtype=np.int64), np.zeros((len(plan.texts), 1))

    def both(parts: Float64[np.ndarray, "2 some_text 2 head"]) -> Tensor:
        whole = np.concatenate([parts, correlation], axis=2)
        return torch.from_numpy(whole.transpose(1, 0, 2, 3).reshape(len(plan.texts), 2 * whole.shape[2], n_heads))

    sums = Sums(
        keys=(RARE, TOP_TWO, CORRELATION, RARE_PER_PIECE, TOP_TWO_PER_PIECE, CORRELATION_PER_PIECE),
        trials=torch.from_numpy(np.concatenate([plan.trials, ones] * 2, axis=1)),
        hits=both(hits),
        mass=both(mass),
        chance=torch.from_numpy(np.concatenate([plan.chance, zeros] * 2, axis=1)),
    )
    yield sums.spread(len(view.readings), torch.from_numpy(plan.texts))


def _hits(winners: Winners, rarest: Bool[np.ndarray, "text 2 word"]) -> Float64[np.ndarray, "text 2 head"]:
    """Shares of wins of rare words; a winner is a candidate, so its query can see it."""
    n_texts, n_heads = winners.shape[:2]
    found = []
    for number in range(rarest.shape[1]):
        right = np.flatnonzero(rarest[winners.text, number, winners.key])
        share = np.bincount(winners.front[right], 1 / winners.ties[right], minlength=n_texts * n_heads)
        found.append(share.reshape(n_texts, n_heads).astype(np.float64))  # without any win, they are integers
    return np.stack(found, axis=1)


def _correlation(
    plan: Plan, received: Float64[np.ndarray, "way some_text head word"]
) -> Float64[np.ndarray, "way some_text head"]:
    """Spearman's rank correlation of received weight and rarity in each text; 0 where all weights are equal."""
    ranked = plan.ranked[:, None]
    weights = np.where(ranked, received, np.inf)  # words that are not ranked come last
    order = weights.argsort(axis=-1)
    weights = np.take_along_axis(weights, order, axis=-1)
    place = np.arange(weights.shape[-1])
    begins = np.ones(weights.shape, dtype=bool)
    np.not_equal(weights[..., 1:], weights[..., :-1], out=begins[..., 1:])
    ends = np.ones(weights.shape, dtype=bool)
    ends[..., :-1] = begins[..., 1:]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, place, len(place))[..., ::-1], axis=-1)[..., ::-1]
    n = plan.ranked.sum(-1)[:, None, None]
    centred = np.where(place < n, (first + last - (n - 1)) / 2, 0.0)
    length = np.maximum(np.sqrt(np.square(centred).sum(-1)), 1e-12)
    rarity = np.take_along_axis(np.broadcast_to(plan.rarity[:, None], weights.shape), order, axis=-1)
    return np.asarray((centred * rarity).sum(-1) / length)
