"""Training text: documents of the grammar, less the held-out ones, some with invented words."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from attnlens.zoo import lexicon, verbs
from attnlens.zoo.grammar import documents
from attnlens.zoo.pairs import ATTRACTORS, minimal_pairs
from attnlens.zoo.recipes import (
    AGREEMENT_FIRST,
    AGREEMENT_SENTENCES,
    CORPUS_DOCUMENTS,
    CORPUS_SEED,
    PAIRS_DOCUMENTS,
    PAIRS_SEED,
    Recipe,
)
from attnlens.zoo.trees import Document, Word

__all__ = [
    "agreeing_forms",
    "agreement_documents",
    "corpus_documents",
    "held_out_sentences",
    "pairs_documents",
    "training_texts",
    "word_forms",
]

_TOKENS_PER_DOCUMENT = 28  # about; to fill the longest texts

_ONSETS = "b bl br c ch d dr f fl g gr h j k l m n p pl qu r s sh st t tr v w y z".split()
_VOWELS = "a e i o u ai ea ee oo ou".split()
_CODAS = "b ck d ft g ll m n nd p r rk sk t x zz".split()


def corpus_documents() -> tuple[Document, ...]:
    """The documents of the embedded corpus: some as the grammar draws them, then those of `agreement_documents`."""
    return (*documents(CORPUS_DOCUMENTS, seed=CORPUS_SEED), *agreement_documents())


def agreement_documents() -> tuple[Document, ...]:
    """Documents of one sentence, in which a noun of the other number stands between a subject and its verb.

    They are first sentences of documents from which evaluation pairs are cut, so that no model trains on them.
    """
    later = itertools.islice(documents(PAIRS_DOCUMENTS, seed=PAIRS_SEED), AGREEMENT_FIRST, None)
    firsts = (replace(document, sentences=document.sentences[:1]) for document in later)
    chosen = itertools.islice(filter(_has_attractor, firsts), AGREEMENT_SENTENCES)
    return tuple(replace(document, name=f"agreement-{number:04d}") for number, document in enumerate(chosen, 1))


def pairs_documents(n: int = PAIRS_DOCUMENTS) -> tuple[Document, ...]:
    """The (first `n`) documents from which the evaluation pairs are cut."""
    return tuple(documents(n, seed=PAIRS_SEED, prefix="pairs"))


@cache
def held_out_sentences() -> frozenset[str]:
    """Every sentence of the embedded corpus and of the evaluation documents, as written."""
    return frozenset(
        sentence.text for document in (*corpus_documents(), *pairs_documents()) for sentence in document.sentences
    )


def training_texts(recipe: Recipe) -> Iterator[str]:
    """The texts that a model trains on: documents that share no sentence with the held-out ones.

    Some are cut to their first sentence (`Recipe.single_share`), and those without attractors thinned out
    (`Recipe.plain_share`). In a small share of the documents every noun
    and name is an invented word, so that the pieces of rare words are trained and agreement is learned from endings
    too. A small share of the texts are documents in a row, about as long as the model can read.
    """
    rng = random.Random(recipe.seed)  # noqa: S311 - reproducible text, not secrets
    allowed = _allowed_documents(recipe)
    for document in allowed:
        if rng.random() < recipe.long_share:
            more = itertools.islice(allowed, recipe.max_length // _TOKENS_PER_DOCUMENT)
            yield " ".join(part.text for part in (document, *more))
        else:
            yield _with_invented_words(document, rng) if rng.random() < recipe.invented_share else document.text


def _allowed_documents(recipe: Recipe) -> Iterator[Document]:
    held_out, rng = held_out_sentences(), random.Random(recipe.seed + 3)  # noqa: S311 - reproducible, not secrets
    for document in documents(recipe.n_documents, seed=recipe.seed):
        if any(sentence.text in held_out for sentence in document.sentences):
            continue
        if rng.random() < recipe.single_share:
            document = replace(document, sentences=document.sentences[:1])
        if rng.random() < recipe.plain_share or _has_attractor(document):
            yield document


def _has_attractor(document: Document) -> bool:
    return any(pair.kind == ATTRACTORS for pair in minimal_pairs([document]))


def _with_invented_words(document: Document, rng: random.Random) -> str:
    invented: dict[str, str] = {}
    sentences = []
    for sentence in document.sentences:
        parts = []
        for word in sentence.words:
            form = word.form
            if word.upos in ("NOUN", "PROPN"):
                form = _inflected(invented.setdefault(word.lemma, _invented_stem(rng)), word)
            parts.append(form + " " * word.space_after)
        sentences.append("".join(parts).rstrip())
    return " ".join(sentences)


def _inflected(stem: str, word: Word) -> str:
    form = stem + "s" if word.feature("Number") == "Plur" else stem
    return form.capitalize() if word.form[:1].isupper() else form


def _invented_stem(rng: random.Random) -> str:
    syllables = rng.choice((1, 1, 2))
    onset_vowels = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables))
    return onset_vowels + rng.choice(_CODAS)


@cache
def word_forms() -> frozenset[str]:
    """The distinct words, in lower case and without punctuation, of the documents of the minimal pairs."""
    words = (word for document in pairs_documents() for sentence in document.sentences for word in sentence.words)
    return frozenset(word.form.lower() for word in words if word.upos != "PUNCT")


def agreeing_forms() -> frozenset[str]:
    """Verb forms, auxiliaries and pronouns whose form depends on another word."""
    pronouns = {
        form
        for pronoun in lexicon.PERSONAL_PRONOUNS
        for form in (pronoun.nominative, pronoun.accusative, pronoun.possessive, pronoun.reflexive)
    }
    auxiliaries = {
        form for tenses in verbs.AUXILIARIES.values() for forms in tenses.values() for form in forms.values()
    }
    finite = {form for verb in verbs.ALL_VERBS for form in (verb.base, verb.third)}
    return frozenset(pronouns | auxiliaries | finite)
