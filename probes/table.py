"""All cells as a table, one row per question and head, with the counts from which every figure can be recomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.models.anatomy import Anatomy
from probes.findings import Findings
from probes.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cells_frame"]


def cells_frame(anatomy: Anatomy, findings: Findings) -> pd.DataFrame:
    """One row per family, relation, direction and head; `label` is empty where none was earned."""
    import pandas as pd

    heads = anatomy.heads()
    places = {
        "head": [str(head) for head in heads],
        "layer": np.array([head.layer for head in heads], dtype=np.int32),
        "index": np.array([head.head for head in heads], dtype=np.int32),
    }
    labels = {(id(each.scores), each.head): each.wording.label for each in findings.labels()}
    parts = []
    for scores, q in zip(findings.scores, findings.q, strict=True):
        names = [labels.get((id(scores), head)) for head in range(len(heads))]
        parts.append(pd.DataFrame(_columns(scores, places, q) | {"label": pd.array(names, dtype="string")}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _columns(scores: Scores, places: dict[str, Any], q: np.ndarray) -> dict[str, Any]:
    import pandas as pd

    n_heads = len(places["head"])
    return {
        "family": scores.family,
        "relation": scores.key.relation,
        "direction": pd.array([scores.key.direction] * n_heads, dtype="string"),
        **places,
        "n_select": scores.n_select,
        "hits_select": scores.hits_select,
        "n_confirm": scores.n_confirm,
        "hits_confirm": scores.hits_confirm,
        "score_select": scores.score_select,
        "score_confirm": scores.score,
        "ci_low": scores.ci[0],
        "ci_high": scores.ci[1],
        "chance": scores.chance,
        "baseline_name": scores.baseline_name,
        "baseline_hits_select": scores.baseline_hits_select,
        "baseline_hits_confirm": scores.baseline_hits_confirm,
        "baseline_score_select": scores.baseline_select,
        "baseline_score_confirm": scores.baseline,
        "control_n_confirm": scores.control_n,
        "control_hits_confirm": scores.control_hits,
        "control_score": scores.control,
        "paired_hits_confirm": scores.paired_hits,
        "selectivity": scores.selectivity,
        "target_mass": scores.target_mass,
        "p": scores.p,
        "q": q,
        "tested": scores.tested,
        "label": None,
    }
