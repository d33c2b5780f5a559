"""The formats that a corpus may have, and which one a file has: told by its first lines.

A package adds one by an entry point in the group `attnlens.corpora` that names a `Format`; it is asked before the
built-in ones, of which plain text takes whatever is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from attnlens.errors import CorpusError, PluginError
from attnlens.plugins import installed, load_plugin
from probes.corpora import blimp, conllu, gap, pairs, text, winobias
from probes.corpora.data import Document
from probes.corpora.faults import Faults
from probes.corpora.files import Head, Source, read_head

__all__ = ["FORMATS", "GROUP", "Format", "format_of", "formats", "known"]

GROUP = "attnlens.corpora"


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


def formats() -> dict[str, Format]:
    """Every format by its name, in the order in which a file is held against them.

    Raises:
        PluginError: an entry point that is no `Format`, or has the name of another.
    """
    found: dict[str, Format] = {}
    for name in installed(GROUP):
        form = load_plugin(GROUP, name)
        if not isinstance(form, Format):
            raise PluginError(
                f"the corpus format {name!r} is {type(form).__name__}; expected a Format of probes.corpora.formats."
            )
        if form.name in FORMATS or form.name in found:
            raise PluginError(f"the corpus format {name!r} calls itself {form.name!r}, a name that is taken already.")
        found[form.name] = form
    return found | FORMATS


def format_of(source: Source) -> Format:
    """The format of a file.

    Raises:
        CorpusError: it has none of them, is empty, or cannot be read.
    """
    head = read_head(source)
    found = next((each for each in formats().values() if each.recognise(head)), None)
    if found is None and not head.lines:
        raise CorpusError(f"{source.name} holds no sentence; expected {known()}.")
    if found is None:
        raise CorpusError(f"{source.name} has no format that attnlens reads; expected {known()}.")
    return found


def known() -> str:
    """The formats in words."""
    *others, last = (f"{each.name} ({each.looks})" for each in formats().values())
    return f"{', '.join(others)} or {last}"
