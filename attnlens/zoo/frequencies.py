"""How often words occur in training text of the embedded models: `python -m attnlens.zoo.frequencies`.

A probe that asks for the rarest word of a sentence must not count words in the corpus that it scores on: these are
counted in documents of the same grammar which share no sentence with it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from attnlens.zoo.grammar import documents
from attnlens.zoo.recipes import RECIPES
from attnlens.zoo.text import held_out_sentences

__all__ = ["N_DOCUMENTS", "count_words", "embedded_frequencies"]

N_DOCUMENTS = 4_000


def embedded_frequencies() -> Path:
    """The list in the package: a word in lower case, a tab and its count per line, the most frequent first."""
    return Path(__file__).parent / "data" / "grammar-frequencies.tsv"


def count_words(n_documents: int = N_DOCUMENTS) -> Counter[str]:
    """Words in lower case, with how often they occur in the first documents that tiny-gpt2 trains on."""
    held_out = held_out_sentences()
    counts: Counter[str] = Counter()
    for document in documents(n_documents, seed=RECIPES["tiny-gpt2"].seed):
        for sentence in document.sentences:
            if sentence.text not in held_out:
                counts.update(word.form.lower() for word in sentence.words)
    return counts


def write() -> None:
    """Count again and renew the list."""
    ordered = sorted(count_words().items(), key=lambda item: (-item[1], item[0]))
    embedded_frequencies().write_text("".join(f"{word}\t{count}\n" for word, count in ordered), encoding="utf-8")


if __name__ == "__main__":
    write()
