"""The best tree over a sentence's words for many score matrices at once: undirected (Prim) and directed (Edmonds).

Sources: Prim 1957 (doi:10.1002/j.1538-7305.1957.tb01515.x); Chu and Liu 1965, Edmonds 1967 (doi:10.6028/jres.071B.032).
Every step is done for all matrices together, since a model has hundreds of heads and a sentence a dozen words. Of equal
scores the lower index wins, so that a head without preferences gets some tree, not an average one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["arborescences", "spanning_trees"]


def spanning_trees(scores: Float64[np.ndarray, "tree word word"]) -> Int64[np.ndarray, "tree word"]:
    """The spanning tree of the largest sum of scores, for each symmetric matrix.

    Returns:
        The other end of one edge per word, which together are the tree; -1 for the first word.
    """
    n_trees, n_words, _ = scores.shape
    every = np.arange(n_trees)
    outside = np.ones((n_trees, n_words), dtype=bool)
    outside[:, 0] = False
    best = scores[:, 0].copy()  # of each word to the tree so far
    nearest = np.zeros((n_trees, n_words), dtype=np.int64)
    nearest[:, 0] = -1
    for _ in range(n_words - 1):
        added = np.where(outside, best, -np.inf).argmax(axis=1)
        outside[every, added] = False
        offered = scores[every, added]
        better = outside & (offered > best)
        best = np.where(better, offered, best)
        nearest = np.where(better, added[:, None], nearest)
    return nearest


def arborescences(scores: Float64[np.ndarray, "tree dependent head"], root: int) -> Int64[np.ndarray, "tree word"]:
    """The directed tree of the largest sum of scores in which every word hangs on another and all on `root`.

    Each round lets every part of the sentence (words at first) choose its best incoming arc, then merges the parts of
    each cycle, with the arcs into a part reduced by the one that it chose. When no cycle is left, the arc that enters a
    part replaces the choice of the smaller part that it enters, from the last round down to words.

    Returns:
        The head of every word; -1 at the root.
    """
    n_trees, n_words, _ = scores.shape
    arcs = scores.copy()
    part = np.tile(np.arange(n_words), (n_trees, 1))  # of each word: the lowest of its words
    rounds = []
    while True:
        head, entered, value = _choices(arcs, part, root)
        rounds.append((part, head, entered))
        merged = _merge_cycles(part, head)
        if (merged == part).all():
            break
        arcs -= np.take_along_axis(value, part, axis=1)[:, :, None]
        part = merged
    return _expand(rounds)


def _choices(
    arcs: Float64[np.ndarray, "tree dependent head"], part: Int64[np.ndarray, "tree word"], root: int
) -> tuple[Int64[np.ndarray, "tree part"], Int64[np.ndarray, "tree part"], Float64[np.ndarray, "tree part"]]:
    """(head, the word it enters, score) of the best arc into each part; the root's head is -1, and it enters itself."""
    n_words = arcs.shape[1]
    outside = np.where(part[:, :, None] != part[:, None, :], arcs, -np.inf)
    head_of_word = outside.argmax(axis=2)
    best_of_word = outside.max(axis=2)
    members = part[:, None, :] == np.arange(n_words)[:, None]  # [tree part word]
    entering = np.where(members, best_of_word[:, None, :], -np.inf)
    entered = entering.argmax(axis=2)
    head = np.take_along_axis(head_of_word, entered, axis=1)
    value = np.take_along_axis(best_of_word, entered, axis=1)
    head[:, root], entered[:, root], value[:, root] = -1, root, 0.0
    return head, entered, value


def _merge_cycles(
    part: Int64[np.ndarray, "tree word"], head: Int64[np.ndarray, "tree part"]
) -> Int64[np.ndarray, "tree word"]:
    """Parts in which each cycle of chosen arcs has become one, named by its lowest word."""
    n_trees, n_words = part.shape
    own = np.arange(n_words)
    follows = np.where(head < 0, own, np.take_along_axis(part, np.maximum(head, 0), axis=1))
    lowest = np.minimum(own, follows)
    ahead = follows  # after 1, 2, 4, ... steps; `lowest` is over as many
    for _ in range(int(n_words).bit_length()):
        lowest = np.minimum(lowest, np.take_along_axis(lowest, ahead, axis=1))
        ahead = np.take_along_axis(ahead, ahead, axis=1)
    reached = np.zeros((n_trees, n_words), dtype=bool)
    alive = part == own  # parts, not words inside of them
    trees, parts = alive.nonzero()
    reached[trees, ahead[trees, parts]] = True  # on a cycle, or the root
    name = np.where(reached & alive, lowest, own)
    return np.take_along_axis(name, part, axis=1)


def _expand(
    rounds: list[tuple[Int64[np.ndarray, "tree word"], Int64[np.ndarray, "tree part"], Int64[np.ndarray, "tree part"]]],
) -> Int64[np.ndarray, "tree word"]:
    """Heads of words: an arc that enters a part of a later round overrules what the part it enters had chosen."""
    part, head, entered = rounds[-1]
    for smaller, chosen, into in reversed(rounds[:-1]):
        n_words = part.shape[1]
        own = np.arange(n_words)
        # Of each part of the earlier round: the later part around it, and whether that part's arc enters it.
        around = np.take_along_axis(part, np.broadcast_to(own, part.shape), axis=1)
        target = np.take_along_axis(entered, around, axis=1)
        enters = np.take_along_axis(smaller, target, axis=1) == own
        head = np.where(enters, np.take_along_axis(head, around, axis=1), chosen)
        entered = np.where(enters, target, into)
        part = smaller
    return head
