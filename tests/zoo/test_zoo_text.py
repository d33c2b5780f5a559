"""Training text: what the options of a recipe do to it."""

from dataclasses import replace
from itertools import islice

import pytest

from attnlens.zoo import text
from attnlens.zoo.recipes import Recipe

PLAIN = Recipe(
    name="tiny-test", family="bert", seed=3, n_documents=120, plain_share=1.0, single_share=0.0, invented_share=0.0,
    long_share=0.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_held_out(monkeypatch):
    monkeypatch.setattr(text, "held_out_sentences", frozenset)


def texts(recipe):
    return list(text.training_texts(recipe))


def test_without_options_the_texts_are_the_documents():
    drawn = [document.text for document in text.documents(120, seed=3)]

    assert texts(PLAIN) == drawn


def test_held_out_sentences_keep_their_documents_out(monkeypatch):
    first = next(text.documents(1, seed=3))
    monkeypatch.setattr(text, "held_out_sentences", lambda: {first.sentences[-1].text})

    kept = texts(PLAIN)

    assert len(kept) < 120
    assert not any(first.sentences[-1].text in kept_text for kept_text in kept)


def test_single_share_cuts_documents_to_their_first_sentence():
    firsts = [document.sentences[0].text for document in text.documents(120, seed=3)]

    assert texts(replace(PLAIN, single_share=1.0)) == firsts


def test_plain_share_thins_out_documents_without_attractors():
    kept = texts(replace(PLAIN, plain_share=0.0))

    assert 5 < len(kept) < 60
    assert all(kept_text in texts(PLAIN) for kept_text in islice(kept, 5))


def test_invented_words_leave_everything_but_nouns_and_names():
    plain, invented = texts(PLAIN), texts(replace(PLAIN, invented_share=1.0))

    assert len(plain) == len(invented)
    for before, after in zip(plain, invented, strict=True):
        assert len(before.split()) == len(after.split())
        assert before != after
    kept = sum(a == b for before, after in zip(plain, invented, strict=True)
               for a, b in zip(before.split(), after.split(), strict=True))  # fmt: skip
    assert 0.4 < kept / sum(len(before.split()) for before in plain) < 0.9


def test_long_share_joins_documents():
    joined = texts(replace(PLAIN, long_share=1.0))

    assert " ".join(joined) == " ".join(texts(PLAIN))
    assert len(joined) < 40


def test_agreeing_forms_are_those_that_depend_on_another_word():
    forms = text.agreeing_forms()

    assert {"is", "are", "sees", "see", "he", "themselves", "has"} <= forms
    assert not {"the", "will", "seen", "king", "not"} & forms
