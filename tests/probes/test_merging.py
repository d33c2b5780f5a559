"""Results of two corpora as one: sums over sums, whatever the order, and only of what belongs together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from attnlens.errors import ResultsError, UsageError
from attnlens.models.lens import load
from probes.baselines import RandomBest
from probes.corpora.data import Corpus
from probes.corpora.sources import open_corpus
from probes.counts import COUNTS
from probes.engine import run
from probes.merging import _facts, merge_reports
from probes.positions import PatternFacts
from probes.report import HeadReport
from probes.tally import Key

FEW = {"bootstrap": 20, "random_models": 1, "close_reading": False, "examples": 0, "keep_counts": True}
ID = ["family", "relation", "direction", "at", "head"]


@pytest.fixture(scope="module")
def lens():
    from random_models import random_bert

    model, tokenizer = random_bert()
    return load(model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def halves():
    """Two corpora without a document in common, of different sizes."""
    documents = tuple(open_corpus(limit=110).documents())
    return Corpus.of("first", documents[:20]), Corpus.of("second", documents[20:])


@pytest.fixture(scope="module")
def reports(lens, halves):
    return [run(lens, ("positional", "syntax"), corpus, **FEW) for corpus in halves]


def indexed(report):
    """The table by question and head; no direction is the empty string."""
    frame = report.to_frame()
    return frame.assign(direction=frame["direction"].astype(object).fillna("")).set_index(ID)


def test_a_merged_score_is_the_sum_of_hits_over_the_sum_of_trials(reports):
    parts = [indexed(report) for report in reports]

    merged = indexed(merge_reports(reports))

    for half in ("select", "confirm"):
        n, hits = (
            pd.concat([part[f"{name}_{half}"] for part in parts]).groupby(level=ID).sum() for name in ("n", "hits")
        )
        both = n.index.intersection(merged.index)
        assert len(both) == len(merged) > 100
        np.testing.assert_array_equal(merged.loc[both, f"n_{half}"], n.loc[both])
        np.testing.assert_allclose(merged.loc[both, f"hits_{half}"], hits.loc[both])
    scored = merged[(merged["n_confirm"] > 0) & (merged["value"] == "hits")]
    np.testing.assert_allclose(scored["score_confirm"], scored["hits_confirm"] / scored["n_confirm"])


def test_the_order_does_not_matter(reports):
    one, other = reports[0].merge(reports[1]), reports[1].merge(reports[0])

    assert one.to_json() == other.to_json()
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame())


def test_corpora_and_halves_are_added_up_and_it_says_that_it_was_merged(reports):
    one, other = (report.to_json() for report in reports)

    merged = merge_reports(reports).to_json()

    assert merged["corpus"]["name"] == "first + second"
    assert merged["corpus"]["n_words"] == one["corpus"]["n_words"] + other["corpus"]["n_words"]
    for half in ("select", "confirm"):
        assert merged["scope"]["split"][half] == sum(each["scope"]["split"][half] for each in (one, other))
    assert merged["corpus"]["notes"][0].startswith("merged from the counts of 2 runs")


@pytest.mark.parametrize("turned", [False, True])
def test_the_best_copy_with_random_weights_of_any_run_counts(reports, turned):
    """Whichever run it is of."""
    question, score = ("syntax", Key("det", "d2h")), {"first": 0.9, "second": 0.3}
    if turned:
        score = {"first": 0.3, "second": 0.9}
    changed = []
    for report in reports:
        best = RandomBest(hits=score[report.document["corpus"]["name"]], mass=0.1, n=60)
        counts = replace(report.counts, random={question: best})
        changed.append(HeadReport(report.document, report.frame, counts))

    merged = merge_reports(changed).to_frame()

    det = merged[(merged["relation"] == "det") & (merged["direction"] == "d2h") & (merged["at"] == "word")]
    assert set(det["b3_random_confirm"]) == {0.9}
    assert set(det["b3_random_n"]) == {120}


def test_what_a_whole_pattern_shows_has_to_show_in_every_run(reports):
    """The least share that offsets determine, and at rest only where it is in both."""
    shares = {"first": [0.9, 0.2], "second": [0.4, 0.8]}
    rests = {"first": [True, True], "second": [True, False]}

    merged = _facts([PatternFacts(np.array(shares[name]), np.array(rests[name])) for name in shares])

    assert merged.determined.tolist() == [0.4, 0.2]
    assert merged.no_op.tolist() == [True, False]
    assert _facts([merged, None]) is None


def test_counts_come_back_from_the_disk_to_the_integer(reports, tmp_path):
    for name, report in zip("ab", reports, strict=True):
        assert (tmp_path / name / COUNTS) in report.save(tmp_path / name)

    read = [HeadReport.open(tmp_path / name) for name in "ab"]

    assert merge_reports(read).to_json() == merge_reports(reports).to_json()


def test_a_result_without_counts_removes_those_of_an_earlier_one(reports, tmp_path):
    reports[0].save(tmp_path)

    HeadReport(reports[0].document, reports[0].frame).save(tmp_path)

    assert not (tmp_path / COUNTS).exists()
    assert HeadReport.open(tmp_path).counts is None


def test_counts_that_are_something_else_are_refused(reports, tmp_path):
    reports[0].save(tmp_path)
    (tmp_path / COUNTS).write_bytes((tmp_path / "cells.parquet").read_bytes())

    with pytest.raises(ResultsError, match="--keep-counts"):
        HeadReport.open(tmp_path)


def test_nothing_counts_twice(reports):
    with pytest.raises(UsageError, match="same corpus"):
        merge_reports([reports[0], reports[0]])


def test_one_result_is_too_few(reports):
    with pytest.raises(UsageError, match="at least two"):
        merge_reports(reports[:1])


def test_results_without_counts_are_refused(reports):
    bare = HeadReport(reports[1].document, reports[1].frame)

    with pytest.raises(UsageError, match="holds no counts"):
        merge_reports([reports[0], bare])


@pytest.mark.parametrize(
    ("part", "name", "value", "reason"),
    [
        ("model", "model", "another", "the models differ"),
        ("model", "weights_sha256", "0" * 64, "the models differ"),
        ("scope", "seed", 7, "seed: "),
        ("scope", "families", ["positional"], "families: "),
        ("scope", "unit", "document", "unit: "),
        ("versions", "attnlens", "0", "attnlens: "),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name(reports, part, name, value, reason):
    document = json.loads(json.dumps(reports[1].to_json()))
    if document[part][name] == value:
        value = "sentence"
    document[part][name] = value

    with pytest.raises(UsageError, match=reason):
        merge_reports([reports[0], HeadReport(document, reports[1].frame, reports[1].counts)])


def test_other_options_of_the_runs_are_refused(lens, halves, reports):
    other = run(lens, ("positional", "syntax"), halves[1], window=50, **FEW)

    with pytest.raises(UsageError, match="window: "):
        merge_reports([reports[0], other])


def test_compare_and_open_are_methods(reports, tmp_path):
    reports[0].save(tmp_path)

    comparison = HeadReport.open(tmp_path).compare(reports[1])

    assert comparison.one_model
    assert comparison.first["corpus"] == "first"
