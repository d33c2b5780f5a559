"""The same words in another order, with the model's positions and without them: what of attention is place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.capture.sites import CROSS, ENCODER
from attnlens.capture.tokens import EncodedText, Unit, units_of
from attnlens.errors import CaptureError, TextError
from attnlens.heads import Head
from attnlens.models.encode import encode
from attnlens.models.inputs import encode_target
from attnlens.steps.placeless import without_positions

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["OrderedRows", "other_order", "rows_in_both_orders", "usual_words"]

_MOST_TOKENS = 48
_USUAL = ("cat sat mat", "king sees queen", "dog likes girl")


@dataclass(frozen=True)
class OrderedRows:
    """One row of attention of the same tokens in two orders; columns are the tokens of the first order.

    Attributes:
        head: whose.
        labels: of the tokens, in the first order.
        special: which of them the tokenizer added.
        places: where each of them stands in the second order.
        query: the row's token, by its place in the first order.
        placed: weights with the model's positions, `[order token]`.
        placeless: weights without; None where they cannot be taken away.
        how: how they were taken away, or why they cannot be.
        mask_tells: whether a mask on the way to this row hides some tokens from others, which tells places as well.
    """

    head: Head
    labels: tuple[str, ...]
    special: tuple[bool, ...]
    places: tuple[int, ...]
    query: int
    placed: Float64[Tensor, "order token"]
    placeless: Float64[Tensor, "order token"] | None
    how: str
    mask_tells: bool

    @property
    def moved(self) -> tuple[float, float | None]:
        """Largest difference between the two orders of one token's weight, with positions and without."""
        with_places, without = self.placed, self.placeless
        return _apart(with_places), None if without is None else _apart(without)


def usual_words(lens: Lens) -> str:
    """Three words whose order matters, one token each where the vocabulary has some of ours."""
    if lens.tokenizer is None:
        return _USUAL[0]
    whole = (text for text in _USUAL if sum(not token.special for token in _as_within(lens, text).tokens) == 3)
    return next(whole, _USUAL[0])


def other_order(units: Sequence[Unit], causal: bool) -> tuple[int, ...]:
    """The places of a text's tokens, words in reverse and pieces within words as they are; special tokens stay.

    In a causal model the last word stays too: only the last one sees the same words in both orders.
    """
    words = [unit for unit in units if not unit.special]
    kept = words[-1:] if causal else []
    turned = iter([*reversed(words[: len(words) - len(kept)]), *kept])
    order = [place for unit in units for place in (unit if unit.special else next(turned)).tokens]
    return tuple(order)


def rows_in_both_orders(lens: Lens, head: Head, text: str) -> OrderedRows:
    """One head's row over `text` and over its words in another order, with positions and without.

    The token that attends is the last one where later tokens are hidden, else the first piece of the middle word. The
    tokens are those of `text` in both orders, so that a tokenizer that spells a word differently at the beginning makes
    no difference. An encoder-decoder reads them with its encoder, and writes them with its decoder.

    Args:
        lens: the model.
        head: not of cross-attention.
        text: a few words.

    Raises:
        CaptureError: cross-attention, which has no order of its own; a model that reads no text.
        TextError: fewer than two words, or more than 48 tokens.
    """
    if head.stack == CROSS:
        raise CaptureError(
            "cross-attention looks from one text into another; choose a head of the encoder (E) or decoder (D)."
        )
    if lens.tokenizer is None:
        raise CaptureError(f"{lens.anatomy.model} reads no text, so no words can change places.")
    given = _encoded(lens, head, text)
    units = units_of(given.tokens, given.words)
    words = [unit for unit in units if not unit.special]
    if len(words) < 2 or len(given.tokens) > _MOST_TOKENS:
        raise TextError(
            f"{text[:80]!r} has {len(words)} words and {len(given.tokens)} tokens; give 2 words or more, and at most "
            f"{_MOST_TOKENS} tokens."
        )
    causal = lens.anatomy.stack(head.stack).causal
    order = other_order(units, causal)
    query = words[-1].tokens[-1] if causal else words[len(words) // 2].tokens[0]
    same = tuple(range(len(order)))
    found = [_row(lens, head, given, way, query) for way in (same, order)]
    try:
        with without_positions(lens.opened) as how:
            placeless = torch.stack([_row(lens, head, given, way, query)[0] for way in (same, order)])
    except CaptureError as error:
        placeless, how = None, str(error)
    return OrderedRows(
        head=head,
        labels=tuple(token.label for token in given.tokens),
        special=tuple(token.special for token in given.tokens),
        places=_inverse(order),
        query=query,
        placed=torch.stack([weights for weights, _ in found]),
        placeless=placeless,
        how=how,
        mask_tells=any(tells for _, tells in found),
    )


def _encoded(lens: Lens, head: Head, text: str) -> EncodedText:
    if lens.anatomy.is_encoder_decoder and head.stack != ENCODER:
        return encode_target(lens.model, lens.tokenizer, text)
    return _as_within(lens, text)


def _as_within(lens: Lens, text: str) -> EncodedText:
    """The text as within a sentence, where that gives fewer pieces: some tokenizers spell out a first word."""
    return min((encode(lens.tokenizer, given) for given in (text, f" {text}")), key=lambda cut: len(cut.tokens))


def _row(
    lens: Lens, head: Head, given: EncodedText, order: tuple[int, ...], query: int
) -> tuple[Float64[Tensor, " token"], bool]:
    """Weights of the token `query` over all tokens, in the order in which `given` has them; whether a mask hid any."""
    own = torch.tensor([[given.ids[place] for place in order]])
    inputs = {"input_ids": own}
    if lens.anatomy.is_encoder_decoder:
        read = head.stack == ENCODER
        source = own if read else torch.tensor([encode(lens.tokenizer, given.text).ids])
        target = torch.tensor([encode_target(lens.model, lens.tokenizer, given.text).ids]) if read else own
        inputs = {"input_ids": source, "decoder_input_ids": target}
    run = lens.capture(inputs=inputs, layers=range(head.layer + 1), points=(), logits=False)
    *earlier, pattern = (p for p in run.patterns_of(stack=head.stack or None)[: head.layer + 1] if p is not None)
    places = _inverse(order)
    at = places[query]
    hides = not bool(pattern.visible()[at].all()) or any(not bool(layer.visible().all()) for layer in earlier)
    row = pattern.weights(heads=slice(head.head, head.head + 1), queries=slice(at, at + 1))[0, 0]
    return row[list(places)].double(), hides


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    places = {token: place for place, token in enumerate(order)}
    return tuple(places[token] for token in range(len(order)))


def _apart(rows: Float64[Tensor, "order token"]) -> float:
    return float((rows[0] - rows[1]).abs().max())
