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


def test_fewer_tests_are_corrected_for(lens):
    """With one test of its own, q is p; with Benjamini and Hochberg's step-up rule, written out here, over several."""
    found = run(lens, "syntax", relations=["det", "nsubj"], **FEW)

    frame = found.to_frame()
    p = frame["p"].dropna().to_numpy()
    ranked = sorted(p)
    expected = [min(1.0, min(ranked[k] * len(p) / (k + 1) for k in range(len(p)) if ranked[k] >= value)) for value in p]
    assert found.to_json()["scope"]["n_tested"] == len(p)
    np.testing.assert_allclose(frame["q"].dropna().to_numpy(), expected)


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
