"""Views: arrays with labels and a caption, ready to be drawn; reports and pages share them.

A view holds plain text; whoever draws it escapes it. Every view has a `caption` (one sentence or two) and a
`table()` with the numbers that the picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report.maps import Choice, Window, held_heads, maps_of
from attnlens.report.metrics import METRICS, Metric, metric_values
from attnlens.report.results import HeadResult, HeadResults, Label
from attnlens.report.tables import Cell, Table, count, number

__all__ = [
    "LONGEST_MEASURED",
    "HeadMapView",
    "HeadNote",
    "Link",
    "PatternView",
    "Standout",
    "head_map_view",
    "head_of",
    "pattern_view",
    "results_map_view",
    "standouts",
    "strongest",
    "unmeasured_map_view",
]

# Tokens up to which a page measures every head of a run by itself.
LONGEST_MEASURED = 1024
CAVEAT = "Attention is evidence of information movement, not explanation."
_ORDER = "Layer 0 is the top row, as in BertViz; head 0 is the left column."


@dataclass(frozen=True)
class HeadNote:
    """What a map says about a labelled head: its primary label, the category that colours it, all labels."""

    primary: str
    category: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class HeadMapView:
    """One cell per head: a metric of a run, or the categories of probe labels, or both.

    Attributes:
        values: of `metric`, `[layer head]`, NaN where it is not defined; None for a map of labels only.
        metric: what the values are; None for a map of labels only.
        notes: head -> what probes found; heads without a label are not in it.
        n_layers, n_heads: size of the map.
        title, caption: plain text.
        stack: letter of the stack in an encoder-decoder, which stands before the addresses in the table.
    """

    values: Float[np.ndarray, "layer head"] | None
    metric: Metric | None
    notes: dict[Head, HeadNote]
    n_layers: int
    n_heads: int
    title: str
    caption: str
    stack: str = ""

    def heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(Head(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads))

    def value(self, head: Head) -> float | None:
        """The head's number; None where there is none."""
        if self.values is None or np.isnan(self.values[head.layer, head.head]):
            return None
        return float(self.values[head.layer, head.head])

    @property
    def scale(self) -> tuple[float, float]:
        """The ends of the number's scale: of its range, or the largest value where that has no end."""
        if self.metric is None or self.values is None:
            return 0.0, 1.0
        low, high = self.metric.low, self.metric.high
        high = float(np.nanmax(self.values, initial=low)) if high is None else high
        return low, max(high, low + 1e-9)

    def table(self) -> Table:
        """One row per head."""
        unit = f" ({self.metric.unit})" if self.metric and self.metric.unit else ""
        columns = ["head", "layer", "index"] + ([f"{self.metric.name}{unit}"] if self.metric else []) + ["labels"]
        rows: list[tuple[Cell, ...]] = []
        for head in self.heads():
            labels = "; ".join(self.notes[head].texts) if head in self.notes else None
            values: tuple[Cell, ...] = (self.value(head),) if self.metric else ()
            rows.append((f"{self.stack}{head}", head.layer, head.head, *values, labels))
        return Table(self.caption, tuple(columns), tuple(rows))

    def _repr_html_(self) -> str:
        from attnlens.report.notebook.results import map_html

        return map_html(self)


@dataclass(frozen=True)
class PatternView:
    """One head's pattern on one text.

    Attributes:
        head: whose.
        weights: `[query key]`, 0 to 1.
        visible: `[query key]`, False where the mask hides the key: "not visible", which is not 0.
        row_labels, column_labels: printable text of the queries ("from") and the keys ("to").
        level: "tokens" or "words".
        labels: what probes found about the head.
        title, caption: plain text.
    """

    head: Head
    weights: Float[np.ndarray, "query key"]
    visible: Bool[np.ndarray, "query key"]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    level: str
    labels: tuple[Label, ...]
    title: str
    caption: str

    def table(self) -> Table:
        """The whole matrix, one row per query; None where the key is not visible."""
        cells = self.weights.astype(float)
        rows = tuple(
            (label, *(float(weight) if seen else None for weight, seen in zip(row, mask, strict=True)))
            for label, row, mask in zip(self.row_labels, cells, self.visible, strict=True)
        )
        return Table(f"{self.title}: rows attend to columns.", ("from \\ to", *self.column_labels), rows)

    def _repr_html_(self) -> str:
        from attnlens.report.notebook.heads import pattern_html

        return pattern_html(self)


@dataclass(frozen=True)
class Link:
    """One query's weight on one key."""

    query: int
    key: int
    source: str
    target: str
    weight: float


@dataclass(frozen=True)
class Standout:
    """The head that is first in a metric."""

    metric: Metric
    head: Head
    value: float


def head_map_view(run: Capture, metric: str, results: HeadResults | None = None, stack: str = "") -> HeadMapView:
    """A map of a run's heads coloured by a metric, with the labels that probes gave them.

    `stack` is "E", "D" or "X" in an encoder-decoder; its decoder where nothing is said.

    Raises:
        UsageError: no such metric.
        ResultsError: the labels are of another model.
    """
    if metric not in METRICS:
        raise UsageError(f"{metric!r} is no metric of a run; choose one of {', '.join(METRICS)}.")
    return replace(map_of_values(run, METRICS[metric], metric_values(run, metric, stack), results), stack=stack)


