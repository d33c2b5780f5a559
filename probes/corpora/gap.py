"""Read GAP: ambiguous pronouns with two candidate names, from Wikipedia (Webster et al. 2018, arXiv:1810.05201).

A tab-separated table without quoting: a quotation mark is text. Offsets count characters of the text from 0, and are
checked: the name must stand there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attnlens.errors import CorpusError
from probes.corpora.data import Choice, Document, Sentence, Span
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Line, Source, numbered_lines
from probes.corpora.gather import gather
from probes.corpora.plain_words import plain_sentence, split_words, words_in

__all__ = ["read", "recognise"]

NAME = "gap"
COLUMNS = ("ID", "Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset", "B-coref")
PAGE = "URL"
GENDERS = {
    **dict.fromkeys(("he", "him", "his", "himself"), "masculine"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "feminine"),
}
_TRUTH = {"TRUE": True, "FALSE": False}


def recognise(head: Head) -> bool:
    """A table whose header names GAP's offsets."""
    columns = head.lines[0].split("\t") if head.lines else []
    return {"Pronoun-offset", "A-offset", "B-offset"} <= set(columns)


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """One text per row; a document is the page that rows come from (their own where there is no `URL`).

    Raises:
        CorpusError: a column is missing, or a row has a fault; the message names the line.
    """
    (source,) = sources
    return gather(_rows(source, faults), alone=True)


def _rows(source: Source, faults: Faults) -> Iterator[tuple[str, Sentence]]:
    columns: list[str] = []
    for line in numbered_lines(source):
        if not line.text.strip():
            continue
        if not columns:
            columns = _header(source, line)
        else:
            try:
                yield _row(source, line, columns)
            except CorpusError as error:
                faults.leave_out(error)


def _header(source: Source, line: Line) -> list[str]:
    columns = [column.strip() for column in line.text.split("\t")]
    if missing := [column for column in COLUMNS if column not in columns]:
        raise at(source.name, line.number, f"the header lacks {', '.join(missing)}; expected GAP's columns.")
    return columns


def _row(source: Source, line: Line, columns: Sequence[str]) -> tuple[str, Sentence]:
    cells = line.text.split("\t")
    if line.fault:
        raise at(source.name, line.number, line.fault)
    if len(cells) != len(columns):
        raise at(source.name, line.number, f"{len(cells)} columns, not {len(columns)} separated by tabs.")
    row = dict(zip(columns, cells, strict=True))
    try:
        sentence = _sentence(row, line.number)
    except ValueError as error:
        raise at(source.name, line.number, str(error)) from error
    return row.get(PAGE, "").strip() or sentence.id, sentence


def _sentence(row: Mapping[str, str], number: int) -> Sentence:
    text = row["Text"]
    pronoun, *names = (_span(row, column) for column in ("Pronoun", "A", "B"))
    (first, second) = sorted(names)
    if second[0] < first[1]:
        raise ValueError(f"A and B overlap at character {second[0]}; expected two names.")
    gold = tuple(index for index, name in enumerate(("A", "B")) if _truth(row, f"{name}-coref"))
    spans = split_words(text, [edge for span in (pronoun, *names) for edge in span])
    choice = Choice(
        name=NAME,
        query=words_in(spans, *pronoun),
        options=tuple(words_in(spans, *name) for name in names),
        gold=gold,
        tags=tuple(gender for gender in [GENDERS.get(row["Pronoun"].lower())] if gender),
    )
    return plain_sentence(row["ID"].strip() or str(number), text, number, spans, choices=(choice,))


def _span(row: Mapping[str, str], column: str) -> Span:
    """Characters of a name, checked.

    Raises:
        ValueError: the offset is no number, or something else stands there.
    """
    text, wanted, offset = row["Text"], row[column], row[f"{column}-offset"].strip()
    if not wanted.strip():
        raise ValueError(f"the column {column} is empty.")
    if not (offset.isascii() and offset.isdecimal() and len(offset) <= len(str(len(text)))):
        raise ValueError(f"{column}-offset is {offset[:40]!r}; expected a character of the text, counted from 0.")
    start = int(offset)
    if text[start : start + len(wanted)] != wanted:
        places = [place for place in range(len(text)) if text.startswith(wanted, place)]
        nearest = min(places, key=lambda place: abs(place - start), default=None)
        hint = "which is nowhere in the text" if nearest is None else f"which stands at {nearest}"
        found = text[start : start + len(wanted)]
        raise ValueError(f"{column}-offset {start} points at {found!r}, not at {wanted[:80]!r}, {hint}.")
    return start, start + len(wanted)


def _truth(row: Mapping[str, str], column: str) -> bool:
    value = row[column].strip().upper()
    if value not in _TRUTH:
        raise ValueError(f"{column} is {row[column][:40]!r}; expected TRUE or FALSE.")
    return _TRUTH[value]
