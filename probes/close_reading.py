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
from jaxtyping import Bool, Float, Float32, Float64

from probes.corpora.data import Corpus, Sentence
from probes.family import Pointer, Probe, Rule, Wording
from probes.questions import OptionTrials, RowTrials
from probes.sample import Sample
from probes.scoring.ledger import Ledger
from probes.split import Split
from probes.tally import UNIT, Key, Tally
from probes.texts import Kind, Text, texts_of
from probes.view import LayerView, Sums, Values
from probes.words import Reading

if TYPE_CHECKING:
    from probes.seeing import Eyes

__all__ = ["LONGEST", "PER_HALF", "CloseReading", "Matrices", "ReadingClosely", "close_sample", "look", "read_closely"]

PER_HALF = 256
LONGEST = 60  # words; matrices of longer sentences would fill the memory
SHORTEST = 2


@dataclass(frozen=True)
class Matrices:
    """All heads' weights on one text, in single precision, heads in the order of layers.

    Attributes:
        reading: the text.
        words: word-level weights, see `probes.words.word_attention`.
        to_special: of each word, its weight on all special tokens together.
        from_special: of each word, the mean weight that special tokens put on it. Both are 0 without special tokens.
    """

    reading: Reading
    words: Float32[np.ndarray, "head word other"]
    to_special: Float32[np.ndarray, "head word"]
    from_special: Float32[np.ndarray, "head word"]

    @classmethod
    def of(
        cls,
        reading: Reading,
        words: Float64[np.ndarray, "head word other"],
        tokens: Float[np.ndarray, "head query key"],
    ) -> Matrices:
        """From weights of words and of tokens; a word's row is that of its pieces, or of the last one, as for words."""
        pieces = (reading.word_of_token[None, :] == np.arange(len(reading.kept))[:, None]).astype(np.float32)
        rows = pieces
        if reading.causal:
            rows = pieces * (pieces[:, ::-1].cumsum(axis=1)[:, ::-1] == 1)
        rows = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
        special = reading.special
        share = np.float32(1 / max(special.sum(), 1))
        return cls(
            reading=reading,
            words=words.astype(np.float32),
            to_special=np.asarray(tokens[:, :, special].sum(axis=2) @ rows.T, dtype=np.float32),
            from_special=np.asarray(tokens[:, special].sum(axis=1) @ pieces.T * share, dtype=np.float32),
        )


Looks = Callable[[], Sequence[Matrices]]


@dataclass(frozen=True)
class CloseReading:
    """What a family reads closely.

    Attributes:
        heads: their names, in order.
        confirm: which clusters confirm.
        alone: per question the SELECT score of every head over the whole corpus.
        look: gives the sampled sentences, SELECT first; each call runs the model.
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
            heads=tuple(map(str, eyes.heads)),
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
    return lambda: look(eyes(), texts)


def look(eyes: Eyes, texts: Sequence[Text]) -> list[Matrices]:
    """What a model does on texts, in their order; all of it is in memory at once."""
    seen = [each for each in eyes.read(texts) if each is not None]
    collector = _Collector()
    eyes.score(seen, [collector], Ledger({collector.name: ()}, len(eyes.heads)))
    return [_joined(collector.layers[each.reading.key]) for each in seen]


def _joined(layers: Sequence[Matrices]) -> Matrices:
    parts = ("words", "to_special", "from_special")
    whole = {name: np.concatenate([getattr(layer, name) for layer in layers]) for name in parts}
    return Matrices(reading=layers[0].reading, **whole)


class _Collector:
    """Keeps the weights of every layer that passes by; it asks nothing, and counts nothing."""

    name: str = "close reading"
    reads: tuple[Kind, ...] = ("sentence",)
    rules: tuple[Rule, ...] = ()
    contrast: bool = False
    controlled: bool = False

    def __init__(self) -> None:
        self.layers: dict[str, list[Matrices]] = {}

    def measure(self, view: LayerView) -> Iterator[Values | Sums]:
        """Keep one layer of a batch."""
        for reading, words, tokens in zip(view.readings, view.words.numpy(), view.tokens.numpy(), strict=True):
            n_words, n_tokens = len(reading.kept), len(reading.special)
            of_words, of_tokens = words[:, :n_words, :n_words], tokens[:, :n_tokens, :n_tokens]
            self.layers.setdefault(reading.key, []).append(Matrices.of(reading, of_words, of_tokens))
        return iter(())

    def refusal(self, corpus: Corpus) -> str | None:
        """Reads anything."""
        return None

    def ask(self, reading: Reading) -> tuple[RowTrials | OptionTrials, ...]:
        """Nothing."""
        return ()

    def asks(self, sentences: Sequence[Sentence]) -> set[Key]:
        """Nothing."""
        return set()

    def wording(self, key: Key) -> Wording | None:
        """No label."""
        return None

    def pointer(self, key: Key, reading: Reading) -> Pointer | None:
        """No example."""
        return None


def _alone(tally: Tally, split: Split) -> dict[Key, Float64[np.ndarray, " head"]]:
    """SELECT scores of the questions that occur there."""
    select = ~split.confirm
    return {
        key: cell.hits[select].sum(axis=0) / UNIT / n
        for key, cell in tally.cells.items()
        if (n := int(cell.trials[select].sum()))
    }
