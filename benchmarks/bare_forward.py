"""Time one model's own forward pass over each line of the input; prints milliseconds and tokens, one line for each.

python benchmarks/bare_forward.py MODEL
"""

from __future__ import annotations

import sys
import time

import torch
import transformers

import attnlens


def main(name: str) -> None:
    """Open the model, then answer until the input ends."""
    transformers.logging.set_verbosity_error()
    lens = attnlens.load(name)
    for line in sys.stdin:
        inputs = lens.tokenizer(line.strip(), return_tensors="pt")
        start = time.perf_counter()
        with torch.no_grad():
            lens.model(**inputs)
        took = time.perf_counter() - start
        print(f"{1000 * took:.3f} {inputs['input_ids'].shape[1]}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
