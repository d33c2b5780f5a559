"""The halves: balanced, stable, by documents where there are enough."""

from __future__ import annotations

import numpy as np
from probe_arrays import documents_of, sentence

from probes.corpora.data import Corpus
from probes.split import MOST_CLUSTERS, split_corpus, split_units

ONE = sentence("a", [0], "root")


def test_fifteen_documents_split_by_document_fewer_by_sentence():
    many = split_corpus(Corpus.of("many", documents_of([ONE] * 45, 3)))
    few = split_corpus(Corpus.of("few", documents_of([ONE] * 42, 3)))

    assert (many.unit, many.n_select, many.n_confirm) == ("document", 8, 7)
    assert (few.unit, few.n_select, few.n_confirm) == ("sentence", 21, 21)


def test_sentences_of_a_document_share_its_cluster():
    split = split_corpus(Corpus.of("many", documents_of([ONE] * 45, 3)))

    assert split.cluster("d3", "d3#0") == split.cluster("d3", "d3#2")


def test_the_split_depends_on_the_names_alone():
    names = [f"n{i}" for i in range(30)]

    one, other = split_units("document", names), split_units("document", names[::-1])

    assert one.clusters == other.clusters
    assert one.sha256 == other.sha256
    assert one.sha256 != split_units("document", names[1:]).sha256


def test_very_many_units_share_clusters_within_their_half():
    split = split_units("sentence", [f"n{i}" for i in range(3 * MOST_CLUSTERS)])

    sizes = np.bincount(list(split.clusters.values()))

    assert len(split.confirm) == MOST_CLUSTERS
    assert set(sizes) == {3}
    assert split.n_select == split.n_confirm == 600


def test_one_unit_leaves_nothing_to_confirm():
    split = split_units("sentence", ["only"])

    assert (split.n_select, split.n_confirm) == (1, 0)
    assert split.confirm.tolist() == [False]
