"""What syntax finds on closer reading, as objects of `heads.json`: `trees`, `ensembles` and `parser`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.close_reading import CloseReading, Matrices
from probes.statistics import Resampling, interval, replicates
from probes.syntax import parser
from probes.syntax.closely import CloseText, keep
from probes.syntax.ensembles import Ensemble, ensembles
from probes.syntax.trees import RULES_DIRECTED, RULES_UNDIRECTED, TreeCounts

__all__ = ["read_closely"]

RANDOM = "a copy of the model with random weights"
SHOWN = 5  # weights of the parser


def read_closely(reading: CloseReading) -> dict[str, Any]:
    """All three; an object is missing where the sample has no trees in one of the halves."""
    texts = _kept(reading.look())
    if not _both_halves(texts):
        return {}
    random = _kept(reading.look_random()) if reading.look_random is not None else []
    confirm = reading.confirm
    resampling = Resampling.draw(int(confirm.sum()), seed=reading.seed, bootstrap=reading.bootstrap, permutations=1)
    found = ensembles(texts, dict(reading.alone), confirm, resampling)
    return {
        "trees": _trees(texts, random, reading.heads, confirm, resampling),
        "ensembles": [_ensemble(each, reading.heads) for each in found],
        "parser": _parser(texts, random, reading.heads, confirm, resampling),
    }


def _kept(seen: Iterable[Matrices]) -> list[CloseText]:
    return [keep(each) for each in seen if each.reading.sentences[0].heads]


def _both_halves(texts: Sequence[CloseText]) -> bool:
    return {text.confirm for text in texts if text.tree is not None} == {False, True}


def _trees(
    texts: Sequence[CloseText],
    random: Sequence[CloseText],
    heads: Sequence[str],
    confirm: Bool[np.ndarray, " cluster"],
    resampling: Resampling,
) -> dict[str, Any]:
    counts = _counted(texts, len(confirm))
    weights = _counted(random, len(confirm)) if _both_halves(random) else None
    found: dict[str, Any] = {
        "n_select": int(counts.arcs[~confirm].sum()),
        "n": int(counts.arcs[confirm].sum()),
        "n_sentences": sum(text.confirm and text.tree is not None for text in texts),
    }
    for name, part, rules in (("uuas", "undirected", RULES_UNDIRECTED), ("uas", "directed", RULES_DIRECTED)):
        hits = getattr(counts, part)
        score = _share(hits, counts, confirm)
        low, high = interval(replicates(resampling, hits[confirm].astype(np.float64), _arcs(counts, confirm)))
        best = int(_share(hits, counts, ~confirm).argmax())
        by_rule = _share(getattr(counts, f"{part}_rules"), counts, confirm)
        baselines = [{"name": rule, "score": float(each)} for rule, each in zip(rules, by_rule, strict=True)]
        if weights is not None:
            theirs = getattr(weights, part)
            chosen = int(_share(theirs, weights, ~confirm).argmax())
            baselines.append(
                {"name": f"best head of {RANDOM}", "score": float(_share(theirs, weights, confirm)[chosen])}
            )
        found[name] = {
            "best_head": heads[best],
            "score": float(score[best]),
            "ci": [float(low[best]), float(high[best])],
            "baselines": baselines,
            "heads": [
                {"head": head, "score": float(score[index]), "ci": [float(low[index]), float(high[index])]}
                for index, head in enumerate(heads)
            ],
        }
    return found


def _counted(texts: Sequence[CloseText], n_clusters: int) -> TreeCounts:
    counts = TreeCounts.empty(n_clusters, len(texts[0].words))
    for text in texts:
        if text.tree is not None:
            counts.add(text.cluster, text.tree, text.words.astype(np.float64))
    return counts


def _arcs(counts: TreeCounts, half: Bool[np.ndarray, " cluster"]) -> Float64[np.ndarray, " of_half"]:
    return np.asarray(counts.arcs[half], dtype=np.float64)


def _share(
    hits: Int64[np.ndarray, "cluster column"] | Float64[np.ndarray, "cluster column"],
    counts: TreeCounts,
    half: Bool[np.ndarray, " cluster"],
) -> Float64[np.ndarray, " column"]:
    n: np.int64 = counts.arcs[half].sum()
    return np.asarray(hits[half].sum(axis=0) / n, dtype=np.float64)


def _ensemble(found: Ensemble, heads: Sequence[str]) -> dict[str, Any]:
    return {
        "relation": found.key.relation,
        "direction": found.key.direction,
        "heads": [heads[head] for head in found.heads],
        "select": list(found.steps),
        "score": found.score,
        "ci": list(found.ci),
        "single": found.single,
        "gain": found.gain,
        "gain_ci": list(found.gain_ci),
        "n_select": found.n_select,
        "n": found.n_confirm,
    }


def _parser(
    texts: Sequence[CloseText],
    random: Sequence[CloseText],
    heads: Sequence[str],
    confirm: Bool[np.ndarray, " cluster"],
    resampling: Resampling,
) -> dict[str, Any]:
    select, rest = _halves(texts)
    fitted, arcs = parser.fit(parser.attention_arcs(select)), parser.attention_arcs(rest)
    hits = fitted.found(arcs)
    n_clusters = len(confirm)
    sums = np.bincount(arcs.cluster, hits, minlength=n_clusters)[confirm, None]
    trials = np.bincount(arcs.cluster, minlength=n_clusters)[confirm].astype(np.float64)
    low, high = interval(replicates(resampling, sums, trials))
    distances = parser.fit(parser.distance_arcs(select)).found(parser.distance_arcs(rest))
    baselines = [{"name": "distance between words alone", "score": float(distances.mean())}]
    if _both_halves(random):
        random_select, random_rest = map(parser.attention_arcs, _halves(random))
        baselines.append({"name": RANDOM, "score": float(parser.fit(random_select).found(random_rest).mean())})
    return {
        "score": float(hits.mean()),
        "ci": [float(low[0]), float(high[0])],
        "n_select": sum(len(text.tree.words) for text in select if text.tree is not None),
        "n": len(hits),
        "penalty": parser.PENALTY,
        "converged": fitted.converged,
        "baselines": baselines,
        "weights": _weights(fitted, heads),
    }


def _halves(texts: Sequence[CloseText]) -> tuple[list[CloseText], list[CloseText]]:
    return [text for text in texts if not text.confirm], [text for text in texts if text.confirm]


def _weights(fitted: parser.Fitted, heads: Sequence[str]) -> list[dict[str, Any]]:
    """The largest weights on arcs between words: heads that look from a word at its dependent, or at its head."""
    n_heads = len(heads)
    directions = ("h2d",) * n_heads + ("d2h",) * n_heads
    between = fitted.weights[: 2 * n_heads]
    return [
        {"head": heads[index % n_heads], "direction": directions[index], "weight": float(between[index])}
        for index in np.argsort(-between, kind="stable")[:SHOWN].tolist()
    ]
