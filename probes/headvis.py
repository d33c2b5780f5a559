"""Write what heads attend to as the folder of JSON files that the HeadVis viewer (Luger, Kamath et al. 2026) reads.

The tree is the viewer's: `config.json`, `scatter_data.json` with one row of measures per head, `heads/L{l}H{h}.json`
with sample texts by strength, their attention sparse (flat index `query * seq_len + key`), and two empty files that say
that there is no server. The strength of a text is the largest weight outside the first row and column, as the viewer
counts. Our labels go along as a table of each head. Texts, not windows of a fixed length, are the sequences.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64

from attnlens.errors import OutputError, ProbeDataError, UsageError
from attnlens.files import write_text
from attnlens.measures import patterns
from probes.corpora.data import Corpus
from probes.seeing import Eyes
from probes.split import split_corpus
from probes.texts import Text, texts_of

if TYPE_CHECKING:
    from attnlens.models.anatomy import Anatomy
    from attnlens.models.lens import Lens

__all__ = ["METRICS", "Sampling", "export_headvis", "headvis_files"]

METRICS = {
    "self_attention_score": "Mean attention of a token to itself.",
    "prev_token_score": "Mean attention to the token before.",
    "pattern_entropy": "Mean entropy of a row, in nats.",
    "qk_distance": "Mean |query - key| under the attention, in tokens.",
    "qk_distance_variance": "Mean variance of |query - key| under the attention.",
}
DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MOST_TOKENS = 50


@dataclass(frozen=True)
class Sampling:
    """What is kept.

    Attributes:
        texts: at most so many of the corpus, chosen by hash.
        intervals: groups of equal size by strength; the last is the strongest.
        per_interval: texts kept of each: the strongest of the last, by hash of the others.
        keys_per_row, threshold: the strongest keys of each row that are kept, and the least weight.
        seed: of the choice.
    """

    texts: int = 500
    intervals: int = 10
    per_interval: int = 20
    keys_per_row: int = 8
    threshold: float = 0.005
    seed: int = 0


@runtime_checkable
class Sequenced(Protocol):
    """One text as the viewer shows it; what a model saw of a corpus is one."""

    @property
    def key(self) -> str:
        """Its name; it decides whether it is in a sample."""

    @property
    def labels(self) -> Sequence[str]:
        """Its tokens."""

    @property
    def attention(self) -> Float[np.ndarray, "head query key"]:
        """Weights of all heads, layer by layer."""


def export_headvis(
    lens: Lens,
    corpus: Corpus,
    folder: Path | str,
    *,
    labels: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    sampling: Sampling | None = None,
    batch_size: int = 16,
) -> Path:
    """Write the tree into `folder`; files of the same names in it are replaced.

    Args:
        lens: the opened model.
        corpus: its sentences are the sequences.
        folder: made where missing.
        labels: head -> labels as in `HeadReport.labels`, shown as a table of each head.
        sampling: how much is kept.
        batch_size: texts per forward pass.

    Raises:
        ProbeDataError: no sentence fits the model.
        OutputError: the folder cannot be written.
        UsageError: a sampling without texts or intervals.
    """
    sampling = sampling or Sampling()
    if min(sampling.texts, sampling.intervals, sampling.per_interval, sampling.keys_per_row) < 1:
        raise UsageError("HeadVis sampling needs at least one text, interval, text per interval and key per row.")
    eyes = Eyes(lens, batch_size)
    texts = _sample(texts_of(corpus.documents(), split_corpus(corpus), "sentence", eyes.fits, lambda _: None), sampling)
    if not texts:
        raise ProbeDataError(f"no sentence of {corpus.name} fits {lens.anatomy.model}; use a corpus with shorter ones.")
    seen = [observation for _, observation in eyes.look(texts)]
    folder = Path(folder)
    for name, content in headvis_files(lens.anatomy, seen, sampling, labels or {}, corpus.name):
        try:
            write_text(folder / name, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        except ValueError as error:
            raise OutputError(f"{name} holds a number that JSON cannot ({error}).") from error
    return folder


def _sample(texts: Iterable[Text], sampling: Sampling) -> list[Text]:
    """The texts with the lowest hashes, in the order of the corpus's keys."""
    chosen = heapq.nsmallest(sampling.texts, texts, key=lambda text: _hash(text.key, sampling.seed))
    return sorted(chosen, key=lambda text: text.key)


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


