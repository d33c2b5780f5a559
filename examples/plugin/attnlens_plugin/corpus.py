"""A corpus reader: sentences of `word/TAG`, one in each line, as old tagged corpora are written."""

from collections.abc import Iterator, Sequence

from probes.corpora.data import Document, Sentence
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Source, numbered_lines
from probes.corpora.formats import Format


def recognise(head: Head) -> bool:
    """Whether every word of the first lines has a tag behind a slash."""
    return bool(head.lines) and all(_is_tagged(line) for line in head.lines[:20])


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """A document for each line; a line with a fault is told by file and number, and left out where that is allowed.

    Raises:
        CorpusError: a line with a fault.
    """
    for source in sources:
        for line in numbered_lines(source):
            if not line.text.strip():
                continue
            if line.fault or not _is_tagged(line.text):
                faults.leave_out(at(source.name, line.number, line.fault or "a word without a tag; write word/TAG."))
                continue
            yield Document(f"line {line.number}", (_sentence(line.text, line.number),))


def _is_tagged(line: str) -> bool:
    return all(form and tag.isalpha() for form, _, tag in (word.rpartition("/") for word in line.split()))


def _sentence(line: str, number: int) -> Sentence:
    """The words with a space between them, as a model reads them, and their tags."""
    pairs = [word.rpartition("/") for word in line.split()]
    forms = tuple(form for form, _, _ in pairs)
    starts = [sum(len(form) + 1 for form in forms[:index]) for index in range(len(forms))]
    return Sentence(
        id=str(number),
        text=" ".join(forms),
        line=number,
        forms=forms,
        spans=tuple((start, start + len(form)) for start, form in zip(starts, forms, strict=True)),
        upos=tuple(tag.upper() for _, _, tag in pairs),
        features=("_",) * len(forms),
    )


TAGGED = Format("tagged text", "a sentence of word/TAG per line", recognise, read)
