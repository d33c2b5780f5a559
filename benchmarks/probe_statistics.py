"""How long the statistics of a probe run take after the pass: bootstrap, sign flips, McNemar, FDR, labels.

The tallies are made up: every head hits a share of the trials, the rules theirs, over 400 clusters. Nothing depends
on a model or a corpus, so the figure is that of any model of this size; the number of cells that go to the test is
printed, since only these are permuted. Memory is the peak of the process above that of the tallies.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np

from probes.family import Rule
from probes.findings import Settings, find
from probes.split import Split, split_units
from probes.syntax import SyntaxProbe
from probes.tally import UNIT, Cell, Key, Tally

GOAL_S = 30.0


def main() -> None:
    """Make the tallies, time the statistics, print."""
    options = _options()
    probe = SyntaxProbe()
    split = split_units("document", [f"d{index}" for index in range(options.clusters)])
    tally = made_up(options.heads, options.relations, split, probe.rules, options.share)
    held = _peak_mib()
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        found = find([probe], {"syntax": tally}, split, Settings())
        times.append(time.perf_counter() - start)
    n_questions = len(tally.cells)
    figures = {
        "machine": platform.processor() or platform.machine(),
        "numpy": np.__version__,
        "heads": options.heads,
        "questions": n_questions,
        "rules": len(probe.rules),
        "clusters": options.clusters,
        "tested": sum(int(each.tested.sum()) for each in found.scores),
        "labels": len(found.labels()),
        "seconds": sorted(times)[len(times) // 2],
        "rounds": [round(each, 2) for each in times],
        "peak_mib_above_tallies": _peak_mib() - held,
    }
    for name, value in figures.items():
        print(f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}")
    print(f"goal: {GOAL_S:.0f} s")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def made_up(n_heads: int, n_relations: int, split: Split, rules: tuple[Rule, ...], share: float) -> Tally:
    """Sums over clusters of `n_relations` relations in both directions; `share` of the heads beat every rule."""
    rng = np.random.default_rng(0)
    n_clusters = len(split.confirm)
    tally = Tally(n_clusters, n_heads, [rule.name for rule in rules])
    for number in range(n_relations):
        for direction in ("d2h", "h2d"):
            trials = rng.integers(2, 12, n_clusters)
            accuracy = np.where(
                rng.random(n_heads) < share, rng.uniform(0.5, 0.9, n_heads), rng.uniform(0, 0.3, n_heads)
            )
            hits = rng.binomial(trials[:, None], accuracy)
            by_rule = rng.binomial(trials[:, None], rng.uniform(0, 0.35, len(rules)))
            both = [
                np.rint(by_rule[half].sum(axis=0)[:, None] * accuracy).astype(np.int64)
                for half in (~split.confirm, split.confirm)
            ]
            empty = Cell.empty(n_clusters, n_heads, len(rules))
            counts = {"trials": trials, "asked": trials, "control_trials": trials, "chance": trials * UNIT // 10}
            per_head = {
                "hits": hits,
                "mass": hits,
                "paired_hits": hits,
                "control_hits": hits // 4,
                "shuffled_hits": hits // 3,
            }
            tally.cells[Key(f"relation {number}", direction)] = Cell(
                **{name: getattr(empty, name) for name in ("mass_chance", "rival_mass", "control_mass", "paired_mass")},
                **counts,
                **{name: sums * UNIT for name, sums in per_head.items()},
                rules=by_rule * UNIT,
                rule_hits=np.stack(both) * UNIT,
            )
    return tally


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=144)
    parser.add_argument("--relations", type=int, default=40)
    parser.add_argument("--clusters", type=int, default=400)
    parser.add_argument("--share", type=float, default=0.05, help="of the heads that beat every rule")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
