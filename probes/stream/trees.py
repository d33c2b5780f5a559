"""Trees as arrays: distances, depths, the edges that are scored; and the tree that distances imply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["scored_edges", "spanning_edges", "tree_depths", "tree_distances"]

Edge = tuple[int, int]


def tree_depths(heads: Sequence[int]) -> Int64[np.ndarray, " word"]:
    """Arcs from the root to each word; the root's head is -1."""
    depths = np.full(len(heads), -1, dtype=np.int64)
    for word in range(len(heads)):
        path, at = [], word
        while at >= 0 and depths[at] < 0:
            path.append(at)
            at = heads[at]
        base = -1 if at < 0 else int(depths[at])
        for step, node in enumerate(reversed(path), 1):
            depths[node] = base + step
    return depths


def tree_distances(heads: Sequence[int]) -> Int64[np.ndarray, "word word"]:
    """Arcs on the path between each two words."""
    n, depths = len(heads), tree_depths(heads)
    distances = np.zeros((n, n), dtype=np.int64)
    done: list[int] = []
    order: list[int] = np.argsort(depths, kind="stable").tolist()
    for word in order:
        head = heads[word]
        if head >= 0:
            distances[word, done] = distances[done, word] = distances[head, done] + 1
        done.append(word)
    return distances


def scored_edges(heads: Sequence[int], scored: Bool[np.ndarray, " word"]) -> list[Edge]:
    """Undirected arcs between the words that are scored.

    A word whose head is not scored (punctuation with dependents) hangs on the nearest scored word above; without one,
    it has no arc.
    """
    edges = []
    words: list[int] = np.flatnonzero(scored).tolist()
    for word in words:
        at = heads[word]
        while at >= 0 and not scored[at]:
            at = heads[at]
        if at >= 0:
            edges.append((min(word, at), max(word, at)))
    return edges


def spanning_edges(distances: Float64[np.ndarray, "word word"], scored: Bool[np.ndarray, " word"]) -> set[Edge]:
    """Edges of the minimum spanning tree over the words that are scored."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    words = np.flatnonzero(scored)
    among = distances[np.ix_(words, words)]
    # scipy takes 0 for "no edge"; the tree is the same when every distance grows by as much.
    tree = minimum_spanning_tree(np.triu(among - among.min() + 1.0, k=1)).tocoo()
    return {(int(words[min(i, j)]), int(words[max(i, j)])) for i, j in zip(tree.row, tree.col, strict=True)}
