"""What a probe of the stream found: one score per task, measure and depth, beside its controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["LayerResults", "LayerScore", "place_of"]

Better = Literal["higher", "lower"]


def place_of(depth: int) -> str:
    """What a depth of the stream is called.

    >>> place_of(0), place_of(3)
    ('embeddings', 'L2')
    """
    return "embeddings" if depth == 0 else f"L{depth - 1}"


@dataclass(frozen=True, kw_only=True)
class LayerScore:
    """One measure of one task at one depth of the residual stream.

    Attributes:
        family, task, metric: "linear", "upos", "accuracy".
        depth: layers passed; 0 is the input of the first one.
        better: which direction is.
        n: cases on CONFIRM that `score` is a mean over.
        score: on CONFIRM; NaN where nothing could be measured.
        ci: its 95 % interval over units of the split, the fitted probe held fixed.
        select_score: on the tenth of SELECT that no probe was fitted on; the depth is chosen by it.
        chosen: the depth with the best `select_score` of this task and metric.
        selectivity: score less the score on the control task; NaN where there is none.
        controls: name -> score of the same measure without what the model learnt ("random weights", "majority", ...).
    """

    family: str
    task: str
    metric: str
    depth: int
    better: Better
    n: int
    score: float
    ci: tuple[float, float]
    select_score: float
    chosen: bool = False
    selectivity: float = math.nan
    controls: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A row of `layers` in `heads.json`; what was not measured is null."""
        low, high = self.ci
        return {
            "family": self.family,
            "task": self.task,
            "metric": self.metric,
            "depth": self.depth,
            "place": place_of(self.depth),
            "better": self.better,
            "n": self.n,
            "score": _number(self.score),
            "ci": None if math.isnan(low) or math.isnan(high) else [_number(low), _number(high)],
            "select_score": _number(self.select_score),
            "chosen": self.chosen,
            "selectivity": _number(self.selectivity),
            "controls": {name: _number(value) for name, value in self.controls.items()},
        }


@dataclass(frozen=True)
class LayerResults:
    """All scores of one family, and what they were measured on.

    Attributes:
        family: its name.
        scores: by task, metric and depth.
        about: JSON values: sizes of the sample, options, why a control is missing.
    """

    family: str
    scores: tuple[LayerScore, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> list[dict[str, Any]]:
        """The rows of `layers` in `heads.json`."""
        return [score.to_json() for score in self.scores]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{float(value):.6g}")
