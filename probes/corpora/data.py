"""What a corpus is made of: documents of sentences of words, with trees and mentions where annotated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Corpus", "Document", "Mention", "Sentence"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Mention:
    """A mention of an entity: words `start` to `end` (exclusive) of a sentence, and the head among them.

    `entity` is unique within its document; `link` says how the mention points back ("ana", "coref", "appos",
    ...; empty where the corpus does not say); `split` marks an antecedent that is several entities together.
    """

    entity: str
    sentence: int
    start: int
    end: int
    head: int
    kind: str = ""
    link: str = ""
    split: bool = False


@dataclass(frozen=True)
class Sentence:
    """A sentence's raw text and its words; word indices count from 0 and leave out MWT and empty-node rows.

    Attributes:
        id: the treebank's `sent_id`, or a number.
        text: as a model reads it.
        line: of the file, where the sentence begins (from 1), for messages.
        forms: the words.
        spans: each word's characters in `text`; empty where the word is written nowhere.
        upos: universal part of speech per word, `_` where unknown.
        features: the FEATS column as it stands, `_` where empty.
        heads: index of each word's head, -1 at the root; empty where the sentence has no tree.
        relations: each word's relation to its head, as written (`nsubj:pass`); empty without a tree.
        mentions: mentions that lie in this sentence, by start, the longer first.
    """

    id: str
    text: str
    line: int
    forms: tuple[str, ...]
    spans: tuple[Span, ...]
    upos: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    heads: tuple[int, ...] = ()
    relations: tuple[str, ...] = ()
    mentions: tuple[Mention, ...] = ()

    def __len__(self) -> int:
        return len(self.forms)


@dataclass(frozen=True)
class Document:
    """Sentences in order. `first` is the index of the first one where a very long document comes in parts."""

    id: str
    sentences: tuple[Sentence, ...]
    first: int = 0

    def key(self, sentence: int) -> str:
        """A name for the sentence at `sentence` of this part that no other sentence of the corpus has."""
        return f"{self.id}#{self.first + sentence}"


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: checked from end to end, counted, and read again each time it is walked through.

    Attributes:
        name: file name, or the name of the embedded corpus; never a path.
        sha256: of the file's bytes.
        sizes: sentences per document id, in order.
        n_words: words in all sentences.
        n_trees: sentences with a dependency tree.
        n_mentions: mentions (0 without coreference annotation).
        limit: only the first so many sentences, or None.
    """

    name: str
    sha256: str
    sizes: dict[str, int] = field(repr=False)
    n_words: int
    n_trees: int
    n_mentions: int
    read: Callable[[], Iterator[Document]] = field(repr=False, compare=False)
    limit: int | None = None

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.sizes)

    @property
    def n_sentences(self) -> int:
        """Number of sentences in all documents."""
        return sum(self.sizes.values())

    def documents(self) -> Iterator[Document]:
        """Walk through the corpus, one document (or part of a very long one) in memory at a time."""
        return self.read()

    @classmethod
    def of(cls, name: str, documents: tuple[Document, ...]) -> Corpus:
        """A corpus held in memory, for tests and for callers with annotation of their own."""
        sentences = [sentence for document in documents for sentence in document.sentences]
        return cls(
            name=name,
            sha256=hashlib.sha256(repr(documents).encode()).hexdigest(),
            sizes={document.id: len(document.sentences) for document in documents},
            n_words=sum(map(len, sentences)),
            n_trees=sum(bool(sentence.heads) for sentence in sentences),
            n_mentions=sum(len(sentence.mentions) for sentence in sentences),
            read=lambda: iter(documents),
        )
