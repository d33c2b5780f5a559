"""Best trees against scipy, networkx and every tree there is."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree

from probes.syntax.decoding import arborescences, spanning_trees


@given(st.integers(0, 2**32 - 1), st.integers(2, 14))
def test_spanning_trees_are_those_of_scipy(seed, n):
    scores = np.random.default_rng(seed).random((3, n, n))
    scores += scores.transpose(0, 2, 1)

    found = spanning_trees(scores)

    for each, nearest in zip(scores, found, strict=True):
        theirs = minimum_spanning_tree(np.triu(3.0 - each, k=1)).tocoo()
        edges = {frozenset(edge) for edge in zip(theirs.row.tolist(), theirs.col.tolist(), strict=True)}
        assert {frozenset((word, int(nearest[word]))) for word in range(1, n)} == edges
        assert nearest[0] == -1


def all_arborescences(n, root):
    """Every choice of heads in which all words lead to the root."""
    for heads in itertools.product(range(n), repeat=n):
        heads = [-1 if word == root else head for word, head in enumerate(heads)]

        def leads_up(word, heads=heads):
            seen = set()
            while word != root and word not in seen:
                seen.add(word)
                word = heads[word]
            return word == root

        if all(map(leads_up, range(n))):
            yield tuple(heads)


@pytest.mark.parametrize("root", [0, 2, 4])
def test_arborescences_are_the_best_of_all_there_are(root):
    rng = np.random.default_rng(root)
    scores = rng.random((200, 5, 5))
    every = np.array(sorted(set(all_arborescences(5, root))))
    words = np.array([word for word in range(5) if word != root])

    found = arborescences(scores, root)

    totals = np.stack([scores[:, words, heads[words]].sum(axis=1) for heads in every])
    assert len(every) == 5**3  # Cayley: n^(n-2) trees, each with one way to point at the root
    np.testing.assert_array_equal(found, every[totals.argmax(axis=0)])


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_arborescences_weigh_what_networkx_finds(seed, n):
    rng = np.random.default_rng(seed)
    root = int(rng.integers(n))
    scores = rng.random((2, n, n))
    graph = nx.DiGraph(
        (head, word, {"weight": scores[1, word, head]})
        for word in range(n)
        for head in range(n)
        if word not in (head, root)
    )

    found = arborescences(scores, root)[1]

    best = nx.maximum_spanning_arborescence(graph)
    assert {(int(head), word) for word, head in enumerate(found) if word != root} == set(best.edges)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_sentences(n):
    scores = np.zeros((2, n, n))

    assert spanning_trees(scores).shape == (2, n)
    assert (arborescences(scores, n - 1)[:, n - 1] == -1).all()


def test_a_gold_tree_scored_one_comes_back():
    heads = [3, 3, 3, -1, 5, 3, 5]
    scores = np.zeros((1, 7, 7))
    for word, head in enumerate(heads):
        if head >= 0:
            scores[0, word, head] = 1

    assert arborescences(scores, 3)[0].tolist() == heads
    nearest = spanning_trees(scores + scores.transpose(0, 2, 1))[0]
    assert {frozenset((word, int(nearest[word]))) for word in range(1, 7)} == {
        frozenset((word, head)) for word, head in enumerate(heads) if head >= 0
    }
