"""What report tests are made of: runs, by hand or of random models, and results with every kind of entry."""

from __future__ import annotations

from typing import Any

HOSTILE = "</script><img src=x onerror=alert(1)>"
TEXT = "the keys to the cabinet are on the table"


def label(name: str, family: str, **changes: Any) -> dict[str, Any]:
    """A label as `heads.json` holds it."""
    example = {"tokens": ["The", "keys"], "query": 1, "target": 0, "argmax": 0, "weight": 0.93, "hit": True}
    plain = {
        "label": name,
        "family": family,
        "relation": name,
        "direction": None,
        "text": f"does {name}",
        "score": 0.75,
        "ci": [0.7, 0.8],
        "baseline": 0.5,
        "baseline_name": "offset -1",
        "n": 1234,
        "q": 0.0001,
        "selectivity": 0.2,
        "target_mass": 0.3,
        "confidence": 0.9,
        "reach": 1.0,
        "examples": [example],
    }
    return plain | changes


def relation(name: str, **changes: Any) -> dict[str, Any]:
    """A relation as `heads.json` holds it."""
    plain = {
        "family": "syntax",
        "relation": name,
        "direction": "d2h",
        "best_head": "L1H2",
        "select_score": 0.6,
        "score": 0.58,
        "ci": [0.5, 0.6],
        "n": 512,
        "reach": 1.0,
        "chance": 0.08,
        "baseline": 0.34,
        "baseline_name": "offset +1",
        "selectivity": 0.2,
        "target_mass": 0.3,
        "q": 0.001,
        "verdict": "syntactic",
    }
    return plain | changes


def results_document(model: dict[str, Any]) -> dict[str, Any]:
    """Results for a model of at least 3 layers and 4 heads: two labelled heads, one weak, the rest unclassified."""
    named = {
        (0, 2): {"primary": "previous-token", "labels": [label("previous-token", "positional")]},
        (1, 2): {
            "primary": "obj",
            "labels": [label("obj", "syntax", direction="d2h"), label("first-token", "positional", q=None)],
        },
        (2, 0): {"weak": [label("det", "syntax", failed="selectivity 0.07 < 0.15", score=0.6, ci=None)]},
    }
    heads = [
        {"head": f"L{layer}H{head}", "layer": layer, "index": head, "primary": None, "labels": [], "weak": []}
        | {"metrics": {"previous": 0.1, "next": None}}
        | named.get((layer, head), {})
        for layer in range(model["n_layers"])
        for head in range(model["n_heads"])
    ]
    split = {"rule": "by hash", "select": 15, "confirm": 15, "sha256": "0" * 64}
    return {
        "schema": "attnlens.heads/1",
        "model": model,
        "corpus": {
            "name": "tiny.conllu",
            "sha256": "1" * 64,
            "n_documents": 30,
            "n_sentences": 1575,
            "n_words": 28119,
            "n_dropped_words": 29,
            "n_skipped_sentences": 0,
        },
        "scope": {
            "families": ["positional", "syntax"],
            "unit": "document",
            "split": split,
            "specials": "never queries",
            "aggregation": {"from": "mean", "to": "sum"},
            "bos": True,
            "seed": 0,
            "bootstrap": 2000,
            "permutations": 9999,
            "n_cells": 8640,
            "n_tested": 312,
            "n_heads": len(heads),
            "n_labelled": 2,
            "unclassified_share": 10 / 12,
            "thresholds": {"margin": 0.1},
            "caveat": "Attention is evidence of information movement, not explanation.",
        },
        "versions": {"attnlens": "0.1.0", "torch": "2.13.0"},
        "heads": heads,
        "relations": [
            relation("obj"),
            relation("orphan", best_head=None, score=None, ci=None, n=1, q=None, verdict="insufficient data"),
        ],
    }


def made_run(
    weights: Any, labels: list[str] | None = None, special: list[bool] | None = None, visible: Any = None
) -> Any:
    """A run whose weights `[layer head query key]` were written by hand."""
    import torch

    from attnlens.capture.patterns import DensePattern
    from attnlens.capture.run import Capture
    from attnlens.capture.tokens import Token
    from attnlens.models.anatomy import Anatomy, SelfCheck

    pattern = torch.tensor(weights, dtype=torch.float32)
    n_layers, n_heads, n, _ = pattern.shape
    seen = torch.ones(n, n, dtype=torch.bool) if visible is None else torch.tensor(visible)
    flags, names = special or [False] * n, labels or [str(i) for i in range(n)]
    tokens = tuple(Token(i, name, None, None, flag) for i, (name, flag) in enumerate(zip(names, flags, strict=True)))
    anatomy = Anatomy(
        model="made by hand",
        family="bert",
        architecture="None",
        causal=False,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=8,
        d_head=2,
        vocab_size=9,
        max_length=None,
        position="unknown",
        n_parameters=0,
        dtype="float32",
        weights_sha256=None,
        revision=None,
        backend="eager",
        residual_points=(),
        absent={},
        self_check=SelfCheck(),
    )
    patterns = tuple(DensePattern(layer, seen) for layer in pattern)
    return Capture(" ".join(names), tokens, (), anatomy, "exact", {}, {}, patterns, {})


def load_run(family: str, text: str) -> Any:
    """A run of a random model."""
    from random_models import BUILDERS

    import attnlens

    model, tokenizer = BUILDERS[family]()
    return attnlens.load(model=model, tokenizer=tokenizer).capture(text, points=())
