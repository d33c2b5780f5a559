"""Text to token ids with spans and words, and lists of them to one right-padded batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens.capture.tokens import Token, Word, find_words, label_tokens, printable
from attnlens.errors import TextError, UnsupportedModelError, UsageError

__all__ = ["EncodedText", "encode", "pad"]

Text = str | tuple[str, str]


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


def encode(
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    *,
    bos: bool | None = None,
    word_spans: Sequence[tuple[int, int]] | None = None,
) -> EncodedText:
    """Tokenize `text` with its template of special tokens.

    Args:
        tokenizer: a fast tokenizer (slow ones know no character offsets).
        text: a text, or a pair.
        bos: True puts the beginning-of-sequence token in front where the tokenizer has one and did not.
        word_spans: the caller's words as characters of `text`, instead of the plain rule.

    Raises:
        TextError: nothing but white space.
        UnsupportedModelError: a tokenizer without offsets.
        UsageError: a word outside the text.
    """
    first, second = text if isinstance(text, tuple) else (text, None)
    if not first.strip() or (second is not None and not second.strip()):
        raise TextError("the text is empty; give at least one word.")
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} gives no character offsets; use the model's fast tokenizer."
        )
    whole = first if second is None else f"{first}\n{second}"
    words = find_words(whole) if word_spans is None else _words_at(whole, word_spans)
    encoding = tokenizer(
        first,
        second,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        verbose=False,
    )
    segments = [index or 0 for index in encoding.sequence_ids(0)]
    spans = [
        (start + (len(first) + 1) * segment, end + (len(first) + 1) * segment)
        for (start, end), segment in zip(encoding["offset_mapping"], segments, strict=True)
    ]
    ids, special = list(encoding["input_ids"]), [bool(mark) for mark in encoding["special_tokens_mask"]]
    bos_id = tokenizer.bos_token_id
    added = bool(bos) and bos_id is not None and not (special and special[0])
    if added:
        ids, special, spans, segments = [bos_id, *ids], [True, *special], [(0, 0), *spans], [0, *segments]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    tokens = label_tokens(whole, ids, spans, special, pieces, words, tokenizer.unk_token_id)
    if not any(not token.special for token in tokens):
        raise TextError("the tokenizer found no token in the text; give at least one word.")
    types = encoding.get("token_type_ids")
    segments = segments if types is None else [0] * added + list(types)
    return EncodedText(whole, tokens, words, tuple(segments), added)


def _words_at(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise UsageError(
                f"word_spans has ({start}, {end}), which is not inside the text of {len(text)} characters."
            )
    return tuple(Word(printable(text[start:end]), (start, end)) for start, end in spans)


def pad(model: PreTrainedModel, texts: Sequence[EncodedText], pad_id: int) -> dict[str, Tensor]:
    """One batch for `model`, padded on the right, so that learned positions need no correction.

    Returns:
        `input_ids`, `attention_mask` and, where the model takes them, `token_type_ids`; each `[batch position]`, on the
        model's device.
    """
    length = max(len(text.tokens) for text in texts)
    columns: Mapping[str, Any] = {
        "input_ids": [list(text.ids) + [pad_id] * (length - len(text.ids)) for text in texts],
        "attention_mask": [[1] * len(text.ids) + [0] * (length - len(text.ids)) for text in texts],
        "token_type_ids": [list(text.segments) + [0] * (length - len(text.ids)) for text in texts],
    }
    taken = inspect.signature(model.forward).parameters
    takes_types = "token_type_ids" in taken and getattr(model.config, "type_vocab_size", 0) > 1
    names = [name for name in columns if name != "token_type_ids" or takes_types]
    return {name: torch.tensor(columns[name], device=model.device) for name in names}
