"""The local engine: one pass over a corpus in this process, feeding every family's tally; then scores and labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from attnlens.errors import AttnlensError, CorpusError, PluginError, ProbeDataError, UsageError
from attnlens.plugins import installed, load_plugin
from probes.corpora.data import Corpus, Sentence
from probes.corpora.sources import EMBEDDED, OneSource, open_corpus
from probes.examples import Example, Pool, example_of
from probes.family import Probe, rule_names
from probes.findings import Findings, Settings, find
from probes.plain import observe
from probes.preparing import omissions, prepared
from probes.random_models import measure_random, read_share
from probes.report import HeadReport, make_report
from probes.seeing import Eyes
from probes.split import Split, split_corpus
from probes.stream.family import StreamProbe
from probes.stream.settings import StreamSettings
from probes.tally import Key, Tally
from probes.texts import WINDOW_WORDS, Kind, Text, texts_of

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["ALL", "GROUP", "Counts", "FamilyOptions", "Progress", "choose_families", "load_family", "run", "separate"]

ALL = "all"
GROUP = "attnlens.probes"
CHUNKS = 8  # batches that are sorted by length together

Progress = Callable[[int, int], None]
FamilyOptions = Mapping[str, Mapping[str, Any]]
"""Arguments of families besides the seed, by the families' names."""


@dataclass
class Counts:
    """What was left out on the way."""

    skipped: set[str] = field(default_factory=set)
    dropped_words: int = 0


def run(
    lens: Lens,
    families: str | Sequence[str] = ALL,
    corpus: OneSource | Sequence[OneSource] | None = None,
    *,
    seed: int = 0,
    limit: int | None = None,
    skip_bad: bool = False,
    batch_size: int = 16,
    bootstrap: int = 2000,
    permutations: int = 9999,
    random_models: int = 5,
    with_stream: bool = False,
    stream: StreamSettings | None = None,
    window: int = WINDOW_WORDS,
    options: FamilyOptions | None = None,
    progress: Progress | None = None,
) -> HeadReport:
    """Classify every head of a model against an annotated corpus.

    Args:
        lens: the opened model.
        families: a family's name, several, or "all" (those that the corpus has annotation for).
        corpus: a file or several, an open corpus, or None for the embedded one; see `open_corpus` for the formats.
        seed: of control words, bootstrap and permutations; the same input gives the same result.
        limit: only the first so many sentences.
        skip_bad: leave sentences and rows with a fault out, and count them.
        batch_size: texts per forward pass.
        bootstrap: number of bootstrap replicates.
        permutations: number of sign patterns.
        random_models: copies with random weights whose best head a label has to beat; 0 leaves this out and says so.
        with_stream: "all" includes the probes of the residual stream, which are trained; by name they run without it.
        stream: options of these probes; `bootstrap` and `batch_size` are taken from above.
        window: words that a window of whole sentences has at most, for families that read across sentences.
        options: of families by their name, such as `{"lexical": {"frequencies": "words.tsv"}}`.
        progress: called with (sentences done, sentences in all).

    Raises:
        PluginError: an unknown family, or one that cannot be loaded.
        CorpusError: the corpus cannot be read, or lacks what a family needs.
        ProbeDataError: no sentence fits the model.
    """
    if random_models < 0:
        raise UsageError(f"{random_models} models with random weights were asked for; expected 0 or more.")
    if window < 1:
        raise UsageError(f"the window is {window} words; expected at least 1.")
    if batch_size < 1:
        raise UsageError(f"the batch size is {batch_size}; expected at least 1.")
    opened = open_corpus(corpus, limit=limit, skip_bad=skip_bad)
    chosen, left_out = choose_families(families, opened, seed, with_stream=with_stream, options=options)
    probes, stream_probes = separate(chosen)
    split = split_corpus(opened)
    eyes = Eyes(lens, batch_size, window)
    tallies, pool, counts = _walk(eyes, opened, probes, split, progress)
    settings = Settings(seed=seed, bootstrap=bootstrap, permutations=permutations)
    read = read_share(lambda copy: Eyes(copy, batch_size, window), opened, probes, split, max(random_models, 1), seed)
    random = measure_random(lens, random_models if probes else 0, read, settings.thresholds.fewest)
    findings = find(probes, tallies, split, settings, random=random.best, layers=_layers(lens), heads=_names(lens))
    findings = replace(findings, examples=_examples(eyes, probes, findings, pool))
    trained = replace(stream or StreamSettings(), bootstrap=bootstrap, batch_size=batch_size)
    return make_report(
        anatomy=lens.anatomy,
        corpus=opened,
        probes=probes,
        left_out=left_out,
        split=split,
        findings=findings,
        settings=settings,
        aggregation=eyes.aggregation,
        bos=eyes.bos,
        n_skipped=len(counts.skipped),
        n_dropped=counts.dropped_words,
        tokenizer=lens.tokenizer,
        random=random,
        layers=[probe.run(lens, opened, split=split, settings=trained, progress=progress) for probe in stream_probes],
    )


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


