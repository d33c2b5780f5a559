"""Words of a text that comes without any: runs of word characters, or single other characters that are not blank."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from probes.corpora.data import Choice, Link, Sentence, Span

__all__ = ["plain_sentence", "split_words", "words_in"]

_BMP = 0x10000
_JOINERS = "\u200c\u200d"


@cache
def _word() -> re.Pattern[str]:
    """Letters, digits and `_` with the marks that are written on them: letters alone cut Hindi words in pieces."""
    marks = "".join(chr(code) for code in range(_BMP) if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me"))
    return re.compile(rf"\w[\w{re.escape(marks + _JOINERS)}]*|[^\w\s]")


def split_words(text: str, cuts: Iterable[int] = ()) -> tuple[Span, ...]:
    """Characters of each word of `text`, in order. A word that goes on over one of `cuts` is cut there.

    Cuts are the edges of what is annotated: it always consists of whole words, in scripts without spaces too.
    """
    edges = sorted({cut for cut in cuts if 0 < cut < len(text)})
    spans: list[Span] = []
    for match in _word().finditer(text):
        start, end = match.span()
        for edge in edges:
            if start < edge < end:
                spans.append((start, edge))
                start = edge
        spans.append((start, end))
    return tuple(spans)


def words_in(spans: Sequence[Span], start: int, end: int) -> tuple[int, ...]:
    """Indices of the words that lie within the characters `start` to `end`."""
    return tuple(index for index, (first, last) in enumerate(spans) if start <= first and last <= end)


def plain_sentence(
    name: str,
    text: str,
    line: int,
    spans: tuple[Span, ...],
    *,
    choices: tuple[Choice, ...] = (),
    links: tuple[Link, ...] = (),
) -> Sentence:
    """A sentence without tree, tags and mentions."""
    unknown = ("_",) * len(spans)
    return Sentence(
        id=name,
        text=text,
        line=line,
        forms=tuple(text[start:end] for start, end in spans),
        spans=spans,
        upos=unknown,
        features=unknown,
        choices=choices,
        links=links,
    )
