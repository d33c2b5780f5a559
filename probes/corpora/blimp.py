"""Read minimal pairs in BLiMP's form (Warstadt et al. 2020, arXiv:1912.00582): one JSON object per line.

The text is the sentence that speakers accept. In the paradigms `distractor_agreement_*` it asks a question: does the
verb look at its subject, or at the noun right before it, which has another number?
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attnlens.errors import CorpusError
from probes.corpora.data import Choice, Document, Sentence, Span
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Line, Source, fault_of, numbered_lines
from probes.corpora.gather import gather
from probes.corpora.json_rows import keys_of, row_of
from probes.corpora.plain_words import plain_sentence, split_words, words_in

__all__ = ["read", "recognise"]

NAME = "agreement"
ATTRACTED = "distractor_agreement"
_ENDS_SUBJECT = re.compile(r"\s+(?:of|about|that|who|whom|which|whose)\s", re.IGNORECASE)


def recognise(head: Head) -> bool:
    """Objects with an accepted and an unacceptable sentence."""
    return {"sentence_good", "sentence_bad"} <= keys_of(head)


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """One text, and one document, per pair.

    Raises:
        CorpusError: a line that is no minimal pair; the message names it.
    """
    (source,) = sources
    return gather(_pairs(source, faults), alone=True)


def _pairs(source: Source, faults: Faults) -> Iterator[tuple[str, Sentence]]:
    for line in numbered_lines(source):
        if line.text.strip():
            try:
                sentence = _sentence(source, line)
            except CorpusError as error:
                faults.leave_out(error)
            else:
                yield f"line {line.number}", sentence


def _sentence(source: Source, line: Line) -> Sentence:
    row = row_of(source, line)
    good, bad = row.get("sentence_good"), row.get("sentence_bad")
    if not isinstance(good, str) or not isinstance(bad, str) or not good.strip():
        raise at(source.name, line.number, "no minimal pair; expected texts in sentence_good and sentence_bad.")
    if fault := fault_of(good):
        raise at(source.name, line.number, fault)
    spans = split_words(good)
    choices: tuple[Choice, ...] = ()
    if str(row.get("UID", "")).startswith(ATTRACTED):
        try:
            choices = (_agreement(good, bad, spans),)
        except ValueError as error:
            raise at(source.name, line.number, str(error)) from error
    return plain_sentence(str(row.get("pairID", line.number)), good, line.number, spans, choices=choices)


def _agreement(good: str, bad: str, spans: Sequence[Span]) -> Choice:
    """Subject and attractor of a sentence of BLiMP's template "DET noun of DET noun verb".

    The verb is the first word in which the two sentences differ, the attractor is the word before it, and the subject
    the word before the first preposition or relative pronoun ("A newspaper *article* about ...").

    Raises:
        ValueError: the sentence does not have this form.
    """
    start, end = _verb(good, bad)
    ends_subject = _ENDS_SUBJECT.search(good, 0, start)
    attractors = [word for word in words_in(spans, 0, start) if good[spans[word][0]].isalnum()]
    subjects = words_in(spans, 0, ends_subject.start()) if ends_subject else ()
    if not subjects or attractors[-1] <= subjects[-1]:
        raise ValueError("no subject and attractor before the verb; expected 'DET noun of DET noun verb'.")
    options = ((subjects[-1],), (attractors[-1],))
    return Choice(name=NAME, query=words_in(spans, start, end), options=options, gold=(0,))


def _verb(good: str, bad: str) -> Span:
    """Characters of the first word of `good` that `bad` does not have at its place."""
    others = bad.split()
    for index, match in enumerate(re.finditer(r"\S+", good)):
        if index >= len(others) or match[0] != others[index]:
            start = match.start()
            return start, start + len(match[0].rstrip(".,;:!?"))
    raise ValueError("the two sentences are equal; expected a verb in which they differ.")
