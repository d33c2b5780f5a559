"""The local engine: one pass over a corpus in this process, feeding every family's tally; then scores and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from attnlens.errors import AttnlensError, CorpusError, PluginError, ProbeDataError, UsageError
from attnlens.plugins import installed, load_plugin
from probes.batches import BATCH_TOKENS
from probes.causal import CausalSettings, Tasks, impossible, with_badges
from probes.checkpoints import Checkpoints
from probes.choosing import chosen_questions
from probes.close_reading import read_closely
from probes.corpora.data import Corpus
from probes.corpora.sources import EMBEDDED, OneSource, open_corpus
from probes.counting import Counter, Plan, Progress, count_corpus, count_here
from probes.counts import Counts
from probes.document import corpus_part, tokenizer_part
from probes.evidence import PER_SIDE, collect_evidence
from probes.family import Probe
from probes.findings import Settings, find
from probes.inspecting import inspect_into, unsuited
from probes.manifest import manifest_of
from probes.own_results import rounded
from probes.positional.closely import pattern_facts, sampled
from probes.preparing import omissions, prepared
from probes.random_models import copies, measure_random, read_share
from probes.report import HeadReport, make_report
from probes.shards import SHARD_SENTENCES
from probes.split import split_corpus
from probes.stream.family import StreamProbe
from probes.stream.settings import StreamSettings
from probes.texts import WINDOW_WORDS

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["ALL", "GROUP", "FamilyOptions", "Progress", "choose_families", "load_family", "run", "separate"]

ALL = "all"
GROUP = "attnlens.probes"

FamilyOptions = Mapping[str, Mapping[str, Any]]
"""Arguments of families besides the seed, by the families' names."""


