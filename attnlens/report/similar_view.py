"""Heads that are like another: by their maps on a text, and by what probes found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.measures.likeness_measures import held_heads, likeness_of
from attnlens.report.results import HeadResults
from attnlens.report.tables import Table

__all__ = ["SimilarHead", "SimilarView", "same_label_view", "similar_view"]

N_SIMILAR = 6


@dataclass(frozen=True)
class SimilarHead:
    """Another head, how far it is or what it scores, and its labels."""

    head: Head
    value: float | None
    labels: tuple[str, ...]


@dataclass(frozen=True)
class SimilarView:
    """Heads like one head, the most alike first.

    Attributes:
        column: what the values are, with their unit.
        heads: the others.
        caption: a sentence.
    """

    column: str
    heads: tuple[SimilarHead, ...]
    caption: str

    def table(self) -> Table:
        """One row per head."""
        rows = tuple((str(each.head), each.value, "; ".join(each.labels) or None) for each in self.heads)
        return Table(self.caption, ("head", self.column, "labels"), rows)


def similar_view(
    run: Capture, head: Head | str, results: HeadResults | None = None, limit: int = N_SIMILAR
) -> SimilarView:
    """The heads whose maps on this text are nearest to a head's.

    Args:
        run: the text.
        head: which head.
        results: for the labels of the others.
        limit: the most that are named.

    Raises:
        HeadAddressError: the model has no such head.
    """
    asked = Head.parse(head)
    letter = (asked.stack or run.anatomy.main_stack) if run.anatomy.stacks else ""
    asked = replace(asked, stack=letter)
    run.attention(head=asked, queries=slice(1))  # refuses a head that is not there
    others = [each for each in held_heads(run, letter) if each != asked]
    distances = likeness_of(run, letter, (asked,), others)[0].tolist() if others else ()
    found = sorted((value, other) for value, other in zip(distances, others, strict=True) if value == value)
    shown = tuple(SimilarHead(other, value, _labels(results, other)) for value, other in found[:limit])
    return SimilarView(
        column="divergence (nats)",
        heads=shown,
        caption="Jensen-Shannon divergence of the maps on this text, mean over its words: 0 is the same map, 0.69 the "
        "furthest. One text says little; see whether they stay together on others.",
    )


def same_label_view(results: HeadResults, head: Head | str, limit: int = N_SIMILAR) -> SimilarView:
    """The heads that share the primary label of a head, the highest score first.

    Raises:
        HeadAddressError: the model has no such head.
    """
    mine = results.of(head)
    label = mine.primary_label
    if label is None:
        return SimilarView("score", (), "The head is unclassified, so none shares its label.")
    found = [
        (twin.score or 0.0, SimilarHead(other.head, twin.score, tuple(each.name for each in other.labels)))
        for other in results.labelled
        if other.head != mine.head
        for twin in other.labels
        if twin.name == label.name
    ]
    ranked = sorted(found, key=lambda pair: -pair[0])
    said = (
        f"Heads that carry {label.name} too, with their score for it."
        if found
        else f"No other head carries {label.name}."
    )
    return SimilarView("score", tuple(each for _, each in ranked[:limit]), said)


def _labels(results: HeadResults | None, head: Head) -> tuple[str, ...]:
    if results is None:
        return ()
    return tuple(label.name for label in results.of(replace(head, stack="")).labels)
