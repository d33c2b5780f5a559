"""What a label asks of a head's scores, as data: a family states its own, and `probes.labels` alone applies them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from probes.tally import Key

__all__ = ["Conditions", "Margin", "Need", "Value"]

Value = Literal["hits", "mass"]


@dataclass(frozen=True)
class Margin:
    """The score must lie above the best of some baselines, and surely so: its 95 % interval must exclude 0.

    Attributes:
        over: what must be beaten, by kind or by name. "chance" (b0; of mass: what uniform attention gives); "offset",
            "pos" and "other": of the family's rules of that kind the one with the most hits on SELECT (b1, b2); the
            name of one rule, as in `Probe.rules`; "random": the best head of models with random weights (b3);
            "layer 0": the best head of the model's own first layer (b4; heads of that layer are held against the
            others); "shuffled": the head itself on shuffled gold (b5). One that was not measured is left out, and the
            result says so.
        by: at least so much, and in any case more than nothing.
    """

    over: tuple[str, ...]
    by: float


@dataclass(frozen=True)
class Need:
    """A condition on another question about the same head.

    Attributes:
        key: the question.
        least: its score is at least this; None where only `low` counts.
        low: the lower bound of its 95 % interval is above this.
        value: which of its sums is meant, see `Conditions.value`.
        family: whose question it is; the label's own family where None.
    """

    key: Key
    least: float | None = None
    low: float | None = None
    value: Value = "hits"
    family: str | None = None


@dataclass(frozen=True)
class Conditions:
    """All of these must hold on CONFIRM for a label; None and empty ask for nothing. The defaults are the syntax row.

    A question that misses the least number of trials in either half (`Thresholds.fewest`) never gives a label, whatever
    stands here, and neither does one whose conditions hold together in fewer than half of the bootstrap replicates.

    Attributes:
        value: the score: "hits" per trial, or "mass" (for values that are no accuracy both are the value itself).
        margins: over baselines; the first one also decides on SELECT whether a head is tested.
        least: the score is at least this.
        low: the lower bound of the score's 95 % interval is above this.
        times_chance: the score is above so many times chance.
        selectivity: hits at the targets above hits at the control words by at least this.
        target_mass: mean attention on the target is at least this.
        significant: the head's q, of its test against every baseline in `margins`, is at most `Thresholds.q`.
        needs: conditions on other questions.
        strong: what a label's `-strong` form also has to beat; None where there is no such form.
        explicable: a label is said to be explained by position or part of speech where one simple rule that the head
            follows everywhere reproduces nearly all of its hits.
    """

    value: Value = "hits"
    margins: tuple[Margin, ...] = (Margin(("chance", "offset", "other", "random"), 0.10),)
    least: float | None = None
    low: float | None = None
    times_chance: float | None = None
    selectivity: float | None = 0.15
    target_mass: float | None = 0.10
    significant: bool = True
    needs: tuple[Need, ...] = ()
    strong: Margin | None = Margin(("pos",), 0.10)
    explicable: bool = True

    def baselines(self) -> Iterator[str]:
        """Everything that is to be beaten, each once."""
        every = [*self.margins, *([self.strong] if self.strong is not None else [])]
        yield from dict.fromkeys(name for margin in every for name in margin.over)
