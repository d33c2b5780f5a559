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

from probes.lexical.batches import kept_plans, rows
from probes.lexical.frequencies import Frequencies
from probes.tally import Key
from probes.view import LayerView, Sums
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
        candidates: words that can win.
        rarest: per text, the least frequent word, and the two least frequent ones; all of them where they tie.
        asking: queries that can see such a word.
        trials, chance: of both questions: queries, and what uniform choices of all of them would hit.
        n_pieces: tokens of each word; 1 where there is none.
        ranked: words that the model saw.
        rarity: ranks of the words by frequency, the rarest last, centred and of length 1; 0 elsewhere.
        seen_by: queries that can see each word.
    """

    texts: Int64[Tensor, " some_text"]
    candidates: Bool[Tensor, "some_text word other"]
    rarest: Float64[Tensor, "some_text 2 word"]
    asking: Bool[Tensor, "some_text 2 word"]
    trials: Int64[Tensor, "some_text 2"]
    chance: Float64[Tensor, "some_text 2"]
    n_pieces: Float64[Tensor, "some_text word"]
    ranked: Bool[Tensor, "some_text word"]
    rarity: Float64[Tensor, "some_text word"]
    seen_by: Float64[Tensor, "some_text word"]


def rarest_words(reading: Reading, frequencies: Frequencies, n: int) -> Bool[np.ndarray, " word"]:
    """The `n` least frequent words of a text, more where they tie; none where the rarest is a common word."""
    worded = np.array([form.isalpha() for form in reading.forms], dtype=bool) & reading.kept
    counts = np.array([frequencies.of(form) for form in reading.forms], dtype=np.float64)
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


def _plan(readings: tuple[Reading, ...], n_words: int, asked: Asked) -> Plan:
    texts, rarest = [], []
    for index, reading in enumerate(readings):
        if asked.drawn(reading.key):
            one = rarest_words(reading, asked.frequencies, 1)
            if one.any():
                texts.append(index)
                rarest.append(np.stack([one, rarest_words(reading, asked.frequencies, 2)]))
    chosen = [readings[index] for index in texts]
    candidates = torch.zeros(len(chosen), n_words, n_words, dtype=torch.bool)
    targets = torch.zeros(len(chosen), 2, n_words, dtype=torch.float64)
    for i, (reading, words) in enumerate(zip(chosen, rarest, strict=True)):
        n = len(reading.kept)
        candidates[i, :n, :n] = torch.from_numpy(reading.candidates)
        targets[i, :, :n] = torch.from_numpy(words)
    in_sight = torch.einsum("tqk,tnk->tnq", candidates.double(), targets)
    asking = in_sight > 0
    n_candidates = candidates.sum(-1).clamp_min(1)[:, None]
    ranks = [_rarity(reading, asked.frequencies) for reading in chosen]
    return Plan(
        texts=torch.tensor(texts, dtype=torch.int64),
        candidates=candidates,
        rarest=targets,
        asking=asking,
        trials=asking.sum(-1),
        chance=(in_sight / n_candidates).sum(-1),
        n_pieces=rows([_n_pieces(reading) for reading in chosen], n_words).clamp_min(1),
        ranked=rows([reading.kept for reading in chosen], n_words, bool),
        rarity=rows(ranks, n_words),
        seen_by=candidates.sum(1).double().clamp_min(1),
    )


_plan_of = kept_plans(_plan)


def _n_pieces(reading: Reading) -> Float64[np.ndarray, " word"]:
    words = reading.word_of_token[reading.word_of_token >= 0]
    return np.bincount(words, minlength=len(reading.kept)).astype(np.float64)


def _rarity(reading: Reading, frequencies: Frequencies) -> Float64[np.ndarray, " word"]:
    from scipy.stats import rankdata

    ranks = np.zeros(len(reading.kept))
    counts = [-frequencies.of(form) for form, kept in zip(reading.forms, reading.kept, strict=True) if kept]
    centred = rankdata(counts) - (len(counts) + 1) / 2
    ranks[reading.kept] = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return ranks


def measure(view: LayerView, asked: Asked) -> Iterator[Sums]:
    """R1 of the batch's texts, for the sum over a word's pieces and for their mean."""
    plan = _plan_of(view.readings, view.words.shape[-1], asked)
    if not len(plan.texts):
        return
    summed = view.words[plan.texts]
    per_piece = summed / plan.n_pieces[:, None, None, :]
    for keys, words in (
        ((RARE, TOP_TWO, CORRELATION), summed),
        ((RARE_PER_PIECE, TOP_TWO_PER_PIECE, CORRELATION_PER_PIECE), per_piece),
    ):
        yield _questions(plan, keys, words).spread(len(view.readings), plan.texts)


def _questions(plan: Plan, keys: tuple[Key, Key, Key], words: Float64[Tensor, "some_text head word other"]) -> Sums:
    """Both contests and the correlation, for the texts of the plan."""
    best = words.masked_fill(~plan.candidates[:, None], -1.0)
    won = (best == best.amax(-1, keepdim=True)) & plan.candidates[:, None]
    share = won.double() / won.sum(-1, keepdim=True).clamp_min(1)
    asking = plan.asking.double()
    hits = torch.einsum("thqk,tnk,tnq->tnh", share, plan.rarest, asking)
    seen = words.masked_fill(~plan.candidates[:, None], 0.0)
    mass = torch.einsum("thqk,tnk,tnq->tnh", seen, plan.rarest, asking)
    correlation = _correlation(plan, seen.sum(2) / plan.seen_by[:, None])[:, None]
    one = torch.ones(len(plan.texts), 1, dtype=torch.int64)
    zero = torch.zeros(len(plan.texts), 1, dtype=torch.float64)
    return Sums(
        keys=keys,
        trials=torch.cat([plan.trials, one], dim=1),
        hits=torch.cat([hits, correlation], dim=1),
        mass=torch.cat([mass, correlation], dim=1),
        chance=torch.cat([plan.chance, zero], dim=1),
    )


def _correlation(plan: Plan, received: Float64[Tensor, "some_text head word"]) -> Float64[Tensor, "some_text head"]:
    """Spearman's rank correlation of received weight and rarity in each text; 0 where all weights are equal."""
    ranked = plan.ranked[:, None]
    below = ((received[..., None, :] < received[..., None]) & ranked[..., None, :]).sum(-1)
    equal = ((received[..., None, :] == received[..., None]) & ranked[..., None, :]).sum(-1)
    ranks = (below + (equal - 1) / 2).double()
    n = ranked.sum(-1, keepdim=True)
    centred = (ranks - (n - 1) / 2).masked_fill(~ranked, 0.0)
    length = centred.square().sum(-1).sqrt().clamp_min(1e-12)
    found: Tensor = torch.einsum("thw,tw->th", centred, plan.rarity) / length
    return found
