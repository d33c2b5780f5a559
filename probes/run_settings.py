"""What a run depends on besides model, families and corpus, as one object that engines hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnlens.errors import UsageError
from probes.batches import BATCH_TOKENS
from probes.causal import CausalSettings
from probes.evidence import PER_SIDE
from probes.shards import SHARD_SENTENCES
from probes.stream.settings import StreamSettings
from probes.texts import WINDOW_WORDS

__all__ = ["FamilyOptions", "RunSettings"]

FamilyOptions = Mapping[str, Mapping[str, Any]]
"""Arguments of families besides the seed, by the families' names."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run; those of `probes.engine.run` and of every other engine.

    Attributes:
        seed: of control words, bootstrap and permutations; the same input gives the same result.
        limit: only the first so many sentences.
        skip_bad: leave sentences and rows with a fault out, and count them.
        batch_size: texts per forward pass where all heads' matrices are read: examples and closer reading.
        batch_tokens: tokens per forward pass over the corpus, padding included.
        bootstrap: number of bootstrap replicates.
        permutations: number of sign patterns.
        random_models: copies with random weights whose best head a label has to beat; 0 leaves this out and says so.
        with_stream: "all" includes the probes of the residual stream, which are trained; by name they run without it.
        stream: options of these probes; `bootstrap` and `batch_size` are taken from above.
        window: words that a window of whole sentences has at most, for families that read across sentences.
        close_reading: trees, ensembles and parsers from a sample of sentences whose matrices are read whole; the copy
            with random weights that they are held against is the first of `random_models`.
        keep_counts: the result holds what was counted, so that it can be merged with others, see `HeadReport.merge`.
        options: of families by their name, such as `{"lexical": {"frequencies": "words.tsv"}}`.
        examples: sentences beside each label, so many of the best and of the worst; 0 leaves text of the corpus out.
        relations: names or labels of the questions that are tested, labelled and reported, of the families that compare
            with rules; None for all. Fewer tests are corrected for; see `probes.choosing`.
        layers: whose heads are scored and labelled; None for all. Probes of the residual stream read every layer.
        shard_sentences: sentences that are counted, and kept, together; no batch holds sentences of two shards.
        checkpoints: a folder of this run's own, in which every finished shard is kept; whoever has saved the report
            removes it.
        resume: go on with the shards in `checkpoints`; the result is that of an undisturbed run, to the byte.
        causal: put labels to the test by taking their heads away, see `probes.causal`; None leaves it out.
        blimp: files of minimal pairs for these tests; pairs of the embedded grammar stand in where there are none.

    Raises:
        UsageError: on making one with a number below what it can be, or `resume` without a folder.
    """

    seed: int = 0
    limit: int | None = None
    skip_bad: bool = False
    batch_size: int = 16
    batch_tokens: int = BATCH_TOKENS
    bootstrap: int = 2000
    permutations: int = 9999
    random_models: int = 5
    with_stream: bool = False
    stream: StreamSettings | None = None
    window: int = WINDOW_WORDS
    close_reading: bool = True
    keep_counts: bool = False
    options: FamilyOptions | None = field(default=None, repr=False)
    examples: int = PER_SIDE
    relations: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    shard_sentences: int = SHARD_SENTENCES
    checkpoints: Path | str | None = None
    resume: bool = False
    causal: CausalSettings | None = None
    blimp: Sequence[Path | str] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.random_models < 0:
            raise UsageError(f"{self.random_models} models with random weights were asked for; expected 0 or more.")
        if self.window < 1:
            raise UsageError(f"the window is {self.window} words; expected at least 1.")
        if self.batch_size < 1:
            raise UsageError(f"the batch size is {self.batch_size}; expected at least 1.")
        if self.examples < 0:
            raise UsageError(f"{self.examples} examples were asked for; expected 0 or more.")
        if self.batch_tokens < 1:
            raise UsageError(f"the batches are {self.batch_tokens} tokens; expected at least 1.")
        if self.shard_sentences < 1:
            raise UsageError(f"the shards are {self.shard_sentences} sentences; expected at least 1.")
        if self.resume and self.checkpoints is None:
            raise UsageError(
                "resume=True needs checkpoints=..., the folder in which the interrupted run kept its shards."
            )
