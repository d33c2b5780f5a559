"""From tokens to words: whose weights count together, and what a text looked like to the model.

"To" a word adds the weights on its pieces, "from" a word averages its pieces' rows (Clark et al. 2019,
arXiv:1906.04341, section 4.1). In a causal model an earlier piece has not seen the whole word, so "from" is
the last piece there. Special tokens and tokens of no word are neither query nor candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from probes.corpora.data import Sentence

__all__ = ["FAINT", "Aggregation", "Observation", "Reading", "counted", "winners", "word_attention"]

Aggregation = Literal["mean", "last"]

FAINT = 1e-7
"""The most that counts as no weight (ours): next to a row's sum of 1, float32 cannot tell it from none."""


def counted(attention: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Token-level weights as every question counts them: up to `FAINT` they are 0.

    A head that rests on a special token leaves its words next to nothing, and which of them has 1e-17 more than another
    says nothing about the head: without weight they tie.
    """
    return np.where(attention <= FAINT, attention.dtype.type(0), attention)


def word_attention(
    attention: Float[np.ndarray, "head query key"],
    word_of_token: Sequence[int | None],
    n_words: int,
    aggregation: Aggregation,
) -> Float64[np.ndarray, "head word word"]:
    """Word-level weights `[head from to]`: the sum over "to" pieces, the mean (or the last) of "from" pieces.

    Rows sum to 1 less what goes to special tokens. Rows and columns of words without a piece are 0. Sums are
    made in float64, where adding a few float32 weights is exact, so that equal words stay equal and ties are
    ties.
    """
    pieces = sorted((word, token) for token, word in enumerate(word_of_token) if word is not None)
    result = np.zeros((len(attention), n_words, n_words))
    if not pieces:
        return result
    tokens = np.array([token for _, token in pieces])
    words, starts, n_pieces = np.unique([word for word, _ in pieces], return_index=True, return_counts=True)
    queries = tokens[starts + n_pieces - 1] if aggregation == "last" else tokens
    rows = attention[:, queries[:, None], tokens[None, :]].astype(np.float64)
    if len(words) < len(pieces):
        rows = np.add.reduceat(rows, starts, axis=2)
        if aggregation == "mean":
            rows = np.add.reduceat(rows, starts, axis=1) / n_pieces[:, None]
    result[:, words[:, None], words[None, :]] = rows
    return result


def winners(
    weights: Float64[np.ndarray, "head query key"], candidates: Bool[np.ndarray, "query key"]
) -> Float64[np.ndarray, "head query key"]:
    """Who wins each row: 1 at the strongest candidate, 1/n_ties at each of several; a row without any is 0.

    The same rule as `attnlens.measures.patterns.argmax_share`, on numpy arrays.
    """
    masked = np.where(candidates, weights, -1.0)
    best = masked.max(axis=-1, keepdims=True, initial=-1.0)
    share = ((masked == best) & candidates).astype(np.float64)
    ties = share.sum(axis=-1, keepdims=True)
    return np.asarray(share / np.maximum(ties, 1))


@dataclass(frozen=True)
class Reading:
    """One text as a model reads it, before it is run: what annotation and tokenizer say.

    Attributes:
        key: name of the text, from which everything random about it is seeded.
        cluster: where its counts go.
        confirm: that cluster belongs to CONFIRM.
        kind: what sort of text it is; see `probes.texts.Kind`.
        sentences: the text's sentences; more than one in a window of a document.
        labels: printable tokens.
        special: tokens that the tokenizer's template added.
        delimiters: tokens that separate: special ones after the first position, and full stops and commas.
        word_of_token: the word of each token; -1 for none.
        kept: words that have a token.
        causal: keys after the query are never visible.
        masked: the word in whose place the mask token stands; None where there is none.
        ids: the tokens' numbers in the vocabulary; empty where nobody said.
    """

    key: str
    cluster: int
    confirm: bool
    kind: str
    sentences: tuple[Sentence, ...]
    labels: tuple[str, ...]
    special: Bool[np.ndarray, " token"]
    delimiters: Bool[np.ndarray, " token"]
    word_of_token: Int64[np.ndarray, " token"]
    kept: Bool[np.ndarray, " word"]
    causal: bool
    masked: int | None
    ids: tuple[int, ...] = field(default=(), kw_only=True, repr=False)

    @cached_property
    def candidates(self) -> Bool[np.ndarray, "query key"]:
        """Words that may be attended to: not the word itself, no dropped word, in a causal model only earlier ones."""
        n = len(self.kept)
        allowed: Bool[np.ndarray, "query key"]
        allowed = np.tri(n, k=-1, dtype=bool) if self.causal else ~np.eye(n, dtype=bool)
        return np.asarray(allowed & self.kept[:, None] & self.kept[None, :])

    @cached_property
    def token_candidates(self) -> Bool[np.ndarray, "query key"]:
        """Tokens that may win: tokens of the text that the query can see, itself included."""
        text = ~self.special
        causal = np.tri(len(text), dtype=bool) if self.causal else True
        return np.asarray(text[:, None] & text[None, :] & causal)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " sentence"]:
        """Index of each sentence's first word in the text."""
        lengths = [len(sentence) for sentence in self.sentences[:-1]]
        return np.asarray(np.cumsum([0, *lengths]), dtype=np.int64)

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """The words of the text."""
        return tuple(form for sentence in self.sentences for form in sentence.forms)

    @cached_property
    def upos(self) -> tuple[str, ...]:
        """The words' universal parts of speech; `_` where unknown."""
        return tuple(tag for sentence in self.sentences for tag in (sentence.upos or ("_",) * len(sentence)))


@dataclass(frozen=True)
class Observation(Reading):
    """One text as a model saw it: arrays only, heads in the order of layers.

    Attributes:
        attention: token-level weights, see `counted`.
        visible: which keys a query could see, one mask per head.
        words: word-level weights, see `word_attention`.
    """

    attention: Float[np.ndarray, "head query key"]
    visible: Bool[np.ndarray, "head query key"]
    words: Float64[np.ndarray, "head word word"]

    @cached_property
    def winners(self) -> Float64[np.ndarray, "head query key"]:
        """Which word wins each row of `words`."""
        return winners(self.words, self.candidates)

    @cached_property
    def column_winners(self) -> Float64[np.ndarray, "head query key"]:
        """Which query wins each column of `words`: the word that looks at a word the most."""
        return winners(self.words.transpose(0, 2, 1), self.candidates.T).transpose(0, 2, 1)

    @cached_property
    def token_winners(self) -> Float64[np.ndarray, "head query key"]:
        """Which token wins each row of `attention`."""
        return winners(self.attention.astype(np.float64), self.token_candidates)
