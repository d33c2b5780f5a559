"""What probes found in each layer's residual stream (`layers` in `heads.json`): rows, and panels ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlens.report.tables import Cell, Table, count, number

__all__ = ["READABLE", "LayerPanel", "LayerScore", "layer_panels", "parse_layers"]

READABLE = (
    "Readable is not used: a probe that reads a property shows that the stream holds it there, not that the model goes "
    "by it."
)
# Controls that a score need not beat: the first is told as selectivity, the second says what word order adds.
_TOLD_APART = ("random labels", "shuffled words")
# Task -> what is read, for a title.
_TASKS = {
    "upos": "part of speech",
    "relation": "relation to the head word",
    "position": "position in the text",
    "tree distance": "distance in the syntax tree",
    "tree depth": "depth in the syntax tree",
}
_METRICS = {
    "accuracy": "share of words",
    "UUAS": "share of undirected arcs",
    "root": "share of roots found",
    "DSpr": "mean rank correlation of distances",
    "NSpr": "mean rank correlation of depths",
}


@dataclass(frozen=True)
class LayerScore:
    """One measure of one task at one depth of the stream; None is "not measured".

    Attributes:
        family, task, metric: what was read, and how it was scored.
        depth: layers passed; `place` names it ("embeddings", "L3").
        better: "higher" or "lower".
        n: cases that the score is a mean over.
        score, ci: on the half that nothing was fitted or chosen on.
        select_score: what the depth was chosen by.
        chosen: the depth that reads best on the other half.
        selectivity: score less that of the control task.
        controls: the same measure without what the model learnt.
    """

    family: str
    task: str
    metric: str
    depth: int
    place: str
    better: str
    n: int
    score: float | None
    ci: tuple[float, float] | None
    select_score: float | None
    chosen: bool
    selectivity: float | None
    controls: Mapping[str, float | None]


@dataclass(frozen=True)
class LayerPanel:
    """All measures of one task; the first is drawn.

    Attributes:
        family, task: what was read.
        metrics: names, in order.
        scores: metric -> one score per depth, in order.
        title, caption: plain text; the caption says what the chosen layer reaches and what it has to be held against.
    """

    family: str
    task: str
    metrics: tuple[str, ...]
    scores: Mapping[str, tuple[LayerScore, ...]]
    title: str
    caption: str

    @property
    def main(self) -> tuple[LayerScore, ...]:
        """The measure that is drawn."""
        return self.scores[self.metrics[0]]

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the main measure's controls that were measured anywhere."""
        names = dict.fromkeys(name for score in self.main for name in score.controls)
        return tuple(name for name in names if any(score.controls.get(name) is not None for score in self.main))

    def table(self) -> Table:
        """One row per layer: the main measure with interval and controls, then the other measures."""
        first, *others = self.metrics
        selective = any(score.selectivity is not None for score in self.main)
        columns = ["layer", first, "95 % from", "to", *(["selectivity"] if selective else []), *self.controls, *others]
        rows: list[tuple[Cell, ...]] = []
        for index, score in enumerate(self.main):
            low, high = score.ci or (None, None)
            selectivity: tuple[Cell, ...] = (score.selectivity,) if selective else ()
            controls = tuple(score.controls.get(name) for name in self.controls)
            more = tuple(self.scores[metric][index].score for metric in others)
            rows.append((score.place, score.score, low, high, *selectivity, *controls, *more))
        return Table(f"{self.title}, by layer.", tuple(columns), tuple(rows))


def parse_layers(rows: Iterable[Mapping[str, Any]]) -> tuple[LayerScore, ...]:
    """Typed rows from decoded JSON.

    Raises:
        KeyError, TypeError, ValueError: a part is missing or of the wrong type.
    """
    parsed = []
    for row in rows:
        known = {name: row[name] for name in LayerScore.__dataclass_fields__}
        ci = None if row["ci"] is None else (float(row["ci"][0]), float(row["ci"][1]))
        parsed.append(LayerScore(**known | {"ci": ci, "controls": dict(row["controls"])}))
    return tuple(parsed)


def layer_panels(scores: Sequence[LayerScore]) -> tuple[LayerPanel, ...]:
    """One panel per family and task, in the order of the rows."""
    groups: dict[tuple[str, str], dict[str, list[LayerScore]]] = {}
    for score in scores:
        groups.setdefault((score.family, score.task), {}).setdefault(score.metric, []).append(score)
    panels = []
    for (family, task), metrics in groups.items():
        ordered = {name: tuple(sorted(own, key=lambda score: score.depth)) for name, own in metrics.items()}
        title = f"{_TASKS.get(task, task)} ({family})".capitalize()
        caption = _sentence(next(iter(ordered.values())))
        panels.append(LayerPanel(family, task, tuple(ordered), ordered, title, caption))
    return tuple(panels)


def _sentence(scores: Sequence[LayerScore]) -> str:
    """What the chosen layer reaches, and the best control beside it."""
    chosen = next((score for score in scores if score.chosen), None)
    if chosen is None or chosen.score is None:
        return "Not measured: too few cases."
    interval = "" if chosen.ci is None else f", 95 % interval {number(chosen.ci[0])} to {number(chosen.ci[1])}"
    metric = chosen.metric + (f", {_METRICS[chosen.metric]}" if chosen.metric in _METRICS else "")
    where = "the embeddings, before any layer" if chosen.depth == 0 else chosen.place
    said = (
        f"Reads best at {where} (chosen on the other half): {number(chosen.score)} ({metric}{interval}, "
        f"{count(chosen.n, 'case')})."
    )
    known = {name: value for name, value in chosen.controls.items() if value is not None and name not in _TOLD_APART}
    if chosen.depth == 0:
        known.pop("embeddings", None)
    if known:
        name = max(known, key=lambda control: known[control])
        low = chosen.score if chosen.ci is None else chosen.ci[0]
        verdict = "above" if low > known[name] else "not clearly above"
        said += f" That is {verdict} the best control, {name}: {number(known[name])}."
    if (shuffled := chosen.controls.get("shuffled words")) is not None:
        said += f" With the words of each sentence shuffled: {number(shuffled)}."
    if chosen.selectivity is not None:
        said += f" Selectivity over random labels per word type: {number(chosen.selectivity)}."
    return said
