"""The formats that a corpus may have, and which one a file has: told by its first lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from attnlens.errors import CorpusError
from probes.corpora import blimp, conllu, gap, pairs, text, winobias
from probes.corpora.data import Document
from probes.corpora.faults import Faults
from probes.corpora.files import Head, Source, read_head

__all__ = ["FORMATS", "Format", "format_of", "known"]


@dataclass(frozen=True)
class Format:
    """A format and its reader.

    Attributes:
        name: as users know it.
        looks: what a file of it looks like.
        recognise: whether the first lines are of this format.
        read: documents of the files, one at a time.
        together: all files of this format are read in one go, since they refer to each other.
        needs_all_trees: a sentence without a tree is a fault where others have one.
    """

    name: str
    looks: str
    recognise: Callable[[Head], bool]
    read: Callable[[Sequence[Source], Faults], Iterator[Document]]
    together: bool = False
    needs_all_trees: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format("GAP", "a tab-separated table with GAP's header", gap.recognise, gap.read),
        Format("BLiMP", "JSON lines with sentence_good and sentence_bad", blimp.recognise, blimp.read),
        Format("pairs", "JSON lines with text, relation, source, target", pairs.recognise, pairs.read),
        Format(
            "WinoBias", "lines like '1 [The nurse] ... [she]'", winobias.recognise, winobias.read, together=True
        ),
        Format(
            "CoNLL-U",
            "ten tab-separated columns per word, blank lines between sentences",
            conllu.recognise,
            conllu.read,
            needs_all_trees=True,
        ),
        Format("plain text", "a sentence per line, a blank line between documents", text.recognise, text.read),
    )
}  # fmt: skip


def format_of(source: Source) -> Format:
    """The format of a file.

    Raises:
        CorpusError: it has none of them, is empty, or cannot be read.
    """
    head = read_head(source)
    found = next((each for each in FORMATS.values() if each.recognise(head)), None)
    if found is None and not head.lines:
        raise CorpusError(f"{source.name} holds no sentence; expected {known()}.")
    if found is None:
        raise CorpusError(f"{source.name} has no format that attnlens reads; expected {known()}.")
    return found


def known() -> str:
    """The formats in words."""
    *others, last = (f"{each.name} ({each.looks})" for each in FORMATS.values())
    return f"{', '.join(others)} or {last}"
