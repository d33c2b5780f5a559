"""The residual stream at every word of a sample, layer by layer: the only place where these probes meet a model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64

from attnlens.errors import CaptureError, OutputError, TextError
from probes.corpora.data import Sentence, Span
from probes.stream.settings import StreamSettings

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["Reading", "WordStates", "collect", "readable", "word_vectors"]

Progress = Callable[[int, int], None]
POINTS = ("embed", "resid_post")


@dataclass(frozen=True)
class Reading:
    """A text as the model reads it, with the characters of each word; empty for a word that is written nowhere."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class WordStates:
    """Word vectors of many texts, one text after another.

    Attributes:
        vectors: float32; depth 0 is the input of the first layer, depth l what layer l-1 leaves behind (before a norm
            that stands behind the last layer). Zero where a word has no token.
        kept: words that have a token.
        positions: mean index of the word's tokens in its text (0 is the text's first token, special ones included), or
            that of its first or last one, as the vectors; NaN where a word has no token.
        starts: where each text's words begin, and where the last one's end.
    """

    vectors: Float32[np.ndarray, "depth word d_model"] = field(repr=False)
    kept: Bool[np.ndarray, " word"]
    positions: Float64[np.ndarray, " word"]
    starts: Int64[np.ndarray, " bound"]

    @property
    def n_depths(self) -> int:
        """Layers and one."""
        return len(self.vectors)


def readable(lens: Lens, sentence: Sentence) -> bool:
    """Whether the model takes a sentence: within its context, and made of tokens at all."""
    try:
        n_tokens = lens.n_tokens(sentence.text, bos=True)
    except TextError:
        return False
    return lens.anatomy.max_length is None or n_tokens <= lens.anatomy.max_length


def collect(
    lens: Lens, readings: Sequence[Reading], settings: StreamSettings, progress: Progress | None = None
) -> WordStates:
    """Run every text and keep the vectors of its words at every depth.

    Raises:
        CaptureError: the model does not give what its layers leave in the stream.
        OutputError: the temporary file cannot be written.
        TextError: a text that the model does not take (see `readable`).
    """
    missing = [point for point in POINTS if point not in lens.anatomy.residual_points]
    if missing:
        raise CaptureError(
            f"{lens.anatomy.model} does not give {' and '.join(missing)} of its residual stream, which these probes "
            "read; run the families that read attention (attnlens probe all)."
        )
    starts = np.cumsum([0, *(len(reading.spans) for reading in readings)], dtype=np.int64)
    vectors: np.ndarray | None = None
    kept, positions = np.zeros(starts[-1], dtype=bool), np.full(starts[-1], np.nan)
    runs = lens.captures(
        [reading.text for reading in readings],
        batch_size=settings.batch_size,
        word_spans=[[span for span in reading.spans if span[1] > span[0]] for reading in readings],
        points=POINTS,
        bos=True,
        progress=progress,
    )
    for number, (reading, run) in enumerate(zip(readings, runs, strict=True)):
        stream = torch.cat([run.residual("embed")[None], run.residual("resid_post")]).float().cpu().numpy()
        if vectors is None:
            vectors = _room((stream.shape[0], int(starts[-1]), stream.shape[2]), settings.memory)
        here = slice(starts[number], starts[number + 1])
        words = _words_of_tokens(run, reading)
        vectors[:, here], kept[here], positions[here] = word_vectors(stream, words, len(reading.spans), settings.pieces)
    assert vectors is not None
    return WordStates(vectors, kept, positions, starts)


def word_vectors(
    stream: Float[np.ndarray, "depth token d_model"], words: Sequence[int | None], n_words: int, pieces: str
) -> tuple[Float32[np.ndarray, "depth word d_model"], Bool[np.ndarray, " word"], Float64[np.ndarray, " word"]]:
    """Vectors of words from those of tokens, which words have any, and where in the text they stand.

    Args:
        stream: at every token.
        words: of each token; None for a special one, or one of no word.
        n_words: words of the text.
        pieces: which tokens of a word count.
    """
    own: dict[int, list[int]] = {}
    for token, word in enumerate(words):
        if word is not None:
            own.setdefault(word, []).append(token)
    chosen = {"mean": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[pieces]
    shares = np.zeros((n_words, stream.shape[1]))
    for word, tokens in own.items():
        shares[word, tokens[chosen]] = 1 / len(tokens[chosen])
    kept: Bool[np.ndarray, " word"] = np.asarray(shares.any(axis=1))
    positions = np.where(kept, shares @ np.arange(stream.shape[1]), np.nan)
    return (shares.astype(np.float32) @ stream).astype(np.float32), kept, positions


def _words_of_tokens(run: Capture, reading: Reading) -> list[int | None]:
    written = [word for word, (start, end) in enumerate(reading.spans) if end > start]
    return [None if token.word is None else written[token.word] for token in run.tokens]


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Take the room now: a mapped file for which the disk has none later ends the process without a message."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:
        os.ftruncate(descriptor, n_bytes)


def _room(shape: tuple[int, int, int], memory: int) -> np.ndarray:
    """Zeros of this shape, in memory or in a temporary file that goes away with the array."""
    n_bytes = int(np.prod(shape)) * 4
    if n_bytes <= memory:
        return np.zeros(shape, dtype=np.float32)
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file.fileno(), n_bytes)
            return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"no room for {n_bytes >> 20:,} MB of word vectors in {tempfile.gettempdir()} ({error.strerror or error}); "
            "sample fewer words, or set TMPDIR to a larger disk."
        ) from error
