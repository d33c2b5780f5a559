"""Labels are printable, spans point into the text, words own their pieces; for text that nobody tidied up."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import BUILDERS

from attnlens.capture.tokens import Token, Word, find_words, label_tokens, printable, units_of, word_of
from attnlens.models.encode import encode

HOSTILE = "’ 中文 👩‍🚀 naïve\n</script><img src=x onerror=alert(1)> \x1b[31m\u202eevil\x00"
TOKENIZERS = {name: build().tokenizer for name, build in BUILDERS.items()}


@given(st.text())
def test_printable_text_is_printable_whatever_goes_in(text: str) -> None:
    shown = printable(text)

    joiners = {"\u200c", "\u200d"}
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [char for char in shown if char not in joiners and unicodedata.category(char) in unseen]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb\n", "a⇥b↵"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202eabc", r"\u202eabc"),
        ("👩‍🚀", "👩‍🚀"),
        ("\u200d", r"\u200d"),
        ("<b>", "<b>"),
    ],
)
def test_printable_shows_what_would_act(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize("text", [HOSTILE, "The dog's self-made 3.5 kg bowl, isn't it?", "نص عربي हिन्दी", "a" * 30])
def test_every_token_of_any_text_is_labelled_and_placed(family: str, text: str) -> None:
    encoded = encode(TOKENIZERS[family], text)

    for token in encoded.tokens:
        assert token.label
        assert token.label == printable(token.label)
        assert token.special == (token.span is None)
        if token.word is not None and token.span is not None:
            start, end = encoded.words[token.word].span
            assert start <= token.span[0] + (token.span[1] - token.span[0]) < end + 1
    characters = {i for token in encoded.tokens if token.span for i in range(*token.span)}
    assert {i for i, char in enumerate(text) if char.isalnum()} <= characters


def test_character_cut_into_bytes_is_numbered_and_never_garbled() -> None:
    encoded = encode(TOKENIZERS["gpt2"], "né")

    labels = [token.label for token in encoded.tokens]

    assert labels == ["n", "é 1/2", "é 2/2"]


def test_unknown_token_shows_that_the_model_did_not_see_it() -> None:
    encoded = encode(TOKENIZERS["bert"], "dog 中")

    assert [token.label for token in encoded.tokens] == ["[CLS]", "dog", "中 [UNK]", "[SEP]"]


def test_words_of_free_text() -> None:
    words = [word.label for word in find_words("The dog's 3.5 kg self-made bowl… नमस्ते 👩‍🚀!")]

    assert words == ["The", "dog's", "3.5", "kg", "self-made", "bowl", "…", "नमस्ते", "👩‍🚀", "!"]


def test_piece_that_straddles_two_words_belongs_to_the_first() -> None:
    text, words = "don't go", (Word("do", (0, 2)), Word("n't", (2, 5)), Word("go", (6, 8)))

    assert [word_of(span, text, words) for span in [(0, 3), (3, 5), (5, 8), (5, 6)]] == [0, 1, 2, None]


def test_word_without_a_token_has_no_unit_but_keeps_its_number() -> None:
    text = "a b c"
    words = find_words(text)
    tokens = label_tokens(text, [7, 8], [(0, 1), (4, 5)], [False, False], ["a", "c"], words)

    units = units_of(tokens, words)

    assert [(unit.word, unit.tokens) for unit in units] == [(0, (0,)), (2, (1,))]


def test_labels_of_tokens_are_plain_data() -> None:
    assert Token(3, "x", (0, 1), 0, False) == Token(3, "x", (0, 1), 0, False)
