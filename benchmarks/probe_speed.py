"""What probing a corpus costs beside the bare forward passes over the same batches, and beside the published way.

MiniLM on one file of CoNLL-U, whose sentences are in memory before anything is timed. All sides run in turns; ratios
are to the bare passes of the same round, in time that passed (wall) and in time that processors spent (cpu, which
other programs on the machine disturb less). The published way is that of Clark et al. 2019 (arXiv:1906.04341):
one sentence at a time, every weight returned, and a loop over heads and arcs in Python.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

import attnlens
from attnlens.models.running import _call
from probes.batches import batches_of
from probes.corpora.data import Corpus, Document
from probes.corpora.sources import open_corpus
from probes.families import choose_families, separate
from probes.family import Probe
from probes.seeing import Eyes
from probes.shards import Totals, shards_of
from probes.split import split_corpus
from probes.syntax.relations import relation_labels
from probes.walk import run_shard

GOALS = {"positional": 1.15, "all families": 1.25}
PUBLISHED = 4.2  # how many times as fast as the published way
SAME_MEMORY = 1.10  # ten copies of the corpus to one
ROUNDS = 5

Run = Callable[[], object]


def main() -> None:
    """Measure, print, and keep the figures as JSON."""
    options = _options()
    transformers.logging.set_verbosity_error()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak:
        print(_peak(options))
        return
    bench = _Bench(options)
    runs: dict[str, Run] = {"forward": bench.forward, "positional": lambda: bench.probe(bench.positional)}
    for probe in bench.probes if options.each else []:
        if probe.name != "positional":
            runs[probe.name] = lambda probe=probe: bench.probe([probe])
    runs["all families"] = lambda: bench.probe(bench.probes)
    if options.published:
        runs["published way"] = bench.published
    print(
        f"attnlens {attnlens.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, load "
        f"{_load()}; {bench.corpus.name}: {bench.n_sentences} sentences, {bench.n_tokens} tokens, "
        f"{bench.n_padded} with padding; families {', '.join(probe.name for probe in bench.probes)}"
    )
    seconds = _take_turns(runs, options.rounds)
    found = {side: _figure(side, seconds) for side in runs}
    for side, figure in found.items():
        goal = f"   <= {GOALS[side]:.2f}" if side in GOALS else ""
        print(
            f"  {side:<16}{figure['wall_s']:>8.2f} s wall {figure['cpu_s']:>8.2f} s cpu   ratio {figure['wall']:.2f} "
            f"wall, {figure['cpu']:.2f} cpu{goal}   {bench.n_tokens / figure['wall_s']:,.0f} tokens/s"
        )
    if options.published:
        times = {kind: found["published way"][kind] / found["all families"][kind] for kind in ("wall", "cpu")}
        print(f"  faster than the published way: {times['wall']:.1f} x wall, {times['cpu']:.1f} x cpu   >= {PUBLISHED}")
    memory = {} if options.no_memory else _memory(options)
    print(f"  load at the end {_load()}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"figures": found, "peak_mib": memory}, indent=2) + "\n")


class _Bench:
    """The model, the corpus in memory, and what is timed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.lens = attnlens.load("attnlens/minilm")
        self.corpus = _in_memory(options.corpus, options.limit, options.copies)
        chosen, _ = choose_families(options.families or "all", self.corpus)
        self.probes: list[Probe] = separate(chosen)[0]
        self.positional = [probe for probe in self.probes if probe.name == "positional"]
        self.split = split_corpus(self.corpus)
        self.eyes = Eyes(self.lens, batch_tokens=options.batch_tokens)
        self._batches = list(self._sorted_batches())
        self.n_sentences = self.corpus.n_sentences
        self.n_tokens = sum(int(batch.arguments["attention_mask"].sum()) for batch in self._batches)
        self.n_padded = sum(batch.arguments["input_ids"].numel() for batch in self._batches)

    def _sorted_batches(self):
        """The batches of the main pass over sentences, ready for the model."""
        for shard in shards_of(self.corpus.documents()):
            sentences = [sentence for document in shard.documents for sentence in document.sentences]
            spans = [[span for span in sentence.spans if span[1] > span[0]] for sentence in sentences]
            encoded = [text for text in self.lens.encode([s.text for s in sentences], spans, bos=True) if text]
            lengths = [len(text.tokens) for text in encoded]
            for chosen in batches_of(lengths, self.lens.anatomy.n_heads, self.eyes.batch_tokens):
                yield self.lens._reader.encoded_batch([encoded[index] for index in chosen])

    def forward(self) -> None:
        """The model's own SDPA on the ready batches."""
        with torch.no_grad():
            for batch in self._batches:
                _call(self.lens.model, self.lens.model, batch)

    def probe(self, probes: list[Probe]) -> object:
        """The main pass: everything from sentences in memory to merged sums."""
        n_heads = self.lens.anatomy.n_layers * self.lens.anatomy.n_heads
        rules = {probe.name: tuple(rule.name for rule in probe.rules) for probe in probes}
        totals = Totals(len(self.split.confirm), n_heads, rules)
        for shard in shards_of(self.corpus.documents()):
            totals.absorb(run_shard(self.eyes, shard, probes, self.split))
        return totals

    def published(self) -> object:
        """One sentence at a time: word-level maps of all heads, and per head and arc the strongest word."""
        import copy

        model = copy.deepcopy(self.lens.model)
        model.set_attn_implementation("eager")
        hits: dict[tuple[str, int], int] = {}
        for document in self.corpus.documents():
            for sentence in document.sentences:
                _one_sentence(model, self.lens.tokenizer, sentence, hits)
        return hits


