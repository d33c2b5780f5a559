"""Some relations only: what is tested shrinks, and what is measured stays as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attnlens.errors import UsageError
from attnlens.models.lens import load
from probes.engine import run

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
