"""Is a head, or an edge, causal for the current text: its effect against that of others that could have been it.

Heads are resampled, which keeps the norms that zero and mean ablation shift (Chan et al. 2022, "Causal Scrubbing"),
several times, and every other head is a control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from attnlens.capture.edits import Edge, EdgeCut
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, ENCODER, Site
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.interventions.blocks import Edit
from attnlens.interventions.edits import resolve_heads
from attnlens.interventions.effects import Trial
from attnlens.interventions.metrics import Metric
from attnlens.interventions.sources import CORPUS, Source
from attnlens.interventions.sweeps import Progress, ablate_each
from attnlens.models.encode import Text

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["NOT_SUPPORTED", "SUPPORTED", "VOID", "TextVerdict", "is_edge_causal", "is_head_causal"]

SUPPORTED, NOT_SUPPORTED, VOID = "supported", "not supported", "void"
_FEWEST_CONTROLS = 3


@dataclass(frozen=True)
class TextVerdict:
    """Whether a head or an edge is causal for what a model does with one text, with the numbers.

    Attributes:
        subject: the head, or the edge.
        intervention: what was done to it and to the controls.
        metric, unit: what was measured.
        before: the metric without any intervention.
        harm: how much worse the metric got, mean over the draws: positive for harm.
        interval: 95 % of where that mean lies, by Student's t over the draws; None where nothing is drawn.
        controls: control -> its harm, mean over the draws.
        threshold: the 95th percentile of the controls' harm (their largest, below 20 of them).
        rank_p: share of subject and controls together whose harm is at least the subject's.
        verdict: "supported", "not supported", or "void" where the question has no answer.
        reason: the condition that decided.
    """

    subject: str
    intervention: str
    metric: str
    unit: str
    before: float
    harm: float
    interval: tuple[float, float] | None
    controls: Mapping[str, float]
    threshold: float | None
    rank_p: float | None
    verdict: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        return asdict(self)


def is_head_causal(
    lens: Lens,
    text: Text | Capture,
    head: object,
    metric: Metric,
    *,
    how: str = "resample",
    source: Source = CORPUS,
    draws: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> TextVerdict:
    """Ablate a head, and every other head of its stack as a control, and judge.

    Args:
        lens: the model.
        text: the text, or the run of it.
        head: "L3H1".
        metric: what the model does with the text.
        how: "resample" (the default), "mean" or "zero"; those two shift the norm of the stream, which can look like an
            effect or hide one.
        source: where resample takes values from.
        draws: how often.
        seed: of the first draw.
        progress: called with (ablations done, ablations in all).

    Raises:
        As `ablate_each`.
    """
    (subject,) = resolve_heads(lens.anatomy, [head])
    heads = lens.anatomy.stack(subject.stack).heads()
    sweep = ablate_each(
        lens, text, metric, heads, how=how, source=source, draws=draws, seed=seed, progress=progress
    )  # fmt: skip
    harms = sweep.harms.numpy()
    place = heads.index(subject)
    controls = {str(other): float(harms[:, i].mean()) for i, other in enumerate(heads) if i != place}
    interval = _interval(harms[:, place]) if len(harms) > 1 else None
    what = f"{how} ablation" + (f", {len(harms)} draws" if how == "resample" else "")
    return _judged(str(subject), what, sweep.metric, sweep.unit, sweep.before, harms[:, place], interval, controls)


def is_edge_causal(
    lens: Lens,
    text: Text | Capture,
    head: object,
    edge: tuple[int, int],
    metric: Metric,
    *,
    n_controls: int = 50,
    seed: int = 0,
) -> TextVerdict:
    """Cut an edge of a head, and as controls edges of the same head that are as long, and judge.

    Where the text has too few edges of that length, other edges of the same query are controls as well.

    Args:
        lens: the model.
        text: the text, or the run of it.
        head: "L3H1".
        edge: (query, key), positions counted from 0.
        metric: what the model does with the text.
        n_controls: at most so many controls.
        seed: which controls are taken, where there are more.

    Raises:
        UsageError: an edge that the text does not have.
    """
    (subject,) = resolve_heads(lens.anatomy, [head])
    trial = Trial.of(lens, text, metric)
    others = _control_edges(trial, subject, edge)
    if len(others) > n_controls:
        kept = np.random.default_rng(seed).permutation(len(others))[:n_controls]
        others = [others[i] for i in sorted(kept)]
    edges = [edge, *others]
    site = Site(subject.stack, subject.layer)
    rows = [Edge(query, key, subject.head, row) for row, (query, key) in enumerate(edges)]
    edit = Edit("one edge per row", (EdgeCut({site: rows}),), by_position=True)
    after = trial.rows(edit, len(edges)).numpy()
    harms = trial.before - after if trial.readout.larger_is_better else after - trial.before
    controls = {f"{query}->{key}": float(harm) for (query, key), harm in zip(others, harms[1:], strict=True)}
    name = f"{subject} {edge[0]}->{edge[1]}"
    readout = trial.readout
    return _judged(name, "knock-out", readout.name, readout.unit, trial.before, harms[:1], None, controls)


def _control_edges(trial: Trial, head: Head, edge: tuple[int, int]) -> list[tuple[int, int]]:
    anatomy, text = trial.lens.anatomy, trial.batch.texts[0]
    source = trial.batch.sources[0] if trial.batch.sources else None
    if text is None:
        raise UsageError(f"{anatomy.model} reads no text, so its edges have no words to be compared with.")
    n_queries = len((source if head.stack == ENCODER and source is not None else text).tokens)
    n_keys = len((source if head.stack in (ENCODER, CROSS) and source is not None else text).tokens)
    query, key = edge
    causal = anatomy.stack(head.stack).causal
    if not (0 <= query < n_queries and 0 <= key < n_keys) or (causal and key > query):
        raise UsageError(
            f"{head} has no edge from {query} to {key}: queries are 0 to {n_queries - 1}, keys 0 to {n_keys - 1}"
            + (", none after its query." if causal else ".")
        )
    same_length = [(q, q + key - query) for q in range(n_queries) if 0 <= q + key - query < n_keys and q != query]
    same_query = [(query, k) for k in range(query + 1 if causal else n_keys) if k != key]
    return same_length if len(same_length) >= _FEWEST_CONTROLS else [*same_length, *same_query]


def _interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    mean, half = values.mean(), student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(mean - half), float(mean + half)


def _judged(
    subject: str,
    intervention: str,
    metric: str,
    unit: str,
    before: float,
    harms: np.ndarray[Any, np.dtype[np.float64]],
    interval: tuple[float, float] | None,
    controls: Mapping[str, float],
) -> TextVerdict:
    harm = float(harms.mean())
    threshold = rank = None
    if controls:
        threshold = percentile_95(list(controls.values()))
        rank = (1 + sum(other >= harm for other in controls.values())) / (1 + len(controls))
    verdict, reason = _decided(unit, before, harm, interval, controls, threshold)
    return TextVerdict(
        subject, intervention, metric, unit, before, harm, interval, dict(controls), threshold, rank, verdict, reason
    )


def percentile_95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % do not exceed: the largest of fewer than 20."""
    return float(np.quantile(np.asarray(values), 0.95, method="higher"))


def _decided(
    unit: str,
    before: float,
    harm: float,
    interval: tuple[float, float] | None,
    controls: Mapping[str, float],
    threshold: float | None,
) -> tuple[str, str]:
    if unit == "logits" and before <= 0:
        return VOID, f"the model does not prefer the target by itself (difference {before:.3g})"
    if threshold is None or len(controls) < _FEWEST_CONTROLS:
        return VOID, f"only {len(controls)} controls; at least {_FEWEST_CONTROLS} are needed"
    if interval is not None and interval[0] <= 0:
        return NOT_SUPPORTED, f"over the draws the harm may be none (95 % interval from {interval[0]:.3g})"
    if harm <= max(threshold, 0.0):
        return NOT_SUPPORTED, f"harm {harm:.3g} is not beyond that of the controls (95th percentile {threshold:.3g})"
    return SUPPORTED, f"harm {harm:.3g} is beyond that of {len(controls)} controls (95th percentile {threshold:.3g})"
