"""What a capture costs beside the bare forward pass that it records: time for several models and batches, and memory.

All sides run on the same model and batch in one process, in turns; every figure is the median over the rounds of the
ratio to the model's own SDPA forward in the same round. Peak memory is taken from a fresh process per side.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import goals
import sides
import sizes
import table
import torch
import transformers

import attnlens

ROUNDS = 9
PROCESSES = 3
QUICK = {"minilm": ((1, 128), (1, 512)), "llama": ((1, 512),)}


def main() -> None:
    """Measure, print the table, and keep it as JSON."""
    options = _options()
    transformers.logging.set_verbosity_error()
    if options.threads:
        torch.set_num_threads(options.threads)
    head = {
        "attnlens": attnlens.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "rounds": options.rounds,
    }
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    for side in options.sides:
        if reason := sides.missing(side):
            print(f"{side}: not measured, {reason}")
    chosen = [side for side in options.sides if not sides.missing(side)]
    results = []
    for name in options.models:
        for batch in QUICK.get(name, ()) if options.quick else sizes.SIZES[name].batches:
            results.append(measure(name, batch, chosen, options.rounds))
    memory = peak_memory(chosen) if "long" in options.models and not options.quick else {}
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"head": head, "time": results, "peak_mib": memory}, indent=2) + "\n")
        print(f"kept in {options.json}")


def measure(name: str, batch: tuple[int, int], chosen: list[str], rounds: int) -> dict[str, object]:
    """Time all sides on one model and batch, and print them."""
    bench = sides.open_bench(name, batch)
    references = {side: sides.SIDES[side][1] for side in chosen}
    runs = {side: make(bench) for side, make in sides.REFERENCES.items() if side in {"forward", *references.values()}}
    title = f"\n{sizes.SIZES[name].title}, {batch[0]} x {batch[1]} tokens"
    left_out = []
    for side in chosen:
        try:
            runs[side] = sides.SIDES[side][0](bench)
            runs[side]()
        except Exception as error:  # another tool's refusal is a line of the table, not the end of it
            if side in ("lazy", "all weights", "reduce"):
                raise
            runs.pop(side, None)
            left_out.append(f"  {side}: not measured, {type(error).__name__}: {str(error).splitlines()[0]}")
    found = table.figures(table.take_turns(runs, rounds), {"body": "forward"} | references)
    print("\n".join(table.lines(title, found, references, goals.goals(name, batch)) + left_out), flush=True)
    return {"model": name, "batch": batch, "figures": [asdict(one) for one in found]}


def peak_memory(chosen: list[str]) -> dict[str, float]:
    """MiB above the loaded model, for the long text: the median of a few processes, since allocators vary."""
    n_texts, n_tokens = sizes.SIZES["long"].batches[0]
    print(f"\n{sizes.SIZES['long'].title}, {n_texts} x {n_tokens} tokens: peak memory above the loaded model, MiB")
    found = {}
    for side in ["forward", *(side for side in chosen if side != "BertViz")]:
        try:
            peaks = sorted(_peak_of(side) for _ in range(PROCESSES))
        except subprocess.CalledProcessError as error:
            print(f"  {side:<20} not measured: {(error.stderr.strip().splitlines() or ['?'])[-1]}")
            continue
        found[side] = statistics.median(peaks)
        goal = f"   <= {goals.LONG_MEMORY_MIB[side]}" if side in goals.LONG_MEMORY_MIB else ""
        print(f"  {side:<20}{found[side]:>9.0f}  {peaks[0]:.0f} to {peaks[-1]:.0f}{goal}", flush=True)
    return found


def _peak_of(side: str) -> float:
    script = Path(__file__).with_name("peak_memory.py")
    done = subprocess.run([sys.executable, str(script), side], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small models and no peak memory")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds after the one that warms up")
    parser.add_argument("--models", nargs="+", choices=list(sizes.SIZES), default=list(sizes.SIZES))
    parser.add_argument("--sides", nargs="+", choices=list(sides.SIDES), default=list(sides.SIDES))
    parser.add_argument("--threads", type=int, help="threads of torch; all cores by default")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
