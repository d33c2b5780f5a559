"""Token ids back to text, with the characters of each token, so that what a model wrote has words like what it read."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from attnlens.capture.tokens import EncodedText, Token, find_words, label_tokens

__all__ = ["continued"]

# Tokens in front of a new one that its spelling can depend on (a space that only the first token of a text drops).
_CONTEXT = 8
# What a decoder writes for a character of which not all bytes are there.
_INCOMPLETE = "\ufffd"


def continued(tokenizer: PreTrainedTokenizerBase | None, prompt: EncodedText, ids: Sequence[int]) -> EncodedText:
    """`prompt` with the tokens `ids` written after it.

    Tokens that make one character together share its span; special tokens and bytes that make no character have none.

    Args:
        tokenizer: of the model; without it tokens are labelled by their numbers.
        prompt: what stands before; its text and spans stay as they are.
        ids: vocabulary numbers of what was written.
    """
    if tokenizer is None:
        more = tuple(Token(token, str(token), None, None, False) for token in ids)
        return EncodedText(
            prompt.text, (*prompt.tokens, *more), prompt.words, (0,) * (len(prompt.tokens) + len(ids)), False
        )
    written, spans = _decode(tokenizer, prompt.ids, ids)
    text, start = prompt.text + written, len(prompt.text)
    special = set(tokenizer.all_special_ids)
    every = [*prompt.ids, *ids]
    words = find_words(text)
    tokens = label_tokens(
        text,
        every,
        [*(token.span for token in prompt.tokens), *(span and (span[0] + start, span[1] + start) for span in spans)],
        [*(token.special for token in prompt.tokens), *(token in special for token in ids)],
        [_piece(tokenizer, token) for token in every],
        words,
        tokenizer.unk_token_id,
    )
    segments = (*prompt.segments, *(prompt.segments[-1:] or (0,)) * len(ids))
    return EncodedText(text, tokens, words, segments, prompt.bos_added)


def _decode(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[int], ids: Sequence[int]
) -> tuple[str, list[tuple[int, int] | None]]:
    """The text that `ids` add, and each one's characters in it."""
    text, spans = "", [None] * len(ids)  # type: tuple[str, list[tuple[int, int] | None]]
    first, context = 0, list(before[-_CONTEXT:])
    for i in range(len(ids)):
        added = _added(tokenizer, context, ids[first : i + 1])
        if added.endswith(_INCOMPLETE) and i + 1 < len(ids) and i - first < _CONTEXT:
            continue
        if added and _INCOMPLETE not in added:
            start = (
                len(text) + len(added) - len(added.lstrip(" ") or added)
            )  # as tokenizers do, without the space before
            spans[first : i + 1] = [(start, len(text) + len(added))] * (i + 1 - first)
        text += added
        context = [*context, *ids[first : i + 1]][-_CONTEXT:]
        first = i + 1
    return text, spans


def _added(tokenizer: PreTrainedTokenizerBase, context: Sequence[int], ids: Sequence[int]) -> str:
    known, longer = _spelled(tokenizer, context), _spelled(tokenizer, [*context, *ids])
    return longer[len(known) :] if longer.startswith(known) else _spelled(tokenizer, ids)


def _spelled(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _piece(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    piece = tokenizer.convert_ids_to_tokens(token) if 0 <= token < len(tokenizer) else None
    return f"#{token}" if piece is None else str(piece)
