"""Text to token ids with spans and words."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from attnlens.capture.tokens import EncodedText, Word, find_words, label_tokens, printable
from attnlens.errors import TextError, UnsupportedModelError, UsageError

__all__ = ["Text", "encode", "encode_many"]

Text = str | tuple[str, str]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    *,
    bos: bool | None = None,
    word_spans: Sequence[tuple[int, int]] | None = None,
    target: bool = False,
) -> EncodedText:
    """Tokenize `text` with its template of special tokens.

    Args:
        tokenizer: a fast tokenizer (slow ones know no character offsets).
        text: a text, or a pair.
        bos: True puts the beginning-of-sequence token in front where the tokenizer has one and did not.
        word_spans: the caller's words as characters of `text`, instead of the plain rule.
        target: `text` is what an encoder-decoder writes; some tokenizers spell it in another language's pieces.

    Raises:
        TextError: nothing but white space.
        UnsupportedModelError: a tokenizer without offsets.
        UsageError: a word outside the text.
    """
    first, second = text if isinstance(text, tuple) else (text, None)
    if not first.strip() or (second is not None and not second.strip()):
        raise TextError("the text is empty; give at least one word.")
    _require_offsets(tokenizer)
    given = {"text_target": first} if target else {"text": first, "text_pair": second}
    encoding = tokenizer(**given, return_attention_mask=False, verbose=False)
    types = encoding.get("token_type_ids")
    (found,) = encoding.encodings
    encoded = _encoded(tokenizer, first, second, found, word_spans, bos, types is not None)
    if encoded is None:
        raise TextError("the tokenizer found no token in the text; give at least one word.")
    return encoded


def encode_many(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    word_spans: Sequence[Sequence[tuple[int, int]]],
    *,
    bos: bool | None = None,
) -> list[EncodedText | None]:
    """Tokenize many texts in one call, each as `encode` does it; None where it would refuse the text as empty.

    Args:
        tokenizer: a fast tokenizer.
        texts: single texts.
        word_spans: per text, the caller's words.
        bos: as in `encode`.

    Raises:
        UnsupportedModelError, UsageError: as `encode`.
    """
    _require_offsets(tokenizer)
    if not texts:
        return []
    encoding = tokenizer(list(texts), return_attention_mask=False, verbose=False)
    typed = encoding.get("token_type_ids") is not None
    return [
        _encoded(tokenizer, text, None, one, spans, bos, typed) if text.strip() else None
        for text, one, spans in zip(texts, encoding.encodings, word_spans, strict=True)
    ]


def _require_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} gives no character offsets; use the model's fast tokenizer."
        )


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    first: str,
    second: str | None,
    encoding: Encoding,
    word_spans: Sequence[tuple[int, int]] | None,
    bos: bool | None,
    typed: bool,
) -> EncodedText | None:
    """A text, or a pair, from what the tokenizer made of it; None where every token is a special one."""
    whole = first if second is None else f"{first}\n{second}"
    words = find_words(whole) if word_spans is None else _words_at(whole, word_spans)
    segments, spans = [0] * len(encoding), encoding.offsets
    if second is not None:
        segments = [index or 0 for index in encoding.sequence_ids]
        spans = [
            (start + (len(first) + 1) * segment, end + (len(first) + 1) * segment)
            for (start, end), segment in zip(spans, segments, strict=True)
        ]
    ids, special = list(encoding.ids), [bool(mark) for mark in encoding.special_tokens_mask]
    bos_id = tokenizer.bos_token_id
    added = bool(bos) and bos_id is not None and not (special and special[0])
    if added:
        ids, special, spans, segments = [bos_id, *ids], [True, *special], [(0, 0), *spans], [0, *segments]
    if all(special):
        return None
    pieces = tokenizer.convert_ids_to_tokens(ids)
    tokens = label_tokens(whole, ids, spans, special, pieces, words, tokenizer.unk_token_id)
    segments = [0] * added + list(encoding.type_ids) if typed else segments
    return EncodedText(whole, tokens, words, tuple(segments), added)


def _words_at(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise UsageError(
                f"word_spans has ({start}, {end}), which is not inside the text of {len(text)} characters."
            )
    return tuple(Word(printable(text[start:end]), (start, end)) for start, end in spans)
