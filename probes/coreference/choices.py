"""Questions with two names as answers (GAP, WinoBias) as contests: which name does the pronoun look at more?

The weight on an option is the sum over its words and pieces, from the mean over the pronoun's pieces (its last piece in
a causal model).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from probes.coreference.contests import Contest
from probes.corpora.data import Choice, Sentence
from probes.tally import Key
from probes.words import Reading

__all__ = ["Asked", "choices_in", "token_contest", "word_choice"]


@dataclass(frozen=True)
class Asked:
    """A choice in words of its text; words that the tokenizer dropped are gone.

    Attributes:
        choice: as annotated.
        query: words that ask.
        options: words of each option, in the order of the annotation.
        visible: every word of every option can be seen from the query.
        nearest: index of the option that begins the fewest characters away from the query; the first of two as near.
    """

    choice: Choice
    query: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    visible: bool
    nearest: int

    @property
    def before(self) -> bool:
        """All options stand before the query."""
        return max(map(max, self.options)) < min(self.query)


def choices_in(reading: Reading, name: str) -> Iterator[Asked]:
    """The choices of a text whose question begins with `name`, of which the model saw query and options."""
    for start, sentence in zip(reading.starts.tolist(), reading.sentences, strict=True):
        for choice in sentence.choices:
            if choice.name.startswith(name):
                query, *options = (
                    tuple(start + word for word in words if reading.kept[start + word])
                    for words in (choice.query, *choice.options)
                )
                if query and all(options):
                    visible = all(reading.candidates[at, word] for at in query for words in options for word in words)
                    yield Asked(choice, query, tuple(options), visible, _nearest(sentence, choice))


def _nearest(sentence: Sentence, choice: Choice) -> int:
    asks, *begins = (sentence.spans[words[0]][0] for words in (choice.query, *choice.options))
    return min(range(len(begins)), key=lambda option: abs(begins[option] - asks))


def word_choice(
    asked: Asked, keys: tuple[Key, ...], right: Bool[np.ndarray, " option"], points: Bool[np.ndarray, "option rule"]
) -> Contest:
    """The choice between the options, word by word."""
    cells = [
        (option, query, word) for option, words in enumerate(asked.options) for word in words for query in asked.query
    ]
    of, query, key = np.array(cells, dtype=np.int64).reshape(-1, 3).T
    weight = np.full(len(cells), 1 / len(asked.query))
    return Contest(keys, right, points, of, query, key, weight, scored=asked.visible)


def token_contest(
    reading: Reading,
    asked: Asked,
    keys: tuple[Key, ...],
    right: Bool[np.ndarray, " option"],
    least: float,
    n_rules: int,
) -> Contest:
    """The same choice, token by token, with a further option "neither": a share `least` of all that the query gives.

    A row of attention sums to 1, so this option wins where neither name gets `least` of the attention.
    """
    groups = [_pieces(reading, word)[-1:] if reading.causal else _pieces(reading, word) for word in asked.query]
    everything = np.arange(len(reading.special))
    of, query, key, weight = [], [], [], []
    for pieces in groups:
        for token in pieces.tolist():
            share = 1 / (len(groups) * len(pieces))
            names = [np.concatenate([_pieces(reading, word) for word in words]) for words in asked.options]
            for option, (tokens, amount) in enumerate([*((name, 1.0) for name in names), (everything, least)]):
                if not amount:
                    continue
                of.append(np.full(len(tokens), option))
                query.append(np.full(len(tokens), token))
                key.append(tokens)
                weight.append(np.full(len(tokens), amount * share))
    return Contest(
        keys,
        np.append(right, False),
        np.zeros((len(right) + 1, n_rules), dtype=bool),
        np.concatenate(of),
        np.concatenate(query),
        np.concatenate(key),
        np.concatenate(weight),
        scored=asked.visible,
    )


def _pieces(reading: Reading, word: int) -> Int64[np.ndarray, " piece"]:
    return np.flatnonzero(reading.word_of_token == word)
