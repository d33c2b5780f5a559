"""Sides timed in turns, their ratios to the reference of the same round, and how both are printed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sides import Run


@dataclass(frozen=True)
class Figure:
    """One side's time.

    Attributes:
        side: its name.
        milliseconds: median over the rounds.
        ratio: median over the rounds of its time to the reference's time in the same round.
        least: the ratio of the fastest rounds of both, which a busy machine disturbs least.
        low, high: the smallest and the largest ratio of a round.
    """

    side: str
    milliseconds: float
    ratio: float
    least: float
    low: float
    high: float


def take_turns(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds per side and round; all sides run in every round, and one round before them warms up.

    Each round has an order of its own, the same in every program run: a side that always came after one that leaves
    the caches cold would look slow.
    """
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    for turn in range(rounds + 1):
        for side, run in random.Random(turn).sample(list(runs.items()), len(runs)):
            start = time.perf_counter()
            result = run()
            took = time.perf_counter() - start
            del result  # freeing what was kept is not part of the run
            if turn:
                seconds[side].append(took)
    return seconds


def figures(seconds: Mapping[str, list[float]], references: Mapping[str, str]) -> list[Figure]:
    """One figure per side; `references` names the side that each is divided by."""
    found = []
    for side, own in seconds.items():
        other = seconds[references.get(side, side)]
        ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True)]
        found.append(
            Figure(
                side=side,
                milliseconds=1000 * statistics.median(own),
                ratio=statistics.median(ratios),
                least=min(own) / min(other),
                low=min(ratios),
                high=max(ratios),
            )
        )
    return found


def lines(title: str, found: list[Figure], references: Mapping[str, str], goals: Mapping[str, float]) -> list[str]:
    """The figures of one model and batch as text."""
    text = [title, f"  {'side':<20}{'ms':>9}  {'ratio':>6}  {'lowest to highest':<18}{'best/best':>9}   goal"]
    for one in found:
        goal = f"<= {goals[one.side]:.2f}" if one.side in goals else ""
        beside = f"  of {references[one.side]}" if references.get(one.side, "forward") != "forward" else ""
        spread = f"{one.low:.2f} to {one.high:.2f}"
        numbers = f"{one.milliseconds:>9.1f}  {one.ratio:>6.2f}  {spread:<18}{one.least:>9.2f}"
        text.append(f"  {one.side:<20}{numbers}   {goal}{beside}".rstrip())
    return text
