"""Sentences and observations made by hand, for tests that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probes.corpora.data import Document, Mention, Sentence
from probes.words import Observation, counted, word_attention


def sentence(
    words: str,
    heads: Sequence[int] = (),
    relations: str = "",
    *,
    mentions: Sequence[Mention] = (),
    upos: str = "",
    features: Sequence[str] = (),
    name: str = "s1",
) -> Sentence:
    """A sentence from `"The keys rust"`, heads counted from 1 with 0 at the root, and `"det nsubj root"`."""
    forms = tuple(words.split())
    ends = np.cumsum([len(form) + 1 for form in forms]) - 1
    return Sentence(
        id=name,
        text=" ".join(forms),
        line=1,
        forms=forms,
        spans=tuple((int(end) - len(form), int(end)) for form, end in zip(forms, ends, strict=True)),
        upos=tuple(upos.split()) or ("_",) * len(forms),
        features=tuple(features) or ("_",) * len(forms),
        heads=tuple(head - 1 for head in heads),
        relations=tuple(relations.split()),
        mentions=tuple(mentions),
    )


def seen(
    sentences: Sentence | Sequence[Sentence],
    attention: np.ndarray,
    *,
    specials: Sequence[int] = (),
    word_of_token: Sequence[int | None] | None = None,
    aggregation: str = "mean",
    causal: bool = False,
    cluster: int = 0,
    key: str = "d#0",
    stops: Sequence[int] = (),
    confirm: bool = False,
    kind: str = "",
    masked: int | None = None,
) -> Observation:
    """What a model with this token-level attention saw; without more, one token per word and no special ones."""
    sentences = (sentences,) if isinstance(sentences, Sentence) else tuple(sentences)
    n_words, n_tokens = sum(map(len, sentences)), attention.shape[-1]
    if word_of_token is None:
        ordinary = iter(range(n_words))
        word_of_token = [None if token in specials else next(ordinary) for token in range(n_tokens)]
    special = np.isin(np.arange(n_tokens), list(specials))
    visible = np.tri(n_tokens, dtype=bool) if causal else np.ones((n_tokens, n_tokens), dtype=bool)
    kept = np.isin(np.arange(n_words), [word for word in word_of_token if word is not None])
    delimiters = (special & (np.arange(n_tokens) > 0)) | np.isin(np.arange(n_tokens), list(stops))
    return Observation(
        key=key,
        cluster=cluster,
        confirm=confirm,
        kind=kind or ("sentence" if len(sentences) == 1 else "window"),
        sentences=sentences,
        labels=tuple(f"t{token}" for token in range(n_tokens)),
        attention=counted(attention.astype(np.float32)),
        visible=np.repeat(visible[None], len(attention), axis=0),
        special=special,
        delimiters=delimiters,
        words=word_attention(counted(attention.astype(np.float32)), word_of_token, n_words, aggregation),
        word_of_token=np.array([-1 if word is None else word for word in word_of_token]),
        kept=kept,
        causal=causal,
        masked=masked,
    )


def uniform(n: int, n_heads: int = 1) -> np.ndarray:
    return np.full((n_heads, n, n), 1 / n)


def pointing(targets: Sequence[int], weight: float = 1.0) -> np.ndarray:
    """One head in which query `i` puts `weight` on `targets[i]` and shares the rest evenly."""
    n = len(targets)
    pattern = np.full((n, n), (1 - weight) / n)
    pattern[np.arange(n), list(targets)] += weight
    return pattern[None]


def write_conllu(path: Path, text: str) -> Path:
    """Rows written with spaces between columns become CoNLL-U; missing columns at the end are `_`."""
    lines = []
    for line in text.strip("\n").split("\n"):
        columns = line.split()
        if not columns or line.startswith("#"):
            lines.append(line.strip())
        else:
            lines.append("\t".join(columns + ["_"] * (10 - len(columns))))
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def documents_of(sentences: Sequence[Sentence], per_document: int = 1) -> tuple[Document, ...]:
    groups = [sentences[i : i + per_document] for i in range(0, len(sentences), per_document)]
    return tuple(Document(f"d{i}", tuple(group)) for i, group in enumerate(groups))


class Family:
    """What the contract of a probe asks for besides the parts that a test is about."""

    rules = ()
    contrast = controlled = False
    reads = ("sentence",)

    def refusal(self, corpus):
        return None

    def ask(self, reading):
        return ()

    def asks(self, sentences):
        return set()

    def wording(self, key):
        return None

    def pointer(self, key, reading):
        return None
