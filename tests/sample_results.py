"""Probe results made up for tests of what shows them: one head with a label, one that nearly has one."""

from __future__ import annotations

from typing import Any

HOSTILE = "</script><img src=x onerror=alert(1)>"

LABEL = {
    "label": "previous-token",
    "family": "positional",
    "relation": "offset -1",
    "direction": None,
    "text": "attends to the token before",
    "score": 0.8125,
    "ci": [0.75, 0.875],
    "baseline": 0.0625,
    "baseline_name": "uniform",
    "n": 640,
    "q": None,
    "selectivity": None,
    "target_mass": 0.5,
    "confidence": 1.0,
    "reach": None,
    "examples": [{"tokens": ["a", HOSTILE, "b"], "query": 2, "target": 1, "argmax": 1, "weight": 0.5, "hit": True}],
}
WEAK = LABEL | {
    "label": "nsubj",
    "family": "syntax",
    "relation": "nsubj",
    "direction": "d2h",
    "text": "attends from a subject to its verb",
    "score": 0.375,
    "selectivity": 0.0625,
    "q": 0.25,
    "examples": [],
    "failed": "selectivity 0.06 < 0.15",
}
CAVEAT = "Attention is evidence of information movement, not explanation."


def heads_document(anatomy: Any, labelled: str, weak: str) -> dict[str, Any]:
    """A `heads.json` (schema attnlens.heads/1) about the model of `anatomy`."""
    return {
        "schema": "attnlens.heads/1",
        "model": anatomy.to_json(),
        "corpus": {
            "name": f"made-up {HOSTILE}",
            "sha256": "0" * 64,
            "n_documents": 2,
            "n_sentences": 1234,
            "n_words": 9999,
            "n_dropped_words": 0,
            "n_skipped_sentences": 0,
        },
        "scope": _scope(anatomy),
        "versions": {"attnlens": "0"},
        "heads": [_head(head, labelled, weak) for head in anatomy.heads()],
        "relations": [],
    }


def _head(head: Any, labelled: str, weak: str) -> dict[str, Any]:
    has_label = str(head) == labelled
    return {
        "head": str(head),
        "layer": head.layer,
        "index": head.head,
        "primary": "previous-token" if has_label else None,
        "labels": [LABEL] if has_label else [],
        "weak": [WEAK] if str(head) == weak else [],
        "metrics": dict.fromkeys(
            ("previous", "next", "self", "first", "delimiter", "entropy", "breadth", "distance"), 0.5
        ),
    }


def _scope(anatomy: Any) -> dict[str, Any]:
    n_heads = len(anatomy.heads())
    return {
        "families": ["positional", "syntax"],
        "unit": "sentence",
        "split": {"rule": "hash", "select": 617, "confirm": 617, "sha256": "0" * 64},
        "specials": "left out",
        "aggregation": {"from": "mean", "to": "sum"},
        "bos": False,
        "seed": 0,
        "bootstrap": 2000,
        "permutations": 9999,
        "n_cells": n_heads,
        "n_tested": 1,
        "n_heads": n_heads,
        "n_labelled": 1,
        "unclassified_share": (n_heads - 1) / n_heads,
        "thresholds": {},
        "caveat": CAVEAT,
    }
