"""The HeadVis tree: its shape, and numbers that are counted again from the dense attention."""

from __future__ import annotations

import json

import numpy as np
import pytest
from probe_arrays import seen, sentence

import attnlens
from attnlens.errors import UsageError
from probes.corpora.sources import open_corpus
from probes.headvis import Sampling, export_headvis, headvis_files

WORDS = "the old keys rust fast"
N = 12


@pytest.fixture(scope="module")
def lens():
    return attnlens.load("attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def tree(lens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("headvis")
    corpus = open_corpus(None, limit=60)
    labels = {"L0H1": [{"label": "<img src=x>", "score": 0.5}]}
    export_headvis(lens, corpus, folder, labels=labels, sampling=Sampling(texts=30, intervals=5, per_interval=4))
    return folder


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def observations(n: int = N):
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.full(5, 0.3), size=(n, 12, 5))
    return [seen(sentence(WORDS), attention[i], key=f"d#{i}") for i in range(n)]


def files(lens, observed, sampling):
    return dict(headvis_files(lens.anatomy, observed, sampling, {}, "made up"))


def test_the_tree_has_the_viewers_files_and_one_row_and_one_file_per_head(tree, lens):
    config, scatter = read(tree, "config.json"), read(tree, "scatter_data.json")

    heads = [(head.layer, head.head) for head in lens.anatomy.heads()]
    assert [tuple(pair) for pair in config["heads"]] == heads
    assert [(row["layer"], row["head"]) for row in scatter] == heads
    assert all(set(config["metrics"]) == set(row) - {"layer", "head"} for row in scatter)
    names = {path.relative_to(tree).as_posix() for path in tree.rglob("*.json")}
    expected = {f"heads/L{layer}H{head}.json" for layer, head in heads}
    assert names == expected | {"config.json", "scatter_data.json", "server_config.json", "attributions/manifest.json"}
    assert read(tree, "heads/L0H1.json")["labels"] == [{"token": "<img src=x>", "weight": 0.5}]


def test_sparse_weights_are_the_models_own_and_the_strongest_of_their_rows(tree, lens):
    head = read(tree, "heads/L2H1.json")
    for sequence in head["sequences"][:6]:
        n = sequence["seq_len"]
        assert len(sequence["tokens"]) == n
        rows: dict[int, list[float]] = {}
        for flat, value in zip(sequence["attention_indices"], sequence["attention_values"], strict=True):
            query, key = divmod(flat, n)
            assert key <= query  # a causal model
            rows.setdefault(query, []).append(value)
        assert set(rows) == set(range(n))
        assert all(len(values) <= 8 and 0.8 < sum(values) < 1.002 for values in rows.values())


def test_measures_and_strengths_equal_a_count_by_hand(lens):
    observed = observations()
    made = files(lens, observed, Sampling(texts=N, intervals=3, per_interval=2))

    weights = np.stack([each.attention.astype(np.float64) for each in observed])[:, 4]
    distance = np.abs(np.arange(5)[:, None] - np.arange(5))
    row = made["scatter_data.json"][4]
    assert row["self_attention_score"] == pytest.approx(weights.diagonal(axis1=1, axis2=2).mean(), abs=1e-4)
    assert row["prev_token_score"] == pytest.approx(weights.diagonal(-1, axis1=1, axis2=2).mean(), abs=1e-4)
    assert row["qk_distance"] == pytest.approx((weights * distance).sum(-1).mean(), abs=1e-4)
    second = (weights * distance**2).sum(-1) - (weights * distance).sum(-1) ** 2
    assert row["qk_distance_variance"] == pytest.approx(second.mean(), abs=1e-4)
    head = made[f"heads/L{lens.anatomy.heads()[4].layer}H{lens.anatomy.heads()[4].head}.json"]
    strengths = weights[:, 1:, 1:].max(axis=(1, 2))
    for sequence in head["sequences"]:
        assert sequence["max_activation"] == pytest.approx(strengths[sequence["sequence_id"]], abs=1e-4)


def test_intervals_are_equal_groups_and_the_last_keeps_the_strongest(lens):
    made = files(lens, observations(), Sampling(texts=N, intervals=3, per_interval=2))

    for name, head in made.items():
        if not name.startswith("heads/"):
            continue
        groups = [[s["max_activation"] for s in head["sequences"] if s["interval"] == i] for i in (1, 2, 3)]
        assert [len(group) for group in groups] == [2, 2, 2]
        assert max(groups[0]) <= min(groups[1])
        assert max(groups[1]) <= min(groups[2])
        assert sum(head["histogram"]["bin_values"]) == N


def test_the_same_corpus_gives_the_same_bytes(lens, tree, tmp_path):
    labels = {"L0H1": [{"label": "<img src=x>", "score": 0.5}]}
    sampling = Sampling(texts=30, intervals=5, per_interval=4)
    export_headvis(lens, open_corpus(None, limit=60), tmp_path, labels=labels, sampling=sampling)

    for path in tree.rglob("*.json"):
        assert (tmp_path / path.relative_to(tree)).read_bytes() == path.read_bytes()


def test_a_sampling_of_nothing_is_refused(lens, tmp_path):
    with pytest.raises(UsageError, match="at least one text"):
        export_headvis(lens, open_corpus(None, limit=5), tmp_path, sampling=Sampling(intervals=0))