def _walk(
    eyes: Eyes, corpus: Corpus, probes: Sequence[Probe], split: Split, progress: Progress | None
) -> tuple[dict[str, Tally], Pool, Counts]:
    """One pass per kind of text; every family that reads this kind is fed from it."""
    n_heads = eyes.lens.anatomy.n_layers * eyes.lens.anatomy.n_heads
    tallies = {probe.name: Tally(len(split.confirm), n_heads, rule_names(probe)) for probe in probes}
    kinds: list[Kind] = sorted({kind for probe in probes for kind in probe.reads} & {"sentence", "window"})
    total, done = corpus.n_sentences * len(kinds), 0
    pool, counts = Pool(), Counts()
    for passes, kind in enumerate(kinds, 1):
        readers = [probe for probe in probes if kind in probe.reads]
        words = 0
        for chunk in _chunks(eyes, corpus, split, kind, counts):
            for text, seen in eyes.look(chunk):
                for probe in readers:
                    observe(probe, tallies[probe.name], seen)
                pool.offer(text, readers)
                words += int((~seen.kept).sum())
                done += len(text.sentences)
            if progress is not None:
                progress(done, total)
        done = passes * corpus.n_sentences  # with those that were skipped
        if progress is not None:
            progress(done, total)
        counts.dropped_words = max(counts.dropped_words, words)
    if len(counts.skipped) == corpus.n_sentences:
        raise ProbeDataError(
            f"no sentence of {corpus.name} fits {eyes.lens.anatomy.model} "
            f"(at most {eyes.lens.anatomy.max_length} tokens); use a corpus with shorter sentences."
        )
    return tallies, pool, counts


def _chunks(eyes: Eyes, corpus: Corpus, split: Split, kind: Kind, counts: Counts) -> Iterator[list[Text]]:
    def skip(sentence: Sentence) -> None:
        counts.skipped.add(f"{sentence.line} {sentence.id}")

    texts = texts_of(corpus.documents(), split, kind, eyes.fits, skip, eyes.window)
    while chunk := list(itertools.islice(texts, eyes.batch_size * CHUNKS)):
        yield chunk


def _examples(
    eyes: Eyes, probes: Sequence[Probe], findings: Findings, pool: Pool
) -> dict[tuple[str, Key, int], list[Example]]:
    """Run the kept texts once more, now that it is known which heads have which labels."""
    by_name = {probe.name: probe for probe in probes}
    found: dict[tuple[str, Key, int], list[Example]] = {}
    for kind in ("sentence", "window"):
        shown = [each for each in findings.shown() if by_name[each.family].reads[0] == kind]
        questions = {(each.family, each.scores.key) for each in shown}
        for text, seen in eyes.look(pool.texts(sorted(questions, key=str))):
            for each in shown:
                key = each.scores.key
                if pool.serves(text, (each.family, key)):
                    example = example_of(by_name[each.family], key, each.head, seen)
                    found.setdefault((each.family, key, each.head), []).extend([example] if example else [])
    return found
