"""A generative grammar of English that comes with the truth: every document has gold trees and gold coreference.

It makes the text on which the embedded models are trained and the embedded corpus on which they are probed. Subjects
agree with their verbs across prepositional phrases and relative clauses; reflexives agree with their subject; a
pronoun is used only where exactly one thing mentioned so far agrees with it. Trees follow Universal Dependencies 2.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from attnlens.zoo.clauses import Clauses
from attnlens.zoo.trees import Document, Sentence

__all__ = ["documents", "draw_document"]

_LONGEST = 64  # words in a document: with word pieces it must still fit the models' 128 positions
_SENTENCES = ((1, 0.15), (2, 0.45), (3, 0.40))


def documents(n: int, *, seed: int, prefix: str = "grammar") -> Iterator[Document]:
    """`n` documents, named `{prefix}-0001` and so on; the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible text, not secrets
    for number in range(1, n + 1):
        yield draw_document(rng, f"{prefix}-{number:04d}")


def draw_document(rng: random.Random, name: str) -> Document:
    """One document of one to three sentences and at most 64 words."""
    while True:
        clauses = Clauses(rng)
        count = rng.choices([n for n, _ in _SENTENCES], [weight for _, weight in _SENTENCES])[0]
        sentences = tuple(Sentence.from_tree(clauses.main()) for _ in range(count))
        document = Document(name, sentences, tuple(clauses.phrases.discourse.entities))
        if document.n_words <= _LONGEST:
            return document
