"""Shards: a corpus is cut at fixed places, and what they leave behind adds up and comes back from disk exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_arrays import sentence

from attnlens.errors import ResultsError
from probes.checkpoints import Checkpoints, from_table, to_table
from probes.corpora.data import Document
from probes.shards import ShardResult, Totals, shards_of
from probes.tally import Cell, Key, Tally

RULES = ("offset -1", "offset +1", "nearest NOUN left")
N_HEADS, N_CLUSTERS = 5, 7
KEYS = (Key("nsubj", "d2h"), Key("nsubj", "d2h", "pred"), Key("first-token"), Key("never"))


def result(number: int, clusters, rng) -> ShardResult:
    """A shard with arbitrary sums over some clusters; the question `never` was asked and has nothing."""
    tally = Tally(len(clusters), N_HEADS, RULES)
    for key in KEYS:
        cell = tally.cell(key)
        for name in Cell.__dataclass_fields__:
            if key.relation != "never":
                array = getattr(cell, name)
                array += rng.integers(-3, 2**50, array.shape) * rng.integers(0, 2, array.shape)
    return ShardResult(
        number, np.array(clusters), {"syntax": tally}, skipped=(f"{number}",), dropped_words={"sentence": number}
    )


def results(seed: int, cuts) -> list[ShardResult]:
    rng = np.random.default_rng(seed)
    return [result(number, sorted(clusters), rng) for number, clusters in enumerate(cuts)]


def total(parts) -> Totals:
    totals = Totals(N_CLUSTERS, N_HEADS, {"syntax": RULES})
    for part in parts:
        totals.absorb(part)
    return totals


def same(one: Tally, other: Tally) -> bool:
    return list(one) == list(other) and all(
        np.array_equal(getattr(one.cells[key], name), getattr(other.cells[key], name))
        for key in one
        for name in Cell.__dataclass_fields__
    )


CUTS = st.lists(st.sets(st.integers(0, N_CLUSTERS - 1), min_size=1), min_size=1, max_size=4)


@given(seed=st.integers(0, 99), cuts=CUTS, data=st.data())
@settings(deadline=None)
def test_shards_add_up_in_any_order_and_none_counts_twice(seed, cuts, data):
    parts = results(seed, cuts)
    order = data.draw(st.permutations(parts))

    totals, shuffled = total(parts), total([*order, order[0]])

    assert same(totals.tallies["syntax"], shuffled.tallies["syntax"])
    assert totals.skipped == shuffled.skipped
    assert totals.dropped_words == shuffled.dropped_words == {"sentence": sum(range(len(parts)))}


@given(seed=st.integers(0, 99), cuts=CUTS)
@settings(deadline=None)
def test_the_sums_are_those_of_each_cluster(seed, cuts):
    parts = results(seed, cuts)

    hits = total(parts).tallies["syntax"].cells[KEYS[0]].hits

    expected = np.zeros((N_CLUSTERS, N_HEADS), np.int64)
    for part in parts:
        for local, cluster in enumerate(part.clusters):
            expected[cluster] += part.tallies["syntax"].cells[KEYS[0]].hits[local]
    assert np.array_equal(hits, expected)


@given(seed=st.integers(0, 99), cuts=CUTS)
@settings(deadline=None)
def test_a_shard_comes_back_from_its_table_exactly(seed, cuts):
    for part in results(seed, cuts):
        back = from_table(to_table(part))

        assert same(back.tallies["syntax"], part.tallies["syntax"])
        assert back.tallies["syntax"].rules == RULES
        assert (back.number, back.skipped, back.dropped_words) == (part.number, part.skipped, part.dropped_words)
        assert np.array_equal(back.clusters, part.clusters)


def test_a_shard_without_any_question_comes_back():
    empty = ShardResult(0, np.array([2, 4]), {"syntax": Tally(2, N_HEADS, RULES)})

    back = from_table(to_table(empty))

    assert not list(back.tallies["syntax"])
    assert back.clusters.tolist() == [2, 4]


def documents(sizes) -> list[Document]:
    return [
        Document(f"d{i}", tuple(sentence(f"word{j} here", name=f"{i}.{j}") for j in range(size)))
        for i, size in enumerate(sizes)
    ]


@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 6))
@settings(deadline=None)
def test_shards_hold_every_sentence_once_in_order_and_are_full(sizes, size):
    corpus = documents(sizes)

    shards = list(shards_of(iter(corpus), size))

    keys = [doc.key(i) for shard in shards for doc in shard.documents for i in range(len(doc.sentences))]
    assert keys == [doc.key(i) for doc in corpus for i in range(len(doc.sentences))]
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(shard.n_sentences == size for shard in shards[:-1])
    assert all(0 < shard.n_sentences <= size for shard in shards)
    names = [sentence.id for shard in shards for doc in shard.documents for sentence in doc.sentences]
    assert names == [each.id for doc in corpus for each in doc.sentences]


def test_checkpoints_of_another_run_are_refused_with_what_differs(tmp_path):
    rng = np.random.default_rng(0)
    first = Checkpoints(tmp_path / "shards", {"seed": 0, "corpus": "a"})
    assert first.begin(resume=True) == set()
    first.save(result(3, [0, 2], rng))

    assert Checkpoints(tmp_path / "shards", {"seed": 0, "corpus": "a"}).begin(resume=True) == {3}
    with pytest.raises(ResultsError, match=r"seed: 0 then, 1 now"):
        Checkpoints(tmp_path / "shards", {"seed": 1, "corpus": "a"}).begin(resume=True)
    assert Checkpoints(tmp_path / "shards", {"seed": 1, "corpus": "a"}).begin(resume=False) == set()


@pytest.mark.parametrize("damage", ["truncated", "text", "other table"])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path, damage):
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = Checkpoints(tmp_path / "shards", {})
    store.begin(resume=False)
    store.save(result(1, [0], np.random.default_rng(0)))
    path = tmp_path / "shards" / "000001.parquet"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text(json.dumps({}))
    else:
        pq.write_table(pa.table({"a": [1]}), path)

    with pytest.raises(ResultsError, match=r"000001\.parquet is no finished shard"):
        store.load(1)
