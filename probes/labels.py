"""The label rule: which heads earn which label, which come near and miss what, and which label stands first.

A head may have several labels or none; "unclassified" is a normal answer. What a label asks for is data
(`probes.conditions`), of its family or the common row for relations: on CONFIRM a margin over the best baseline, a
lower bound of that margin above 0, q <= .05 after Benjamini-Hochberg over everything tested, selectivity over matched
controls, attention on the target that amounts to something, and that all of it holds in at least half of the bootstrap
replicates. Three forms of a label follow:

- plain ("consistent with"): all of that.
- `-strong` ("tracks"): the nearest word by part of speech is beaten by the margin too.
- `explained-by-position`, `explained-by-POS`: one simple rule that the head follows everywhere reproduces more than
  80 % of its hits, and the label is not strong. By position is also explained, strong or not, what a head does whose
  pattern one weight per offset gives to at least 80 %: such a head sees no words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from probes.conditions import Conditions
from probes.confidence import Find, confidence, reached
from probes.family import Probe, Wording
from probes.scores import Scores, Setting
from probes.simple_rules import Explanation, SimpleRules
from probes.statistics import benjamini_hochberg
from probes.thresholds import Thresholds

__all__ = [
    "NOT_SHOWN",
    "Corrected",
    "Judgement",
    "Tier",
    "adjusted",
    "caveat",
    "judgements",
    "margins_missed",
    "missing_baselines",
    "primary",
    "unsure",
    "verdict",
]

NOT_SHOWN = "consistent with this, not shown to be used"
SHOWN = ("supported", "supported together")
"""Verdicts of interventions that show a head in use."""

Tier = Literal["plain", "strong", "explained"]

SPECIFICITY = (
    "induction",
    "coreference",
    "agreement",
    "syntax",
    "duplicate-token",
    "entity",
    "rare-word",
    "previous",
    "positional",
    "delimiter",
    "first-token",
    "broad",
)
"""From the most specific: labels and families, a label before its family; what is not named stands with syntax."""


@dataclass(frozen=True)
class Judgement:
    """One label on one head, or nearly one: `failed` then names the condition that it missed.

    Attributes:
        head: counted layer by layer.
        wording: of the label in its form.
        score, ci, baseline, q, selectivity, target_mass: as printed; NaN where they do not apply.
        confidence: see `probes.confidence`.
        tier: the form of the label.
        explanation: the simple rule of the head that explains most of its hits.
        modifiers: what is said beside a label, such as `no-op`.
        missing: baselines that should have been beaten and were not measured.
        causal: what an intervention showed, as the document has it; never part of the confidence.
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
    tier: Tier = "plain"
    explanation: Explanation | None = None
    modifiers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    causal: Mapping[str, Any] | None = None

    @property
    def family(self) -> str:
        """Name of the probe family."""
        return self.scores.family


@dataclass(frozen=True)
class Corrected:
    """One question's q-values per head; NaN where not tested.

    Attributes:
        label: of the tests that a label needs, corrected over all of these in all families.
        strong: of the tests against what the `-strong` form must beat, corrected over all of those.
    """

    label: Float64[np.ndarray, " head"]
    strong: Float64[np.ndarray, " head"]


def adjusted(scores: Sequence[Scores]) -> list[Corrected]:
    """q-values per question and head, corrected over everything tested in all families."""
    labels = _corrected([each.p for each in scores])
    strong = _corrected([each.p * np.nan if each.strong is None else np.fmax(each.p, each.strong.p) for each in scores])
    return [Corrected(label, other) for label, other in zip(labels, strong, strict=True)]


def _corrected(values: Sequence[Float64[np.ndarray, " head"]]) -> list[Float64[np.ndarray, " head"]]:
    p = np.concatenate([*values, np.zeros(0)])
    q = np.full(len(p), np.nan)
    q[~np.isnan(p)] = benjamini_hochberg(p[~np.isnan(p)])
    return np.split(q, np.cumsum([len(each) for each in values]))[:-1]


def judgements(
    probe: Probe, scores: Scores, q: Corrected, own: SimpleRules, setting: Setting, find: Find
) -> Iterator[Judgement]:
    """Labels and near misses of one question."""
    wording, asked = probe.wording(scores.key), scores.conditions
    if wording is None or asked is None or not scores.tested.any():
        return
    limits = setting.thresholds
    sure = _confidence(scores, scores.tested, setting, find)
    misses = {
        head: list(_misses(scores, head, float(q.label[head]), float(sure[head]), limits, find))
        for head in np.flatnonzero(scores.tested).tolist()
    }
    earned = [head for head, missed in misses.items() if not missed]
    strong = _strong(scores, earned, q, setting, find)
    for head, missed in misses.items():
        if not missed or _near(scores, head, float(q.label[head]), limits):
            plain = _judgement(scores, head, wording, float(q.label[head]), float(sure[head]), missed)
            yield plain if missed else _formed(plain, strong.get(head), own, limits)


