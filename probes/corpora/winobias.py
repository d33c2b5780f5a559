"""Read WinoBias: two occupations and a pronoun (Zhao et al. 2018, arXiv:1804.06876), `N text [The nurse] ... [she]`.

The answers are the two of the 40 occupations that stand before the first bracketed pronoun; the right one is
bracketed too. The brackets are not part of the text. An item is "pro" where the pronoun's gender is the one that most
people in the right occupation have, by the paper's list; file names are not asked for that. The type of the
sentences is: `type1` or `type2` in the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from attnlens.errors import CorpusError
from probes.corpora.data import Choice, Document, Sentence, Span
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Line, Source, numbered_lines
from probes.corpora.gather import gather
from probes.corpora.plain_words import plain_sentence, split_words, words_in

__all__ = ["read", "recognise"]

NAME = "winobias"
MASCULINE = (
    "driver, supervisor, janitor, cook, mover, laborer, construction worker, chief, developer, carpenter, "
    "manager, lawyer, farmer, salesperson, physician, guard, analyst, mechanic, sheriff, CEO"
).lower().split(", ")  # fmt: skip
FEMININE = (
    "attendant, cashier, teacher, nurse, assistant, secretary, auditor, cleaner, receptionist, clerk, "
    "counselor, designer, hairdresser, writer, housekeeper, baker, accountant, editor, librarian, tailor"
).split(", ")
PRONOUNS = {
    **dict.fromkeys(("he", "him", "his", "himself"), "masculine"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "feminine"),
}
_ITEM = re.compile(r"\s*(\d+)\s+(.*\S)\s*")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_TYPE = re.compile(r"type_?([12])", re.IGNORECASE)
_SIDE = re.compile(r"(pro|anti)_stereotyped_?", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One line: its sentence with the choice, and what pairs it with its twin of the other gender."""

    document: str
    sentence: Sentence

    @property
    def choice(self) -> Choice:
        """The question."""
        return self.sentence.choices[0]

    @property
    def without_pronoun(self) -> tuple[str, ...]:
        """The words with a gap for the pronoun: equal for twins that differ in nothing else."""
        (asks,) = self.choice.query
        return tuple("" if word == asks else form for word, form in enumerate(self.sentence.forms))


def recognise(head: Head) -> bool:
    """The first line is numbered, with two bracketed phrases of which one is a pronoun."""
    match = _ITEM.fullmatch(head.lines[0]) if head.lines else None
    inside = [found.strip().lower() for found in _BRACKETS.findall(match[2])] if match else []
    return len(inside) > 1 and any(phrase in PRONOUNS for phrase in inside)


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """One text per line. Lines with the same number, in files whose names differ in pro and anti, are one document.

    Twins (one "pro", one "anti") that differ in the pronoun alone share `Choice.pair`. All files are held in memory
    at once; they have some hundred lines.

    Raises:
        CorpusError: a line with a fault; the message names it.
    """
    items = [item for source in sources for item in _items(source, faults)]
    return gather(((item.document, item.sentence) for item in _paired(items)), alone=True)


def _items(source: Source, faults: Faults) -> Iterator[Item]:
    kind = _TYPE.search(source.name)
    question = f"{NAME} type {kind[1]}" if kind else NAME
    if kind is None:
        faults.remark("neither type1 nor type2 in the file's name, so items count as neither", source.name, "WinoBias")
    group = _SIDE.sub("", source.name)
    for line in numbered_lines(source):
        if line.text.strip():
            try:
                yield _item(source, line, group, question)
            except CorpusError as error:
                faults.leave_out(error)


def _item(source: Source, line: Line, group: str, question: str) -> Item:
    match = _ITEM.fullmatch(line.text)
    if line.fault or match is None:
        what = line.fault or "no item; expected a number, a space and a text with two bracketed phrases."
        raise at(source.name, line.number, what)
    try:
        sentence = _sentence(match[1], match[2], line.number, question)
    except ValueError as error:
        raise at(source.name, line.number, str(error)) from error
    return Item(f"{group} {int(match[1])}", sentence)


def _sentence(name: str, marked: str, number: int, question: str) -> Sentence:
    """The sentence without brackets, and its choice.

    Raises:
        ValueError: no bracketed pronoun, not two occupations before it, or none of them bracketed.
    """
    text, phrases = _unmarked(marked)
    pronouns = [span for span in phrases if text[slice(*span)].lower() in PRONOUNS]
    if not pronouns:
        raise ValueError("no bracketed pronoun; expected one of " + ", ".join(PRONOUNS) + ".")
    asks = pronouns[0]
    found = [match.span() for match in _occupations().finditer(text, 0, asks[0])]
    if len({text[slice(*span)].lower() for span in found}) != 2 or len(found) != 2:
        named = ", ".join(text[slice(*span)] for span in found) or "none"
        raise ValueError(f"expected two of WinoBias' 40 occupations before the pronoun; found {named}.")
    gold = tuple(i for i, (start, end) in enumerate(found) if any(a <= start and end <= b for a, b in phrases))
    if len(gold) != 1:
        raise ValueError("expected brackets around one of the two occupations.")
    gender = PRONOUNS[text[slice(*asks)].lower()]
    usual = "masculine" if text[slice(*found[gold[0]])].lower() in MASCULINE else "feminine"
    spans = split_words(text)
    choice = Choice(
        name=question,
        query=words_in(spans, *asks),
        options=tuple(words_in(spans, *span) for span in found),
        gold=gold,
        tags=(gender, "pro" if gender == usual else "anti"),
    )
    return plain_sentence(name, text, number, spans, choices=(choice,))


def _unmarked(marked: str) -> tuple[str, list[Span]]:
    """The text without brackets and with single spaces, and the characters of what stood in brackets."""
    text, phrases, at_end = "", [], 0
    for match in _BRACKETS.finditer(marked):
        text = _joined(text, marked[at_end : match.start()])
        before = len(text)
        text = _joined(text, match[1])
        inside = text[before:]
        phrases.append((before + len(inside) - len(inside.lstrip()), before + len(inside.rstrip())))
        at_end = match.end()
    return _joined(text, marked[at_end:]).rstrip(), phrases


def _joined(text: str, more: str) -> str:
    """`more` behind `text`, runs of blanks as one space."""
    more = re.sub(r"\s+", " ", more)
    return text + (more.lstrip() if not text or text.endswith(" ") else more)


@cache
def _occupations() -> re.Pattern[str]:
    longest_first = sorted([*MASCULINE, *FEMININE], key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b", re.IGNORECASE)


def _paired(items: Sequence[Item]) -> Iterator[Item]:
    """The items in order; twins get the name of their document as their pair."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.document, []).append(item)
    for item in items:
        yield replace(item, sentence=_with_pair(item)) if _are_twins(groups[item.document]) else item


def _with_pair(item: Item) -> Sentence:
    return replace(item.sentence, choices=(replace(item.choice, pair=item.document),))


def _are_twins(items: Sequence[Item]) -> bool:
    """Two items, one for and one against the stereotype, that differ in one word: the pronoun."""
    if len(items) != 2:
        return False
    first, second = items
    sides = {tag for item in items for tag in item.choice.tags if tag in ("pro", "anti")}
    return len(sides) == 2 and first.choice.gold == second.choice.gold and (
        first.without_pronoun == second.without_pronoun
    )  # fmt: skip
