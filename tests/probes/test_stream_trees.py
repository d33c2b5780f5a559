"""Trees as arrays, against networkx and a spanning tree found another way."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.stream.trees import scored_edges, spanning_edges, tree_depths, tree_distances


@st.composite
def trees(draw, most=12):
    """Heads of a random tree over words in random order; -1 at the root."""
    n = draw(st.integers(1, most))
    order = draw(st.permutations(range(n)))
    heads = [-1] * n
    for rank in range(1, n):
        heads[order[rank]] = order[draw(st.integers(0, rank - 1))]
    return heads


def as_graph(heads):
    graph = nx.Graph()
    graph.add_nodes_from(range(len(heads)))
    graph.add_edges_from((word, head) for word, head in enumerate(heads) if head >= 0)
    return graph


def prim(distances):
    """The minimum spanning tree by Prim's algorithm, the slow and plain way."""
    n = len(distances)
    inside, edges = {0}, set()
    while len(inside) < n:
        _, i, j = min((distances[i, j], i, j) for i in inside for j in range(n) if j not in inside)
        inside.add(j)
        edges.add((min(i, j), max(i, j)))
    return edges


@given(trees())
def test_distances_and_depths_are_those_of_the_graph(heads):
    lengths = dict(nx.all_pairs_shortest_path_length(as_graph(heads)))
    root = heads.index(-1)

    distances, depths = tree_distances(heads), tree_depths(heads)

    assert all(distances[i, j] == lengths[i][j] for i in lengths for j in lengths)
    assert depths.tolist() == [lengths[root][word] for word in range(len(heads))]


@given(trees())
def test_without_punctuation_every_arc_is_scored(heads):
    edges = scored_edges(heads, np.ones(len(heads), dtype=bool))

    assert sorted(edges) == sorted((min(edge), max(edge)) for edge in as_graph(heads).edges)


def test_what_hangs_on_punctuation_hangs_on_the_next_word_above():
    heads = [1, -1, 1, 2, 3]  # word 4 on the mark 3, which hangs on the mark 2, which hangs on 1
    scored = np.array([True, True, False, False, True])

    assert sorted(scored_edges(heads, scored)) == [(0, 1), (1, 4)]


def test_below_a_root_that_is_punctuation_there_is_no_arc():
    assert scored_edges([-1, 0, 1], np.array([False, True, True])) == [(1, 2)]


@given(st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_the_spanning_tree_is_that_of_prim(n, seed):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    distances = ((points[:, None] - points[None, :]) ** 2).sum(-1)

    assert spanning_edges(distances, np.ones(n, dtype=bool)) == prim(distances)


def test_words_at_the_same_place_are_joined_too():
    distances = np.zeros((4, 4))

    assert len(spanning_edges(distances, np.ones(4, dtype=bool))) == 3


def test_only_scored_words_are_joined():
    distances = np.abs(np.arange(5.0)[:, None] - np.arange(5.0)[None, :])

    edges = spanning_edges(distances, np.array([True, False, True, True, False]))

    assert edges == {(0, 2), (2, 3)}


@pytest.mark.parametrize("name", ["en_ewt-ud-dev.conllu", "en_gum-ud-dev.conllu"])
def test_real_trees_have_one_arc_less_than_scored_words(shared_data, name):
    from probes.corpora.sources import open_corpus

    corpus = open_corpus(shared_data(name), limit=300)
    for document in corpus.documents():
        for sentence in document.sentences:
            lexical = np.array([tag != "PUNCT" for tag in sentence.upos])
            root_is_scored = lexical[sentence.heads.index(-1)]

            edges = scored_edges(sentence.heads, lexical)

            if root_is_scored:
                assert len(edges) == lexical.sum() - 1
