"""Some relations or layers only: what is tested shrinks, and what is measured stays as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attnlens.cli.options import read_layers
from attnlens.errors import UsageError
from attnlens.models.lens import load
from probes.corpora.sources import open_corpus
from probes.counting import Plan
from probes.engine import run
from probes.manifest import manifest_of
from probes.positional import PositionalProbe
from probes.split import split_corpus

FEW = {"limit": 60, "bootstrap": 20, "random_models": 0, "close_reading": False, "examples": 0}


@pytest.fixture
def lens(random_bert):
    return load(model=random_bert.model, tokenizer=random_bert.tokenizer)


def test_a_chosen_relation_has_the_scores_that_it_has_among_all(lens):
    every = run(lens, ("positional", "syntax"), **FEW).to_frame()

    chosen = run(lens, ("positional", "syntax"), relations=["det"], **FEW).to_frame()

    kept = every[(every["family"] == "positional") | (every["relation"] == "det")].reset_index(drop=True)
    counts = ["family", "relation", "direction", "at", "head", "hits_confirm", "score_confirm", "ci_low", "ci_high"]
    assert set(chosen.loc[chosen["family"] == "syntax", "relation"]) == {"det"}
    pd.testing.assert_frame_equal(chosen[counts], kept[counts])


def test_fewer_tests_are_corrected_for():
    """On a trained model, which has something to test; Benjamini and Hochberg's step-up rule is written out here."""
    lens = load("attnlens/tiny-bert")
    enough = FEW | {"limit": 200}

    every = run(lens, "syntax", **enough).to_json()["scope"]["n_tested"]
    found = run(lens, "syntax", relations=["det", "nsubj"], **enough)

    tested = found.to_frame().dropna(subset="p")
    p, ranked = tested["p"].to_numpy(), np.sort(tested["p"].to_numpy())
    expected = [min(ranked[k] * len(p) / (k + 1) for k in range(len(p)) if ranked[k] >= value) for value in p]
    assert 0 < found.to_json()["scope"]["n_tested"] == len(p) < every
    np.testing.assert_allclose(tested["q"], np.minimum(expected, 1))


def test_the_result_says_which_relations_it_is_about(lens):
    report = run(lens, "syntax", relations=["det"], **FEW)

    scope = report.to_json()["scope"]
    assert scope["relations"] == ["det"]
    assert "of the relations only det" in scope["line"]
    assert {each["relation"] for each in report.relations} == {"det"}
    assert "relations" not in run(lens, "positional", **FEW).to_json()["scope"]


@pytest.mark.parametrize("names", [["det", "nsbuj"], []])
def test_a_relation_that_does_not_occur_is_refused_with_those_that_do(lens, names):
    with pytest.raises(UsageError, match="nsubj"):
        run(lens, "syntax", relations=names, **FEW)


def test_a_chosen_layer_has_the_scores_that_it_has_among_all(lens):
    """Examples and closer reading included: whatever has an axis of heads has these heads, under their names."""
    both = {"limit": 60, "bootstrap": 20, "random_models": 1, "relations": ["det"], "examples": 2}
    every, chosen = (run(lens, ("positional", "syntax"), layers=layers, **both) for layers in (None, [1]))

    counts = [
        "relation",
        "direction",
        "at",
        "head",
        "hits_confirm",
        "mass_confirm",
        "score_confirm",
        "ci_low",
        "ci_high",
    ]
    kept = every.to_frame().query("layer == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen.to_frame()[counts], kept[counts])
    heads = [head for head in every.to_json()["heads"] if head["layer"] == 1]
    assert [head["head"] for head in chosen.to_json()["heads"]] == [head["head"] for head in heads]
    assert [head["metrics"] for head in chosen.to_json()["heads"]] == [head["metrics"] for head in heads]
    trees = (each.to_json()["trees"]["uuas"]["heads"] for each in (every, chosen))
    assert [head for head in next(trees) if head["head"].startswith("L1")] == next(trees)
    assert {relation["best_head"][:2] for relation in chosen.relations} == {"L1"}


def test_the_result_says_which_layers_were_scored_and_counts_no_others(lens):
    layers = lens.anatomy.n_layers
    every, chosen = (run(lens, "positional", layers=chosen, **FEW).to_json() for chosen in (None, (1, 1)))

    assert "layers" not in every["scope"]
    assert chosen["scope"]["layers"] == [1]
    assert "of the layers only 1" in chosen["scope"]["line"]
    assert chosen["scope"]["n_cells"] * layers == every["scope"]["n_cells"]
    assert chosen["scope"]["n_heads"] * layers == every["scope"]["n_heads"]


def test_heads_of_the_first_layer_are_no_baseline_where_it_is_not_scored(lens):
    scope = run(lens, "syntax", layers=[1], **FEW).to_json()["scope"]

    assert scope["baselines_missing"]["b4 layer 0"] == "the first layer was not scored"
    assert "b4" not in scope["baselines_applied"]


def test_no_weights_of_other_layers_are_formed(lens):
    class Noting:
        def __init__(self):
            self.layers = set()

        def add(self, tile):
            self.layers.add(tile.site.layer)

        def merge(self, other):
            self.layers |= other.layers
            return self

        def value(self):
            return self.layers

    noting = Noting()
    lens.reduce_encoded(lens.encode(["a b"], [[(0, 1), (2, 3)]]), noting, layers=[1])

    assert noting.layers == {1}


def test_shards_of_other_layers_are_not_gone_on_with(lens):
    corpus = open_corpus(None, limit=20)
    split = split_corpus(corpus)
    manifests = [
        manifest_of(lens, corpus, Plan((PositionalProbe(),), split, layers=layers)) for layers in (None, (0,), (1,))
    ]

    assert len({manifest["layers"] for manifest in manifests}) == 3


@pytest.mark.parametrize(
    ("layers", "said"), [([0, 9], "no layer 9"), ([-1], "no layer -1"), ([], "no layer was named")]
)
def test_a_layer_that_the_model_lacks_is_refused(lens, layers, said):
    with pytest.raises(UsageError, match=said):
        run(lens, "positional", layers=layers, **FEW)


def test_layers_are_written_as_numbers_and_stretches():
    assert read_layers("0,3-5, 7") == (0, 3, 4, 5, 7)
    assert read_layers(None) is None


@pytest.mark.parametrize("given", ["5-3", "1-", "-1", "a-b", "0-99999999999", "1--2"])
def test_what_is_no_list_of_layers_is_refused(given):
    with pytest.raises(UsageError, match="0,3-5"):
        read_layers(given)
