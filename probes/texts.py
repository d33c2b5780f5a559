"""What is run through the model: sentences, windows of them, sentences with a masked word, or bare token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from probes.corpora.data import Document, Sentence, Span
from probes.split import Split

__all__ = ["WINDOW_WORDS", "Kind", "Stimulus", "Text", "masked_texts", "pack", "stimulus_cluster", "texts_of"]

WINDOW_WORDS = 100

Fits = Callable[[Sequence[Sentence]], bool]

Kind = Literal["sentence", "window", "masked", "stimulus"]
"""Single sentences; windows of whole sentences of one document; sentences with the mask token in place of a word;
token ids that a family made up."""


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


@dataclass(frozen=True)
class Stimulus:
    """A text of a family's own making, as the model gets it.

    Attributes:
        key: unique name within the family; everything about the text follows from it and from the ids.
        ids: numbers of the tokens in the vocabulary, special ones included.
        special: positions of tokens that are no query and no candidate, such as the beginning-of-sequence token.
    """

    key: str
    ids: tuple[int, ...]
    special: tuple[int, ...] = ()


def texts_of(
    documents: Iterable[Document],
    split: Split,
    kind: Kind,
    fits: Fits,
    on_skip: Callable[[Sentence], None],
    window: int = WINDOW_WORDS,
) -> Iterator[Text]:
    """Every sentence, or every window, of the documents that fits the model; `on_skip` hears of those that do not."""
    for document in documents:
        usable = []
        for index, sentence in enumerate(document.sentences):
            if fits([sentence]):
                usable.append((index, sentence))
            else:
                on_skip(sentence)
        groups = [[each] for each in usable] if kind == "sentence" else pack(usable, fits, window)
        for group in groups:
            yield _text(document, split, kind, group)


def pack(
    sentences: Sequence[tuple[int, Sentence]], fits: Fits, words: int = WINDOW_WORDS
) -> list[list[tuple[int, Sentence]]]:
    """Whole sentences in windows of at most so many words that fit the model; a longer one is a window of its own."""
    windows: list[list[tuple[int, Sentence]]] = []
    size = 0
    for index, sentence in sentences:
        together = [other for _, other in windows[-1]] + [sentence] if windows else [sentence]
        if not windows or size + len(sentence) > words or not fits(together):
            windows.append([])
            size = 0
        windows[-1].append((index, sentence))
        size += len(sentence)
    return windows


def masked_texts(text: Text, words: Iterable[int], mask: str) -> Iterator[Text]:
    """The text once per word, with the mask token in its place; words that are written nowhere are left out.

    Characters that a masked word shares with others are gone for them as well: their spans become empty.
    """
    for word in sorted(set(words)):
        start, end = text.spans[word]
        if end > start:
            longer = len(mask) - (end - start)
            spans = [_around(span, start, end, longer) for span in text.spans]
            spans[word] = (start, start + len(mask))
            yield replace(
                text,
                key=f"{text.key}@{word}",
                kind="masked",
                text=text.text[:start] + mask + text.text[end:],
                spans=tuple(spans),
                masked=word,
            )


def stimulus_cluster(number: int, split: Split) -> int:
    """Where the counts of a family's n-th stimulus go: the halves take turns, and so do the clusters of each."""
    n_confirm = int(split.confirm.sum())
    n_select = len(split.confirm) - n_confirm
    if number % 2 and n_confirm:
        return n_select + number // 2 % n_confirm
    return number // 2 % n_select


def _around(span: Span, start: int, end: int, longer: int) -> Span:
    """Where a word stands after the characters from `start` to `end` were replaced by so many more."""
    if span[1] <= start:
        return span
    if span[0] >= end:
        return (span[0] + longer, span[1] + longer)
    return (start, start)


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
