"""What was measured held against what it should not exceed, and how that is printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH = 42


@dataclass(frozen=True)
class Check:
    """One figure and its goal.

    Attributes:
        what: what was measured.
        measured, goal: both in `unit`.
        unit: "ms", "frames/s", ...
        spread: the least and the largest of the rounds; None for what was counted once.
        at_least: whether more is better.
        note: what else belongs to the figure.
    """

    what: str
    measured: float
    goal: float
    unit: str
    spread: tuple[float, float] | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured to goal; None where the goal is none at all."""
        return self.measured / self.goal if self.goal else None

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal

    def to_json(self) -> dict[str, Any]:
        """Everything, with ratio and verdict."""
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def of_rounds(what: str, rounds: Sequence[float], goal: float, unit: str = "ms", **more: Any) -> Check:
    """The median of the rounds."""
    return Check(what, statistics.median(rounds), goal, unit, (min(rounds), max(rounds)), **more)


HEADING = f"{'':<{_WIDTH}}{'measured':>10}{'goal':>10}  {'unit':<9}{'ratio':>6}  {'verdict':<8}lowest to highest"


def lines(checks: Sequence[Check]) -> list[str]:
    """One check a line, with what belongs to it below."""
    text = []
    for check in checks:
        goal = f"{'>=' if check.at_least else '<='} {check.goal:,.0f}"
        ratio = "" if check.ratio is None else f"{check.ratio:.2f}"
        spread = "" if check.spread is None else f"{check.spread[0]:,.0f} to {check.spread[1]:,.0f}"
        numbers = f"{check.measured:>10,.0f}{goal:>10}  {check.unit:<9}{ratio:>6}"
        text.append(f"{check.what:<{_WIDTH}}{numbers}  {'holds' if check.holds else 'MISSED':<8}{spread}".rstrip())
        if check.note:
            text.append(f"    {check.note}")
    return text