def unmeasured_map_view(run: Capture, metric: str, results: HeadResults | None = None, stack: str = "") -> HeadMapView:
    """The heads of a text that is too long to measure in passing, with their labels and a caption that says so.

    Raises:
        UsageError: no such metric.
        ResultsError: the labels are of another model.
    """
    heads = held_heads(run, stack)
    shape = max(head.layer for head in heads) + 1, max(head.head for head in heads) + 1
    view = map_of_values(run, METRICS[metric], np.full(shape, np.nan), results)
    said = (
        f"{METRICS[metric].name.capitalize()} is not measured here on texts of more than {LONGEST_MEASURED:,} tokens."
    )
    return replace(view, caption=f"{said} attnlens measure does it. {_ORDER}", stack=stack)


def map_of_values(
    run: Capture,
    metric: Metric,
    values: Float[np.ndarray, "layer head"],
    results: HeadResults | None = None,
) -> HeadMapView:
    """`head_map_view` for values that were measured before."""
    if results is not None:
        results.check_same_model(run.anatomy)
    notes = _notes(results)
    unit = f", in {metric.unit}" if metric.unit else ""
    marked = " Outlined heads carry a label from a probe." if notes else ""
    return HeadMapView(
        values=values,
        metric=metric,
        notes=notes,
        n_layers=len(values),
        n_heads=values.shape[1],
        title=f"Heads by {metric.name}",
        caption=(f"{metric.name.capitalize()} of every head on this text{unit}. {metric.description} {_ORDER}{marked}"),
    )


def results_map_view(results: HeadResults) -> HeadMapView:
    """A map of a model's heads coloured by the category of their primary label; no run is needed."""
    anatomy, n_labelled = results.anatomy, len(results.labelled)
    chosen = results.scope.get("layers")
    n_heads = anatomy.n_layers * anatomy.n_heads if chosen is None else len(results.heads)
    only = "" if chosen is None else f" Only layers {', '.join(map(str, chosen))} were scored."
    return HeadMapView(
        values=None,
        metric=None,
        notes=_notes(results),
        n_layers=anatomy.n_layers,
        n_heads=anatomy.n_heads,
        title="Heads by label",
        caption=(
            f"{n_labelled} of {count(n_heads, 'head')} {'carries' if n_labelled == 1 else 'carry'} a label; "
            f"colour is the category of the primary one, grey is unclassified.{only} {_ORDER}"
        ),
    )


def pattern_view(
    run: Capture,
    head: Head | str | tuple[int, int],
    *,
    words: bool = False,
    hide_special: bool = False,
    results: HeadResults | None = None,
    window: Window | None = None,
) -> PatternView:
    """One head's pattern, by tokens or by words.

    Args:
        run: the run.
        head: which head.
        words: sum over the pieces of the word attended to, mean over the pieces of the word that attends.
        hide_special: leave out rows and columns of special tokens; the rest is not renormalised.
        results: probe results of the same model, for the head's labels.
        window: a part of the map, in tokens.

    Raises:
        HeadAddressError: the model has no such head.
        ResultsError: the labels are of another model.
        UsageError: no part of the map lies in the window.
    """
    head = head_of(run, head)
    if results is not None:
        results.check_same_model(run.anatomy)
    maps = maps_of(run, [head], Choice(words=words, hide_special=hide_special), window)
    shown = maps.weights[0]
    return PatternView(
        head=head,
        weights=np.nan_to_num(shown),
        visible=~np.isnan(shown),
        row_labels=maps.rows.labels,
        column_labels=maps.columns.labels,
        level=maps.level,
        labels=results.of(head).labels if results is not None else (),
        title=f"{head} on {count(len(maps.rows.labels), maps.level[:-1])}",
        caption=maps.captions[0],
    )


def head_of(run: Capture, address: Head | str | tuple[int, int]) -> Head:
    """The head that is meant, with the letter of its stack: without one, the decoder's in an encoder-decoder.

    Raises:
        HeadAddressError: the model has no such head.
    """
    head = Head.parse(address)
    letter = head.stack or run.anatomy.main_stack
    if not run.anatomy.stacks:
        return head.within(run.n_layers, run.n_heads)
    stack = run.anatomy.stack(letter)
    return replace(head, stack=letter).within(stack.n_layers, stack.n_heads)


def strongest(view: PatternView, limit: int = 10) -> tuple[Link, ...]:
    """The largest weights of a head, largest first.

    Queries that see one key only (the first token of a causal model) are left out: they have no choice.
    """
    free = view.visible & (view.visible.sum(1, keepdims=True) > 1)
    weights = np.where(free, view.weights, -1.0)
    order = np.argsort(-weights, axis=None, kind="stable")[:limit]
    links = []
    for query, key in zip(*np.unravel_index(order, weights.shape), strict=True):
        if weights[query, key] >= 0:
            source, target = view.row_labels[query], view.column_labels[key]
            links.append(Link(int(query), int(key), source, target, float(weights[query, key])))
    return tuple(links)


def standouts(maps: dict[str, Float[np.ndarray, "layer head"]]) -> tuple[Standout, ...]:
    """For each metric that is defined somewhere, the head with the largest value."""
    found = []
    for key, values in maps.items():
        if not np.isnan(values).all():
            layer, head = np.unravel_index(int(np.nanargmax(values)), values.shape)
            found.append(Standout(METRICS[key], Head(int(layer), int(head)), float(values[layer, head])))
    return tuple(found)


def _notes(results: HeadResults | None) -> dict[Head, HeadNote]:
    return {result.head: _note(result) for result in results.labelled} if results is not None else {}


def _note(result: HeadResult) -> HeadNote:
    primary = result.primary_label
    assert primary is not None
    texts = (f"{label.name}: {number(label.score)}{_beside(label)}" for label in result.labels)
    return HeadNote(primary.label, primary.category, tuple(texts))


def _beside(label: Label) -> str:
    if label.baseline is None:
        return ""
    return f" ({label.baseline_name or 'baseline'} {number(label.baseline)})"
