"""The families that are installed: what each asks, and what it needs of a corpus; no model is opened for it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError
from attnlens.plugins import installed
from probes.corpora.data import Corpus, Document, Sentence
from probes.families import GROUP, load_family
from probes.stream.family import StreamProbe

__all__ = ["FamilyEntry", "draw_families", "families"]

STREAM = "the residual stream"
ANNOTATION = "any text will do"


@dataclass(frozen=True)
class FamilyEntry:
    """One installed family.

    Attributes:
        name: as in `attnlens probe NAME`.
        asks: the first sentence of its documentation.
        reads: the kinds of text that it looks at, or the residual stream.
        needs: what plain text lacks for it; None where any text will do.
        fault: why it cannot be used; None where it can.
    """

    name: str
    asks: str
    reads: tuple[str, ...]
    needs: str | None
    fault: str | None = None


def families() -> tuple[FamilyEntry, ...]:
    """Every installed family by name; one that cannot be loaded says why."""
    plain = _plain_text()
    return tuple(_entry(name, plain) for name in installed(GROUP))


def _entry(name: str, plain: Corpus) -> FamilyEntry:
    try:
        probe = load_family(name)
        needs = probe.refusal(plain)
    except AttnlensError as error:
        return FamilyEntry(name, "", (), None, str(error))
    reads = (STREAM,) if isinstance(probe, StreamProbe) else tuple(probe.reads)
    return FamilyEntry(name, _first_sentence(probe), reads, needs)


def _plain_text() -> Corpus:
    """A corpus without any annotation: what a family says against it is what it needs."""
    text = "the dog sees the cat"
    forms = tuple(text.split())
    starts = [text.index(form) for form in forms]
    spans = tuple((start, start + len(form)) for start, form in zip(starts, forms, strict=True))
    return Corpus.of("plain text", (Document("1", (Sentence("1", text, 1, forms, spans),)),))


def _first_sentence(probe: object) -> str:
    paragraph = (inspect.getdoc(type(probe)) or "").split("\n\n")[0]
    sentence, stop, _ = " ".join(paragraph.split()).partition(". ")
    return sentence + stop.rstrip()


def draw_families(entries: Sequence[FamilyEntry], width: int) -> Iterator[str]:
    """Each family's name and what it reads, and under them what it asks and what it needs."""
    room = max(min(width, 100) - 4, 20)
    for entry in entries:
        name = printable(entry.name)
        if entry.fault is not None:
            yield from (name, *(f"    {line}" for line in wrap(printable(entry.fault), room)))
            continue
        yield f"{name}  reads {', '.join(entry.reads)}"
        yield from (f"    {line}" for line in wrap(printable(entry.asks), room))
        needs = ANNOTATION if entry.needs is None else f"needs more than plain text: {entry.needs}"
        yield from (f"    {line}" for line in wrap(printable(needs), room))