def run(
    lens: Lens,
    families: str | Sequence[str] = ALL,
    corpus: OneSource | Sequence[OneSource] | None = None,
    *,
    seed: int = 0,
    limit: int | None = None,
    skip_bad: bool = False,
    batch_size: int = 16,
    batch_tokens: int = BATCH_TOKENS,
    bootstrap: int = 2000,
    permutations: int = 9999,
    random_models: int = 5,
    with_stream: bool = False,
    stream: StreamSettings | None = None,
    window: int = WINDOW_WORDS,
    close_reading: bool = True,
    keep_counts: bool = False,
    options: FamilyOptions | None = None,
    examples: int = PER_SIDE,
    relations: Sequence[str] | None = None,
    shard_sentences: int = SHARD_SENTENCES,
    checkpoints: Path | str | None = None,
    resume: bool = False,
    counter: Counter = count_here,
    causal: CausalSettings | None = None,
    blimp: Sequence[Path | str] = (),
    progress: Progress | None = None,
    causal_progress: Progress | None = None,
) -> HeadReport:
    """Classify every head of a model against an annotated corpus.

    Args:
        lens: the opened model.
        families: a family's name, several, or "all" (those that the corpus has annotation for).
        corpus: a file or several, an open corpus, or None for the embedded one; see `open_corpus` for the formats.
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
        shard_sentences: sentences that are counted, and kept, together; no batch holds sentences of two shards.
        checkpoints: a folder of this run's own, in which every finished shard is kept; whoever has saved the report
            removes it.
        resume: go on with the shards in `checkpoints`; the result is that of an undisturbed run, to the byte.
        counter: what counts the shards: this process, or workers (see `probes.ray_engine`).
        causal: put labels to the test by taking their heads away, see `probes.causal`; None leaves it out.
        blimp: files of minimal pairs for these tests; pairs of the embedded grammar stand in where there are none.
        progress: called with (sentences done, sentences in all).
        causal_progress: called with (heads tested, heads in all).

    Raises:
        PluginError: an unknown family, or one that cannot be loaded.
        CorpusError: the corpus cannot be read, or lacks what a family needs.
        ProbeDataError: no sentence fits the model, or it cannot be asked what the one family that was named asks.
        ResultsError: `resume`, and the shards there are of another run.
        OutputError: a shard cannot be written.
        UsageError: a number below what it can be, or a relation that does not occur.
    """
    if random_models < 0:
        raise UsageError(f"{random_models} models with random weights were asked for; expected 0 or more.")
    if window < 1:
        raise UsageError(f"the window is {window} words; expected at least 1.")
    if batch_size < 1:
        raise UsageError(f"the batch size is {batch_size}; expected at least 1.")
    if examples < 0:
        raise UsageError(f"{examples} examples were asked for; expected 0 or more.")
    if batch_tokens < 1:
        raise UsageError(f"the batches are {batch_tokens} tokens; expected at least 1.")
    if shard_sentences < 1:
        raise UsageError(f"the shards are {shard_sentences} sentences; expected at least 1.")
    if resume and checkpoints is None:
        raise UsageError("resume=True needs checkpoints=..., the folder in which the interrupted run kept its shards.")
    opened = open_corpus(corpus, limit=limit, skip_bad=skip_bad)
    chosen, left_out = choose_families(families, opened, seed, with_stream=with_stream, options=options)
    chosen, unasked = _suited(chosen, lens)
    left_out = left_out | unasked
    probes, stream_probes = separate(chosen)
    split = split_corpus(opened)
    plan = Plan(tuple(probes), split, seed, window, batch_size, batch_tokens, shard_sentences)
    eyes = plan.eyes(lens)
    store = None
    if checkpoints is not None:
        store = Checkpoints(Path(checkpoints), manifest_of(lens, opened, plan, options))
    totals = count_corpus(lens, plan, opened, counter, store=store, resume=resume, progress=progress)
    tallies = totals.tallies
    for probe in probes:
        inspect_into(tallies[probe.name], probe, lens, split, seed)
    questions = None if relations is None else chosen_questions(probes, tallies, relations)
    settings = Settings(seed=seed, bootstrap=bootstrap, permutations=permutations)
    read = read_share(plan.eyes, opened, probes, split, max(random_models, 1), seed)
    random = measure_random(lens, random_models if probes else 0, read, settings.thresholds.fewest)
    facts = pattern_facts(eyes, opened, split, seed) if any(probe.name == "positional" for probe in probes) else None
    layers, names = _layers(lens), _names(lens)
    findings = find(
        probes, tallies, split, settings, random=random.best, layers=layers, facts=facts, heads=names, chosen=questions
    )
    if causal is not None and impossible(lens) is None:
        held_out = tuple((text.key, text.text) for text in sampled(opened, split, eyes, seed)[1])
        findings = with_badges(findings, lens, Tasks(lens, held_out, blimp, seed=seed), causal, causal_progress)
    evidence = collect_evidence(eyes, opened, probes, split, findings.shown(), seed=seed, per_side=examples)
    random_eyes = (lambda: plan.eyes(next(copies(lens, random.seeds[:1])))) if random.seeds else None
    closely = read_closely(
        probes if close_reading else (), tallies, eyes, random_eyes, opened, split, seed=seed, bootstrap=bootstrap
    )
    findings = replace(findings, examples=evidence, own={**findings.own, **rounded(closely)})
    trained = replace(stream or StreamSettings(), bootstrap=bootstrap, batch_size=batch_size)
    return make_report(
        anatomy=lens.anatomy,
        corpus=corpus_part(
            opened,
            n_dropped=max((totals.dropped_words.get(kind, 0) for kind in ("sentence", "window")), default=0),
            n_skipped=len(totals.skipped),
        ),
        probes=probes,
        left_out=left_out,
        split=split,
        findings=findings,
        settings=settings,
        aggregation=eyes.aggregation,
        bos=totals.bos,
        tokenizer=tokenizer_part(lens.tokenizer),
        random=random,
        relations=relations,
        counts=Counts(tallies, split.confirm, random.best, facts, _kept_settings(window, options))
        if keep_counts
        else None,
        layers=[probe.run(lens, opened, split=split, settings=trained, progress=progress) for probe in stream_probes],
    )


def _kept_settings(window: int, options: FamilyOptions | None) -> dict[str, Any]:
    """What has to be the same in runs that are merged, besides what the result itself says."""
    given = {family: {name: str(value) for name, value in own.items()} for family, own in (options or {}).items()}
    return {"window": window, "options": given}


