"""Run texts through a model and hand on what it saw as arrays: the only place where probes meet a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool

from attnlens.capture.tap import INTERFACE
from attnlens.capture.tokens import EncodedText, Token, printable
from attnlens.errors import TextError, UsageError
from attnlens.models.running import has_head
from probes.batches import BATCH_TOKENS, batches_of
from probes.corpora.data import Sentence
from probes.family import Probe
from probes.scoring.ledger import Ledger
from probes.scoring.scorer import Scorer
from probes.texts import WINDOW_WORDS, Stimulus, Text
from probes.threads import side_by_side
from probes.words import Aggregation, Observation, Reading, counted, word_attention

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["Eyes", "Seen", "chosen_layers", "reading_of"]

_PUNCTUATION = (".", ",")


@dataclass(frozen=True)
class Seen:
    """A text as a model will read it.

    Attributes:
        encoded: what the model gets.
        reading: what families get.
    """

    encoded: EncodedText
    reading: Reading


def reading_of(text: Text, encoded: EncodedText, *, causal: bool) -> Reading:
    """What annotation and tokenizer say about a text, whose words that are written anywhere are those of `encoded`."""
    written = [word for word, (start, end) in enumerate(text.spans) if end > start]
    words = [-1 if token.word is None else written[token.word] for token in encoded.tokens]
    kept = np.zeros(len(text.spans), dtype=bool)
    kept[[word for word in words if word >= 0]] = True
    special, delimiters = _marks(encoded.tokens)
    return Reading(
        key=text.key,
        cluster=text.cluster,
        confirm=text.confirm,
        kind=text.kind,
        sentences=text.sentences,
        labels=tuple(token.label for token in encoded.tokens),
        special=special,
        delimiters=delimiters,
        word_of_token=np.array(words, dtype=np.int64),
        kept=kept,
        causal=causal,
        masked=text.masked,
        ids=encoded.ids,
    )


def _marks(tokens: Sequence[Token]) -> tuple[Bool[np.ndarray, " token"], Bool[np.ndarray, " token"]]:
    """Which tokens are special, and which separate."""
    special = np.array([token.special for token in tokens], dtype=bool)
    stops = np.array([token.label in _PUNCTUATION for token in tokens], dtype=bool)
    return special, stops | (special & (np.arange(len(special)) > 0))


def chosen_layers(layers: Iterable[int], n_layers: int) -> tuple[int, ...]:
    """Layers in order, each once.

    Raises:
        UsageError: none at all, or one that the model does not have.
    """
    chosen = tuple(sorted(set(layers)))
    if not chosen:
        raise UsageError("no layer was named; write some, such as 0,3-5, or leave the choice out for all.")
    if wrong := [layer for layer in chosen if not 0 <= layer < n_layers]:
        raise UsageError(f"the model has no layer {wrong[0]}; its layers are 0 to {n_layers - 1}.")
    return chosen


class Eyes:
    """A lens with the settings under which a corpus is read.

    Attributes:
        layers: those whose heads are looked at, in order.
        heads: their addresses, layer by layer; whatever has an axis `head` has these, in this order.
        bos: every text seen so far began with the tokenizer's beginning-of-sequence token, put there by the tokenizer
            or by us; None where the tokenizer has no such token, or nothing was seen.
    """

    def __init__(
        self,
        lens: Lens,
        batch_size: int = 16,
        window: int = WINDOW_WORDS,
        *,
        batch_tokens: int = BATCH_TOKENS,
        layers: Sequence[int] | None = None,
    ) -> None:
        """Set up.

        Args:
            lens: the model.
            batch_size: texts per forward pass of `look`.
            window: words that a window of sentences has at most.
            batch_tokens: tokens per forward pass of `score`, padding included.
            layers: the layers to look at, see `chosen_layers`; None for all.
        """
        self.lens = lens
        self._chosen = None if layers is None else tuple(layers)
        self.layers = tuple(range(lens.anatomy.n_layers)) if layers is None else tuple(layers)
        self.heads = tuple(head for head in lens.anatomy.heads() if head.layer in self.layers)
        self.window = window
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
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

    @property
    def mask(self) -> str | None:
        """The mask token, where a word can be predicted in its place: a bidirectional model that writes words."""
        mask = getattr(self.lens.tokenizer, "mask_token", None)
        return str(mask) if mask and not self.causal and has_head(self.lens.model) else None

    def read(self, texts: Sequence[Text]) -> list[Seen | None]:
        """Texts as the model will read them; None for one that is too long, or without a token. No model is run."""
        spans = [[span for span in text.spans if span[1] > span[0]] for text in texts]
        encoded = self.lens.encode([text.text for text in texts], spans, bos=True)
        limit = self.lens.anatomy.max_length
        found: list[Seen | None] = []
        for text, one in zip(texts, encoded, strict=True):
            fits = one is not None and (limit is None or len(one.tokens) <= limit)
            found.append(Seen(one, reading_of(text, one, causal=self.causal)) if one is not None and fits else None)
        return found

    def stimulus(self, given: Stimulus, cluster: int, confirm: bool) -> Seen:
        """Token ids of a family's own as a text without words."""
        special = set(given.special)
        pieces = self.lens.tokenizer.convert_ids_to_tokens(list(given.ids))
        tokens = tuple(
            Token(number, printable(str(piece)), None, None, at in special)
            for at, (number, piece) in enumerate(zip(given.ids, pieces, strict=True))
        )
        marks, delimiters = _marks(tokens)
        reading = Reading(
            key=given.key,
            cluster=cluster,
            confirm=confirm,
            kind="stimulus",
            sentences=(),
            labels=tuple(token.label for token in tokens),
            special=marks,
            delimiters=delimiters,
            word_of_token=np.full(len(tokens), -1, dtype=np.int64),
            kept=np.zeros(0, dtype=bool),
            causal=self.causal,
            masked=None,
            ids=given.ids,
        )
        return Seen(EncodedText("", tokens, (), (0,) * len(tokens), False), reading)

    def score(
        self,
        texts: Sequence[Seen],
        probes: Sequence[Probe],
        ledger: Ledger,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Run texts in batches of similar length, and add the families' sums over them to the ledger.

        Args:
            texts: of one kind, in any order; the batches follow from their lengths.
            probes: the families that read this kind.
            ledger: what adds up.
            progress: called with the number of texts of each batch that is done.
        """
        anatomy = self.lens.anatomy
        self._note_bos(text.encoded.tokens for text in texts)

        def run(batch: Sequence[Seen]) -> None:
            readings = [text.reading for text in batch]
            scorer = Scorer(
                readings, probes, ledger, n_heads=anatomy.n_heads, aggregation=self.aggregation, layers=self.layers
            )
            self.lens.reduce_encoded([text.encoded for text in batch], scorer, layers=self._chosen)

        lengths = [len(text.reading.special) for text in texts]
        chosen = list(batches_of(lengths, anatomy.n_heads, self.batch_tokens))
        batches = [[texts[index] for index in batch] for batch in reversed(chosen)]
        for batch in side_by_side(run, batches, self.n_threads):
            if progress is not None:
                progress(len(batch))

    @property
    def n_threads(self) -> int:
        """Batches that may run at once: on a CPU, where transformers' interface keeps captures in threads apart."""
        anatomy = self.lens.anatomy
        alone = anatomy.route != INTERFACE or next(self.lens.model.parameters()).device.type != "cpu"
        return 1 if alone else torch.get_num_threads()

    def _note_bos(self, texts: Iterable[Sequence[Token]]) -> None:
        bos_id = self.lens.tokenizer.bos_token_id
        if bos_id is not None:
            for tokens in texts:
                self.bos = self.bos is not False and tokens[0].id == bos_id

    def look(self, texts: Sequence[Text]) -> Iterator[tuple[Text, Observation]]:
        """Each text with what the model saw, in order: all heads' weights of one text in memory at a time."""
        spans = [[span for span in text.spans if span[1] > span[0]] for text in texts]
        captures = self.lens.captures(
            [text.text for text in texts], batch_size=self.batch_size, layers=self._chosen, word_spans=spans, bos=True
        )
        for text, capture in zip(texts, captures, strict=True):
            self._note_bos([capture.tokens])
            yield text, self._observation(text, capture)

    def _observation(self, text: Text, capture: Capture) -> Observation:
        encoded = EncodedText(capture.text, capture.tokens, capture.words, (), False)
        reading = reading_of(text, encoded, causal=self.causal)
        maps = np.stack([capture.attention(layer).numpy() for layer in self.layers])
        n_heads = maps.shape[1]
        attention = counted(maps.reshape(-1, *maps.shape[2:]))
        visible = np.stack([capture.visible(layer).numpy() for layer in self.layers])
        words = [None if word < 0 else int(word) for word in reading.word_of_token]
        return Observation(
            **{part.name: getattr(reading, part.name) for part in fields(Reading)},
            attention=attention,
            visible=np.repeat(visible, n_heads, axis=0),
            words=word_attention(attention, words, len(text.spans), self.aggregation),
        )
