"""What the coreference family reports beside labels: GAP, bias, and a label's figures by kind of mention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probes.coreference import antecedents, gap, winobias
from probes.scores import Scores, Setting
from probes.tally import Key, Tally

__all__ = ["beside", "results"]

SUPPORTS = 0.55
"""Two-way accuracy on GAP from which, with an interval above 1/2, it supports a label (ours)."""


def results(tally: Tally, setting: Setting, heads: Sequence[str]) -> dict[str, Any]:
    """`gap` and `bias` of `heads.json`, on CONFIRM."""
    found: dict[str, Any] = {}
    scored = gap.gap_result(tally.cells, setting.split, setting.resampling)
    if scored is not None:
        found["gap"] = {
            "n": scored.n,
            "heads": [{"head": name} | scored.of_head(head) for head, name in enumerate(heads)],
        }
    biases = winobias.bias_results(tally.cells, setting.split, setting.resampling)
    if biases:
        found["bias"] = [_bias(bias, heads) for bias in biases]
    return found


def _bias(bias: winobias.Bias, heads: Sequence[str]) -> dict[str, Any]:
    return {
        "question": bias.question,
        "n_pairs": bias.n_pairs,
        "head": heads[bias.chosen],
        "mean_gap": float(np.mean(bias.gap)),
        "text": bias.sentence(heads[bias.chosen]),
        "heads": [{"head": name} | bias.of_head(head) for head, name in enumerate(heads)],
    }


def beside(scores: Mapping[Key, Scores], head: int) -> dict[str, Any]:
    """Accuracy by kind of mention, where no antecedent has the same form, and whether GAP agrees."""
    classes = {name: scores.get(antecedents.of_class(name, other_form=True)) for name in antecedents.CLASSES}
    found: dict[str, Any] = {
        "breakdown": [
            {"name": name} | _figures(each, head)
            for name, each in classes.items()
            if each is not None and each.n_confirm
        ]
    }
    asked = scores.get(gap.GAP)
    if asked is not None and asked.n_confirm:
        figures = _figures(asked, head)
        found["support"] = {
            "gap": figures | {"supports": bool(figures["score"] > SUPPORTS and figures["ci"][0] > 1 / 2)}
        }
    return found


def _figures(scores: Scores, head: int) -> dict[str, Any]:
    low, high = scores.hits_ci[:, head]
    return {
        "score": float(scores.hits_confirm[head] / scores.n_confirm),
        "ci": [float(low), float(high)],
        "n": scores.n_confirm,
    }
