"""Read plain text: a line is a sentence, a blank line begins a new document; long lines are cut at sentence ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from probes.corpora.data import Document, Sentence
from probes.corpora.faults import Faults, at
from probes.corpora.files import Head, Source, numbered_lines
from probes.corpora.gather import gather
from probes.corpora.plain_words import plain_sentence, split_words

__all__ = ["read", "recognise"]

EXTENSIONS = frozenset({"", ".txt", ".text", ".md", ".rst"})
LONG_LINE = 300  # characters from which a line is cut at every sentence end
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])")


def recognise(head: Head) -> bool:
    """Neither a table nor JSON, and no extension that promises something else."""
    if head.extension not in EXTENSIONS and not head.extension.strip(".").isdigit():
        return False
    tables = sum(line.count("\t") > 1 for line in head.lines)
    return bool(head.lines) and not head.lines[0].lstrip().startswith("{") and 2 * tables < len(head.lines)


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """Documents of sentences, named by their number.

    Raises:
        CorpusError: a line that is not UTF-8 or holds NUL characters; the message names it.
    """
    (source,) = sources
    return gather(_sentences(source, faults))


def _sentences(source: Source, faults: Faults) -> Iterator[tuple[str, Sentence]]:
    document, sentences, blank = 0, 0, True
    for line in numbered_lines(source):
        if not line.text.strip():
            blank = True
            continue
        if line.fault:
            faults.leave_out(at(source.name, line.number, line.fault))
            continue
        document, blank = document + blank, False
        for text in _cut(line.text.strip()):
            sentences += 1
            yield f"document {document}", plain_sentence(str(sentences), text, line.number, split_words(text))


def _cut(line: str) -> list[str]:
    """The sentences of a very long line, closing quotes and brackets with the sentence they end; else the line."""
    if len(line) <= LONG_LINE:
        return [line]
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    parts = [line[start:end].strip() for start, end in zip([0, *ends], [*ends, len(line)], strict=True)]
    return [part for part in parts if part]
