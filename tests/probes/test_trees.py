"""Trees from attention: gold trees without punctuation, baselines, and counts made another way."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import sentence

from probes.corpora.sources import open_corpus
from probes.syntax.trees import RULES_DIRECTED, RULES_UNDIRECTED, GoldTree, TreeCounts, score_trees

ALL = np.ones(30, dtype=bool)


def tree_of(words, heads, upos):
    tree = sentence(words, heads, " ".join(["x"] * len(heads)), upos=upos)
    return GoldTree.of(tree, ALL[: len(heads)])


def test_what_hangs_on_punctuation_hangs_on_the_word_above_it():
    """`c` hangs on the comma, which hangs on the dash, which hangs on `b`."""
    tree = tree_of("a b - , c", [2, 0, 2, 3, 4], "X X PUNCT PUNCT X")

    assert tree.words.tolist() == [0, 1, 4]
    assert tree.heads.tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    ("heads", "upos"),
    [([0, 1], "X PUNCT"), ([2, 0, 2], "X PUNCT X")],  # one word; two words that hang on nothing
)
def test_sentences_that_are_no_tree_of_two_words_are_left_out(heads, upos):
    assert tree_of("a b c"[: 2 * len(heads)], heads, upos) is None


def test_words_that_the_model_did_not_see_take_no_part():
    tree = sentence("a b c", [2, 3, 0], "x x root")

    assert GoldTree.of(tree, np.array([True, False, True])).heads.tolist() == [1, -1]


def independent(heads, punctuation, weights):
    """(undirected, directed) hits of one matrix with networkx, over words by their place in the sentence."""
    words = [word for word in range(len(heads)) if not punctuation[word]]
    above = {}
    for word in words:
        head = heads[word]
        while head >= 0 and punctuation[head]:
            head = heads[head]
        above[word] = head
    (root,) = (word for word in words if above[word] < 0)
    gold = {(above[word], word) for word in words if word != root}
    joined, directed = nx.Graph(), nx.DiGraph()
    for one in words:
        for other in words:
            if one < other:
                joined.add_edge(one, other, weight=weights[one, other] + weights[other, one])
            if one not in (other, root):
                directed.add_edge(other, one, weight=weights[one, other])
    edges = {frozenset(edge) for edge in nx.maximum_spanning_tree(joined).edges}
    arcs = set(nx.maximum_spanning_arborescence(directed).edges)
    return sum(frozenset(arc) in edges for arc in gold), len(gold & arcs)


@given(st.integers(0, 2**32 - 1), st.integers(4, 12))
def test_counts_are_those_of_networkx(seed, n):
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    heads = np.full(n, -1)
    for place in range(1, n):
        heads[order[place]] = order[rng.integers(place)]
    punctuation = rng.random(n) < 0.25
    punctuation[order[:2]] = False
    weights = rng.dirichlet(np.ones(n), (3, n))
    tree = sentence(
        "x " * n, (heads + 1).tolist(), "x " * n, upos=" ".join("PUNCT" if each else "X" for each in punctuation)
    )

    found = score_trees(GoldTree.of(tree, np.ones(n, dtype=bool)), weights)

    expected = [independent(heads, punctuation, each) for each in weights]
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_a_head_that_points_at_every_head_finds_the_whole_tree():
    heads = [3, 3, 0, 5, 3]
    tree = tree_of("a b c d e", heads, "X X X X X")
    weights = np.full((1, 5, 5), 0.1)
    weights[0, range(5), [max(head - 1, 0) for head in heads]] = 0.6

    assert [each.tolist() for each in score_trees(tree, weights)] == [[4], [4]]


def test_random_trees_are_what_their_expectation_says():
    """Trees from random Pruefer sequences, decoded by networkx, against the closed form."""
    tree = tree_of("a b c d e f", [2, 0, 2, 3, 3, 5], "X X X X X X")
    rng = np.random.default_rng(0)
    undirected, directed, draws = 0, 0, 4000
    gold = {(int(head), word) for word, head in enumerate(tree.heads) if head >= 0}
    for _ in range(draws):
        drawn = nx.from_prufer_sequence(rng.integers(0, 6, 4).tolist())
        undirected += sum(drawn.has_edge(*arc) for arc in gold)
        directed += len(gold & set(nx.bfs_tree(drawn, tree.root).edges))

    counts = TreeCounts.empty(1, 1)
    counts.add(0, tree, np.ones((1, 6, 6)))

    assert counts.undirected_rules[0, 1] == pytest.approx(undirected / draws, abs=0.06)
    assert counts.directed_rules[0, 2] == pytest.approx(directed / draws, abs=0.06)


def independent_baselines(path):
    """Arcs between words that are no punctuation, and how many join or hang on neighbours, from the raw rows."""
    counts, rows = Counter(), []

    def count():
        words = [index for index, (upos, _) in enumerate(rows) if upos != "PUNCT"]
        place = {word: at for at, word in enumerate(words)}
        for word in words if len(words) > 1 else ():
            head = rows[word][1]
            while head >= 0 and head not in place:
                head = rows[head][1]
            if head >= 0:
                counts["arcs"] += 1
                counts[place[head] - place[word]] += 1

    for line in path.read_text(encoding="utf-8").split("\n"):
        columns = line.split("\t")
        if len(columns) == 10 and columns[0].isdigit():
            rows.append((columns[3], int(columns[6]) - 1))
        elif not line and rows:
            count()
            rows.clear()
    return counts


# Share of arcs between neighbours as published for the test parts, which are not to be had here: EWT 43.0, GUM 41.2.
@pytest.mark.parametrize(("name", "published"), [("en_ewt-ud-dev.conllu", 43.0), ("en_gum-ud-dev.conllu", 41.2)])
def test_baselines_on_treebanks_agree_with_an_independent_count(shared_data, name, published):
    path = shared_data(name)
    counts = TreeCounts.empty(1, 1)
    for document in open_corpus(path).documents():
        for each in document.sentences:
            tree = GoldTree.of(each, np.ones(len(each), dtype=bool))
            if tree is not None:
                counts.add(0, tree, np.zeros((1, len(each), len(each))))

    theirs = independent_baselines(path)
    undirected = dict(zip(RULES_UNDIRECTED, counts.undirected_rules[0], strict=True))
    directed = dict(zip(RULES_DIRECTED, counts.directed_rules[0], strict=True))
    assert undirected["adjacent words"] == theirs[1] + theirs[-1]
    assert directed["head = next word"] == theirs[1]
    assert directed["head = previous word"] == theirs[-1]
    assert abs(theirs["arcs"] - counts.arcs[0]) <= 5  # sentences whose root is punctuation have no tree here
    assert 100 * undirected["adjacent words"] / counts.arcs[0] == pytest.approx(published, abs=0.5)
