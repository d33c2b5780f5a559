"""What a number holds for: model, run, corpus, method and versions, as rows of a name and a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnlens.capture.run import Capture
from attnlens.models.anatomy import Anatomy
from attnlens.report.tables import number, share

__all__ = ["corpus_rows", "model_rows", "run_rows", "scope_rows", "version_rows", "weights_name"]

Rows = list[tuple[str, str]]

_NAMES = {
    "name": "corpus",
    "sha256": "SHA-256",
    "n_documents": "documents",
    "n_sentences": "sentences",
    "n_words": "words",
    "n_dropped_words": "words left out",
    "n_skipped_sentences": "sentences left out",
    "n_cells": "head x relation pairs",
    "n_tested": "pairs tested",
    "n_heads": "heads",
    "n_labelled": "heads with a label",
    "unclassified_share": "heads unclassified",
    "bos": "beginning-of-sequence token in front",
    "specials": "special tokens",
    "bootstrap": "bootstrap samples",
    "permutations": "permutations",
}
_LEFT_OUT = {"caveat"}


def model_rows(anatomy: Anatomy) -> Rows:
    """The model, its sizes and where its weights come from."""
    kv_heads = f", {anatomy.n_kv_heads} key-value heads" if anatomy.n_kv_heads != anatomy.n_heads else ""
    return [
        ("model", anatomy.model),
        ("family", f"{anatomy.family} ({anatomy.architecture})"),
        ("attends", "to earlier tokens only" if anatomy.causal else "in both directions"),
        ("layers x heads", f"{anatomy.n_layers} x {anatomy.n_heads}{kv_heads}"),
        ("width", f"{anatomy.d_model:,}, {anatomy.d_head:,} per head"),
        ("parameters", f"{anatomy.n_parameters:,} ({anatomy.dtype})"),
        ("longest text", f"{anatomy.max_length:,} tokens" if anatomy.max_length else "not limited by positions"),
        ("positions", anatomy.position),
        ("attention code", anatomy.backend),
        ("weights", weights_name(anatomy)),
    ]


def weights_name(anatomy: Anatomy, digits: int = 64) -> str:
    """What tells these weights from others: their hash, else the hub commit; the first `digits` of it."""
    if anatomy.weights_sha256:
        return f"SHA-256 {anatomy.weights_sha256[:digits]}"
    if anatomy.revision:
        return f"hub commit {anatomy.revision[:digits]}"
    return "not hashed"


def run_rows(run: Capture) -> Rows:
    """The text and how it was run."""
    how = {
        "lazy": "weights recomputed in float32 from the model's own queries and keys",
        "exact": "weights as the model's eager code built them",
    }
    rows = [
        ("text", run.text),
        ("tokens", f"{len(run.tokens):,}, {sum(token.special for token in run.tokens)} of them special"),
        ("capture", f"{run.mode}: {how.get(run.mode, '')}".rstrip(": ")),
    ]
    return rows + _flat(run.settings)


def corpus_rows(corpus: Mapping[str, Any]) -> Rows:
    """The annotated text that the heads were measured on."""
    return _flat(corpus)


def scope_rows(scope: Mapping[str, Any]) -> Rows:
    """The method: split, thresholds, numbers tried."""
    return _flat({key: value for key, value in scope.items() if key not in _LEFT_OUT})


def version_rows(versions: Mapping[str, Any]) -> Rows:
    """Libraries, by name."""
    return [(name, str(version)) for name, version in sorted(versions.items())]


def _flat(document: Mapping[str, Any], above: str = "") -> Rows:
    """Nested values as rows named `outer: inner`."""
    rows: Rows = []
    for key, value in document.items():
        name = _NAMES.get(key, key.replace("_", " "))
        full = f"{above}: {name}" if above else name
        if isinstance(value, Mapping):
            rows += _flat(value, full)
        else:
            rows.append((full, share(value, 1) if key == "unclassified_share" else _shown(value)))
    return rows


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, 4).rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(part) for part in value) or "–"
    return str(value)