def headvis_files(
    anatomy: Anatomy,
    seen: Sequence[Sequenced],
    sampling: Sampling,
    labels: Mapping[str, Sequence[Mapping[str, Any]]],
    corpus: str,
) -> Iterable[tuple[str, Any]]:
    """(path in the tree, JSON value) of every file.

    Args:
        anatomy: of the model.
        seen: the sequences.
        sampling: how much is kept of them.
        labels: head -> its labels.
        corpus: its name.
    """
    heads = anatomy.heads()
    metrics = _metrics(seen)
    yield (
        "scatter_data.json",
        [
            {"layer": head.layer, "head": head.head, **{name: _short(value[i]) for name, value in metrics.items()}}
            for i, head in enumerate(heads)
        ],
    )
    yield "config.json", _config(anatomy, sampling, corpus, len(seen))
    yield "server_config.json", {}
    yield "attributions/manifest.json", {}
    strengths = np.stack([_strength(each) for each in seen])
    for i, head in enumerate(heads):
        yield (
            f"heads/L{head.layer}H{head.head}.json",
            _head(i, seen, strengths[:, i], sampling, labels.get(str(head), ())),
        )


def _metrics(seen: Sequence[Sequenced]) -> dict[str, Float[np.ndarray, " head"]]:
    """Means over all rows of all texts."""
    sums: dict[str, np.ndarray] = {}
    rows: dict[str, int] = {}
    for each in seen:
        attention = torch.from_numpy(each.attention)
        found = {
            "self_attention_score": patterns.offset_mass(attention, 0),
            "prev_token_score": patterns.offset_mass(attention, -1)[:, 1:],
            "pattern_entropy": patterns.entropy(attention),
            "qk_distance": patterns.distance(attention),
            "qk_distance_variance": patterns.distance_variance(attention),
        }
        for name, values in found.items():
            sums[name] = sums.get(name, 0) + values.double().sum(-1).numpy()
            rows[name] = rows.get(name, 0) + values.shape[-1]
    return {name: total / max(rows[name], 1) for name, total in sums.items()}


def _strength(each: Sequenced) -> Float[np.ndarray, " head"]:
    """The largest weight outside the first row and column, which a sink would win."""
    inner = each.attention[:, 1:, 1:]
    return np.asarray(inner.max(axis=(1, 2), initial=0.0))


def _config(anatomy: Anatomy, sampling: Sampling, corpus: str, n_texts: int) -> dict[str, Any]:
    return {
        "model_name": anatomy.model,
        "heads": [[head.layer, head.head] for head in anatomy.heads()],
        "n_layers": anatomy.n_layers,
        "n_heads": anatomy.n_heads,
        "n_intervals": sampling.intervals,
        "metrics": list(METRICS),
        "metric_descriptions": METRICS,
        "head_data_pattern": "L{layer}H{head}.json",
        "has_umap": False,
        "umap_heads": [],
        "custom_plots": [{"key": "qk_distance_histogram", "label": "Distance from query to key"}],
        "custom_tables": [
            {"key": "labels", "label": "Labels of attnlens (score)"},
            {"key": "top_query_tokens", "label": "Top query tokens"},
            {"key": "top_key_tokens", "label": "Top key tokens"},
        ],
        "statistics_display": {"mean_max_activation": {"label": "Mean of the largest weight", "format": "default"}},
        "pipeline_config": {
            "tool": "attnlens",
            "dataset_name": corpus,
            "n_sequences": n_texts,
            "samples_per_interval": sampling.per_interval,
            "sparse_topk_per_row": sampling.keys_per_row,
            "sparse_threshold": sampling.threshold,
            "sample_seed": sampling.seed,
        },
    }


