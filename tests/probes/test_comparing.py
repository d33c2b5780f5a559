"""Two results side by side: differences and their intervals by closed form, labels by hand."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_results import LABEL, heads_document

import attnlens
from attnlens.errors import ResultsError, UsageError
from probes.comparing import compare_reports, difference_interval
from probes.opening import open_report
from probes.report import HeadReport


@pytest.fixture(scope="module")
def anatomy():
    return attnlens.load("attnlens/tiny-bert").anatomy


def relation(name: str, head: str | None, score: float | None, ci=None, **more):
    return {
        "family": "syntax",
        "relation": name,
        "direction": "d2h",
        "best_head": head,
        "select_score": score,
        "score": score,
        "ci": ci,
        "n": 100,
        "reach": None,
        "chance": 0.1,
        "baseline": 0.2,
        "baseline_name": "offset +1",
        "selectivity": None,
        "target_mass": None,
        "q": None,
        "verdict": "syntactic" if head else "insufficient data",
    } | more


def report(anatomy, relations=(), labels=(), cells=(), **scope) -> HeadReport:
    document = copy.deepcopy(heads_document(anatomy, "none", "none"))
    document["relations"] = list(relations)
    document["scope"] |= {"families": ["syntax"], **scope}
    for head, names in dict(labels).items():
        for entry in document["heads"]:
            if entry["head"] == head:
                entry["labels"] = [LABEL | {"label": name, "examples": []} for name in names]
    frame = pd.DataFrame(
        [{"family": "syntax", "relation": r, "direction": "d2h", "head": h, "score_confirm": s} for r, h, s in cells],
        columns=["family", "relation", "direction", "head", "score_confirm"],
    )
    return HeadReport(document, frame)


def test_a_difference_has_the_interval_that_square_and_add_gives(anatomy):
    first = report(anatomy, [relation("nsubj", "L0H0", 0.50, [0.44, 0.57])])
    second = report(anatomy, [relation("nsubj", "L1H1", 0.70, [0.62, 0.76])])

    (change,) = compare_reports(first, second).questions

    assert change.difference == pytest.approx(0.20)
    assert change.ci == pytest.approx((0.20 - math.sqrt(0.08**2 + 0.07**2), 0.20 + math.sqrt(0.06**2 + 0.06**2)))
    assert change.differs


@given(score=st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)), width=st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)))
def test_swapping_the_results_turns_the_interval_around(score, width):
    sides = [(value, (value - half, value + half)) for value, half in zip(score, width, strict=True)]

    low, high = difference_interval(*sides[0], *sides[1])
    other_low, other_high = difference_interval(*sides[1], *sides[0])

    assert (low, high) == pytest.approx((-other_high, -other_low))
    assert low <= score[1] - score[0] <= high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Two binomial shares with Wilson intervals, simulated: 95 % of the intervals of the difference hold it."""
    from scipy.stats import binomtest

    rng = np.random.default_rng(0)
    n, shares = 80, (0.35, 0.6)
    counts = rng.binomial(n, shares, (400, 2))
    covered = 0
    for pair in counts:
        sides = []
        for count in pair:
            low, high = binomtest(int(count), n).proportion_ci(method="wilson")
            sides.append((count / n, (low, high)))
        low, high = difference_interval(*sides[0], *sides[1])
        covered += low <= shares[1] - shares[0] <= high

    assert 0.92 <= covered / len(counts) <= 0.98


def test_overlapping_scores_do_not_differ_and_a_missing_one_has_no_difference(anatomy):
    first = report(anatomy, [relation("nsubj", "L0H0", 0.5, [0.4, 0.6]), relation("obj", None, None)])
    second = report(anatomy, [relation("nsubj", "L0H0", 0.55, [0.45, 0.65]), relation("det", "L0H1", 0.9, [0.8, 1.0])])

    changes = {change.relation: change for change in compare_reports(first, second).questions}

    assert not changes["nsubj"].differs
    assert (changes["obj"].difference, changes["obj"].ci, changes["obj"].second_verdict) == (None, None, None)
    assert (changes["det"].first_head, changes["det"].second_head) == (None, "L0H1")


