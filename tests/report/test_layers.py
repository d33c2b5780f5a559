"""Scores by layer: read from a result, told in a sentence, drawn with their controls, and shown in the head report."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from attnlens.errors import ResultsError
from attnlens.report.file.svg import lines_svg
from attnlens.report.html import heads_report
from attnlens.report.layers import READABLE, layer_panels, parse_layers
from attnlens.report.results import parse_results

HOSTILE = "</script><img src=x>"


def row(depth, score, **changes):
    return {
        "family": "linear",
        "task": "upos",
        "metric": "accuracy",
        "depth": depth,
        "place": "embeddings" if depth == 0 else f"L{depth - 1}",
        "better": "higher",
        "n": 1200,
        "score": score,
        "ci": [score - 0.03, score + 0.02],
        "select_score": score,
        "chosen": depth == 2,
        "selectivity": 0.25,
        "controls": {"random labels": 0.99, "random weights": 0.5, "majority": 0.125, HOSTILE: 0.25},
    } | changes


@pytest.fixture
def rows():
    accuracy = [row(depth, score) for depth, score in enumerate((0.5, 0.625, 0.75, 0.6875))]
    bits = [row(depth, 2.0 + depth, metric="bits per word", better="lower", selectivity=None) for depth in range(4)]
    return [*accuracy, *bits]


@pytest.fixture
def panel(rows):
    (panel,) = layer_panels(parse_layers(rows))
    return panel


def test_a_panel_has_its_main_measure_first_and_the_others_beside_it(panel):
    table = panel.table()

    assert panel.metrics == ("accuracy", "bits per word")
    assert table.columns[:5] == ("layer", "accuracy", "95 % from", "to", "selectivity")
    assert table.columns[-1] == "bits per word"
    assert [cells[0] for cells in table.rows] == ["embeddings", "L0", "L1", "L2"]
    assert table.rows[2][1] == 0.75
    assert [cells[-1] for cells in table.rows] == [2.0, 3.0, 4.0, 5.0]


def test_the_caption_names_the_chosen_layer_and_the_best_control(panel):
    assert "Reads best at L1" in panel.caption
    assert "0.75 (accuracy, share of words, 95 % interval 0.72 to 0.77, 1,200 cases)" in panel.caption
    assert "above the best control, random weights: 0.50" in panel.caption
    assert "Selectivity over random labels per word type: 0.25" in panel.caption


@pytest.mark.parametrize(("control", "said"), [(0.72, "not clearly above"), (0.71, "That is above")])
def test_a_score_is_above_a_control_where_its_interval_is(rows, control, said):
    rows[2]["controls"] = {"random weights": control}

    (panel,) = layer_panels(parse_layers(rows))

    assert said in panel.caption


def test_embeddings_are_no_control_of_themselves(rows):
    for each in rows:
        each["chosen"] = each["depth"] == 0
        each["controls"] = {"embeddings": 0.5, "adjacent words": 0.25}

    (panel,) = layer_panels(parse_layers(rows))

    assert "the embeddings, before any layer" in panel.caption
    assert "best control, adjacent words: 0.25" in panel.caption


def test_what_was_not_measured_is_said(rows):
    for each in rows:
        each |= {"score": None, "ci": None, "chosen": False}

    (panel,) = layer_panels(parse_layers(rows))

    assert panel.caption.startswith("Not measured")
    assert "<circle" not in lines_svg(panel)


def test_the_chart_holds_the_scores_and_a_line_per_control(panel):
    svg = str(lines_svg(panel))
    chart = ElementTree.fromstring(svg)

    points = [each for each in chart.iter("circle") if each.get("class") == "main"]
    scores = np.array([0.5, 0.625, 0.75, 0.6875])
    heights = np.array([float(point.get("cy")) for point in points])
    rise = (heights[0] - heights[2]) / (scores[2] - scores[0])  # pixels for a whole share
    np.testing.assert_allclose(heights[0] - heights, rise * (scores - scores[0]), atol=0.1)
    places = np.array([float(point.get("cx").rstrip("%")) for point in points])
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0], atol=0.02)
    bars = [each for each in chart.iter("line") if each.get("class") == "interval"]
    assert [float(bar.get("y1")) - float(bar.get("y2")) for bar in bars] == pytest.approx([rise * 0.05] * 4, abs=0.2)
    (ring,) = (each for each in chart.iter("circle") if each.get("class") == "chosen")
    assert ring.get("cx") == points[2].get("cx")
    kinds = {each.get("class") for each in chart.iter("line") if "control" in each.get("class")}
    assert len(kinds) == len(panel.controls) == 4
    assert HOSTILE not in svg


def test_the_report_shows_layers_where_there_are_some(document, rows):
    without = heads_report(parse_results(document))
    page = heads_report(parse_results(document | {"layers": rows}))

    assert READABLE in page
    assert "Reads best at L1" in page
    assert 'id="layers-table-0"' in page
    assert "<img src=x>" not in page
    assert READABLE not in without
    assert 'id="layers-table-0"' not in without
    assert page.count('<svg class="chart lines"') == 1


def test_a_report_on_the_stream_alone_says_nothing_of_heads(document, rows):
    scope = document["scope"] | {"families": ["linear"], "stream": {"linear": {}}}

    page = heads_report(parse_results(document | {"layers": rows, "scope": scope}))

    assert "No head was looked at" in page
    assert 'id="labels-table"' not in page


@pytest.mark.parametrize("broken", [{"score": "high"}, {"depth": -1}, {"ci": [0.1]}, {"controls": {"a": "b"}}])
def test_a_broken_row_is_refused(document, rows, broken):
    rows[0] |= broken

    with pytest.raises(ResultsError, match="layers"):
        parse_results(document | {"layers": rows})


def test_the_missing_part_of_a_row_is_named(document, rows):
    del rows[0]["n"]

    with pytest.raises(ResultsError, match="'n' is a required property"):
        parse_results(document | {"layers": rows})
