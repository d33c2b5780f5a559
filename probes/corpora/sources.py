"""Open a corpus by name: files of any known format, or the embedded grammar corpus; checked from end to end first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from attnlens.errors import CorpusError, UsageError
from probes.corpora.data import Corpus
from probes.corpora.files import Source, sha256_of
from probes.corpora.formats import Format, format_of, known
from probes.corpora.joining import joined, limited, sha256_over
from probes.corpora.survey import survey

__all__ = ["EMBEDDED", "OneSource", "open_corpus", "told"]

EMBEDDED = "attnlens/grammar"

OneSource = str | Path | Corpus


def open_corpus(
    source: OneSource | Sequence[OneSource] | None = None, *, limit: int | None = None, skip_bad: bool = False
) -> Corpus:
    """Open and check a corpus; it is read once now, and again each time it is walked through.

    Args:
        source: a file, or several, whose formats may differ: they become one corpus, in this order. None or
            `attnlens/grammar` is the embedded corpus; an open corpus stays as it is.
        limit: only the first so many sentences.
        skip_bad: leave sentences and rows with a fault out and count them, instead of refusing the file.

    Raises:
        CorpusError: no such file, none of the formats, a fault in a line, or no sentence at all.
        UsageError: a limit below 1, or no source in the sequence.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is {limit} sentences; expected at least 1.")
    corpus = _open_all(_listed(source), skip_bad)
    return corpus if limit is None else limited(corpus, limit)


def told(corpus: Corpus) -> tuple[str, ...]:
    """What a user should read about an opened corpus: what was left out, with the first reasons, and the notes."""
    lines = [*corpus.skipped, *corpus.notes]
    if corpus.n_skipped:
        shown = f", the first {len(corpus.skipped)}" if corpus.n_skipped > len(corpus.skipped) else ""
        lines.insert(0, f"left out of {corpus.name}, sentences or rows with a fault: {corpus.n_skipped}{shown}:")
    return tuple(lines)


def _listed(source: OneSource | Sequence[OneSource] | None) -> list[OneSource]:
    if source is None:
        return [EMBEDDED]
    listed = [source] if isinstance(source, str | Path | Corpus) else list(source)
    if not listed:
        raise UsageError(f"no corpus in the list; name a file, or leave it out for {EMBEDDED}.")
    return listed


def _open_all(listed: Sequence[OneSource], skip_bad: bool) -> Corpus:
    """Every corpus in order; files of a format that is read together stand where the first of them stands."""
    groups: list[Corpus | _Files] = []
    together: dict[str, _Files] = {}
    paths: set[Path] = set()
    digests: list[str] = []
    for each in listed:
        if isinstance(each, Corpus):
            groups.append(each)
            digests.append(each.sha256)
            continue
        source = _locate(each)
        if source.path.resolve() in paths:
            raise CorpusError(f"{source.name} is named twice; name each file once.")
        paths.add(source.path.resolve())
        digests.append(sha256_of(source))
        form = format_of(source)
        if form.name not in together or not form.together:
            together[form.name] = _Files(form)
            groups.append(together[form.name])
        together[form.name].add(source, digests[-1])
    corpora = [group if isinstance(group, Corpus) else group.survey(skip_bad) for group in groups]
    whole = corpora[0] if len(corpora) == 1 else joined(corpora)
    return replace(whole, sha256=sha256_over(digests))


@dataclass
class _Files:
    """Files that are read in one go, with the digests of their bytes."""

    form: Format
    sources: list[Source] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def add(self, source: Source, digest: str) -> None:
        self.sources.append(source)
        self.digests.append(digest)

    def survey(self, skip_bad: bool) -> Corpus:
        return survey(self.form, tuple(self.sources), sha256_over(self.digests), skip_bad=skip_bad)


def _locate(source: str | Path) -> Source:
    """The file and the name it goes by in results, which never holds the folder."""
    if source == EMBEDDED:
        from attnlens.zoo.registry import embedded_corpus

        return Source(Path(embedded_corpus()), EMBEDDED)
    path, shown = Path(source), f"{source}"[:200]
    if _is(path, "is_dir"):
        raise CorpusError(f"{shown} is a folder; name the files in it: {known()}.")
    if not _is(path, "exists"):
        raise CorpusError(f"no corpus {shown}: not a file; name a file, or leave it out for {EMBEDDED}.")
    return Source(path, path.name)


def _is(path: Path, what: str) -> bool:
    """`path.is_dir()` and the like, False for names that no file can have."""
    try:
        return bool(getattr(path, what)())
    except (OSError, ValueError):
        return False
