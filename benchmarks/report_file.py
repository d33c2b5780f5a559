"""How large is a report, how long does writing it take, and how many nodes does a browser make of it?

Kinds of models that differ in what a report shows, each opened from disk in Chromium with the network off; every page
must draw itself and ask for nothing. Random weights, nothing is downloaded; writing starts when the run is captured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sizes import build, tokenizer
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

import attnlens
from attnlens.capture.run import Capture
from attnlens.report.file.offline import check_offline
from attnlens.report.html import heads_report, run_report
from attnlens.report.results import parse_results

HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7*7 }} \u202e <!--"
GOALS = {"bytes": 4_000_000, "seconds": 1.0, "nodes": 5_000}


@dataclass(frozen=True)
class Measured:
    """One report: its size, the median seconds that writing it took, and the nodes of the opened page."""

    title: str
    bytes: int
    seconds: float
    nodes: int
    offline: bool


def main() -> None:
    """Measure, print, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each report is written")
    parser.add_argument("--json", type=Path, help="a file to keep the figures in")
    given = parser.parse_args()
    torch.set_num_threads(1)

    found = [measured(title, make, given.rounds) for title, make in cases().items()]
    Console().print(drawn(found))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")
    if not all(each.offline for each in found):
        sys.exit("a page asked for something, showed a dialog, logged an error, or did not draw itself")


def cases() -> dict[str, Callable[[], str]]:
    """Title -> what writes the report; the run is made here, outside the time."""
    runs = {
        "BERT-base, 12 x 12, 128 tokens": captured("bert-base", 128),
        "BERT-base, 12 x 12, 512 tokens": captured("bert-base", 512),
        "GPT-2-small, 12 x 12, 128 tokens": captured("gpt2-small", 128),
        "LLaMA style, 8 x 16, 128 tokens": captured("llama", 128),
        "T5 style, 3 stacks of 6 x 8, 64 tokens": encoder_decoder(64),
        "a hostile sentence": attnlens.load("attnlens/tiny-gpt2").capture(HOSTILE, points=()),
    }
    made: dict[str, Callable[[], str]] = {title: partial(run_report, run) for title, run in runs.items()}
    results = parse_results(attnlens.load("attnlens/tiny-gpt2").probe("syntax").to_json())
    return made | {"probe results of tiny-gpt2": partial(heads_report, results)}


def captured(size: str, n_tokens: int) -> Capture:
    """A run of a model with random weights."""
    return attnlens.load(model=build(size), tokenizer=by_words()).capture(sentence(n_tokens), points=())


def by_words() -> PreTrainedTokenizerFast:
    """The tokenizer of the other benchmarks, for texts: a token for each word."""
    made = tokenizer()
    made.backend_tokenizer.pre_tokenizer = Whitespace()
    return made


def sentence(n_tokens: int) -> str:
    """A text of this many words; those that begin with w0 or w1 are cut where these special tokens end."""
    return " ".join(f"w{200 + place}" for place in range(n_tokens))


def encoder_decoder(n_tokens: int) -> Capture:
    """A run of a T5 with random weights, source and target equally long."""
    config = T5Config(vocab_size=1100)
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    text = sentence(n_tokens)
    return attnlens.load(model=model, tokenizer=by_words()).capture(source=text, target=text, points=())


def measured(title: str, write: Callable[[], str], rounds: int) -> Measured:
    """Write a report some times, and open it once."""
    seconds, html = [], write()
    for _ in range(rounds):
        start = time.perf_counter()
        html = write()
        seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a report é.html"
        file.write_text(html, encoding="utf-8")
        opened = check_offline(file)
    return Measured(title, len(html.encode()), statistics.median(seconds), opened.n_nodes, opened.passed)


def drawn(found: list[Measured]) -> Table:
    """The figures beside what they should not exceed at 128 tokens (bytes, seconds) and at 512 (nodes)."""
    goals = f"goals: {GOALS['bytes'] / 1e6:g} MB and {GOALS['seconds']:g} s at 128 tokens, {GOALS['nodes']:,} nodes"
    table = Table("report", "MB", "seconds", "nodes", "offline", title=f"torch {torch.__version__}; {goals}")
    for each in found:
        passed = "passed" if each.offline else "FAILED"
        table.add_row(each.title, f"{each.bytes / 1e6:.2f}", f"{each.seconds:.2f}", f"{each.nodes:,}", passed)
    return table


if __name__ == "__main__":
    main()
