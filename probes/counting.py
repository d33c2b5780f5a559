"""The main pass of a run: shards of the corpus are counted somewhere, and their sums come together here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnlens.errors import ProbeDataError
from probes.batches import BATCH_TOKENS
from probes.corpora.data import Corpus
from probes.family import Probe, Stimulating, rule_names
from probes.seeing import Eyes
from probes.shards import SHARD_SENTENCES, Shard, ShardResult, Totals, shards_of
from probes.split import Split
from probes.tally import Tally
from probes.texts import WINDOW_WORDS
from probes.walk import STIMULI, run_shard, run_stimuli

if TYPE_CHECKING:
    from attnlens.models.lens import Lens
    from probes.checkpoints import Checkpoints

__all__ = ["Counter", "Plan", "Progress", "count_corpus", "count_here"]

Progress = Callable[[int, int], None]
"""Called with (sentences done, sentences in all)."""


@dataclass(frozen=True)
class Plan:
    """What is counted of every shard, and how; it can be sent to other processes.

    Attributes:
        probes: the families.
        split: of the whole corpus.
        seed: of what families draw.
        window: words that a window of sentences has at most.
        batch_size: texts per forward pass where whole matrices are read.
        batch_tokens: tokens per forward pass where sums are made, padding included.
        shard_sentences: sentences of a shard.
        layers: whose heads are looked at, in order; None for all.
    """

    probes: tuple[Probe, ...]
    split: Split
    seed: int = 0
    window: int = WINDOW_WORDS
    batch_size: int = 16
    batch_tokens: int = BATCH_TOKENS
    shard_sentences: int = SHARD_SENTENCES
    layers: tuple[int, ...] | None = None

    def eyes(self, lens: Lens) -> Eyes:
        """A model as the plan reads it."""
        return Eyes(lens, self.batch_size, self.window, batch_tokens=self.batch_tokens, layers=self.layers)

    def count(self, lens: Lens, shard: Shard) -> ShardResult:
        """The sums of one shard. They depend on the model, the shard and the plan alone, whoever counts them."""
        if shard.number != STIMULI:
            return run_shard(self.eyes(lens), shard, self.probes, self.split)
        eyes = self.eyes(lens)
        found = run_stimuli(eyes, self.probes, self.split, self.seed)
        nothing = {probe.name: Tally(0, len(eyes.heads), rule_names(probe)) for probe in self.probes}
        return found or ShardResult(STIMULI, np.zeros(0, np.int64), nothing)

    def shards(self, corpus: Corpus) -> Iterator[Shard]:
        """All shards of the corpus, and first one without sentences for texts that the families bring themselves."""
        if any(isinstance(probe, Stimulating) and "stimulus" in probe.reads for probe in self.probes):
            yield Shard(STIMULI, ())
        yield from shards_of(corpus.documents(), self.shard_sentences)


Counter = Callable[["Lens", Plan, Iterator[Shard]], Generator[ShardResult, None, None]]
"""What does the work: it takes shards as it can, and gives each one's result once, in any order."""


def count_here(lens: Lens, plan: Plan, shards: Iterator[Shard]) -> Generator[ShardResult, None, None]:
    """Count shards in this process, one after the other."""
    for shard in shards:
        yield plan.count(lens, shard)


def count_corpus(
    lens: Lens,
    plan: Plan,
    corpus: Corpus,
    counter: Counter = count_here,
    *,
    store: Checkpoints | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Totals:
    """Count a whole corpus; the same sums whatever does the work, in whatever order, after whatever interruption.

    Args:
        lens: the model.
        plan: what is counted.
        corpus: read once.
        counter: what does the work.
        store: where each finished shard is kept until the results are written.
        resume: take up the shards that an interrupted run has left in `store`.
        progress: told after each shard.

    Raises:
        ProbeDataError: no sentence fits the model.
        ResultsError: `store` holds shards of another run.
        OutputError: a shard cannot be written, such as on a full disk; those that were written stay.
    """
    n_heads = len(plan.eyes(lens).heads)
    totals = Totals(len(plan.split.confirm), n_heads, {probe.name: rule_names(probe) for probe in plan.probes})
    if not plan.probes:  # all families of the run are probes of the stream, which read for themselves
        return totals
    if store is not None:
        store.begin(resume=resume)
        store.take_up(totals)
    sizes: dict[int, int] = {}
    done = 0

    def tell() -> None:
        if progress is not None:
            progress(done, corpus.n_sentences)

    def missing() -> Iterator[Shard]:
        nonlocal done
        for shard in plan.shards(corpus):
            if shard.number in totals.numbers:
                done += shard.n_sentences
                tell()
            else:
                sizes[shard.number] = shard.n_sentences
                yield shard

    with closing(counter(lens, plan, missing())) as results:  # workers end with it, whatever happens
        for result in results:
            if store is not None:
                store.save(result)
            totals.absorb(result)
            if store is not None:
                store.fold(totals)
            done += sizes.pop(result.number, 0)
            tell()
    if len(totals.skipped) == corpus.n_sentences:
        raise ProbeDataError(
            f"no sentence of {corpus.name} fits {lens.anatomy.model} "
            f"(at most {lens.anatomy.max_length} tokens); use a corpus with shorter sentences."
        )
    for tally in totals.tallies.values():
        tally.cells = {key: tally.cells[key] for key in tally}  # the same order, whoever was first
    return totals
