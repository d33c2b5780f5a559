"""The decision rule: which heads earn which label, which come near and miss what, and which label stands first.

A head may have several labels or none; "unclassified" is a normal answer. A syntactic or coreference label needs, on
CONFIRM: enough trials, a margin over the best rule without a model, an interval of that margin above 0, q <= .05 after
Benjamini-Hochberg over everything tested, selectivity over matched controls, attention on the target that amounts to
something, and that all of it holds in at least half of the bootstrap replicates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from probes.family import Probe, Wording
from probes.scores import Scores, Thresholds
from probes.statistics import benjamini_hochberg

__all__ = ["Judgement", "adjusted", "contrast_judgements", "primary", "unsure", "verdict"]

SPECIFICITY = ("coreference", "syntax", "positional")


@dataclass(frozen=True)
class Judgement:
    """One label on one head, or nearly one: `failed` then names the condition that it missed.

    `head` counts heads layer by layer. Numbers that do not apply are NaN. `confidence` is the share of bootstrap
    replicates in which all numeric conditions of the label hold together (margin, selectivity and target mass; for the
    positional labels their lower limits), with the head, rule or offset that was chosen on SELECT held fixed.
    """

    head: int
    scores: Scores
    wording: Wording
    score: float
    ci: tuple[float, float]
    baseline: float
    baseline_name: str | None
    q: float = math.nan
    selectivity: float = math.nan
    target_mass: float = math.nan
    confidence: float = math.nan
    failed: str | None = None

    @property
    def family(self) -> str:
        """Name of the probe family."""
        return self.scores.family


def adjusted(scores: Sequence[Scores]) -> list[Float64[np.ndarray, " head"]]:
    """q-values per question and head, corrected over everything tested in all families; NaN where not tested."""
    p = np.concatenate([each.p for each in scores]) if scores else np.zeros(0)
    q = np.full(len(p), np.nan)
    q[~np.isnan(p)] = benjamini_hochberg(p[~np.isnan(p)])
    ends = np.cumsum([len(each.p) for each in scores])
    return [np.asarray(part) for part in np.split(q, ends[:-1])] if scores else []


def contrast_judgements(
    probe: Probe, scores: Scores, q: Float64[np.ndarray, " head"], thresholds: Thresholds
) -> Iterator[Judgement]:
    """Labels and near misses of one question that is tested against rules without a model."""
    wording = probe.wording(scores.key)
    if wording is None:
        return
    for head in np.flatnonzero(scores.tested):
        failed = _failed(scores, int(head), float(q[head]), thresholds, controlled=probe.controlled)
        weak = scores.margin[head] >= thresholds.weak_margin and q[head] <= thresholds.q
        if failed is None or weak:
            yield Judgement(
                head=int(head),
                scores=scores,
                wording=wording,
                score=float(scores.score[head]),
                ci=(float(scores.ci[0, head]), float(scores.ci[1, head])),
                baseline=scores.baseline,
                baseline_name=scores.baseline_name,
                q=float(q[head]),
                selectivity=float(scores.selectivity[head]) if probe.controlled else math.nan,
                target_mass=float(scores.target_mass[head]),
                confidence=float(scores.confidence[head]),
                failed=failed,
            )


def _failed(scores: Scores, head: int, q: float, thresholds: Thresholds, *, controlled: bool) -> str | None:
    """The first condition that the head misses, with its figure; None where it meets all."""
    values = (
        ("margin", float(scores.margin[head]), thresholds.margin),
        ("lower bound of the margin", float(scores.margin_low[head]), 0.0),
        ("selectivity", float(scores.selectivity[head]) if controlled else math.inf, thresholds.selectivity),
        ("target mass", float(scores.target_mass[head]), thresholds.target_mass),
        ("confidence", float(scores.confidence[head]), thresholds.confidence),
    )
    if not q <= thresholds.q:
        return f"q {q:.3f} > {thresholds.q}"
    for name, value, least in values:
        if math.isnan(value):
            return f"{name} was not measurable"
        if value < least or (least == 0 and value <= 0):
            return f"{name} {_below(value, least)}"
    return None


def unsure(confidence: float, thresholds: Thresholds) -> str | None:
    """What a label misses whose conditions hold together in too few bootstrap replicates; None where they do not."""
    if confidence >= thresholds.confidence:
        return None
    return f"confidence {_below(confidence, thresholds.confidence)}"


def _below(value: float, least: float) -> str:
    """`0.07 < 0.15`, with as many digits as it takes for the comparison to be visibly true."""
    if value == least:
        return f"{value:.2f} = {least:.2f}"
    digits = next(n for n in range(2, 18) if f"{value:.{n}f}" != f"{least:.{n}f}")
    return f"{value:.{digits}f} < {least:.{digits}f}"


def primary(judgements: Sequence[Judgement]) -> Judgement | None:
    """The label that colours the head: highest confidence, then the more specific family, then the higher score."""

    def rank(judgement: Judgement) -> tuple[float, int, int, float]:
        family = judgement.family
        specific = SPECIFICITY.index(family) if family in SPECIFICITY else 0
        is_place = judgement.scores.key.relation.startswith("offset")
        return (-judgement.confidence, specific, 0 if is_place else 1, -judgement.score)

    return min(judgements, key=rank, default=None)


def verdict(scores: Scores, head: int, labelled: bool, thresholds: Thresholds) -> str:
    """What can be said about the best head of a relation, in a word or two.

    "syntactic" or "coreference": it earned the label. "insufficient data": too few trials in a half. "below baseline":
    a rule without a model does better. "positional-equivalent" (where the rules are offsets) or "baseline-equivalent":
    it does not beat the rule by the margin, or does so at any word with the same offset too. "weak": it misses another
    condition, or the relation earns no label.
    """
    if min(scores.n_select, scores.n_confirm) < thresholds.fewest:
        return "insufficient data"
    if labelled:
        return "syntactic" if scores.family == "syntax" else scores.family
    margin = float(scores.margin[head])
    if margin < 0:
        return "below baseline"
    unselective = scores.control_n > 0 and float(scores.selectivity[head]) < thresholds.selectivity
    if margin >= thresholds.margin and not unselective:
        return "weak"
    return "positional-equivalent" if scores.family == "syntax" else "baseline-equivalent"