def _confidence(
    scores: Scores, heads: Bool[np.ndarray, " head"], setting: Setting, find: Find, *, strong: bool = False
) -> Float64[np.ndarray, " head"]:
    """As `probes.confidence`, NaN at the other heads."""
    sure = np.full(len(heads), np.nan)
    if heads.any():
        sure[heads] = confidence(scores, heads, setting, find, strong=strong)
    return sure


def _strong(scores: Scores, earned: Sequence[int], q: Corrected, setting: Setting, find: Find) -> dict[int, float]:
    """Of the heads that earned the label those that have its `-strong` form, with the confidence in that."""
    gap, limits = scores.strong, setting.thresholds
    if gap is None:
        return {}
    beats = np.zeros(len(scores.tested), dtype=bool)
    beats[list(earned)] = True
    beats &= reached(gap.confirm, gap.margin.by) & (gap.low > 0) & (q.strong <= limits.q)
    sure = _confidence(scores, beats, setting, find, strong=True)
    return {head: float(sure[head]) for head in np.flatnonzero(beats).tolist() if sure[head] >= limits.confidence}


def _judgement(scores: Scores, head: int, wording: Wording, q: float, sure: float, misses: Sequence[str]) -> Judgement:
    asked, baseline = scores.conditions, scores.headline(head)
    assert asked is not None
    low, high = scores.ci[:, head]
    return Judgement(
        head=head,
        scores=scores,
        wording=wording,
        score=float(scores.score[head]),
        ci=(float(low), float(high)),
        baseline=float(scores.score_of(baseline.kind)[head]),
        baseline_name=baseline.name,
        q=q,
        selectivity=float(scores.selectivity[head]) if asked.selectivity is not None else math.nan,
        target_mass=float(scores.target_mass[head]),
        confidence=sure,
        failed=misses[0] if misses else None,
        missing=missing_baselines(scores),
    )


def missing_baselines(scores: Scores) -> tuple[str, ...]:
    """Baselines that the label must beat, and that this run has not measured."""
    margins = () if scores.conditions is None else scores.conditions.margins
    unmeasured = [kind for kind in ("random", "shuffled", "layer 0") if kind not in scores.baselines]
    return tuple(kind for margin in margins for kind in margin.over if kind in unmeasured)


def _formed(judgement: Judgement, strong: float | None, own: SimpleRules, limits: Thresholds) -> Judgement:
    """An earned label in its form: strong (with that much confidence), explained, or as it is."""
    scores = judgement.scores
    assert scores.conditions is not None
    explanation = own.explain(scores, judgement.head) if scores.conditions.explicable else None
    pattern = own.pattern(judgement.head) if scores.conditions.explicable else None
    if pattern is not None and pattern.share >= limits.determined:
        return _explained(judgement, pattern, f"offsets alone give {math.floor(100 * pattern.share)} % of its pattern")
    judgement = replace(judgement, explanation=explanation)
    if strong is not None:
        return replace(judgement, wording=_tracked(judgement.wording), confidence=strong, tier="strong")
    if explanation is not None and explanation.share > limits.explained:
        hits = f"{math.floor(100 * explanation.share)} % of these hits"
        return _explained(judgement, explanation, f"its own rule {explanation.rule!r} gives {hits}")
    return judgement


def _explained(judgement: Judgement, explanation: Explanation, why: str) -> Judgement:
    wording = Wording(f"explained-by-{explanation.by}", f"{judgement.wording.text}, but {why}")
    return replace(judgement, wording=wording, tier="explained", explanation=explanation)


def _tracked(wording: Wording) -> Wording:
    text = wording.text.removeprefix("consistent with ")
    return Wording(f"{wording.label}-strong", f"tracks {text}" if text != wording.text else text)


def _near(scores: Scores, head: int, q: float, thresholds: Thresholds) -> bool:
    """Worth showing as weak: significant with half a margin; where no test is asked for, the score itself reaches."""
    asked = scores.conditions
    assert asked is not None
    if asked.significant:
        return bool(scores.margin[head] >= thresholds.weak_margin and q <= thresholds.q)
    reaches = [limit for limit in (asked.least, asked.low) if limit is not None]
    margins = all(reached(gap.confirm[[head]], gap.margin.by).all() for gap in scores.gaps)
    return margins and all(scores.score[head] >= limit for limit in reaches)


def _misses(scores: Scores, head: int, q: float, sure: float, thresholds: Thresholds, find: Find) -> Iterator[str]:
    """The conditions that the head misses, each with its figure."""
    asked = scores.conditions
    assert asked is not None
    if asked.significant and not q <= thresholds.q:
        yield "q was not measurable" if math.isnan(q) else f"q {q:.3f} > {thresholds.q}"
    yield from margins_missed(scores, head)
    yield from _score_misses(scores, head, asked)
    if asked.selectivity is not None:
        yield from _short("selectivity", scores.selectivity[head], asked.selectivity)
    if asked.target_mass is not None:
        yield from _short("target mass", scores.target_mass[head], asked.target_mass)
    for need in asked.needs:
        other = find(scores.family, need)
        if other is None or min(other.n_select, other.n_confirm) < thresholds.fewest:
            yield f"{need.key} was not measured"
            continue
        by_mass = need.value == "mass"
        if need.least is not None:
            values = other.target_mass if by_mass else other.hits_confirm / other.n_confirm
            yield from _short(str(need.key), values[head], need.least)
        if need.low is not None:
            bounds = other.mass_ci if by_mass else other.hits_ci
            yield from _short(f"lower bound of {need.key}", bounds[0, head], need.low, above=True)
    yield from _short("confidence", sure, thresholds.confidence)


