"""One shard of a corpus through the model: every family that reads a kind of text is fed from the same pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from probes.corpora.data import Document, Sentence
from probes.family import Masking, Probe, Stimulating, rule_names
from probes.scoring.ledger import Ledger
from probes.seeing import Eyes, Seen
from probes.shards import Shard, ShardResult
from probes.split import Split
from probes.texts import Kind, Text, masked_texts, stimulus_cluster, texts_of

__all__ = ["STIMULI", "run_shard", "run_stimuli"]

STIMULI = -1
"""Number of the result that holds the families' own texts, which belong to no shard of the corpus."""


def run_shard(
    eyes: Eyes,
    shard: Shard,
    probes: Sequence[Probe],
    split: Split,
    progress: Callable[[int], None] | None = None,
) -> ShardResult:
    """Read one shard and add up what every family asks of every head.

    Args:
        eyes: the model.
        shard: the sentences; no batch holds a text of another shard, so the result depends on these alone.
        probes: the families.
        split: of the whole corpus.
        progress: called with the number of texts of each batch that is done.
    """
    found = _Found(eyes, shard.documents, split)
    ledger = _ledger(eyes, probes)
    dropped: dict[str, int] = {}
    for kind, texts in found.by_kind(probes):
        readers = [probe for probe in probes if kind in probe.reads]
        eyes.score(texts, readers, ledger, progress)
        dropped[kind] = sum(int((~text.reading.kept).sum()) for text in texts)
    clusters, tallies = ledger.tallies()
    return ShardResult(shard.number, clusters, tallies, tuple(sorted(found.skipped)), dropped, eyes.bos)


def run_stimuli(eyes: Eyes, probes: Sequence[Probe], split: Split, seed: int) -> ShardResult | None:
    """Let every family that brings texts of its own read them; None where there is no such text.

    Args:
        eyes: the model.
        probes: the families; each reads its own texts only.
        split: of the corpus, among whose clusters the texts are dealt out.
        seed: of what families draw.
    """
    ledger, any_text = _ledger(eyes, probes), False
    for probe in probes:
        if isinstance(probe, Stimulating) and "stimulus" in probe.reads:
            given = list(probe.stimuli(eyes.lens.anatomy, eyes.lens.tokenizer, seed))
            clusters = [stimulus_cluster(number, split) for number in range(len(given))]
            texts = [
                eyes.stimulus(stimulus, cluster, bool(split.confirm[cluster]))
                for stimulus, cluster in zip(given, clusters, strict=True)
            ]
            eyes.score(texts, [probe], ledger)
            any_text = any_text or bool(texts)
    return ShardResult(STIMULI, *ledger.tallies(), bos=None) if any_text else None


def _ledger(eyes: Eyes, probes: Sequence[Probe]) -> Ledger:
    return Ledger({probe.name: rule_names(probe) for probe in probes}, len(eyes.heads))


class _Found:
    """The texts of a shard, as the model will read them; each sentence is tokenized once by itself.

    Attributes:
        skipped: sentences that the model cannot read, by the names that no other sentence of the corpus has.
    """

    def __init__(self, eyes: Eyes, documents: Sequence[Document], split: Split) -> None:
        self.eyes, self.documents, self.split = eyes, documents, split
        self.skipped: set[str] = set()
        self._lengths: Mapping[int, int] = {}

    def by_kind(self, probes: Sequence[Probe]) -> Iterator[tuple[Kind, list[Seen]]]:
        """The texts of each kind that some family reads."""
        kinds = {kind for probe in probes for kind in probe.reads}
        sentences = list(texts_of(self.documents, self.split, "sentence", lambda _: True, lambda _: None))
        read = self.eyes.read(sentences)
        self._lengths = {
            id(text.sentences[0]): len(seen.reading.special)
            for text, seen in zip(sentences, read, strict=True)
            if seen is not None
        }
        self.skipped = {text.key for text, seen in zip(sentences, read, strict=True) if seen is None}
        usable = [(text, seen) for text, seen in zip(sentences, read, strict=True) if seen is not None]
        if "sentence" in kinds:
            yield "sentence", [seen for _, seen in usable]
        if "masked" in kinds and self.eyes.mask is not None:
            maskers = [probe for probe in probes if isinstance(probe, Masking) and "masked" in probe.reads]
            yield "masked", self._masked([text for text, _ in usable], maskers, self.eyes.mask)
        if "window" in kinds:
            windows = list(texts_of(self.documents, self.split, "window", self._fits, lambda _: None, self.eyes.window))
            yield "window", [seen for seen in self.eyes.read(windows) if seen is not None]

    def _fits(self, sentences: Sequence[Sentence]) -> bool:
        """Whether the model can read these sentences together: their tokens, special ones counted each time."""
        lengths = [self._lengths.get(id(sentence)) for sentence in sentences]
        limit = self.eyes.lens.anatomy.max_length
        known = [length for length in lengths if length is not None]
        return len(known) == len(lengths) and (limit is None or sum(known) <= limit)

    def _masked(self, texts: Sequence[Text], maskers: Sequence[Masking], mask: str) -> list[Seen]:
        """Each word that some family wants to see predicted, once; a text that the mask makes too long is left out."""
        masked = []
        for text in texts:
            words = {word for masker in maskers for word in masker.masks(text.sentences)}
            masked += list(masked_texts(text, words, mask))
        return [seen for seen in self.eyes.read(masked) if seen is not None]
