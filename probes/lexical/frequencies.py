"""How frequent words are, from text other than the corpus at hand: a user's list, the embedded one, or wordfreq's.

wordfreq (Speer 2022, doi:10.5281/zenodo.7199437) comes with the extra `frequencies`; its data are under CC BY-SA 4.0
and end in 2021, which is as good as any for what is rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from attnlens.errors import UsageError
from probes.corpora.data import Corpus
from probes.corpora.sources import EMBEDDED

__all__ = ["EXTRA", "Frequencies", "fitting", "read_frequencies"]

EXTRA = "frequencies"
COMMON = 500  # the most frequent words, none of which counts as rare
ENOUGH = 0.5  # share of a corpus's words that a list must know to be of its language
SAMPLE = 5_000  # words of the corpus that are looked up for that
_OWN = 1_000_000_000  # parts that wordfreq's shares are counted in


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Words in lower case with counts.

    Attributes:
        name: as the result tells it.
        counts: relative to each other.
    """

    name: str
    counts: Mapping[str, int] = field(repr=False)

    def of(self, form: str) -> int:
        """Count of a word; 0 where the list does not have it."""
        return self.counts.get(form.lower(), 0)

    @cached_property
    def common(self) -> frozenset[str]:
        """The 500 most frequent words."""
        return frozenset(sorted(self.counts, key=lambda word: (-self.counts[word], word))[:COMMON])

    def known(self, forms: Iterable[str]) -> float:
        """Share of some words that the list has; words without a letter are left out."""
        worded = [form for form in forms if any(letter.isalpha() for letter in form)]
        return sum(form.lower() in self.counts for form in worded) / len(worded) if worded else 0.0


def read_frequencies(path: str | Path) -> Frequencies:
    """A list of words: one a line, a tab, its count. Words are folded to lower case, counts of equal ones added.

    Raises:
        UsageError: no such file, or a line that is neither; the message names it.
    """
    file = Path(path)
    counts: dict[str, int] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or error
        raise UsageError(f"cannot read {file.name}: {what}; name a file of `word TAB count` lines.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            word, _, count = line.rpartition("\t")
            if not (word.strip() and count.strip().isdecimal()):
                what = f"{line[:40]!r} is no word, tab and whole number"
                raise UsageError(f"{file.name}, line {number}: {what}; expected lines like 'the\\t53703'.")
            counts[word.strip().lower()] = counts.get(word.strip().lower(), 0) + int(count)
    if not counts:
        raise UsageError(f"{file.name} holds no word; expected lines of `word TAB count`.")
    return Frequencies(file.name, counts)


@cache
def _embedded() -> Frequencies:
    from attnlens.zoo.frequencies import embedded_frequencies

    return Frequencies(f"{EMBEDDED} training text", read_frequencies(embedded_frequencies()).counts)


@cache
def _english() -> Frequencies | None:
    """The English list of wordfreq, or None where the package is not installed."""
    try:
        import wordfreq
    except ImportError:
        return None
    shares = wordfreq.get_frequency_dict("en")
    return Frequencies("wordfreq en", {word: round(share * _OWN) for word, share in shares.items()})


def fitting(corpus: Corpus, given: Frequencies | None) -> tuple[Frequencies | None, str | None]:
    """The list for a corpus (a given one, the embedded one for its corpus, or wordfreq's), or why there is none."""
    found = given or (_embedded() if corpus.name == EMBEDDED else _english())
    if found is None:
        return None, (
            f"no list of word frequencies: name one with --frequencies FILE (`word TAB count`, counted in other text "
            f"than {corpus.name}), or `pip install attnlens[{EXTRA}]` for English"
        )
    known = found.known(_first_words(corpus))
    if known < ENOUGH:
        return None, (
            f"the word frequencies of {found.name} have only {100 * known:.0f} % of the words of {corpus.name}; "
            "name a list in its language with --frequencies FILE (`word TAB count`)"
        )
    return found, None


def _first_words(corpus: Corpus) -> list[str]:
    words: list[str] = []
    for document in corpus.documents():
        for sentence in document.sentences:
            words += sentence.forms
        if len(words) >= SAMPLE:
            break
    return words[:SAMPLE]
