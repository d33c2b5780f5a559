"""Charts inside reports: what is drawn stands where its number says, and texts stay text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from report_samples import HOSTILE

from attnlens.report.file.svg import bars_svg, forest_svg, labels_svg
from attnlens.report.outcome_view import ChangeView
from attnlens.report.results import parse_results
from attnlens.report.views import results_map_view


def percent(element: ElementTree.Element, name: str) -> float:
    """A place along the width."""
    return float(element.get(name, "").rstrip("%"))


def test_a_forest_has_each_score_interval_and_baseline_in_its_place(document):
    head = document["heads"][6]
    head["labels"][0] |= {"score": 0.75, "ci": [0.5, 1.0], "baseline": 0.25}
    head["weak"] = [head["labels"][0] | {"label": HOSTILE, "score": 0.0, "ci": None, "baseline": None, "failed": "q"}]

    chart = ElementTree.fromstring(str(forest_svg(parse_results(document).of("L1H2"))))

    circles = list(chart.iter("circle"))
    assert [circle.get("class") for circle in circles] == ["passed", "passed", "weak"]
    # 0 is at 1 % of the width, 1 at 99 %.
    assert [percent(circle, "cx") for circle in circles] == [pytest.approx(74.5), pytest.approx(74.5), 1.0]
    interval = next(line for line in chart.iter("line") if line.get("class") == "interval")
    assert [percent(interval, "x1"), percent(interval, "x2")] == [50.0, 99.0]
    baseline = next(line for line in chart.iter("line") if line.get("class") == "baseline")
    assert percent(baseline, "x1") == 25.5
    assert HOSTILE[:8] in " ".join(chart.itertext())


def test_bars_are_as_long_as_the_probabilities():
    view = ChangeView((HOSTILE, "b"), (0.75, 0.0), (0.25, 1.0), 0.1, "L0H0 off", "Prediction", "")

    chart = ElementTree.fromstring(str(bars_svg(view)))

    widths = {
        kind: [percent(bar, "width") for bar in chart.iter("rect") if bar.get("class") == kind]
        for kind in ("before", "after")
    }
    assert widths == {"before": [75.0, 0.0], "after": [25.0, 100.0]}


def test_the_map_of_labels_links_the_heads_that_have_a_card(document):
    view = results_map_view(parse_results(document))

    chart = ElementTree.fromstring(str(labels_svg(view, list(view.notes)[:1], prefix="b-")))

    assert [link.get("href") for link in chart.iter("a")] == ["#b-L0H2"]
    cells = [cell.find("rect") for cell in chart.iter("g")]
    assert [(float(cell.get("x")), float(cell.get("y"))) for cell in cells] == [
        (30 + 2 * 38 + 1, 23),
        (30 + 2 * 38 + 1, 22 + 38 + 1),
    ]
    assert chart.find("path").get("d").count("M") == 10  # heads without a label