def test_labels_are_compared_head_by_head_and_counted(anatomy):
    first = report(anatomy, labels={"L0H0": ["det", "amod"], "L2H1": ["det"]})
    second = report(anatomy, labels={"L0H0": ["det"], "L1H1": ["obj"]})

    comparison = compare_reports(first, second)

    heads = {head.head: head for head in comparison.heads}
    assert (heads["L0H0"].both, heads["L0H0"].only_first, heads["L0H0"].only_second) == (("det",), ("amod",), ())
    assert [head.head for head in comparison.heads if not head.same] == ["L0H0", "L1H1", "L2H1"]
    assert comparison.agreement == pytest.approx(9 / 12)
    counts = {each.label: (each.first, each.second, each.first_depth) for each in comparison.labels}
    assert counts["det"] == (2, 1, 0.5)  # layers 0 and 2 of 3
    assert counts["obj"] == (0, 1, None)


def test_the_first_ones_best_head_is_looked_up_in_the_second(anatomy):
    first = report(anatomy, [relation("nsubj", "L0H3", 0.5, [0.4, 0.6])])
    second = report(
        anatomy,
        [relation("nsubj", "L1H1", 0.7, [0.6, 0.8])],
        cells=[("nsubj", "L0H3", 0.31), ("nsubj", "L1H1", 0.7), ("obj", "L0H3", 0.9)],
    )

    assert compare_reports(first, second).questions[0].other_score == 0.31


def test_other_models_are_compared_by_labels_only(anatomy):
    other = attnlens.load("attnlens/tiny-gpt2").anatomy
    first, second = report(anatomy, labels={"L0H0": ["det"]}), report(other, labels={"L1H0": ["det"]})

    comparison = compare_reports(first, second)

    assert not comparison.one_model
    assert comparison.agreement is None
    assert [(each.label, each.first, each.second) for each in comparison.labels] == [("det", 1, 1)]


def test_what_makes_two_results_less_comparable_is_said(anatomy):
    first = report(anatomy)
    second = report(anatomy, thresholds={"margin": 0.2})

    warnings = compare_reports(first, second).warnings

    assert any("other thresholds" in warning for warning in warnings)
    assert any("same corpus" in warning for warning in warnings)


def test_results_without_anything_in_common_are_refused(anatomy):
    first, second = report(anatomy), report(anatomy, families=["positional"])

    with pytest.raises(UsageError, match="nothing in common: syntax against positional"):
        compare_reports(first, second)


def test_a_comparison_is_json_and_a_table(anatomy):
    first = report(anatomy, [relation("nsubj", "L0H0", 0.5, [0.4, 0.6])], labels={"L0H0": ["det"]})

    comparison = compare_reports(first, first)

    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["questions"][0]["difference"] == 0
    assert comparison.to_frame()["ci_low"].tolist() == pytest.approx([-math.hypot(0.1, 0.1)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    lens = attnlens.load("attnlens/tiny-bert")
    lens.probe("syntax", limit=40, bootstrap=20, permutations=99, random_models=1).save(folder)
    return folder


def test_a_saved_result_comes_back(saved):
    opened = open_report(saved)

    assert json.loads((saved / "heads.json").read_text()) == opened.to_json()
    assert len(opened.to_frame()) == opened.to_json()["scope"]["n_cells"]


def test_a_folder_without_results_is_an_error(tmp_path, saved):
    with pytest.raises(ResultsError, match=r"holds no heads\.json"):
        open_report(tmp_path)
    (tmp_path / "heads.json").write_bytes((saved / "heads.json").read_bytes())
    with pytest.raises(ResultsError, match=r"holds no cells\.parquet"):
        open_report(tmp_path)
    (tmp_path / "cells.parquet").write_text("text")
    with pytest.raises(ResultsError, match=r"cells\.parquet cannot be read"):
        open_report(tmp_path)
