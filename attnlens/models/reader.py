"""Reads what users give an opened model (texts, pairs, sources and targets, many of them) into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from attnlens.capture.recorders import Extents
from attnlens.capture.sites import ENCODER
from attnlens.capture.tokens import EncodedText
from attnlens.errors import TextError, UsageError
from attnlens.models.anatomy import Anatomy
from attnlens.models.encode import Text, encode, encode_many
from attnlens.models.inputs import Batch, batch_of_inputs, batch_of_pairs, batch_of_texts, encode_target
from attnlens.models.running import check_batch

__all__ = ["Item", "Reader"]

# How many batches of texts are sorted by length together: less padding, the same order outside.
_SORTED_BATCHES = 8

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Item:
    """One text as the model will see it; `source` is what an encoder-decoder reads."""

    text: EncodedText
    source: EncodedText | None = None

    @property
    def n_tokens(self) -> int:
        """Tokens of both."""
        return len(self.text.tokens) + (0 if self.source is None else len(self.source.tokens))


@dataclass(frozen=True)
class Reader:
    """What reads for one model.

    Attributes:
        model, tokenizer, anatomy: of that model; without a tokenizer only tensors can be read.
        batch_axis: which axis of tensors counts the texts.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    anatomy: Anatomy
    batch_axis: int = 0

    def item(
        self, text: Text | None, source: str | None, target: str | None, bos: bool | None, spans: Spans | None
    ) -> Item:
        """Encode one text, or one source with its target.

        Raises:
            UsageError: what was given does not fit the model's stacks.
            TextError, UnsupportedModelError: see `check_batch`.
        """
        self._require_text()
        if self.anatomy.is_encoder_decoder:
            if isinstance(text, tuple) and source is None and target is None:
                source, target = text
            elif text is not None or source is None or target is None:
                raise UsageError(
                    f"{self.anatomy.model} is an encoder-decoder; give source=... (what it reads) and target=... (what "
                    "it writes)."
                )
            item = Item(
                encode_target(self.model, self._needed(), target),  # type: ignore[arg-type]
                encode(self._needed(), source, word_spans=spans),
            )
        elif source is not None or target is not None or text is None:
            raise UsageError(
                f"{self.anatomy.model} has one stack; give it one text, or inputs=... (source= and target= are for "
                "encoder-decoders)."
            )
        else:
            item = Item(encode(self._needed(), text, bos=bos, word_spans=spans))
        self._check([item.text], [item.source])
        return item

    def n_tokens(self, text: Text, bos: bool | None) -> int:
        """How many tokens `text` becomes, special ones included."""
        return len(encode(self._needed(), text, bos=bos).tokens)

    def encoded(self, texts: Sequence[str], spans: Sequence[Spans], bos: bool | None) -> list[EncodedText | None]:
        """Texts for the only stack, tokenized in one call; None where no token comes out.

        Raises:
            UsageError: the model reads no text, or is an encoder-decoder.
        """
        self._require_text()
        if self.anatomy.is_encoder_decoder:
            raise UsageError(f"{self.anatomy.model} is an encoder-decoder; single texts are for models of one stack.")
        return encode_many(self._needed(), texts, spans, bos=bos)

    def encoded_batch(self, texts: Sequence[EncodedText]) -> Batch:
        """Encoded texts padded to one length.

        Raises:
            TextError, UnsupportedModelError: see `check_batch`.
        """
        check_batch(self.anatomy, texts)
        return self.batch([Item(text) for text in texts])

    def batch(self, items: Sequence[Item]) -> Batch:
        """Items padded to one length."""
        pad_id = self._needed().pad_token_id or 0
        texts = [item.text for item in items]
        sources = [item.source for item in items if item.source is not None]
        if sources:
            return batch_of_pairs(self.model, sources, texts, pad_id)  # type: ignore[arg-type]
        return batch_of_texts(self.model, texts, pad_id)  # type: ignore[arg-type]

    def tensors(self, inputs: Any, target: str | None = None) -> Batch:
        """The user's own tensors."""
        written = None if target is None else encode_target(self.model, self._needed(), target)  # type: ignore[arg-type]
        batch = batch_of_inputs(self.model, self.tokenizer, inputs, written, self.batch_axis)
        self._check(batch.texts, batch.sources)
        return batch

    def prompt(self, text: str | None, source: str | None, inputs: Any, bos: bool | None) -> Batch:
        """What a model begins to write from: one row.

        Args:
            text: the prompt; what an encoder-decoder reads, or with `source` how the text that it writes begins.
            source: what an encoder-decoder reads.
            inputs: tensors of the user's own instead.
            bos: as in `encode`.

        Raises:
            UsageError: not exactly one way of giving a prompt.
            TextError, UnsupportedModelError: see `check_batch`.
        """
        if (inputs is None) == (text is None and source is None):
            raise UsageError("give either a prompt (and source=... for an encoder-decoder) or inputs=....")
        if inputs is not None:
            return self.tensors(inputs)
        self._require_text()
        if not self.anatomy.is_encoder_decoder or (text is not None and source is not None):
            return self.batch([self.item(None if source else text, source, text if source else None, bos, None)])
        read = encode(self._needed(), text if source is None else source)  # type: ignore[arg-type]
        self._check([None], [read])
        given = batch_of_texts(self.model, [read], self._needed().pad_token_id or 0)  # type: ignore[arg-type]
        return Batch(given.arguments, Extents((slice(None),), given.extents.own), (None,), (read,))

    def windows(
        self, texts: Sequence[Text], batch_size: int, spans: Sequence[Spans] | None, bos: bool | None
    ) -> Iterator[list[Item]]:
        """Encode `texts`, some batches at a time.

        Raises:
            UsageError: a batch size below 1, or not one entry of `spans` per text.
            TextError: with the number of the text.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; expected at least 1.")
        if spans is not None and len(spans) != len(texts):
            raise UsageError(f"word_spans has {len(spans)} entries for {len(texts)} texts; expected one each.")
        window = batch_size * _SORTED_BATCHES
        for start in range(0, len(texts), window):
            numbers = range(start, min(start + window, len(texts)))
            yield [self._nth(i, texts[i], bos, None if spans is None else spans[i]) for i in numbers]

    def by_length(self, items: Sequence[Item], batch_size: int) -> Iterator[tuple[list[int], Batch]]:
        """Batches of items of similar length, each with the items' numbers."""
        order = sorted(range(len(items)), key=lambda i: items[i].n_tokens)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield chosen, self.batch([items[i] for i in chosen])

    def _nth(self, index: int, text: Text, bos: bool | None, spans: Spans | None) -> Item:
        try:
            return self.item(text, None, None, bos, spans)
        except TextError as error:
            raise TextError(f"text {index + 1}: {error}") from error

    def _check(self, texts: Sequence[EncodedText | None], sources: Sequence[EncodedText | None]) -> None:
        check_batch(self.anatomy, texts)
        if any(stack.letter == ENCODER for stack in self.anatomy.stacks):
            check_batch(self.anatomy, sources, ENCODER)

    def _require_text(self) -> None:
        """Refuse text for a model that reads something else.

        Raises:
            UsageError: what it reads.
        """
        reads = str(getattr(self.model, "main_input_name", "input_ids"))
        if reads != "input_ids":
            raise UsageError(
                f"{self.anatomy.model} reads {reads}, not text; write lens.capture(inputs={{{reads!r}: ...}}), with "
                "target=... for what an encoder-decoder writes."
            )

    def _needed(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise UsageError(
                f"{self.anatomy.model} was opened without a tokenizer, so it takes tensors only; write "
                "lens.capture(inputs=...), or give attnlens.load a tokenizer."
            )
        return self.tokenizer
