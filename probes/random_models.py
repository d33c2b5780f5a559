"""Copies of a model with random weights (baseline b3): what heads score that have learned nothing.

A copy has the same config, drawn anew by transformers' own rules from a fixed seed, and the same tokenizer. The copies
read a share of the corpus that is chosen by hash, so that all of them together cost about one pass; per question the
best head of the best copy counts. The largest of some hundred scores on a share is itself a little too high, which
makes the baseline harder to beat, and never easier. Below the least number of trials the question is not measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.errors import AttnlensError
from probes.baselines import RandomBest
from probes.corpora.data import Corpus, Document
from probes.family import Probe, meets_random, rule_names
from probes.split import Split
from probes.tally import UNIT, Key, Tally

if TYPE_CHECKING:
    from attnlens.models.lens import Lens
    from probes.seeing import Eyes

__all__ = [
    "UNMEASURED",
    "RandomPass",
    "RandomReader",
    "Read",
    "choose",
    "copies",
    "measure_random",
    "read_share",
    "share_of",
]

BLOCK = 16  # consecutive sentences that are chosen together, so that windows keep their context
ENOUGH = 240  # sentences: a corpus may be read whole up to here
MOST = 5_000  # sentences: what a copy reads at most, however large the corpus


@dataclass(frozen=True)
class RandomPass:
    """What random weights do.

    Attributes:
        seeds: of the copies.
        n_sentences: that each copy read.
        best: per family and question, where there were enough trials.
        reason: why nothing was measured; None where it was.
    """

    seeds: tuple[int, ...] = ()
    n_sentences: int = 0
    best: Mapping[tuple[str, Key], RandomBest] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        return {
            "seeds": list(self.seeds),
            "n_sentences": self.n_sentences,
            "n_questions": len(self.best),
            "reason": self.reason,
        }


UNMEASURED = RandomPass(reason="no copies were asked for")


Read = Callable[["Lens"], tuple[Mapping[str, Tally], int]]
"""How one copy reads: it gives the families' tallies and the number of sentences."""

RandomReader = Callable[["Lens", int, Read, int], RandomPass]
"""What has copies read, as `measure_random` does."""


def share_of(corpus: Corpus, n_models: int) -> float:
    """The share of a corpus that each copy reads: all copies together about once the corpus, more of a small one."""
    n = max(corpus.n_sentences, 1)
    return min(1.0, max(1 / n_models, ENOUGH / n), MOST / n)


def choose(documents: Iterable[Document], share: float, seed: int = 0) -> Iterator[Document]:
    """Runs of sentences chosen by hash of their place: the same ones however the corpus is cut or ordered."""
    for document in documents:
        for block in _blocks(document):
            name = f"random weights\0{seed}\0{document.id}\0{block.first}"
            digest = hashlib.sha256(name.encode()).digest()
            if int.from_bytes(digest[:8], "big") < share * 2**64:
                yield block


def _blocks(document: Document) -> Iterator[Document]:
    """The document in runs that begin at multiples of `BLOCK` sentences."""
    at = 0
    while at < len(document.sentences):
        place = document.first + at
        part = document.sentences[at : at + BLOCK - place % BLOCK]
        yield replace(document, sentences=part, first=place)
        at += len(part)


def copies(lens: Lens, seeds: Sequence[int]) -> Iterator[Lens]:
    """The model once per seed with random weights, opened and checked; one in memory at a time.

    Raises:
        AttnlensError: a copy cannot be opened.
    """
    import torch

    from attnlens.models.lens import Lens
    from attnlens.models.loading import LoadedModel

    parameter = next(lens.model.parameters())
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = type(lens.model)(deepcopy(lens.model.config))
        model = model.to(device=parameter.device, dtype=parameter.dtype).eval()
        yield Lens(LoadedModel(f"{lens.anatomy.model} with random weights", model, lens.tokenizer, None, None))


def measure_random(
    lens: Lens,
    n_models: int,
    read: Read,
    fewest: int,
) -> RandomPass:
    """Let copies of a model read, and keep the best score per question.

    Args:
        lens: the model.
        n_models: number of copies; 0 measures nothing, and says so.
        read: runs the families over the chosen share of the corpus; gives their tallies and the number of sentences.
        fewest: trials below which a question is not measured.
    """
    if n_models < 1:
        return UNMEASURED
    reason = _refusal(lens)
    if reason is not None:
        return RandomPass(reason=reason)
    seeds = tuple(range(n_models))
    best: dict[tuple[str, Key], RandomBest] = {}
    n_sentences = 0
    try:
        for copy in copies(lens, seeds):
            tallies, n_sentences = read(copy)
            for family, tally in tallies.items():
                for key in tally:
                    _keep_best(best, (family, key), tally, fewest)
    except AttnlensError as error:
        return RandomPass(reason=f"a copy with random weights could not be read: {error}")
    return RandomPass(seeds, n_sentences, best)


def read_share(
    make: Callable[[Lens], Eyes],
    corpus: Corpus,
    probes: Sequence[Probe],
    split: Split,
    n_models: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Read:
    """What `measure_random` asks of a copy: the chosen share of the corpus, for the families that meet random weights.

    Args:
        make: how a copy reads, which is how the model itself does.
        corpus: of the run.
        probes: of the run.
        split: of the corpus.
        n_models: number of copies that share it.
        seed: of the choice.
        progress: called with (sentences read by all copies, sentences in all), which is a guess for the first copy.
    """
    from probes.shards import Totals, shards_of
    from probes.walk import run_shard, run_stimuli

    compared = [probe for probe in probes if meets_random(probe)]
    share, per_copy, done = share_of(corpus, n_models), 0, 0

    def tell(n_sentences: int) -> None:
        nonlocal done
        done += n_sentences
        if progress is not None:
            progress(done, max(done, n_models * (per_copy or round(share * corpus.n_sentences))))

    def read(copy: Lens) -> tuple[Mapping[str, Tally], int]:
        nonlocal per_copy
        eyes = make(copy)
        totals = Totals(len(split.confirm), len(eyes.heads), {probe.name: rule_names(probe) for probe in compared})
        n_sentences = 0
        for shard in shards_of(choose(corpus.documents(), share, seed)):
            totals.absorb(run_shard(eyes, shard, compared, split))
            n_sentences += shard.n_sentences
            tell(shard.n_sentences)
        stimuli = run_stimuli(eyes, compared, split, seed)
        if stimuli is not None:
            totals.absorb(stimuli)
        per_copy = n_sentences
        tell(0)
        return totals.tallies, n_sentences

    return read


def _refusal(lens: Lens) -> str | None:
    from transformers import PreTrainedModel

    if not isinstance(lens.model, PreTrainedModel):
        return "the model has no config of transformers to make copies from"
    if getattr(lens.model, "is_quantized", False):
        return "the model is quantised, and its config makes another one"
    return None


def _keep_best(best: dict[tuple[str, Key], RandomBest], question: tuple[str, Key], tally: Tally, fewest: int) -> None:
    cell = tally.cells[question[1]]
    n = int(cell.trials.sum())
    if n < fewest:
        return
    hits, mass = (float(np.max(sums.sum(axis=0), initial=0)) / UNIT / n for sums in (cell.hits, cell.mass))
    known = best.get(question)
    best[question] = RandomBest(hits, mass, n) if known is None else _better(known, hits, mass, n)


def _better(known: RandomBest, hits: float, mass: float, n: int) -> RandomBest:
    return RandomBest(max(known.hits, hits), max(known.mass, mass), n)
