"""Open a corpus by name: a CoNLL-U file, or the embedded grammar corpus; checked from end to end before use."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from attnlens.errors import CorpusError, UsageError
from probes.corpora.conllu import read_documents
from probes.corpora.data import Corpus, Document

__all__ = ["EMBEDDED", "open_corpus"]

EMBEDDED = "attnlens/grammar"

Reader = Callable[[], Iterator[Document]]


def open_corpus(source: str | Path | Corpus | None = None, *, limit: int | None = None) -> Corpus:
    """Open and check a corpus; it is read once now, and again each time it is walked through.

    Args:
        source: a CoNLL-U file; None or `attnlens/grammar` is the embedded corpus; an open corpus stays as it is.
        limit: only the first so many sentences.

    Raises:
        CorpusError: no such file, not CoNLL-U, a fault in a line, or no sentence at all.
        UsageError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is {limit} sentences; expected at least 1.")
    if isinstance(source, Corpus):
        return source if limit is None else _limited(source, limit)
    path, name = _locate(source)
    corpus = _survey(name, _sha256(path, name), lambda: read_documents(path, name))
    return corpus if limit is None else _limited(corpus, limit)


def _locate(source: str | Path | None) -> tuple[Path, str]:
    """The file and the name it goes by in results, which never holds the folder."""
    if source is None or source == EMBEDDED:
        from attnlens.zoo.registry import embedded_corpus

        return Path(embedded_corpus()), EMBEDDED
    path, shown = Path(source), f"{source}"[:200]
    if _is(path, "is_dir"):
        raise CorpusError(f"{shown} is a folder; name one CoNLL-U file in it.")
    if not _is(path, "exists"):
        raise CorpusError(f"no corpus {shown}: not a file; name a CoNLL-U file, or leave it out for {EMBEDDED}.")
    return path, path.name


def _is(path: Path, what: str) -> bool:
    """`path.is_dir()` and the like, False for names that no file can have."""
    try:
        return bool(getattr(path, what)())
    except (OSError, ValueError):
        return False


def _sha256(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"cannot read the corpus {name}: {error.strerror or error}; name a CoNLL-U file.") from error


def _survey(name: str, sha256: str, read: Reader, limit: int | None = None) -> Corpus:
    """Count everything in one pass, which also finds every fault.

    Raises:
        CorpusError: a fault, no sentence, or trees in some sentences only.
    """
    sizes: Counter[str] = Counter()
    n_words = n_trees = n_mentions = 0
    without = ""
    for document in read():
        for sentence in document.sentences:
            sizes[document.id] += 1
            n_words += len(sentence)
            n_trees += bool(sentence.heads)
            n_mentions += len(sentence.mentions)
            if not sentence.heads:
                without = without or f"line {sentence.line}"
    if not sizes:
        raise CorpusError(f"{name} holds no sentence; expected CoNLL-U: ten columns per word, blank lines between.")
    if n_trees and without:
        raise CorpusError(f"{name}, {without}: a sentence without heads, while others have them; add or remove it.")
    return Corpus(name, sha256, dict(sizes), n_words, n_trees, n_mentions, read, limit)


def _limited(corpus: Corpus, limit: int) -> Corpus:
    def read() -> Iterator[Document]:
        left = limit
        for document in corpus.documents():
            kept = tuple(islice(document.sentences, left))
            yield Document(document.id, kept, document.first)
            left -= len(kept)
            if left == 0:
                return

    return _survey(corpus.name, corpus.sha256, read, limit=limit)
