"""The local engine: one pass over a corpus in this process, feeding every family's tally; then scores and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from attnlens.heads import Head
from probes.causal import CausalSettings, Tasks, impossible, with_badges
from probes.checkpoints import Checkpoints
from probes.choosing import chosen_questions
from probes.close_reading import read_closely
from probes.corpora.data import Corpus
from probes.corpora.sources import OneSource, open_corpus
from probes.counting import Counter, Plan, Progress, count_corpus, count_here
from probes.counts import Counts
from probes.document import corpus_part, tokenizer_part
from probes.evidence import collect_evidence
from probes.families import ALL, choose_families, separate, suited
from probes.findings import Findings, Settings, find
from probes.inspecting import inspect_into
from probes.manifest import manifest_of
from probes.own_results import rounded
from probes.positional.closely import pattern_facts, sampled
from probes.positions import PatternFacts
from probes.random_models import RandomPass, RandomReader, copies, measure_random, read_share
from probes.report import HeadReport, make_report
from probes.run_settings import FamilyOptions, RunSettings
from probes.seeing import chosen_layers
from probes.shards import Totals
from probes.split import split_corpus
from probes.stream.settings import StreamSettings
from probes.tally import Tally

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["layers_of", "run"]


def run(
    lens: Lens,
    families: str | Sequence[str] = ALL,
    corpus: OneSource | Sequence[OneSource] | None = None,
    settings: RunSettings | None = None,
    *,
    counter: Counter = count_here,
    random_reader: RandomReader = measure_random,
    progress: Progress | None = None,
    random_progress: Progress | None = None,
    causal_progress: Progress | None = None,
    **changes: Any,
) -> HeadReport:
    """Classify every head of a model against an annotated corpus.

    Args:
        lens: the opened model.
        families: a family's name, several, or "all" (those that the corpus has annotation for).
        corpus: a file or several, an open corpus, or None for the embedded one; see `open_corpus` for the formats.
        settings: of the run; the usual ones where None.
        counter: what counts the shards: this process, or workers (see `probes.ray_engine`).
        random_reader: what has copies with random weights read; another one may know what they do already.
        progress: called with (sentences done, sentences in all).
        random_progress: called with (sentences that copies with random weights have read, sentences in all).
        causal_progress: called with (heads tested, heads in all).
        changes: single settings instead, such as `seed=1`: the attributes of `RunSettings`.

    Raises:
        PluginError: an unknown family, or one that cannot be loaded.
        CorpusError: the corpus cannot be read, or lacks what a family needs.
        ProbeDataError: no sentence fits the model, or it cannot be asked what the one family that was named asks.
        ResultsError: `resume`, and the shards there are of another run.
        OutputError: a shard cannot be written.
        UsageError: a number below what it can be, a layer that the model lacks, or a relation that does not occur.
    """
    settings = replace(settings or RunSettings(), **changes)
    layers = None if settings.layers is None else chosen_layers(settings.layers, lens.anatomy.n_layers)
    opened = open_corpus(corpus, limit=settings.limit, skip_bad=settings.skip_bad)
    chosen, left_out = choose_families(
        families, opened, settings.seed, with_stream=settings.with_stream, options=settings.options
    )
    chosen, unasked = suited(chosen, lens)
    probes, stream_probes = separate(chosen)
    split = split_corpus(opened)
    plan = Plan(
        tuple(probes), split, settings.seed, settings.window, settings.batch_size, settings.batch_tokens,
        settings.shard_sentences, layers,
    )  # fmt: skip
    job = _Job(lens, opened, plan, settings)
    totals = job.count(counter, progress)
    random = job.random(random_reader, random_progress)
    facts = job.facts()
    findings = job.findings(totals.tallies, random, facts, causal_progress)
    trained = replace(settings.stream or StreamSettings(), bootstrap=settings.bootstrap, batch_size=settings.batch_size)
    return make_report(
        anatomy=lens.anatomy,
        corpus=corpus_part(
            opened,
            n_dropped=max((totals.dropped_words.get(kind, 0) for kind in ("sentence", "window")), default=0),
            n_skipped=len(totals.skipped),
        ),
        probes=probes,
        left_out=left_out | unasked,
        split=split,
        findings=findings,
        settings=job.numbers,
        aggregation=job.eyes.aggregation,
        bos=totals.bos,
        tokenizer=tokenizer_part(lens.tokenizer),
        random=random,
        relations=settings.relations,
        scored=layers,
        counts=job.counts(totals.tallies, random, facts),
        layers=[probe.run(lens, opened, split=split, settings=trained, progress=progress) for probe in stream_probes],
    )


class _Job:
    """The steps of one run, in the order of its methods.

    Attributes:
        eyes: the model as the run reads it.
        numbers: what the statistics depend on.
    """

    def __init__(self, lens: Lens, corpus: Corpus, plan: Plan, settings: RunSettings) -> None:
        self.lens, self.corpus, self.plan, self.settings = lens, corpus, plan, settings
        self.eyes = plan.eyes(lens)
        self.numbers = Settings(settings.seed, settings.bootstrap, settings.permutations)

    def count(self, counter: Counter, progress: Progress | None) -> Totals:
        """The pass over the corpus, and what families find out from the model itself."""
        lens, plan, settings, store = self.lens, self.plan, self.settings, None
        if settings.checkpoints is not None:
            manifest = manifest_of(lens, self.corpus, plan, settings.options)
            store = Checkpoints(Path(settings.checkpoints), manifest)
        totals = count_corpus(lens, plan, self.corpus, counter, store=store, resume=settings.resume, progress=progress)
        for probe in plan.probes:
            inspect_into(totals.tallies[probe.name], probe, lens, plan.split, settings.seed, self.eyes.heads)
        return totals

    def random(self, reader: RandomReader, progress: Progress | None) -> RandomPass:
        """What copies with random weights do."""
        plan, n_models = self.plan, self.settings.random_models
        read = read_share(plan.eyes, self.corpus, plan.probes, plan.split, max(n_models, 1), plan.seed, progress)
        return reader(self.lens, n_models if plan.probes else 0, read, self.numbers.thresholds.fewest)

    def facts(self) -> PatternFacts | None:
        """Of whole patterns, for labels of position."""
        if not any(probe.name == "positional" for probe in self.plan.probes):
            return None
        return pattern_facts(self.eyes, self.corpus, self.plan.split, self.plan.seed)

    def findings(
        self,
        tallies: Mapping[str, Tally],
        random: RandomPass,
        facts: PatternFacts | None,
        progress: Progress | None,
    ) -> Findings:
        """Scores and labels, their tests, their examples, and what closer reading adds."""
        plan, settings, eyes = self.plan, self.settings, self.eyes
        relations = settings.relations
        found = find(
            plan.probes,
            tallies,
            plan.split,
            self.numbers,
            random=random.best,
            layers=layers_of(eyes.heads),
            facts=facts,
            heads=[str(head) for head in eyes.heads],
            chosen=None if relations is None else chosen_questions(plan.probes, tallies, relations),
        )
        if settings.causal is not None and impossible(self.lens) is None:
            found = self._tested(found, settings.causal, progress)
        evidence = collect_evidence(
            eyes, self.corpus, plan.probes, plan.split, found.shown(), seed=plan.seed, per_side=settings.examples
        )
        closely = self._read_closely(tallies, random)
        return replace(found, examples=evidence, own={**found.own, **rounded(closely)})

    def _tested(self, found: Findings, how: CausalSettings, progress: Progress | None) -> Findings:
        texts = sampled(self.corpus, self.plan.split, self.eyes, self.plan.seed)[1]
        held_out = tuple((text.key, text.text) for text in texts)
        tasks = Tasks(self.lens, held_out, self.settings.blimp, seed=self.plan.seed)
        return with_badges(found, self.lens, tasks, how, progress, self.eyes.heads)

    def _read_closely(self, tallies: Mapping[str, Tally], random: RandomPass) -> dict[str, Any]:
        plan, settings = self.plan, self.settings
        random_eyes = (lambda: plan.eyes(next(copies(self.lens, random.seeds[:1])))) if random.seeds else None
        return read_closely(
            plan.probes if settings.close_reading else (),
            tallies,
            self.eyes,
            random_eyes,
            self.corpus,
            plan.split,
            seed=plan.seed,
            bootstrap=settings.bootstrap,
        )

    def counts(self, tallies: Mapping[str, Tally], random: RandomPass, facts: PatternFacts | None) -> Counts | None:
        """What was counted, where it is to be kept."""
        settings = self.settings
        if not settings.keep_counts:
            return None
        kept = _kept_settings(settings.window, settings.options)
        return Counts(dict(tallies), self.plan.split.confirm, random.best, facts, kept)


def _kept_settings(window: int, options: FamilyOptions | None) -> dict[str, Any]:
    """What has to be the same in runs that are merged, besides what the result itself says."""
    given = {family: {name: str(value) for name, value in own.items()} for family, own in (options or {}).items()}
    return {"window": window, "options": given}


def layers_of(heads: Sequence[Head]) -> Int64[np.ndarray, " head"] | None:
    """The layer of every head; None where none is of the first one, or several stacks have layers of their own."""
    one_stack = len({head.stack for head in heads}) == 1
    if not one_stack or not any(head.layer == 0 for head in heads):
        return None
    return np.array([head.layer for head in heads], dtype=np.int64)
