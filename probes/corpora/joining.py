"""Corpora put together: several as one, or the first sentences of one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from probes.corpora.data import Corpus, Document
from probes.corpora.faults import MOST_SHOWN
from probes.corpora.survey import counted

__all__ = ["joined", "limited", "sha256_over"]


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus with the documents of all, in order; ids that two of them have get the corpus' name in front."""
    names = _unique([corpus.name for corpus in corpora])
    taken = Counter(name for corpus in corpora for name in corpus.sizes)
    renames = [
        {document: f"{name}: {document}" for document in corpus.sizes if taken[document] > 1}
        for name, corpus in zip(names, corpora, strict=True)
    ]
    sizes = {
        renamed.get(document, document): size
        for corpus, renamed in zip(corpora, renames, strict=True)
        for document, size in corpus.sizes.items()
    }
    return Corpus(
        name=" + ".join(corpus.name for corpus in corpora),
        sha256=sha256_over([corpus.sha256 for corpus in corpora]),
        sizes=sizes,
        n_words=sum(corpus.n_words for corpus in corpora),
        n_trees=sum(corpus.n_trees for corpus in corpora),
        n_mentions=sum(corpus.n_mentions for corpus in corpora),
        read=partial(_one_after_another, tuple(zip(corpora, renames, strict=True))),
        n_choices=dict(sum((Counter(corpus.n_choices) for corpus in corpora), Counter())),
        n_links=sum(corpus.n_links for corpus in corpora),
        n_skipped=sum(corpus.n_skipped for corpus in corpora),
        skipped=tuple(each for corpus in corpora for each in corpus.skipped)[:MOST_SHOWN],
        notes=tuple(each for corpus in corpora for each in corpus.notes),
    )


def limited(corpus: Corpus, limit: int) -> Corpus:
    """The first `limit` sentences. What was left out, and the notes, are those of the whole corpus."""
    read = partial(_first, corpus, limit)
    first, _ = counted(corpus.name, corpus.sha256, read, read())
    return replace(first, limit=limit, n_skipped=corpus.n_skipped, skipped=corpus.skipped, notes=corpus.notes)


def sha256_over(digests: Sequence[str]) -> str:
    """Of one digest, itself; of several, of their hexadecimal lines."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _unique(names: Sequence[str]) -> list[str]:
    """Names that are told apart by a number where two are the same."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _one_after_another(parts: Sequence[tuple[Corpus, Mapping[str, str]]]) -> Iterator[Document]:
    for corpus, renamed in parts:
        for document in corpus.documents():
            yield replace(document, id=renamed.get(document.id, document.id))


def _first(corpus: Corpus, limit: int) -> Iterator[Document]:
    left = limit
    for document in corpus.documents():
        kept = tuple(islice(document.sentences, left))
        yield Document(document.id, kept, document.first)
        left -= len(kept)
        if left == 0:
            return
