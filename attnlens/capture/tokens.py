"""Tokens with printable labels, character spans and words; no tokenizer is needed to read them back."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

__all__ = ["EncodedText", "Token", "Unit", "Word", "find_words", "label_tokens", "printable", "units_of", "word_of"]

_SHOWN = {"\n": "↵", "\r": "␍", "\t": "⇥", " ": "␣"}
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MOST_PIECES = 16  # tokens that one character may be cut into: its bytes, several code points of an emoji
_JOINERS = "\u200c\u200d"
_LETTERS = r"[\p{L}\p{M}\p{N}_]+"
_WORD = regex.compile(rf"{_LETTERS}(?:['’\-]{_LETTERS}|[.,]\p{{N}}+)*|(?!\s)\X")


@dataclass(frozen=True)
class Token:
    """One token as the model saw it.

    Attributes:
        id: the token's number in the vocabulary.
        label: printable text, not HTML-escaped; control, invisible and direction-changing characters show as escapes.
        span: start and end character in the run's text; None where the token stands for no character.
        word: index of the word that the token belongs to; None for special tokens and tokens outside every word.
        special: added by the tokenizer's template ([CLS], <s>, ...) rather than found in the text.
    """

    id: int
    label: str
    span: tuple[int, int] | None
    word: int | None
    special: bool


@dataclass(frozen=True)
class Word:
    """A word: its printable label and its start and end character in the run's text."""

    label: str
    span: tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """A row of a word-level map: the pieces of one word, or one token that belongs to no word."""

    label: str
    tokens: tuple[int, ...]
    word: int | None
    special: bool


@dataclass(frozen=True)
class EncodedText:
    """One text (or pair) as the model will see it.

    Attributes:
        text: what spans count characters in; the two texts of a pair stand on two lines.
        tokens: with labels, spans and words.
        words: the words that tokens are assigned to.
        segments: segment of each token, 0 or 1.
        bos_added: True where a beginning-of-sequence token was put in front because the caller asked for it.
    """

    text: str
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    segments: tuple[int, ...]
    bos_added: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """Vocabulary numbers."""
        return tuple(token.id for token in self.tokens)


def printable(text: str) -> str:
    r"""`text` with every character that would not show, or would act, turned into something visible.

    Zero-width joiners stay where they join (emoji, Persian), since the text is unreadable without them.

    >>> printable("a\nb\x1b[31m")
    'a↵b\\x1b[31m'
    """
    if text.isascii() and text.isprintable():  # nearly every token, and a text has many
        return text
    return "".join(_visible(text, i) for i in range(len(text)))


def _visible(text: str, i: int) -> str:
    char = text[i]
    if char != " " and char in _SHOWN:
        return _SHOWN[char]
    if char in _JOINERS and 0 < i < len(text) - 1 and not text[i - 1].isspace() and not text[i - 1].isascii():
        return char
    if unicodedata.category(char) in _UNSEEN:
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char


def find_words(text: str) -> tuple[Word, ...]:
    """The words of `text` by a plain rule that serves free text; corpora bring their own words.

    A word is a run of letters and digits of any script, with inner `'` and `-` and decimal points; every other visible
    character (an emoji of several code points is one) stands alone.

    >>> [word.label for word in find_words("The dog's bowl.")]
    ['The', "dog's", 'bowl', '.']
    """
    return tuple(Word(printable(match[0]), match.span()) for match in _WORD.finditer(text))


def word_of(span: tuple[int, int] | None, text: str, words: Sequence[Word], start: int = 0) -> int | None:
    """Index of the word that owns the token's first character that is not a space, searching from word `start`.

    A token that straddles two words belongs to the word of its first character (byte-level tokenizers put the space
    before a word into the word's first token).
    """
    if span is None:
        return None
    first, end = span
    while first < end and text[first].isspace():
        first += 1
    if first == end:
        return None
    for index in range(start, len(words)):
        begin, stop = words[index].span
        if begin <= first < stop:
            return index
        if begin > first:
            break
    return None


def label_tokens(
    text: str,
    ids: Sequence[int],
    spans: Sequence[tuple[int, int] | None],
    special: Sequence[bool],
    pieces: Sequence[str],
    words: Sequence[Word],
    unknown_id: int | None = None,
) -> tuple[Token, ...]:
    """Tokens with labels cut from the text itself, so that no tokenizer's own spelling (`Ġ`, `##`, `âĢĻ`) shows.

    Args:
        text: what the spans count characters in.
        ids: vocabulary numbers.
        spans: characters of each token; None or empty where it has none.
        special: True where the tokenizer's template added the token.
        pieces: the vocabulary's own spelling, shown for special tokens and for tokens with no character of their own.
        words: the words to assign tokens to.
        unknown_id: the id of "unknown"; such a token's label says so, since the model did not see the characters.
    """
    spans = [span if span is not None and span[1] > span[0] else None for span in spans]
    tokens: list[Token] = []
    latest = 0  # words come in order, so the search for the next token's word starts at the last one found
    for i, (token_id, span, is_special, piece) in enumerate(zip(ids, spans, special, pieces, strict=True)):
        if is_special or span is None:
            tokens.append(Token(int(token_id), printable(piece) or "∅", None if is_special else span, None, is_special))
            continue
        label = _label(text, spans, i)
        if token_id == unknown_id:
            label = f"{label} {printable(piece)}"
        word = word_of(span, text, words, latest)
        latest = latest if word is None else word
        tokens.append(Token(int(token_id), label, span, word, False))
    return tuple(tokens)


def _label(text: str, spans: Sequence[tuple[int, int] | None], i: int) -> str:
    """The token's own characters; a character cut into several tokens (emoji in bytes) is numbered, as in `é 1/2`."""
    span = spans[i]
    assert span is not None
    shown = text[slice(*span)]
    body = shown.strip(" ") or "␣" * len(shown)
    label = printable(body)
    if span not in (spans[i - 1] if i else None, spans[i + 1] if i + 1 < len(spans) else None):
        return label  # nearly every token: the pieces of a character stand together
    first = max(0, i - _MOST_PIECES)
    same = [first + j for j, other in enumerate(spans[first : i + _MOST_PIECES + 1]) if other == span]
    return label if len(same) == 1 else f"{label} {same.index(i) + 1}/{len(same)}"


def units_of(tokens: Sequence[Token], words: Sequence[Word]) -> tuple[Unit, ...]:
    """The rows of a word-level map, in text order: one per word that has a token, one per token without a word.

    Words that the tokenizer dropped have no unit; their index stays free, so that other words keep theirs.
    """
    members: dict[int, list[int]] = {}
    for i, token in enumerate(tokens):
        if token.word is not None:
            members.setdefault(token.word, []).append(i)
    units: list[Unit] = []
    for i, token in enumerate(tokens):
        if token.word is None:
            units.append(Unit(token.label, (i,), None, token.special))
        elif members[token.word][0] == i:
            units.append(Unit(words[token.word].label, tuple(members[token.word]), token.word, False))
    return tuple(units)
