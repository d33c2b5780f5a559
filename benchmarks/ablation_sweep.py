"""What it costs to ablate every head of a model on one sentence, beside one forward pass over that sentence.

GPT-2 small with random weights: 12 layers x 12 heads, 144 ablations. The sweep is all of `ablate_each`: tokenising,
the unchanged prediction, 144 changed ones in batches, and the divergence between them. Both sides run in one process,
in turns; resampling adds the capture of the texts that values come from, which is timed as a side of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import attnlens
from attnlens.interventions.metrics import Divergence
from attnlens.interventions.sweeps import ablate_each

ROUNDS = 5
WORDS = 1000
GOAL = 60  # times one forward pass
LENGTHS = (16, 32)


def main() -> None:
    """Measure and print one line per length and side."""
    torch.set_num_threads(1)
    print(f"attnlens {attnlens.__version__}, torch {torch.__version__}, 1 thread, median of {ROUNDS} rounds")
    lens = attnlens.load(model=gpt2_small(), tokenizer=word_tokenizer())
    for length in LENGTHS:
        measure(lens, length)


def gpt2_small() -> transformers.GPT2LMHeadModel:
    """12 layers x 12 heads, 768 wide, 50257 tokens, random weights."""
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=0, eos_token_id=0, pad_token_id=0)).eval()


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token per word `w17`."""
    backend = Tokenizer(WordLevel({f"w{number}": number for number in range(WORDS)}, unk_token="w0"))
    backend.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", pad_token="w0")


def measure(lens: attnlens.Lens, length: int) -> None:
    """Time the forward pass and the sweeps over a text of `length` tokens, in turns."""
    text = " ".join(f"w{(37 * place) % WORDS}" for place in range(1, length + 1))
    source = [" ".join(f"w{(53 * place + text_) % WORDS}" for place in range(1, length + 1)) for text_ in range(16)]
    batch = lens.tokenizer(text, return_tensors="pt")
    arguments = {"input_ids": batch["input_ids"], "use_cache": False}

    @torch.no_grad()
    def forward() -> object:
        return lens.model(**arguments)

    sides: dict[str, Callable[[], object]] = {
        "forward": forward,
        "ablate 144 heads, zero": lambda: ablate_each(lens, text, Divergence()),
        "ablate 144 heads, resample": lambda: ablate_each(lens, text, Divergence(), how="resample", source=source),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(ROUNDS + 1):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            if round_:  # the first round warms up
                times[side].append(time.perf_counter() - start)
    print(f"GPT-2 small, {length} tokens (goal for a sweep: {GOAL} x forward)")
    for side, seconds in times.items():
        ratios = [one / bare for one, bare in zip(seconds, times["forward"], strict=True)]
        spread = f"({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"  {side:<28} {1000 * statistics.median(seconds):8.0f} ms {statistics.median(ratios):6.1f} x {spread}")


if __name__ == "__main__":
    main()
