"""What a corpus is made of: documents of sentences of words, with what is annotated on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

__all__ = ["Choice", "Corpus", "Document", "Link", "Mention", "Sentence"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Mention:
    """A mention of an entity: words `start` to `end` (exclusive) of a sentence, and the head among them.

    `entity` is unique within its document; `link` says how the mention points back ("ana", "coref", "appos",
    ...; empty where the corpus does not say); `split` marks an antecedent that is several entities together;
    `kind` is its entity type ("person", "place", ...) and `named` says that the corpus links it to a known identity;
    `again` says that the document has an earlier mention of its entity, be it in another sentence.
    """

    entity: str
    sentence: int
    start: int
    end: int
    head: int
    kind: str = ""
    link: str = ""
    split: bool = False
    named: bool = False
    again: bool = False


@dataclass(frozen=True)
class Choice:
    """A question with a few possible answers marked in a sentence: which option does the query refer to?

    Attributes:
        name: the question: "gap", "winobias type 1", "winobias type 2", "agreement".
        query: words that ask (a pronoun, a verb).
        options: words of each possible answer, in the order of the file: A and B, or first and second in the text.
        gold: indices of the right options; empty where none of them is right.
        tags: for breakdowns ("masculine", "feminine", "pro", "anti", ...).
        pair: name shared by exactly two items that are scored together, or "".
    """

    name: str
    query: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    gold: tuple[int, ...]
    tags: tuple[str, ...] = ()
    pair: str = ""


@dataclass(frozen=True)
class Link:
    """A relation that a user marked: from the words `source` to the words `target`."""

    relation: str
    source: tuple[int, ...]
    target: tuple[int, ...]


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
        choices: questions about this sentence, with the possible answers.
        links: relations that a user marked in this sentence.
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
    choices: tuple[Choice, ...] = ()
    links: tuple[Link, ...] = ()

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
        name: file name, or the name of the embedded corpus; never a path. Several files: joined by " + ".
        sha256: of the file's bytes; of several files: of their digests, one hexadecimal line each.
        sizes: sentences per document id, in order.
        n_words: words in all sentences.
        n_trees: sentences with a dependency tree.
        n_mentions: mentions (0 without coreference annotation).
        limit: only the first so many sentences, or None.
        n_choices: choices by the name of their question.
        n_links: relations that a user marked.
        n_skipped: sentences or rows with a fault that were left out, where the caller allowed it.
        skipped: the first ten of these faults, each with file and line.
        notes: what was accepted and should be known, such as relations that are not of Universal Dependencies.
    """

    name: str
    sha256: str
    sizes: dict[str, int] = field(repr=False)
    n_words: int
    n_trees: int
    n_mentions: int
    read: Callable[[], Iterator[Document]] = field(repr=False, compare=False)
    limit: int | None = None
    n_choices: Mapping[str, int] = field(default_factory=dict)
    n_links: int = 0
    n_skipped: int = 0
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
            read=partial(iter, documents),
            n_choices=dict(Counter(choice.name for sentence in sentences for choice in sentence.choices)),
            n_links=sum(len(sentence.links) for sentence in sentences),
        )