def _head(
    head: int,
    seen: Sequence[Sequenced],
    strengths: Float[np.ndarray, " text"],
    sampling: Sampling,
    labels: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    sequences = [
        _sequence(head, number, seen[number], interval, float(strengths[number]), sampling)
        for interval, number in _by_interval(seen, strengths, sampling)
    ]
    edges = np.linspace(0, 1, 51)
    return {
        "sequences": sequences,
        "qk_distance_histogram": _distances(sequences),
        "top_query_tokens": _top_tokens(sequences, 0),
        "top_key_tokens": _top_tokens(sequences, 1),
        "labels": [{"token": each["label"], "weight": each["score"] or 0.0} for each in labels],
        "histogram": {
            "bin_edges": [_short(edge) for edge in edges],
            "bin_values": np.histogram(strengths, edges)[0].tolist(),
        },
        "statistics": {"n_samples": len(seen), "mean_max_activation": _short(strengths.mean())},
    }


def _by_interval(
    seen: Sequence[Sequenced], strengths: Float[np.ndarray, " text"], sampling: Sampling
) -> Iterable[tuple[int, int]]:
    """(interval from 1, number of a text): texts in groups of equal size by strength, some kept of each."""
    order = sorted(range(len(seen)), key=lambda number: (strengths[number], number))
    for interval, group in enumerate(np.array_split(order, sampling.intervals), 1):
        numbers = [int(number) for number in group[::-1]]
        if interval < sampling.intervals:
            numbers.sort(key=lambda number: _hash(seen[number].key, sampling.seed))
        yield from ((interval, number) for number in numbers[: sampling.per_interval])


def _sequence(
    head: int, number: int, each: Sequenced, interval: int, strength: float, sampling: Sampling
) -> dict[str, Any]:
    indices, values = _sparse(each.attention[head], sampling)
    return {
        "sequence_id": number,
        "interval": interval,
        "tokens": list(each.labels),
        "attention_indices": indices.tolist(),
        "attention_values": [_short(value) for value in values],
        "seq_len": len(each.labels),
        "max_activation": _short(strength),
    }


def _sparse(
    weights: Float[np.ndarray, "query key"], sampling: Sampling
) -> tuple[Int64[np.ndarray, " entry"], Float[np.ndarray, " entry"]]:
    """Flat indices and weights of the strongest keys of each row, none below the threshold."""
    n_keys = weights.shape[1]
    strongest = np.argsort(-weights, axis=1, kind="stable")[:, : sampling.keys_per_row]
    flat = np.sort((np.arange(len(weights))[:, None] * n_keys + strongest).ravel())
    flat = flat[weights.ravel()[flat] >= sampling.threshold]
    return np.asarray(flat, dtype=np.int64), weights.ravel()[flat]


def _distances(sequences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    totals = np.zeros(len(DISTANCES) - 1)
    for each in sequences:
        flat = np.array(each["attention_indices"], dtype=np.int64)
        distance = np.abs(flat // each["seq_len"] - flat % each["seq_len"])
        totals += np.histogram(distance, DISTANCES, weights=np.array(each["attention_values"]))[0]
    return {"bin_edges": list(DISTANCES), "bin_values": [_short(total) for total in totals]}


def _top_tokens(sequences: Sequence[Mapping[str, Any]], side: int) -> list[dict[str, Any]]:
    """Tokens by the attention that leaves them (side 0) or reaches them (side 1)."""
    totals: dict[str, float] = {}
    for each in sequences:
        for flat, value in zip(each["attention_indices"], each["attention_values"], strict=True):
            token = each["tokens"][divmod(flat, each["seq_len"])[side]]
            totals[token] = totals.get(token, 0.0) + value
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return [{"token": token, "weight": _short(weight)} for token, weight in ranked[:MOST_TOKENS]]


def _short(value: float | np.floating[Any]) -> float:
    """Four decimals, which keep the files small."""
    return round(float(value), 4)