def margins_missed(scores: Scores, head: int, first: str = "margin") -> Iterator[str]:
    """The margins that a head misses, by themselves or by their interval; `first` is what the first one is called."""
    for index, gap in enumerate(scores.gaps):
        name = first if index == 0 else f"margin over {', '.join(gap.margin.over)}"
        yield from _short(name, gap.confirm[head], gap.margin.by, above=gap.margin.by == 0)
        yield from _short(f"lower bound of the {name}", gap.low[head], 0.0, above=True)


def _score_misses(scores: Scores, head: int, asked: Conditions) -> Iterator[str]:
    """Conditions on the score itself."""
    if asked.least is not None:
        yield from _short("score", scores.score[head], asked.least)
    if asked.low is not None:
        yield from _short("lower bound of the score", scores.ci[0, head], asked.low, above=True)
    if asked.times_chance is not None:
        chance = scores.chance if asked.value == "hits" else scores.mass_chance
        name = f"score, for {asked.times_chance:g} times chance"
        yield from _short(name, scores.score[head], asked.times_chance * chance, above=True)


def _short(name: str, value: float, least: float, *, above: bool = False) -> Iterator[str]:
    """What is wrong with a value that should be at least (or above) a limit; nothing where it is."""
    number = float(value)
    if math.isnan(number):
        yield f"{name} was not measurable"
    elif number < least or (above and number <= least):
        yield f"{name} {_below(number, float(least))}"


def unsure(value: float, thresholds: Thresholds) -> str | None:
    """What a label misses whose conditions hold together in too few bootstrap replicates; None where they do not."""
    return next(_short("confidence", value, thresholds.confidence), None)


def _below(value: float, least: float) -> str:
    """`0.07 < 0.15`, with as many digits as it takes for the comparison to be visibly true."""
    if value == least:
        return f"{value:.2f} = {least:.2f}"
    digits = next(n for n in range(2, 18) if f"{value:.{n}f}" != f"{least:.{n}f}")
    return f"{value:.{digits}f} < {least:.{digits}f}"


def primary(judgements: Sequence[Judgement]) -> Judgement | None:
    """The label that colours the head: the surest, then the most specific, then the one with the higher score.

    A label that a simple rule of the head explains stands behind every other.
    """

    def rank(judgement: Judgement) -> tuple[bool, float, int, bool, float]:
        names = (judgement.wording.label, judgement.family, "syntax")
        specific = next(SPECIFICITY.index(name) for name in names if name in SPECIFICITY)
        return (
            judgement.tier == "explained",
            -judgement.confidence,
            specific,
            judgement.tier != "strong",
            -judgement.score,
        )

    return min(judgements, key=rank, default=None)


def caveat(judgement: Judgement) -> str | None:
    """What a label does not say: that the model uses the head; None where an intervention has shown it."""
    shown = judgement.causal is not None and judgement.causal["verdict"] in SHOWN
    return None if shown or judgement.failed is not None else NOT_SHOWN


def verdict(
    scores: Scores, head: int, label: Judgement | None, thresholds: Thresholds, *, reported: bool = False
) -> str:
    """What can be said about the best head of a relation, in a word or two.

    The form of the label that it earned: "syntactic" or "syntactic-strong" for a relation, the family's name (with
    `-strong`) elsewhere, "explained-by-position" or "explained-by-POS". Without one "insufficient data": too few trials
    in a half. "below baseline": a rule without a model does better. "positional-equivalent" (where the rules are
    offsets) or "baseline-equivalent": it does not beat the rule by the margin, or does so at any word with the same
    offset too. "weak": it misses another condition. "above baseline": it beats the rule, on a question that is only
    `reported` and gives no label.
    """
    if min(scores.n_select, scores.n_confirm) < thresholds.fewest:
        return "insufficient data"
    if label is not None:
        if label.tier == "explained":
            return label.wording.label
        name = "syntactic" if scores.family == "syntax" else scores.family
        return f"{name}-strong" if label.tier == "strong" else name
    asked = scores.conditions
    margin = float(scores.margin[head])
    if margin < 0:
        return "below baseline"
    least = asked.margins[0].by if asked is not None and asked.margins else thresholds.margin
    selective = asked.selectivity if asked is not None else None
    unselective = selective is not None and float(scores.selectivity[head]) < selective
    if margin >= least and not unselective:
        return "above baseline" if reported else "weak"
    return "positional-equivalent" if scores.family == "syntax" else "baseline-equivalent"
