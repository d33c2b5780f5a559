"""What is run through the model: single sentences, or windows of whole sentences of one document, with their words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.corpora.data import Corpus, Document, Sentence, Span
from probes.split import Split

__all__ = ["WINDOW_WORDS", "Kind", "Text", "pack", "texts_of"]

WINDOW_WORDS = 100

Fits = Callable[[Sequence[Sentence]], bool]

Kind = Literal["sentence", "window", "masked"]
"""Single sentences; windows of whole sentences of one document; sentences with the mask token in place of a word."""


@dataclass(frozen=True)
class Text:
    """One text to run, with the cluster that its counts go to.

    Attributes:
        key: unique name.
        cluster: index of its document or sentence in the split.
        confirm: it belongs to the confirming half.
        kind: what sort of text it is.
        sentences: one, or those of a window.
        text: as the model reads it; sentences of a window are joined by a space.
        spans: characters of each word in `text`; empty for a word that is written nowhere.
        masked: the word in whose place the mask token stands.
    """

    key: str
    cluster: int
    confirm: bool
    kind: Kind
    sentences: tuple[Sentence, ...]
    text: str
    spans: tuple[Span, ...]
    masked: int | None = None


def texts_of(
    corpus: Corpus, split: Split, kind: Kind, fits: Fits, on_skip: Callable[[Sentence], None]
) -> Iterator[Text]:
    """Every sentence, or every window, of the corpus that fits the model; `on_skip` hears of sentences that do not."""
    for document in corpus.documents():
        usable = []
        for index, sentence in enumerate(document.sentences):
            if fits([sentence]):
                usable.append((index, sentence))
            else:
                on_skip(sentence)
        groups = [[each] for each in usable] if kind == "sentence" else pack(usable, fits)
        for group in groups:
            yield _text(document, split, kind, group)


def pack(sentences: Sequence[tuple[int, Sentence]], fits: Fits) -> list[list[tuple[int, Sentence]]]:
    """Whole sentences in windows of at most 100 words that fit the model; a longer sentence is a window of its own."""
    windows: list[list[tuple[int, Sentence]]] = []
    size = 0
    for index, sentence in sentences:
        together = [other for _, other in windows[-1]] + [sentence] if windows else [sentence]
        if not windows or size + len(sentence) > WINDOW_WORDS or not fits(together):
            windows.append([])
            size = 0
        windows[-1].append((index, sentence))
        size += len(sentence)
    return windows


def _text(document: Document, split: Split, kind: Kind, group: Sequence[tuple[int, Sentence]]) -> Text:
    key = document.key(group[0][0])
    cluster = split.cluster(document.id, key)
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    for _, sentence in group:
        spans += [(at + start, at + end) for start, end in sentence.spans]
        parts.append(sentence.text)
        at += len(sentence.text) + 1
    sentences = tuple(sentence for _, sentence in group)
    return Text(key, cluster, bool(split.confirm[cluster]), kind, sentences, " ".join(parts), tuple(spans))
