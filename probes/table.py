"""All cells as a table, one row per question and head, with the counts from which every figure can be recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.heads import Head
from probes.baselines import KINDS
from probes.findings import Findings
from probes.labels import Corrected, Judgement
from probes.scores import Scores
from probes.syntax.alignment import ALIGNMENT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cells_frame"]

_OPTIONAL = ("direction", "label", "causal", "b1_offset_name", "b1_other_name", "b2_pos_name")
"""Text that may be missing."""


def cells_frame(heads: Sequence[Head], findings: Findings) -> pd.DataFrame:
    """One row per family, relation, direction and head; `label` and `causal` are empty where none was earned."""
    import pandas as pd

    places = {
        "head": [str(head) for head in heads],
        "layer": np.array([head.layer for head in heads], dtype=np.int32),
        "index": np.array([head.head for head in heads], dtype=np.int32),
    }
    labels = {(each.family, each.scores.key, each.head): each for each in findings.labels()}
    columns: dict[str, list[Any]] = {}
    for scores, q in zip(findings.scores, findings.q, strict=True):
        own = [labels.get((scores.family, scores.key, head)) for head in range(len(heads))]
        said = {
            "label": [None if each is None else each.wording.label for each in own],
            "causal": [None if each is None else _verdict(each) for each in own],
        }
        for column, values in (_columns(scores, places, q) | said).items():
            columns.setdefault(column, []).append(values)
    return pd.DataFrame({column: _joined(column, parts, len(heads)) for column, parts in columns.items()})


def _joined(column: str, parts: Sequence[Any], n_heads: int) -> Any:
    """One column from its parts: of every question one value per head, or one for all heads."""
    import pandas as pd

    if all(isinstance(part, list | str | None) for part in parts):
        texts = [text for part in parts for text in (part if isinstance(part, list) else [part] * n_heads)]
        return pd.array(texts, dtype="string") if column in _OPTIONAL else texts
    return np.concatenate([np.broadcast_to(part, n_heads) for part in parts])


def _verdict(label: Judgement) -> str:
    """What an intervention showed of a label's head."""
    return "not tested" if label.causal is None else str(label.causal["verdict"])


def _columns(scores: Scores, places: dict[str, Any], q: Corrected) -> dict[str, Any]:
    n_heads = len(places["head"])
    headlines = [scores.headline(head) for head in range(n_heads)]
    shown = [each.kind for each in headlines]
    return {
        "family": scores.family,
        "relation": scores.key.relation,
        "direction": scores.key.direction,
        "at": scores.key.at,
        **places,
        "value": scores.value,
        "n_select": scores.n_select,
        "hits_select": scores.hits_select,
        "mass_select": scores.mass_select,
        "n_confirm": scores.n_confirm,
        "hits_confirm": scores.hits_confirm,
        "mass_confirm": scores.mass_confirm,
        "score_select": scores.score_select,
        "score_confirm": scores.score,
        "selection_gap": scores.selection_gap,
        "ci_low": scores.ci[0],
        "ci_high": scores.ci[1],
        "chance": scores.chance,
        "baseline_name": [each.name for each in headlines],
        "baseline_hits_select": _of(scores, shown, select=True) * scores.n_select,
        "baseline_hits_confirm": _of(scores, shown) * scores.n_confirm,
        "baseline_score_select": _of(scores, shown, select=True),
        "baseline_score_confirm": _of(scores, shown),
        **_baselines(scores),
        "margin": scores.margin,
        "margin_low": scores.gaps[0].low if scores.gaps else np.nan,
        "control_n_confirm": scores.control_n,
        "control_hits_confirm": scores.control_hits,
        "control_score": scores.control,
        "paired_hits_confirm": scores.paired_hits,
        "selectivity": scores.selectivity,
        "target_mass": scores.target_mass,
        "control_mass_confirm": scores.control_mass,
        "paired_mass_confirm": scores.paired_mass,
        "lift": scores.lift,
        "alignment": _alignment(scores),
        "p": scores.p,
        "q": q.label,
        "q_strong": q.strong,
        "tested": scores.tested,
    }


def _alignment(scores: Scores) -> np.ndarray:
    """Dependency alignment, of the question that counts it; NaN elsewhere."""
    none = np.full(len(scores.tested), np.nan)
    if scores.family != "syntax" or scores.key != ALIGNMENT:
        return none
    share: np.ndarray = np.divide(scores.hits_confirm, scores.mass_confirm, out=none, where=scores.mass_confirm > 0)
    return share


def _of(scores: Scores, kinds: Sequence[str], *, select: bool = False) -> np.ndarray:
    """Per head the score of the baseline named for it."""
    by_kind = {kind: scores.score_of(kind, select=select) for kind in set(kinds)}
    return np.array([by_kind[kind][head] for head, kind in enumerate(kinds)])


def _baselines(scores: Scores) -> dict[str, Any]:
    """Every kind of baseline: its name where there was a choice, and its score on both halves."""
    found: dict[str, Any] = {}
    for kind, number in KINDS.items():
        column = f"{number}_{kind.replace(' ', '_')}"
        baseline = scores.baselines.get(kind)
        if kind in ("offset", "other", "pos"):
            found[f"{column}_name"] = None if baseline is None else baseline.name
        found[f"{column}_select"] = scores.score_of(kind, select=True)
        found[f"{column}_confirm"] = scores.score_of(kind)
    return found | {"b3_random_n": 0 if scores.random is None else scores.random.n}
