"""All that a probe of the stream reads: a sample with its halves, vectors of the model and of its controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from attnlens.capture.tokens import printable
from attnlens.errors import ProbeDataError
from probes.corpora.data import Corpus
from probes.split import Split
from probes.stream.controls import random_copy, shuffled
from probes.stream.sample import PARTS, Part, Sampled, draw_sample
from probes.stream.settings import StreamSettings
from probes.stream.states import Progress, Reading, WordStates, collect, readable

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["RANDOM_WEIGHTS", "SHUFFLED_WORDS", "Gathered", "Steps", "gather"]

RANDOM_WEIGHTS = "random weights"
SHUFFLED_WORDS = "shuffled words"


class Steps:
    """Adds up the work of several stages into one count of done and total, in sentences run."""

    def __init__(self, progress: Progress | None, passes: int, fits: int) -> None:
        """`passes` over the sample, then `fits`, each of which counts like an eighth of a pass."""
        self._progress, self._passes, self._fits = progress, passes, fits
        self._done = self._n = 0

    def begin(self, n_sentences: int) -> None:
        """Say how many sentences a pass has."""
        self._n = n_sentences

    def of_pass(self, number: int) -> Callable[[int, int], None]:
        """What hears of the sentences of one pass."""

        def heard(done: int, _total: int) -> None:
            self._tell(number * self._n + done)

        return heard

    def fitted(self) -> None:
        """One more fit is done."""
        self._tell(max(self._done, self._passes * self._n) + self._fit)

    @property
    def _fit(self) -> int:
        return max(1, self._n // 8)

    def _tell(self, done: int) -> None:
        total = self._passes * self._n + self._fits * self._fit
        self._done = min(done, total)
        if self._progress is not None:
            self._progress(self._done, total)


@dataclass(frozen=True)
class Gathered:
    """The sample and what was collected on it; word arrays run over the words of all sentences, in their order.

    Attributes:
        sampled: the sentences.
        states: of the model.
        random: of a copy with random weights; None where there is none.
        shuffled: of the model on the same words out of order, each put back where it stands in its sentence; None
            unless asked for.
        clusters: unit of each word.
        about: JSON values that say what this is.
    """

    sampled: Sequence[Sampled]
    states: WordStates
    random: WordStates | None
    shuffled: WordStates | None
    clusters: Int64[np.ndarray, " word"]
    about: dict[str, Any] = field(default_factory=dict)

    def words(self, part: Part, states: WordStates | None = None) -> Int64[np.ndarray, " chosen"]:
        """Indices of the words of a part that have a vector (in `states`, or in the model's own)."""
        of_part = np.repeat([sampled.part == part for sampled in self.sampled], np.diff(self.states.starts))
        return np.flatnonzero(of_part & (states or self.states).kept)

    def sentences(self, part: Part) -> list[int]:
        """Indices of the sentences of a part."""
        return [number for number, sampled in enumerate(self.sampled) if sampled.part == part]


def gather(
    lens: Lens,
    corpus: Corpus,
    split: Split,
    settings: StreamSettings,
    *,
    seed: int,
    steps: Steps,
    out_of_order: bool = False,
) -> Gathered:
    """Draw the sample and run it through the model, through a copy with random weights, and once more out of order.

    Args:
        lens: the model.
        corpus: where sentences come from.
        split: its halves.
        settings: size of the sample, pieces, memory.
        seed: of the sample, the random weights and the random orders.
        steps: what hears of the progress.
        out_of_order: whether to run the sentences with their words shuffled, too.

    Raises:
        ProbeDataError: too few sentences, or no word with a token in a part.
        CaptureError, OutputError: see `collect`.
    """
    sampled, n_skipped = draw_sample(
        corpus, split, words=settings.words, seed=seed, usable=lambda sentence: readable(lens, sentence)
    )
    steps.begin(len(sampled))
    readings = [Reading(each.sentence.text, each.sentence.spans) for each in sampled]
    states = collect(lens, readings, settings, steps.of_pass(0))
    copied = random_copy(lens, seed)
    random = None if copied.lens is None else collect(copied.lens, readings, settings, steps.of_pass(1))
    mixed = _out_of_order(lens, sampled, settings, seed, steps) if out_of_order else None
    lengths = np.diff(states.starts)
    clusters = np.repeat([each.cluster for each in sampled], lengths)
    gathered = Gathered(sampled, states, random, mixed, clusters)
    for part in PARTS:
        if not len(gathered.words(part)):
            raise ProbeDataError(
                f"{lens.anatomy.model} makes no token of any word in the part of {corpus.name} that probes are "
                f"{_USES[part]}; is the corpus in a language of the tokenizer?"
            )
    gathered.about.update(_about(gathered, settings, n_skipped, copied.why))
    return gathered


_USES = {"fit": "fitted on", "stop": "stopped with", "confirm": "scored on"}


def _out_of_order(
    lens: Lens, sampled: Sequence[Sampled], settings: StreamSettings, seed: int, steps: Steps
) -> WordStates:
    """States of the words out of order, put back where each word stands in its sentence."""
    mixed = [shuffled(each, seed) for each in sampled]
    fits = [number for number, (reading, _) in enumerate(mixed) if _fits(lens, reading)]
    states = collect(lens, [mixed[number][0] for number in fits], settings, steps.of_pass(2))
    starts = np.cumsum([0, *(len(each.sentence) for each in sampled)], dtype=np.int64)
    target = np.concatenate([starts[number] + mixed[number][1] for number in fits])
    vectors = np.zeros((states.n_depths, int(starts[-1]), states.vectors.shape[2]), dtype=np.float32)
    kept, positions = np.zeros(starts[-1], dtype=bool), np.full(starts[-1], np.nan)
    vectors[:, target], kept[target], positions[target] = states.vectors, states.kept, states.positions
    return WordStates(vectors, kept, positions, starts)


def _fits(lens: Lens, reading: Reading) -> bool:
    limit = lens.anatomy.max_length
    return bool(reading.text.strip()) and (limit is None or lens.n_tokens(reading.text, bos=True) <= limit)


def _about(gathered: Gathered, settings: StreamSettings, n_skipped: int, why: str | None) -> dict[str, Any]:
    return {
        "words": {part: len(gathered.words(part)) for part in PARTS},
        "sentences": {part: len(gathered.sentences(part)) for part in PARTS},
        "n_skipped_sentences": n_skipped,
        "n_dropped_words": int((~gathered.states.kept).sum()),
        "limit_words": settings.words,
        "pieces": settings.pieces,
        "random_weights": None if why is None else printable(why),
    }
