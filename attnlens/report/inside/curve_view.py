"""Curves over a whole number (a distance, a position), with the table behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attnlens.report.tables import Table

__all__ = ["Curve", "CurveView"]


@dataclass(frozen=True)
class Curve:
    """One named curve.

    Attributes:
        name: for legend and table.
        values: one per place of the view; NaN where not defined.
        chosen: drawn before the others.
    """

    name: str
    values: Float[np.ndarray, " place"]
    chosen: bool = True


@dataclass(frozen=True)
class CurveView:
    """Curves over the same places.

    Attributes:
        places: whole numbers in ascending order.
        over: what they count.
        curves: at least one.
        unit: of the values.
        title, caption: plain text.
        mark: a place to point at, and what it is.
        steps: values hold until the next place (buckets).
    """

    places: tuple[int, ...]
    over: str
    curves: tuple[Curve, ...]
    unit: str
    title: str
    caption: str
    mark: tuple[int, str] | None = None
    steps: bool = False

    def table(self) -> Table:
        """One row per place, one column per curve."""
        rows = tuple(
            (place, *(None if np.isnan(curve.values[at]) else float(curve.values[at]) for curve in self.curves))
            for at, place in enumerate(self.places)
        )
        return Table(f"{self.title}, in {self.unit}.", (self.over, *(curve.name for curve in self.curves)), rows)
