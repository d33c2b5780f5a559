"""Read relations of the user's own: `pairs.jsonl`, one JSON object per line.

`{"text": "The king sleeps", "relation": "subject", "source": [9, 15], "target": [4, 8]}`: characters `source` and
`target` of the text, counted from 0, the end exclusive. `"document"` names what belongs together in resampling; a text
without it stands alone. Lines that follow each other with the same text and document mark relations of one text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from attnlens.errors import CorpusError
from probes.corpora.data import Document, Link, Sentence, Span
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Line, Source, fault_of, numbered_lines
from probes.corpora.gather import gather
from probes.corpora.json_rows import keys_of, row_of
from probes.corpora.plain_words import plain_sentence, split_words, words_in

__all__ = ["read", "recognise"]

KEYS = frozenset({"text", "relation", "source", "target"})


@dataclass(frozen=True)
class Row:
    """One line of the file, checked."""

    line: int
    text: str
    document: str
    relation: str
    source: Span
    target: Span


def recognise(head: Head) -> bool:
    """Objects with a text, a relation and two spans."""
    return keys_of(head) >= KEYS


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """Texts with their links.

    Raises:
        CorpusError: a line with a fault; the message names it.
    """
    (source,) = sources
    groups = groupby(_rows(source, faults), key=lambda row: (row.document, row.text))
    return gather(_sentence(list(rows)) for _, rows in groups)


def _rows(source: Source, faults: Faults) -> Iterator[Row]:
    for line in numbered_lines(source):
        if line.text.strip():
            try:
                row = _row(source, line)
            except CorpusError as error:
                faults.leave_out(error)
            else:
                yield row


def _row(source: Source, line: Line) -> Row:
    row = row_of(source, line)
    try:
        text = _string(row, "text")
        relation = _string(row, "relation")
        document = _string(row, "document") if "document" in row else ""
        return Row(line.number, text, document, relation, _span(row, "source", text), _span(row, "target", text))
    except ValueError as error:
        raise at(source.name, line.number, str(error)) from error


def _string(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key!r} is missing or no text.")
    if fault := fault_of(value):
        raise ValueError(f"{key!r} holds {fault}")
    return value


def _span(row: dict[str, Any], key: str, text: str) -> Span:
    """Characters of a text that hold at least one word.

    Raises:
        ValueError: not two numbers, outside of the text, or nothing but blanks.
    """
    value = row.get(key)
    if not (isinstance(value, list) and len(value) == 2 and all(type(edge) is int for edge in value)):
        raise ValueError(f"{key!r} is {str(value)[:40]}; expected the characters [start, end] of the text.")
    start, end = value
    if not 0 <= start < end <= len(text):
        raise ValueError(f"{key!r} is [{start}, {end}] in a text of {len(text)} characters, counted from 0.")
    if not text[start:end].strip():
        raise ValueError(f"{key!r} is [{start}, {end}], where the text has only blanks.")
    return start, end


def _sentence(rows: Sequence[Row]) -> tuple[str, Sentence]:
    first = rows[0]
    spans = split_words(first.text, [edge for row in rows for edge in (*row.source, *row.target)])
    links = tuple(Link(row.relation, words_in(spans, *row.source), words_in(spans, *row.target)) for row in rows)
    document = first.document or f"line {first.line}"
    return document, plain_sentence(str(first.line), first.text, first.line, spans, links=links)
