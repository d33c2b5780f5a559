"""How well distances and depths that a probe predicts rebuild a tree: UUAS, root, and rank correlations by length.

Source: Hewitt and Manning 2019, "A Structural Probe for Finding Syntax in Word Representations" (NAACL), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.corpora.data import Sentence
from probes.stream.intervals import Clusters, percentiles
from probes.stream.trees import scored_edges, spanning_edges, tree_depths, tree_distances

__all__ = [
    "LENGTHS",
    "Gold",
    "Tally",
    "gold_of",
    "mean_over_lengths",
    "rank_correlations",
    "share_found",
    "tally_depths",
    "tally_distances",
]

LENGTHS = range(5, 51)
PUNCTUATION, UNKNOWN = "PUNCT", "_"


@dataclass(frozen=True)
class Gold:
    """One sentence's tree, as it is scored.

    Attributes:
        kept: words that have a vector.
        scored: of those, words that are no punctuation: edges and root are sought among them.
        edges: undirected arcs between scored words.
        root: the root, where it is scored; else None.
        distances, depths: of all words.
    """

    kept: Bool[np.ndarray, " word"]
    scored: Bool[np.ndarray, " word"]
    edges: frozenset[tuple[int, int]]
    root: int | None
    distances: Int64[np.ndarray, "word word"]
    depths: Int64[np.ndarray, " word"]


@dataclass(frozen=True)
class Tally:
    """What one sentence adds to a score that is a ratio of sums: edges or roots that were found, of how many.

    `ranks` and `n_ranks` are the sum of rank correlations and their number; `length` is in words that have a vector.
    """

    hits: float
    n: int
    ranks: float
    n_ranks: int
    length: int


def gold_of(sentence: Sentence, kept: Bool[np.ndarray, " word"]) -> Gold:
    """The tree of a sentence; arcs that touch a word without a vector are not scored."""
    relations = [relation.split(":")[0] for relation in sentence.relations]
    tags = sentence.upos or (UNKNOWN,) * len(sentence)
    marks = [
        tag == PUNCTUATION or (tag == UNKNOWN and rel == "punct") for tag, rel in zip(tags, relations, strict=True)
    ]
    lexical = ~np.array(marks)
    edges = frozenset((i, j) for i, j in scored_edges(sentence.heads, lexical) if kept[i] and kept[j])
    root = sentence.heads.index(-1)
    scored = lexical & kept
    return Gold(
        kept=kept,
        scored=scored,
        edges=edges,
        root=root if scored[root] else None,
        distances=tree_distances(sentence.heads),
        depths=tree_depths(sentence.heads),
    )


def tally_distances(gold: Gold, predicted: Float64[np.ndarray, "word word"]) -> Tally:
    """UUAS: edges of the minimum spanning tree that are edges of the tree; Spearman's rho of each word's distances.

    Args:
        gold: the tree.
        predicted: distances between all words of the sentence.
    """
    found = float(len(gold.edges & spanning_edges(predicted, gold.scored))) if gold.edges else 0.0
    among = np.ix_(gold.kept, gold.kept)
    ranks = rank_correlations(predicted[among], gold.distances[among])
    return Tally(found, len(gold.edges), float(np.nansum(ranks)), int((~np.isnan(ranks)).sum()), int(gold.kept.sum()))


def tally_depths(gold: Gold, predicted: Float64[np.ndarray, " word"]) -> Tally:
    """Root: whether the word of the least depth is the root; Spearman's rho of the sentence's depths."""
    hit = 0.0
    if gold.root is not None:
        candidates = np.flatnonzero(gold.scored)
        hit = float(candidates[predicted[candidates].argmin()] == gold.root)
    ranks = rank_correlations(predicted[None, gold.kept], gold.depths[None, gold.kept])
    return Tally(
        hit, int(gold.root is not None), float(np.nansum(ranks)), int((~np.isnan(ranks)).sum()), int(gold.kept.sum())
    )


def rank_correlations(
    left: Float64[np.ndarray, "row word"], right: Float64[np.ndarray, "row word"] | Int64[np.ndarray, "row word"]
) -> Float64[np.ndarray, " row"]:
    """Spearman's rho of each row, ties at their mean rank; NaN where a row does not vary."""
    from scipy.stats import rankdata

    if left.shape[1] < 2:
        return np.full(len(left), np.nan)
    one, two = (rankdata(rows, axis=1) for rows in (left, right))
    one, two = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((one * two).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1)))


def share_found(
    tallies: Sequence[Tally], clusters: Int64[np.ndarray, " sentence"], units: Clusters
) -> tuple[float, tuple[float, float], int]:
    """Hits over trials of all sentences together, its interval, and the trials."""
    hits, trials = (np.array([getattr(each, name) for each in tallies], dtype=float) for name in ("hits", "n"))
    if not trials.sum():
        return float("nan"), (float("nan"), float("nan")), 0
    drawn_hits, drawn = (units.weights @ units.sums(clusters, values) for values in (hits, trials))
    with np.errstate(divide="ignore", invalid="ignore"):
        ci = percentiles(drawn_hits / drawn)
    return float(hits.sum() / trials.sum()), ci, int(trials.sum())


def mean_over_lengths(
    tallies: Sequence[Tally], clusters: Int64[np.ndarray, " sentence"], units: Clusters
) -> tuple[float, tuple[float, float], int]:
    """Mean over lengths from 5 to 50 words of the mean rank correlation at that length, its interval, the sentences."""
    inside = [(each, int(units.index[cluster])) for each, cluster in zip(tallies, clusters, strict=True)]
    inside = [(each, unit) for each, unit in inside if each.length in LENGTHS and each.n_ranks]
    sums = np.zeros((2, units.weights.shape[1], len(LENGTHS)))
    for each, unit in inside:
        sums[:, unit, each.length - LENGTHS.start] += each.ranks, each.n_ranks
    replicates = _mean_of_ratios(units.weights @ sums[0], units.weights @ sums[1])
    total = sums.sum(axis=1)
    return float(_mean_of_ratios(total[:1], total[1:])[0]), percentiles(replicates), len(inside)


def _mean_of_ratios(
    sums: Float64[np.ndarray, "row length"], counts: Float64[np.ndarray, "row length"]
) -> Float64[np.ndarray, " row"]:
    """The mean over lengths that occur; NaN in a row without any."""
    ratios = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    n_lengths = (counts > 0).sum(axis=1)
    return np.where(n_lengths > 0, ratios.sum(axis=1) / np.maximum(n_lengths, 1), np.nan)
