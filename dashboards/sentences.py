"""Corpora as lists of sentences to pick from, one page at a time: no corpus goes to the browser as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError, CorpusError
from attnlens.models.memory import shown_bytes
from dashboards.jobs.asking import allowed_corpus
from dashboards.memo import Memo

if TYPE_CHECKING:
    from flask import Blueprint

    from dashboards.config import DashboardConfig
    from dashboards.desk import Desk
    from dashboards.store import FileStore

__all__ = ["EMBEDDED", "ENDINGS", "ON_PAGE", "SentencePage", "SentenceStore", "register"]

EMBEDDED = "attnlens/grammar"
ENDINGS = (".conllu", ".conllup", ".jsonl")
"""How the name of an uploaded file ends that is taken for a corpus."""
ON_PAGE = 50
MOST_BYTES = 64 * 2**20

_UPLOAD, _DIGITS, _KEPT = "upload-", 12, ".sentences.json"


@dataclass(frozen=True)
class SentencePage:
    """A part of a list of sentences.

    Attributes:
        corpus: name of the corpus.
        title: what a visitor calls it, without folders.
        total: sentences of the corpus.
        found: those that match the search; all without one.
        first: place of the first shown one among these.
        rows: number in the corpus (from 1) and text, at most `ON_PAGE`.
    """

    corpus: str
    title: str
    total: int
    found: int
    first: int
    rows: tuple[tuple[int, str], ...]

    def to_json(self) -> dict[str, Any]:
        """What the browser gets."""
        shown = {name: getattr(self, name) for name in ("corpus", "title", "total", "found", "first")}
        return {**shown, "rows": [list(row) for row in self.rows], "on_page": ON_PAGE}


class SentenceStore:
    """The sentences of the corpora that the page may read; the four used last stay in memory, as texts alone.

    Args:
        config: which folders may be read.
        files: where the sentences of uploads are kept for all processes; without it they live in this one's memory.
    """

    def __init__(self, config: DashboardConfig, files: FileStore | None = None) -> None:
        self._config, self._files = config, files
        self._read, self._uploads = Memo(4), Memo(8)

    def page(self, corpus: str, find: str = "", first: int = 0) -> SentencePage:
        """Sentences from the `first` on that contain `find`, whatever the case of its letters.

        Raises:
            CorpusError: a corpus that may not or cannot be read, or an upload that is no longer here.
        """
        title, texts = self._opened(corpus)
        sought = find.casefold().strip()
        matching = [place for place, text in enumerate(texts) if sought in text.casefold()] if sought else None
        places = range(len(texts)) if matching is None else matching
        first = max(0, min(first, (len(places) - 1) // ON_PAGE * ON_PAGE))
        rows = tuple((place + 1, texts[place]) for place in places[first : first + ON_PAGE])
        return SentencePage(corpus, title, len(texts), len(places), first, rows)

    def take(self, path: Path, title: str) -> str:
        """Keep the sentences of an uploaded file and return the corpus' name, made from what it holds.

        Raises:
            CorpusError: it has no format that attnlens reads, or no sentence.
        """
        document = json.dumps({"title": title, "texts": _texts_of(path)})
        digest = hashlib.sha256(document.encode()).hexdigest()[:_DIGITS]
        if self._files is not None:
            self._files.keep(f"{digest}{_KEPT}", lambda part: part.write_text(document, encoding="utf-8"))
        name = f"{_UPLOAD}{digest}"
        self._uploads.get(name, lambda: _kept(document))
        return name

    def _opened(self, corpus: str) -> tuple[str, tuple[str, ...]]:
        if corpus == EMBEDDED:
            return "the embedded grammar", self._read.get(EMBEDDED, lambda: _texts_of(EMBEDDED))
        if corpus.startswith(_UPLOAD):
            return self._uploads.get(corpus, lambda: self._kept_upload(corpus))
        path = Path(allowed_corpus(self._config, corpus))
        status = path.stat()
        return path.name, self._read.get((path, status.st_size, status.st_mtime_ns), lambda: _texts_of(path))

    def _kept_upload(self, name: str) -> tuple[str, tuple[str, ...]]:
        file = None if self._files is None else self._files.find(name.removeprefix(_UPLOAD) + _KEPT)
        try:
            if file is not None:
                return _kept(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise CorpusError(f"the uploaded corpus {name[:40]!r} is no longer here; load its file again.")


def register(routes: Blueprint, desk: Desk) -> None:
    """Answer `/sentences?corpus=...&find=...&from=...` with a page of sentences, or why there is none."""

    @routes.get("/sentences")
    def sentences() -> dict[str, Any]:
        from flask import request

        given = request.args
        first = given.get("from", "0")
        place = int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0
        try:
            return desk.sentences.page(given.get("corpus", EMBEDDED), given.get("find", ""), place).to_json()
        except AttnlensError as error:
            return {"error": printable(str(error))}


def _texts_of(source: Path | str) -> tuple[str, ...]:
    """Every sentence's text; those with a fault are left out.

    Raises:
        CorpusError: none can be read, or the file is too large for a page.
    """
    from probes.corpora.sources import open_corpus

    if isinstance(source, Path) and (size := source.stat().st_size) > MOST_BYTES:
        raise CorpusError(
            f"{source.name} has {shown_bytes(size)}, a list of sentences takes {shown_bytes(MOST_BYTES)}; cut it into "
            "parts, or start a probe on it under Heads."
        )
    corpus = open_corpus(source, skip_bad=True)
    return tuple(sentence.text for document in corpus.documents() for sentence in document.sentences)


def _kept(document: str) -> tuple[str, tuple[str, ...]]:
    found = json.loads(document)
    return str(found["title"]), tuple(map(str, found["texts"]))
