"""Run texts through a model and hand on what it saw as arrays: the only place where probes meet a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from attnlens.errors import TextError
from probes.corpora.data import Sentence
from probes.texts import Text
from probes.words import Aggregation, Observation, word_attention

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["Eyes"]

_PUNCTUATION = (".", ",")


class Eyes:
    """A lens with the settings under which a corpus is read.

    Attributes:
        bos: every text seen so far began with the tokenizer's beginning-of-sequence token, put there by the tokenizer
            or by us; None where the tokenizer has no such token, or nothing was seen.
    """

    def __init__(self, lens: Lens, batch_size: int) -> None:
        """`batch_size`: texts per forward pass."""
        self.lens = lens
        self.batch_size = batch_size
        self.causal = lens.anatomy.causal
        self.aggregation: Aggregation = "last" if self.causal else "mean"
        self.bos: bool | None = None
        self._lengths: dict[str, int | None] = {}

    def fits(self, sentences: Sequence[Sentence]) -> bool:
        """Whether the model can read these sentences as one text; False also where no token comes out."""
        lengths = [self._length(sentence) for sentence in sentences]
        limit = self.lens.anatomy.max_length
        known = [length for length in lengths if length is not None]
        return len(known) == len(lengths) and (limit is None or sum(known) <= limit)

    def _length(self, sentence: Sentence) -> int | None:
        """Tokens of a sentence, special ones included; a small cache, since windows ask again and again."""
        if sentence.text not in self._lengths:
            if len(self._lengths) > 4096:
                self._lengths.clear()
            try:
                self._lengths[sentence.text] = self.lens.n_tokens(sentence.text, bos=True)
            except TextError:
                self._lengths[sentence.text] = None
        return self._lengths[sentence.text]

    def look(self, texts: Sequence[Text]) -> Iterator[tuple[Text, Observation]]:
        """Each text with what the model saw, in order."""
        spans = [[span for span in text.spans if span[1] > span[0]] for text in texts]
        captures = self.lens.captures(
            [text.text for text in texts], batch_size=self.batch_size, word_spans=spans, bos=True
        )
        bos_id = self.lens.tokenizer.bos_token_id
        for text, capture in zip(texts, captures, strict=True):
            if bos_id is not None:
                self.bos = self.bos is not False and capture.tokens[0].id == bos_id
            yield text, self._observation(text, capture)

    def _observation(self, text: Text, capture: Capture) -> Observation:
        written = [word for word, (start, end) in enumerate(text.spans) if end > start]
        words = [None if token.word is None else written[token.word] for token in capture.tokens]
        maps = capture.attention().numpy()
        n_heads = maps.shape[1]
        attention = maps.reshape(-1, *maps.shape[2:])
        kept = np.zeros(len(text.spans), dtype=bool)
        kept[[word for word in words if word is not None]] = True
        special = np.array([token.special for token in capture.tokens])
        stops = np.array([token.label in _PUNCTUATION for token in capture.tokens])
        visible = np.stack([capture.visible(layer).numpy() for layer in range(capture.n_layers)])
        return Observation(
            key=text.key,
            cluster=text.cluster,
            confirm=text.confirm,
            kind=text.kind,
            sentences=text.sentences,
            labels=tuple(token.label for token in capture.tokens),
            attention=attention,
            visible=np.repeat(visible, n_heads, axis=0),
            special=special,
            delimiters=stops | (special & (np.arange(len(special)) > 0)),
            words=word_attention(attention, words, len(text.spans), self.aggregation),
            word_of_token=np.array([-1 if word is None else word for word in words], dtype=np.int64),
            kept=kept,
            causal=self.causal,
            masked=text.masked,
        )
