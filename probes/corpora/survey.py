"""Go through a corpus once: count everything and find every fault, before a model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from attnlens.errors import CorpusError
from probes.corpora.data import Corpus, Document, Sentence
from probes.corpora.faults import Faults, at
from probes.corpora.files import Source
from probes.corpora.formats import Format, formats

__all__ = ["counted", "survey"]


def survey(form: Format, sources: Sequence[Source], sha256: str, *, skip_bad: bool) -> Corpus:
    """The corpus that these files of one format are.

    Raises:
        CorpusError: a fault, no sentence, or trees in some sentences only.
    """
    name = " + ".join(source.name for source in sources)
    faults = Faults(skip_bad)
    read = partial(_walk, form.name, sources, skip_bad)
    corpus, bare = counted(name, sha256, read, form.read(sources, faults))
    if form.needs_all_trees and corpus.n_trees and bare:
        faults = Faults(skip_bad)
        read = partial(_walk, form.name, sources, skip_bad, trees_only=True)
        corpus, _ = counted(name, sha256, read, _with_trees(form.read(sources, faults), name, faults))
    if not corpus.sizes:
        left_out = f": all {faults.n_skipped} were left out, the first: {faults.shown[0]}" if faults.shown else ""
        raise CorpusError(f"{name} holds no sentence{left_out or f'; expected {form.name}: {form.looks}.'}")
    return replace(corpus, n_skipped=faults.n_skipped, skipped=tuple(faults.shown), notes=faults.notes())


def counted(
    name: str, sha256: str, read: Callable[[], Iterator[Document]], documents: Iterable[Document]
) -> tuple[Corpus, int]:
    """The corpus with what `documents` holds, of which only ids and counts are kept.

    Returns:
        The corpus, and the line of its first sentence without a tree (0 where there is none).
    """
    sizes: Counter[str] = Counter()
    n_choices: Counter[str] = Counter()
    n_words = n_trees = n_mentions = n_links = bare = 0
    for document in documents:
        for sentence in document.sentences:
            sizes[document.id] += 1
            n_words += len(sentence)
            n_trees += bool(sentence.heads)
            n_mentions += len(sentence.mentions)
            n_links += len(sentence.links)
            n_choices.update(choice.name for choice in sentence.choices)
            bare = bare or (0 if sentence.heads else sentence.line)
    corpus = Corpus(
        name=name,
        sha256=sha256,
        sizes=dict(sizes),
        n_words=n_words,
        n_trees=n_trees,
        n_mentions=n_mentions,
        read=read,
        n_choices=dict(n_choices),
        n_links=n_links,
    )
    return corpus, bare


def _walk(form: str, sources: Sequence[Source], skip_bad: bool, *, trees_only: bool = False) -> Iterator[Document]:
    """The documents once more; of things that can be pickled, so that other processes can read the corpus too."""
    faults = Faults(skip_bad)
    documents = formats()[form].read(sources, faults)
    name = " + ".join(source.name for source in sources)
    return _with_trees(documents, name, faults) if trees_only else documents


def _with_trees(documents: Iterable[Document], name: str, faults: Faults) -> Iterator[Document]:
    """The documents without sentences that have no tree, counted on as if these were not there."""
    kept_before: Counter[str] = Counter()
    for document in documents:
        kept: list[Sentence] = []
        for sentence in document.sentences:
            if sentence.heads:
                mentions = tuple(replace(mention, sentence=len(kept)) for mention in sentence.mentions)
                kept.append(replace(sentence, mentions=mentions))
            else:
                faults.leave_out(
                    at(name, sentence.line, "a sentence without heads, while others have them; add or remove it.")
                )
        if kept:
            yield Document(document.id, tuple(kept), kept_before[document.id])
            kept_before[document.id] += len(kept)