def _one_sentence(model, tokenizer, sentence, hits) -> None:
    """The way of the published code: tokens to words by loops, then an argmax per head and arc."""
    encoding = tokenizer(sentence.text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoding.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        attentions = model(**encoding, output_attentions=True).attentions
    maps = np.concatenate([layer[0].numpy() for layer in attentions])
    pieces = [[i for i, (a, b) in enumerate(offsets) if a < b and start <= a < end] for start, end in sentence.spans]
    for head, attention in enumerate(maps):
        words = np.stack([attention[:, own].sum(axis=1) for own in pieces], axis=1)
        words = np.stack([words[own].mean(axis=0) if own else np.zeros(len(pieces)) for own in pieces])
        np.fill_diagonal(words, -1)
        strongest = words.argmax(axis=1)
        for dependent, (governor, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
            if governor >= 0:
                for label in relation_labels(relation):
                    hits[label + ">", head] = hits.get((label + ">", head), 0) + int(strongest[dependent] == governor)
                    hits[label + "<", head] = hits.get((label + "<", head), 0) + int(strongest[governor] == dependent)


def _in_memory(path: str, limit: int | None, copies: int) -> Corpus:
    """The corpus, read once; copies have other names."""
    corpus = open_corpus(path, limit=limit)
    documents: tuple[Document, ...] = tuple(corpus.documents())
    if copies == 1:
        return replace(corpus, read=lambda: iter(documents))
    sizes = {f"{name}/{number}": size for number in range(copies) for name, size in corpus.sizes.items()}

    def read():
        for number in range(copies):
            for document in documents:
                yield replace(document, id=f"{document.id}/{number}")

    return replace(corpus, sizes=sizes, read=read)


def _take_turns(runs: dict[str, Run], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, cpu) seconds per side and round, in another order each round; one round before them warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in runs}
    for turn in range(rounds + 1):
        for side, run in random.Random(turn).sample(list(runs.items()), len(runs)):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                seconds[side].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def _figure(side: str, seconds: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    pairs = list(zip(seconds[side], seconds["forward"], strict=True))
    return {
        "wall_s": statistics.median(own[0] for own, _ in pairs),
        "cpu_s": statistics.median(own[1] for own, _ in pairs),
        "wall": statistics.median(own[0] / other[0] for own, other in pairs),
        "cpu": statistics.median(own[1] / other[1] for own, other in pairs),
    }


def _memory(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of one copy of the corpus and of ten, each in a process of its own."""
    arguments = [options.corpus, "--peak", *(["--limit", str(options.limit)] if options.limit else [])]
    found = {}
    for copies in (1, 10):
        command = [sys.executable, __file__, *arguments, "--copies", str(copies)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{copies} copies"] = float(done.stdout.split()[-1])
    one, ten = found.values()
    print(f"  peak memory: {one:.0f} MiB for one copy, {ten:.0f} for ten, ratio {ten / one:.3f}   <= {SAME_MEMORY}")
    return found


def _peak(options: argparse.Namespace) -> float:
    """MiB of this process after one pass."""
    import resource

    bench = _Bench(options)
    bench._batches = []
    bench.probe(bench.probes)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _load() -> str:
    path = Path("/proc/loadavg")
    return path.read_text().split()[0] if path.exists() else "unknown"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="a CoNLL-U file, such as en_ewt-ud-dev.conllu, or attnlens/grammar")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds after the one that warms up")
    parser.add_argument("--limit", type=int, help="only the first so many sentences")
    parser.add_argument("--families", nargs="+", help="instead of all that the corpus has annotation for")
    parser.add_argument("--each", action="store_true", help="time every family by itself as well")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, help="threads of torch; all cores by default")
    parser.add_argument("--published", action="store_true", help="time the published way as well")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--copies", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
