"""What an intervention on a head showed, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnlens.report.tables import number

__all__ = ["causal_badge", "causal_sentence"]

_MEANS = {
    "supported": "Supported by ablation: without this head the model does worse on {task}",
    "supported together": "Supported together: without this head alone the model still copes with {task}, without all "
    "heads of this label it does worse",
    "not supported": "Not supported by ablation: without this head the model does as well on {task}",
    "void": "No causal answer: the question could not be put to the model on {task}",
    "not tested": "Not tested: removing the head was not tried for this label",
}
_UNASKED = "Nobody removed this head and looked: run the probe with --causal for that."


def causal_badge(causal: Mapping[str, Any] | None) -> str:
    """The verdict in a word or two; empty where no intervention was made.

    >>> causal_badge({"verdict": "supported"}), causal_badge(None)
    ('supported', '')
    """
    return "" if causal is None else str(causal["verdict"])


def causal_sentence(causal: Mapping[str, Any] | None) -> str:
    """What was done, how large the effect is beside that of other heads, and why the verdict is what it is.

    >>> causal_sentence({"verdict": "supported", "task": "agreement", "effect": 0.3, "ci": [0.2, 0.4]})
    'Supported by ablation: without this head the model does worse on agreement (effect 0.30 [0.20, 0.40]).'
    """
    if causal is None:
        return _UNASKED
    verdict = str(causal["verdict"])
    said = _MEANS.get(verdict, f"{verdict[:1].upper()}{verdict[1:]}").format(task=causal.get("task") or "its task")
    if figures := _figures(causal):
        said += f" ({figures})"
    reason = str(causal.get("reason") or "")
    return f"{said}. {reason[:1].upper()}{reason[1:]}.".removesuffix(" .")


def _figures(causal: Mapping[str, Any]) -> str:
    if causal.get("effect") is None:
        return ""
    low, high = causal.get("ci") or (None, None)
    interval = "" if low is None else f" [{number(low)}, {number(high)}]"
    control = causal.get("control")
    return f"effect {number(causal['effect'])}{interval}" + (
        "" if control is None else f", other heads {number(control)}"
    )
