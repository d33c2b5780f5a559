"""Trees from attention (measure S5): how much of a sentence's dependency tree is in one head's matrix?

Undirected (UUAS): the maximum spanning tree over weights in both directions, Aw + Aw^T. Directed (UAS): the best tree
that hangs on the gold root, over the weights of each word on the others (Raganato and Tiedemann 2018,
doi:10.18653/v1/W18-5431). Punctuation is no word here: what hangs on it hangs on the nearest word above it. Sentences
of one word have no tree. All arcs count alike (micro average).

Baselines without a model: neighbours joined in a chain; every word hangs on the next one, or on the previous one; a
tree drawn at random, of which the expectation is known (each two of n words are joined with probability 2/n, and a word
hangs on the root with probability 2/n, on any other word with 1/n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from probes.corpora.data import Sentence
from probes.syntax.decoding import arborescences, spanning_trees

__all__ = ["RULES_DIRECTED", "RULES_UNDIRECTED", "GoldTree", "TreeCounts", "score_trees"]

RULES_UNDIRECTED = ("adjacent words", "random tree")
RULES_DIRECTED = ("head = next word", "head = previous word", "random tree")


@dataclass(frozen=True)
class GoldTree:
    """A sentence's tree without punctuation.

    Attributes:
        words: those that take part, by their place in the sentence.
        heads: place in `words` of each word's head; -1 at the root.
    """

    words: Int64[np.ndarray, " node"]
    heads: Int64[np.ndarray, " node"]

    @classmethod
    def of(cls, sentence: Sentence, kept: Bool[np.ndarray, " word"]) -> GoldTree | None:
        """The tree over words that the model saw and that are no punctuation; None where that is no tree of two words.

        A word whose head takes no part hangs on the nearest word above that does.
        """
        takes_part = [bool(seen) and tag != "PUNCT" for seen, tag in zip(kept, sentence.upos, strict=True)]
        words = [word for word, here in enumerate(takes_part) if here]
        if not sentence.heads or len(words) < 2:
            return None
        place = {word: node for node, word in enumerate(words)} | {-1: -1}
        heads = [place[_above(sentence.heads, takes_part, word)] for word in words]
        if heads.count(-1) != 1:
            return None
        return cls(np.array(words), np.array(heads))

    @property
    def root(self) -> int:
        """Place of the root in `words`."""
        return int((self.heads < 0).argmax())

    @property
    def n_arcs(self) -> int:
        """Arcs between words: one less than words."""
        return len(self.words) - 1


def _above(heads: Sequence[int], takes_part: Sequence[bool], word: int) -> int:
    head = heads[word]
    while head >= 0 and not takes_part[head]:
        head = heads[head]
    return head


@dataclass(frozen=True)
class TreeCounts:
    """How many arcs of some sentences were found; sums, so that they add up over sentences and shards.

    Attributes:
        arcs: number of gold arcs, per cluster.
        undirected, directed: arcs found, per cluster and head.
        undirected_rules, directed_rules: arcs found by `RULES_UNDIRECTED` and `RULES_DIRECTED`; a random tree's is an
            expectation.
    """

    arcs: Int64[np.ndarray, " cluster"]
    undirected: Int64[np.ndarray, "cluster head"]
    directed: Int64[np.ndarray, "cluster head"]
    undirected_rules: Float64[np.ndarray, "cluster rule"]
    directed_rules: Float64[np.ndarray, "cluster other"]

    @classmethod
    def empty(cls, n_clusters: int, n_heads: int) -> TreeCounts:
        """Nothing counted."""
        return cls(
            arcs=np.zeros(n_clusters, dtype=np.int64),
            undirected=np.zeros((n_clusters, n_heads), dtype=np.int64),
            directed=np.zeros((n_clusters, n_heads), dtype=np.int64),
            undirected_rules=np.zeros((n_clusters, len(RULES_UNDIRECTED))),
            directed_rules=np.zeros((n_clusters, len(RULES_DIRECTED))),
        )

    def add(self, cluster: int, tree: GoldTree, words: Float64[np.ndarray, "head word word"]) -> None:
        """Count one sentence, in place."""
        undirected, directed = score_trees(tree, words)
        self.arcs[cluster] += tree.n_arcs
        self.undirected[cluster] += undirected
        self.directed[cluster] += directed
        self.undirected_rules[cluster] += _undirected_rules(tree)
        self.directed_rules[cluster] += _directed_rules(tree)


def score_trees(
    tree: GoldTree, words: Float64[np.ndarray, "head word word"]
) -> tuple[Int64[np.ndarray, " head"], Int64[np.ndarray, " head"]]:
    """(undirected, directed): how many of the gold arcs are in each head's best tree."""
    among = np.asarray(words[:, tree.words[:, None], tree.words[None, :]], dtype=np.float64)
    nodes = np.arange(len(tree.words))
    arcs = np.zeros((len(nodes), len(nodes)), dtype=bool)
    arcs[nodes, tree.heads] = tree.heads >= 0  # the root's row stays empty
    nearest = spanning_trees(among + among.transpose(0, 2, 1))
    joined = (arcs | arcs.T)[nodes[1:], nearest[:, 1:]].sum(axis=1)
    found = (arborescences(among, tree.root) == tree.heads) & (tree.heads >= 0)
    return joined, found.sum(axis=1)


def _undirected_rules(tree: GoldTree) -> Float64[np.ndarray, " rule"]:
    distance = (tree.heads - np.arange(len(tree.heads)))[tree.heads >= 0]
    return np.array([(np.abs(distance) == 1).sum(), tree.n_arcs * 2 / len(tree.words)], dtype=np.float64)


def _directed_rules(tree: GoldTree) -> Float64[np.ndarray, " rule"]:
    hanging = tree.heads >= 0
    distance = (tree.heads - np.arange(len(tree.heads)))[hanging]
    on_root = (tree.heads == tree.root)[hanging].sum()
    random = (tree.n_arcs + on_root) / len(tree.words)
    return np.array([(distance == 1).sum(), (distance == -1).sum(), random], dtype=np.float64)
