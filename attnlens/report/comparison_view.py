"""What pages and reports show of two runs side by side; the numbers are those of `attnlens.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from attnlens.compare import HeadMatch, RunComparison
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report.metrics import Metric
from attnlens.report.tables import Table, count, number
from attnlens.report.views import HeadMapView, map_of_values

__all__ = ["DIVERGENCE", "DifferenceView", "counterpart", "difference_view", "divergence_view", "matched_table"]

DIVERGENCE = Metric(
    key="divergence",
    name="divergence",
    unit="nats",
    low=0.0,
    high=None,
    description="Jensen-Shannon divergence between the two runs' rows, averaged over words that both have: 0 is the "
    "same attention, 0.69 (ln 2) none in common.",
)


@dataclass(frozen=True)
class DifferenceView:
    """One head's maps in two runs, over what both texts have.

    Attributes:
        heads: the head in the first run, and its counterpart in the second.
        first, second: `[row column]` weights, 0 to 1.
        row_labels, column_labels: printable text of what attends and of what is attended to.
        divergence: mean over rows that are no special tokens, in nats, 0 to ln 2.
        title, caption: plain text.
    """

    heads: tuple[Head, Head]
    first: Float[np.ndarray, "row column"]
    second: Float[np.ndarray, "row column"]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    divergence: float
    title: str
    caption: str

    @property
    def difference(self) -> Float[np.ndarray, "row column"]:
        """Weight in the second run minus weight in the first, -1 to 1."""
        difference: Float[np.ndarray, "row column"] = self.second - self.first
        return difference

    def table(self, limit: int = 12) -> Table:
        """The largest differences, largest first."""
        order = np.argsort(-np.abs(self.difference), axis=None, kind="stable")[:limit]
        rows = []
        for row, column in zip(*np.unravel_index(order, self.first.shape), strict=True):
            one, two = float(self.first[row, column]), float(self.second[row, column])
            rows.append((self.row_labels[row], self.column_labels[column], one, two, two - one))
        return Table("The largest differences.", ("from", "to", "first", "second", "difference"), tuple(rows))


def divergence_view(comparison: RunComparison) -> HeadMapView:
    """How far every head of the first run is from the same head of the second.

    Raises:
        UsageError: the models differ in layers or heads; take `matched_table`.
    """
    return map_of_values(comparison.first, DIVERGENCE, comparison.divergence().numpy())


def counterpart(matches: Sequence[HeadMatch], head: Head) -> Head:
    """The head of the second model that is shown beside `head` of the first, where no head is the same in both.

    Raises:
        UsageError: `head` has no match, since the second model has fewer heads.
    """
    found = {match.first: match.second for match in matches}
    if head not in found:
        raise UsageError(f"{head} has no counterpart: the second model has fewer heads; choose one of the table's.")
    return found[head]


def difference_view(comparison: RunComparison, head: Head, other: Head) -> DifferenceView:
    """One head in both runs."""
    first, second = (weights.numpy() for weights in comparison.maps(head, other))
    rows, columns = comparison.rows.labels, comparison.columns.labels
    name = str(head) if head == other else f"{head} and {other}"
    divergence = comparison.between(head, other)
    return DifferenceView(
        heads=(head, other),
        first=first,
        second=second,
        row_labels=rows,
        column_labels=columns,
        divergence=divergence,
        title=f"{name} in both runs",
        caption=(
            f"{name} over the {count(len(rows), 'word' if comparison.words else 'token')} that both runs have: "
            f"mean divergence {number(divergence, 4)} nats. Weights on what only one text has are left out."
        ),
    )


def matched_table(matches: Sequence[HeadMatch]) -> Table:
    """Heads of two models that are most alike, the closest pair first."""
    rows = sorted((match.divergence, str(match.first), str(match.second)) for match in matches)
    return Table(
        "Each head of the first model and its counterpart in the second: pairs with the least divergence in sum.",
        ("first", "second", "divergence (nats)"),
        tuple((first, second, divergence) for divergence, first, second in rows),
    )
