"""A second look at a bounded sample, after the scores are known, with the matrices of all heads at hand.

Trees, ensembles and parsers need more than sums over a corpus. They get the same sentences whatever the corpus's size
and however it was cut: of those that have a tree and at most 60 words, the ones whose keys rank lowest by hash, in each
half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from probes.corpora.data import Corpus
from probes.family import Probe
from probes.sample import Sample
from probes.split import Split
from probes.tally import UNIT, Key, Tally
from probes.texts import Text, texts_of
from probes.words import Observation

if TYPE_CHECKING:
    from probes.seeing import Eyes

__all__ = ["LONGEST", "PER_HALF", "CloseReading", "ReadingClosely", "close_sample", "read_closely"]

PER_HALF = 256
LONGEST = 60  # words; matrices of longer sentences would fill the memory
SHORTEST = 2

Looks = Callable[[], Iterator[Observation]]


@dataclass(frozen=True)
class CloseReading:
    """What a family reads closely.

    Attributes:
        heads: their names, in order.
        confirm: which clusters confirm.
        alone: per question the SELECT score of every head over the whole corpus.
        look: the sampled sentences, SELECT first; each call runs the model.
        look_random: the same sentences read by a copy of the model with random weights; None where there is none.
        seed, bootstrap: of intervals.
    """

    heads: tuple[str, ...]
    confirm: Bool[np.ndarray, " cluster"]
    alone: Mapping[Key, Float64[np.ndarray, " head"]]
    look: Looks
    look_random: Looks | None
    seed: int
    bootstrap: int


@runtime_checkable
class ReadingClosely(Protocol):
    """A family that has more to say once it has seen whole matrices."""

    def read_closely(self, reading: CloseReading) -> Mapping[str, Any]:
        """Objects of `heads.json` by name; nothing where the sentences have nothing for them."""
        ...


def read_closely(
    probes: Sequence[Probe],
    tallies: Mapping[str, Tally],
    eyes: Eyes,
    random_eyes: Callable[[], Eyes] | None,
    corpus: Corpus,
    split: Split,
    *,
    seed: int,
    bootstrap: int,
) -> dict[str, Any]:
    """What all families find on closer reading.

    Args:
        probes: the families of the run.
        tallies: what each of them counted.
        eyes: the model.
        random_eyes: opens a copy of the model with random weights; None leaves that baseline out.
        corpus: read through once more for the sample.
        split: of the corpus.
        seed: of sample and intervals.
        bootstrap: replicates of the intervals.
    """
    closely = [probe for probe in probes if isinstance(probe, ReadingClosely)]
    if not closely:
        return {}
    texts = close_sample(corpus, split, eyes, seed)
    found: dict[str, Any] = {}
    for probe in closely:
        reading = CloseReading(
            heads=tuple(map(str, eyes.lens.anatomy.heads())),
            confirm=split.confirm,
            alone=_alone(tallies[probe.name], split),
            look=_looks(lambda: eyes, texts),
            look_random=None if random_eyes is None else _looks(random_eyes, texts),
            seed=seed,
            bootstrap=bootstrap,
        )
        found |= probe.read_closely(reading)
    return found


def close_sample(corpus: Corpus, split: Split, eyes: Eyes, seed: int) -> list[Text]:
    """The sampled sentences of both halves, SELECT first; each half by length, so that batches waste little."""
    halves = [Sample[Text](PER_HALF, seed=seed, question=f"close reading {half}") for half in ("select", "confirm")]
    for text in texts_of(corpus.documents(), split, "sentence", lambda _: True, lambda _: None):
        half = halves[text.confirm]
        if _is_usable(text) and half.wants(text.key) and eyes.fits(text.sentences):
            half.offer(text.key, text)
    return [text for half in halves for text in sorted(half, key=lambda text: (len(text.spans), text.key))]


def _is_usable(text: Text) -> bool:
    return SHORTEST <= len(text.spans) <= LONGEST and bool(text.sentences[0].heads)


def _looks(eyes: Callable[[], Eyes], texts: Sequence[Text]) -> Looks:
    return lambda: (seen for _, seen in eyes().look(texts))


def _alone(tally: Tally, split: Split) -> dict[Key, Float64[np.ndarray, " head"]]:
    """SELECT scores of the questions that occur there."""
    select = ~split.confirm
    return {
        key: cell.hits[select].sum(axis=0) / UNIT / n
        for key, cell in tally.cells.items()
        if (n := int(cell.trials[select].sum()))
    }
