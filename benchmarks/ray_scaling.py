"""Two workers of Ray with one core each beside the local engine with two threads, over the same corpus, in turns.

Timed is the pass over the corpus: texts, forwards and sums of every attention family. What a run with workers pays
once, starting Ray and opening the model in every worker, is given apart. The sums of both must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

import attnlens
from probes.batches import BATCH_TOKENS
from probes.corpora.sources import open_corpus
from probes.counting import Plan, count_corpus
from probes.families import choose_families, separate
from probes.ray_engine import connected
from probes.ray_workers import Crew, Opening
from probes.shards import SHARD_SENTENCES, Totals
from probes.split import split_corpus

GOAL = 1.15  # times the local engine's


def main() -> None:
    """Measure, print, and keep the figures as JSON."""
    options = _options()
    torch.set_num_threads(options.workers)
    lens = attnlens.load(options.model)
    corpus = open_corpus(options.corpus, limit=options.limit)
    probes, _ = separate(choose_families(options.family, corpus)[0])
    plan = Plan(tuple(probes), split_corpus(corpus), batch_tokens=BATCH_TOKENS, shard_sentences=options.shard)
    load = {"name": options.model}
    print(
        f"attnlens {attnlens.__version__}, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{options.model} on {corpus.name}: {corpus.n_sentences:,} sentences, {corpus.n_words:,} words, shards of "
        f"{options.shard}; {', '.join(probe.name for probe in probes)}"
    )
    local, ray, opening = [], [], []
    began = time.perf_counter()
    with connected(None, options.workers) as means:
        start_s = time.perf_counter() - began
        print(f"starting Ray {start_s:.1f} s; {means.workers} workers of {means.cpus} cores")
        for turn in range(options.rounds):
            began = time.perf_counter()
            here = count_corpus(lens, plan, corpus)
            local.append(time.perf_counter() - began)
            crew = Crew(plan, Opening.of(lens, load), means)
            began = time.perf_counter()
            crew.open()
            opening.append(time.perf_counter() - began)
            began = time.perf_counter()
            there = count_corpus(lens, plan, corpus, lambda _lens, _plan, shards, crew=crew: crew.count(shards))
            ray.append(time.perf_counter() - began)
            if not _same(here, there):
                raise SystemExit("the sums differ")
            print(
                f"  round {turn + 1}: local {local[-1]:.1f} s, Ray {ray[-1]:.1f} s, opening {opening[-1]:.1f} s",
                flush=True,
            )
    ratio = statistics.median(theirs / ours for theirs, ours in zip(ray, local, strict=True))
    best = min(ray) / min(local)
    rate = corpus.n_words / min(local)
    print(f"Ray / local: median {ratio:.2f}, best/best {best:.2f} (goal {GOAL}); local {rate:,.0f} words/s at best")
    if options.json is not None:
        figures = {
            "local_s": local,
            "ray_s": ray,
            "opening_s": opening,
            "start_s": start_s,
            "ratio": ratio,
            "best": best,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _same(one: Totals, other: Totals) -> bool:
    """Whether two passes give the same integers."""
    return all(
        list(tally.cells) == list(other.tallies[family].cells)
        and all(
            bool((getattr(cell, name) == getattr(other.tallies[family].cells[key], name)).all())
            for key, cell in tally.cells.items()
            for name in cell.__dataclass_fields__
        )
        for family, tally in one.tallies.items()
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", help="a corpus file (default: the embedded one)")
    parser.add_argument("--model", default="attnlens/minilm")
    parser.add_argument("--family", default="all")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard", type=int, default=SHARD_SENTENCES, help="sentences of a shard")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
