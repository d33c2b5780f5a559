"""Reports on two runs or two probe results: what differs, over what both have."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
from report_samples import HOSTILE, made_run

from attnlens.compare import compare_runs
from attnlens.errors import TextError, UsageError
from attnlens.report.file.opened import open_report
from attnlens.report.html import comparison_report
from attnlens.report.results import parse_results


def data(html: str) -> dict:
    return json.loads(re.search(r'id="data"[^>]*>([^<]*)<', html)[1])


def words(weights, labels):
    """A run whose tokens are words of their own."""
    run = made_run(weights, labels)
    object.__setattr__(run, "words", ())
    return run


@pytest.fixture(scope="module")
def two_runs():
    random = np.random.default_rng(0)
    first = words(random.dirichlet(np.ones(4), (2, 3, 4)), ["the", "keys", "are", "here"])
    second = words(random.dirichlet(np.ones(5), (2, 3, 5)), ["the", "old", "keys", "are", "here"])
    return first, second


def test_every_head_is_held_against_itself_over_the_words_of_both(two_runs):
    html = comparison_report(*two_runs)

    pair = data(html)["page"]["pair"]
    expected = compare_runs(*two_runs).divergence().numpy()
    assert [[other, pytest.approx(value)] for other, value in pair["pairs"].values()] == [
        [f"L{layer}H{head}", pytest.approx(expected[layer, head])] for layer in range(2) for head in range(3)
    ]
    assert [row["label"] for row in pair["rows"]] == ["the", "keys", "are", "here"]
    assert [row["second"] for row in pair["rows"]] == [[0], [2], [3], [4]]
    assert "only in the second: <bdi>old</bdi>" in html
    furthest = max(pair["pairs"], key=lambda name: pair["pairs"][name][1])
    assert pair["opened"] == furthest


def test_heads_of_models_of_other_sizes_are_matched(two_runs):
    first, _ = two_runs
    weights = first.attention().numpy().reshape(6, 4, 4)[[4, 2, 0, 5, 1, 3]].reshape(3, 2, 4, 4)
    second = words(weights, ["the", "keys", "are", "here"])

    pairs = data(comparison_report(first, second))["page"]["pair"]["pairs"]

    order = [4, 2, 0, 5, 1, 3]
    for place, (other, value) in enumerate(pairs.values()):
        assert other == f"L{order.index(place) // 2}H{order.index(place) % 2}"
        assert value == pytest.approx(0, abs=1e-6)


def test_both_runs_come_back(two_runs, tmp_path):
    file = tmp_path / "pair.html"
    file.write_text(comparison_report(*two_runs, precision=16), encoding="utf-8")

    opened = open_report(file)

    for back, run in zip(opened.runs, two_runs, strict=True):
        assert back.tokens == run.tokens
        assert (back.attention() - run.attention()).abs().max() <= opened.error + 1e-7


def test_labels_of_two_results_are_counted(document):
    other = copy.deepcopy(document)
    other["heads"][2] |= {"labels": [], "primary": None}
    other["relations"][0]["score"] = 0.7
    other["corpus"]["name"] = HOSTILE

    html = comparison_report(parse_results(document), parse_results(other))

    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    assert (
        "1 with the same primary label 0 with another one 1 labelled in the first only 0 labelled in the second only"
        in text
    )
    assert "0.1200" in text
    assert "<img" not in html
    assert [each["corpus"]["name"] for each in data(html)["results"]] == ["tiny.conllu", HOSTILE]


def test_what_cannot_be_compared_is_refused(two_runs, results):
    with pytest.raises(UsageError, match="two of a kind"):
        comparison_report(two_runs[0], results)
    with pytest.raises(TextError, match="nothing can be compared"):
        comparison_report(two_runs[0], words(np.full((2, 3, 1, 1), 1.0), ["else"]))


def test_the_same_two_give_the_same_bytes(two_runs):
    assert comparison_report(*two_runs) == comparison_report(*two_runs)


@pytest.mark.browser
def test_the_page_shows_the_difference(chromium, monkeypatch, two_runs, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install attnlens[dev]")
    from attnlens.report.file.offline import check_offline

    monkeypatch.setenv("ATTNLENS_CHROMIUM", chromium)
    file = tmp_path / "pair.html"
    file.write_text(comparison_report(*two_runs, precision=16), encoding="utf-8")
    assert check_offline(file).passed

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{file.as_uri()}#L1H2")
        row = page.locator("#strongest tbody tr").first.locator("th, td").all_inner_texts()
        browser.close()

    maps = compare_runs(*two_runs).maps("L1H2")
    difference = (maps[1] - maps[0]).numpy()
    at = np.unravel_index(np.abs(difference).argmax(), difference.shape)
    labels = ["the", "keys", "are", "here"]
    assert row[:2] == [labels[at[0]], labels[at[1]]]
    assert float(row[4].replace("−", "-")) == pytest.approx(difference[at], abs=1.5e-4)