def _suited(chosen: Sequence[Probe | StreamProbe], lens: Lens) -> tuple[list[Probe | StreamProbe], dict[str, str]]:
    """The families that this model can be asked, and the others with the reason.

    Raises:
        ProbeDataError: none is left.
    """
    reasons = unsuited(chosen, lens.anatomy)
    left = [probe for probe in chosen if probe.name not in reasons]
    if reasons and not left:
        raise ProbeDataError(f"{next(iter(reasons.values()))}; run another family, or 'all'.")
    return left, reasons


def _layers(lens: Lens) -> Int64[np.ndarray, " head"] | None:
    """The layer of every head; None where several stacks have layers of their own."""
    heads = lens.anatomy.heads()
    one_stack = len({head.stack for head in heads}) == 1
    return np.array([head.layer for head in heads], dtype=np.int64) if one_stack else None


def _names(lens: Lens) -> list[str]:
    return [str(head) for head in lens.anatomy.heads()]


def separate(families: Sequence[Probe | StreamProbe]) -> tuple[list[Probe], list[StreamProbe]]:
    """Families that read attention, and those that read the residual stream."""
    stream = [family for family in families if isinstance(family, StreamProbe)]
    return [family for family in families if not isinstance(family, StreamProbe)], stream


def choose_families(
    families: str | Sequence[str],
    corpus: Corpus,
    seed: int = 0,
    *,
    with_stream: bool = False,
    options: FamilyOptions | None = None,
) -> tuple[list[Probe | StreamProbe], dict[str, str]]:
    """The probes to run, and those that "all" leaves out with the reason; also parts of families that it leaves out.

    "all" has the probes of the residual stream only `with_stream`.

    Raises:
        PluginError: an unknown family, or one that cannot be loaded.
        CorpusError: a family was named whose annotation the corpus lacks, or nothing is left of "all".
    """
    asked = [families] if isinstance(families, str) else list(families)
    everything = ALL in asked
    names = list(installed(GROUP)) if everything else list(dict.fromkeys(asked))
    if not names:
        raise UsageError("no probe family was named; name one, or 'all'.")
    _check_options(options or {}, names)
    loaded = [load_family(name, seed, (options or {}).get(name, {})) for name in names]
    if everything and not with_stream:
        loaded = [probe for probe in loaded if not isinstance(probe, StreamProbe) or probe.name in asked]
    loaded = [prepared(probe, corpus) for probe in loaded]
    refusals = {probe.name: reason for probe in loaded if (reason := probe.refusal(corpus))}
    usable = [probe for probe in loaded if probe.name not in refusals]
    if refusals and (not everything or not usable):
        raise CorpusError(f"{next(iter(refusals.values()))}; {_way_out(corpus, refusals)}.")
    return usable, refusals | omissions(usable, corpus)


def _check_options(options: FamilyOptions, names: Sequence[str]) -> None:
    if unused := sorted(options.keys() - set(names)):
        raise UsageError(f"options of {unused[0]!r}, which is not run; name it, or leave them out.")


def load_family(name: str, seed: int = 0, options: Mapping[str, Any] | None = None) -> Probe | StreamProbe:
    """The probe registered as `name`.

    Raises:
        PluginError: nothing by that name, or it cannot be loaded, or does not keep the contract of a probe.
    """
    made = load_plugin(GROUP, name)
    try:
        probe = made(seed=seed, **(options or {}))
    except AttnlensError:
        raise
    except Exception as error:
        raise PluginError(
            f"the probe {name!r} cannot be made with seed={seed}: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(probe, Probe | StreamProbe):
        missing = [part for part in (*Probe.__annotations__, "ask", "pointer") if not hasattr(probe, part)]
        raise PluginError(f"{name!r} is no probe: it lacks {', '.join(missing) or 'methods'}; see probes.family.Probe.")
    return probe


def _way_out(corpus: Corpus, refusals: dict[str, str]) -> str:
    """What can be run on this corpus instead."""
    others = []
    for name in installed(GROUP):
        if name not in refusals and not prepared(load_family(name), corpus).refusal(corpus):
            others.append(f"`{name}`")
    return f"run {' or '.join(others)}, or use the corpus {EMBEDDED}" if others else f"use the corpus {EMBEDDED}"
