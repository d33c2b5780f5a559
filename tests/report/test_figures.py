"""Figures hold the view's numbers, and nothing in them acts."""

from __future__ import annotations

import json
import math

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from report_samples import HOSTILE, made_run

from attnlens import Head
from attnlens.report import figures, link_figure, views
from attnlens.report.palette import THEMES
from attnlens.report.pattern_figure import hatching
from attnlens.report.results import parse_results
from attnlens.report.text import escaped

WEIGHTS = np.array([[[[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.3, 0.2]]]])
SEEN = np.tril(np.ones((3, 3), dtype=bool))


@pytest.fixture
def causal_view():
    """Three tokens, two of them the same word, none seeing a later one."""
    return views.pattern_view(made_run(WEIGHTS, ["a", "b", "a"], visible=SEEN), "L0H0")


def texts(figure: go.Figure) -> str:
    return json.dumps(json.loads(figure.to_json()))


@pytest.mark.parametrize("theme", THEMES)
def test_the_head_map_holds_value_address_and_hover_of_every_head(bert_run, theme):
    view = views.head_map_view(bert_run, "entropy")

    cells = figures.head_map(view, theme=theme, selected=Head(2, 1)).data[0]

    np.testing.assert_array_equal(cells.z, view.values)
    assert [list(row) for row in cells.customdata] == [[f"L{layer}H{head}" for head in range(4)] for layer in range(3)]
    assert cells.text[1][2] == f"<br>entropy: {view.values[1, 2]:.4f} nats"
    assert cells.zmin == 0
    assert cells.zmax == view.values.max()


def test_layer_0_is_on_top_and_the_selected_head_is_framed(bert_run):
    figure = figures.head_map(views.head_map_view(bert_run, "max"), selected=Head(2, 1))

    frame = figure.layout.shapes[0]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (0.5, 1.5, 1.5, 2.5)


def test_shares_are_coloured_from_0_to_1_whatever_the_text(bert_run):
    cells = figures.head_map(views.head_map_view(bert_run, "previous")).data[0]

    assert (cells.zmin, cells.zmax) == (0, 1)


def test_an_undefined_metric_says_so(gpt2_run):
    cells = figures.head_map(views.head_map_view(gpt2_run, "next")).data[0]

    assert np.isnan(np.array(cells.z)).all()
    assert cells.text[0][0] == "<br>next token: not defined on this text"


def test_a_map_of_labels_has_a_legend_and_short_names(results):
    figure = figures.head_map(views.results_map_view(results))

    assert [trace.name for trace in figure.data if trace.name] == ["fixed position", "syntax"]
    glyphs = next(trace for trace in figure.data[1:] if trace.mode == "text")
    assert dict(zip(zip(glyphs.x, glyphs.y, strict=True), glyphs.text, strict=True)) == {(2, 0): "prev", (2, 1): "obj"}
    assert "unclassified" in figure.data[0].text[2][0]
    assert figure.data[0].text[1][2].startswith("<br>obj (dependent to head): 0.75")


def test_the_matrix_shows_each_weight_and_hides_what_is_not_visible(causal_view):
    weights, hidden, _ = figures.pattern_heatmap(causal_view).data

    np.testing.assert_array_equal(np.isnan(weights.z), ~SEEN)
    np.testing.assert_array_equal(np.isnan(hidden.z), SEEN)
    np.testing.assert_allclose(np.array(weights.z)[SEEN], WEIGHTS[0, 0][SEEN], rtol=1e-7)
    assert "%{z:.4f}" in weights.hovertemplate
    assert "not visible" in hidden.hovertemplate
    assert not weights.hoverongaps
    assert not hidden.hoverongaps


def test_repeated_tokens_keep_their_places(causal_view):
    axis = figures.pattern_heatmap(causal_view).layout.xaxis

    assert axis.labelalias == {"0": "a", "1": "b", "2": "a"}
    assert axis.tickmode == "linear"


def test_ticks_thin_out_on_long_texts(long_run):
    axis = figures.pattern_heatmap(views.pattern_view(long_run, "L0H0")).layout.xaxis

    n = len(long_run.tokens)
    assert n / axis.dtick <= 40
    assert len(axis.labelalias) == n


@pytest.mark.parametrize("visible", [SEEN, np.ones((3, 3), dtype=bool), np.zeros((2, 5), dtype=bool)])
def test_hatching_covers_hidden_cells_and_no_others(visible):
    x, y = hatching(visible)

    covered = np.zeros_like(visible)
    for i in range(0, len(x), 3):
        assert x[i + 2] is None
        for step in range(round(y[i + 1] - y[i])):  # one cell per step down and to the left
            covered[round(y[i] + step + 0.5), round(x[i] - step - 0.5)] = True
    np.testing.assert_array_equal(covered, ~visible)


def lines(traces) -> dict[tuple[float, float], float]:
    """(query, key) -> line width, read back from what is drawn."""
    found = {}
    for trace in traces:
        ends = list(trace.y)
        found |= {(ends[i], ends[i + 1]): trace.line.width for i in range(0, len(ends), 3)}
    return found


def test_there_is_a_line_for_each_weight_from_the_threshold_on(causal_view):
    figure = figures.token_links(causal_view, threshold=0.25)

    drawn = lines(figure.data[: len(link_figure.BINS)])
    assert set(drawn) == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)}
    assert drawn[0, 0] == drawn[1, 1] > drawn[2, 0] > drawn[2, 1] == drawn[1, 0]
    assert figure.layout.annotations[2].text == "5 lines of 6 weights: weight 0.25 or more."


def test_hover_on_a_line_gives_its_exact_number(causal_view):
    points = next(trace for trace in figures.token_links(causal_view).data if trace.mode == "markers")

    place = [i for i, text in enumerate(points.text) if "from <b>a</b> (2)" in text and "to <b>b</b> (1)" in text]
    assert [points.text[i].endswith("weight 0.3000") for i in place] == [True, True]
    for i in place:
        assert points.y[i] == pytest.approx(2 + points.x[i] * (1 - 2))  # it lies on the line


def test_a_query_is_stressed_with_its_numbers(causal_view):
    plain, stressed = figures.token_links(causal_view), figures.token_links(causal_view, query=2)

    n = len(link_figure.BINS)
    assert lines(plain.data[n : 2 * n]) == {}
    assert set(lines(stressed.data[n : 2 * n])) == {(2, 0), (2, 1), (2, 2)}
    assert all(
        strong.opacity > 3 * weak.opacity for weak, strong in zip(stressed.data[:n], plain.data[:n], strict=True)
    )
    assert list(stressed.data[-1].text) == ["<b>0.50</b>  a", "<b>0.30</b>  b", "<b>0.20</b>  a"]
    assert list(stressed.data[-2].text) == ["a", "b", "<b>a</b>"]


def test_a_query_outside_the_text_is_no_query(causal_view):
    assert texts(figures.token_links(causal_view, query=3)) == texts(figures.token_links(causal_view))


def test_long_texts_show_the_strongest_of_each_query_and_say_so(long_run):
    view = views.pattern_view(long_run, "L1H2")

    figure = figures.token_links(view, threshold=0.001)

    drawn = lines(figure.data[: len(link_figure.BINS)])
    per_query = [sum(query == row for query, _ in drawn) for row in range(len(view.row_labels))]
    assert max(per_query) == link_figure.FEW
    assert f"the {link_figure.FEW} strongest of each query" in figure.layout.annotations[2].text
    assert figure.layout.annotations[2].text.startswith(f"{len(drawn)} lines of 2,556 weights")
    row = len(view.row_labels) - 1
    best = set(np.argsort(-view.weights[row])[: link_figure.FEW].tolist())
    assert {key for query, key in drawn if query == row} <= best
    assert len(figure.data) == len(figures.token_links(views.pattern_view(long_run, "L0H0")).data)


def test_the_forest_holds_scores_intervals_and_baselines(results):
    baselines, scores, _ = figures.forest(results, "L1H2").data

    assert list(scores.x) == [0.75, 0.75]
    assert list(baselines.x) == [0.5, 0.5]
    assert list(scores.error_x.array) == pytest.approx([0.05, 0.05])
    assert list(scores.error_x.arrayminus) == pytest.approx([0.05, 0.05])
    assert "0.7500 [0.7000, 0.8000]" in scores.text[0]


def test_a_weak_label_is_hollow_and_needs_no_interval(results):
    _, scores, _ = figures.forest(results, "L2H0").data

    assert scores.marker.color == (THEMES["light"].surface,)
    assert list(scores.error_x.array) == [0]


def test_an_unclassified_head_has_an_empty_forest(results):
    assert len(figures.forest(results, "L2H3").data[1].x) == 0


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("<s>", "&lt;s&gt;"),
        ("&amp;", "&amp;amp;"),
        ("", "∅"),
        ("x" * 100, "x" * 13 + "…" + "x" * 8),
        ("שלום", "\u2068שלום\u2069"),
        ("👩‍🚀", "👩‍🚀"),
        ("it's", "it's"),
    ],
)
def test_tokens_are_shown_as_they_are(label, shown):
    assert escaped(label) == shown


def test_no_figure_holds_an_unescaped_tag(document):
    document["heads"][0]["labels"] = [document["heads"][2]["labels"][0] | {"label": HOSTILE, "baseline_name": HOSTILE}]
    results = parse_results(document)
    view = views.pattern_view(made_run(WEIGHTS, [HOSTILE, "<b>b</b>", "%{x}"], visible=SEEN), "L0H0")

    drawn = [
        figures.pattern_heatmap(view),
        figures.token_links(view, query=1),
        figures.head_map(views.results_map_view(results)),
        figures.forest(results, "L0H0"),
    ]

    for figure in drawn:
        text = json.loads(texts(figure))
        flat = json.dumps(text, ensure_ascii=False)
        assert "<img" not in flat
        assert "</script" not in flat
        assert "<b>b</b>" not in flat.replace("<b>&lt;b&gt;b&lt;/b&gt;</b>", "")


@pytest.mark.parametrize("name", ["head_map", "pattern_heatmap", "token_links"])
def test_themes_differ_in_colour_only(bert_run, name):
    view = views.head_map_view(bert_run, "max") if name == "head_map" else views.pattern_view(bert_run, "L1H1")
    draw = getattr(figures, name)

    light, dark = draw(view, theme="light"), draw(view, theme="dark")

    assert light.layout.paper_bgcolor == THEMES["light"].surface
    assert dark.layout.paper_bgcolor == THEMES["dark"].surface
    assert [trace.y for trace in light.data] == [trace.y for trace in dark.data]


@pytest.mark.parametrize("default", ["plotly", "ggplot2", None])
def test_figures_and_plotlys_default_template_leave_each_other_alone(bert_run, monkeypatch, default):
    view = views.head_map_view(bert_run, "max")
    usual = texts(figures.head_map(view))

    monkeypatch.setattr(plotly.io.templates, "default", default)
    figure = figures.head_map(view)

    assert texts(figure) == usual
    assert plotly.io.templates.default == default


def test_plotly_cannot_send_a_figure_anywhere():
    assert figures.CONFIG["showSendToCloud"] is False
    assert figures.CONFIG["displaylogo"] is False


def test_a_text_of_one_token_can_be_drawn():
    view = views.pattern_view(made_run(np.ones((1, 1, 1, 1))), "L0H0")

    assert len(figures.pattern_heatmap(view).data) == 3
    assert lines(figures.token_links(view).data[: len(link_figure.BINS)]) == {(0, 0): link_figure.BINS[-1][1]}
    assert math.isclose(view.weights[0, 0], 1)


def test_the_forest_names_a_direction_with_an_arrow_so_that_nothing_is_cut(results):
    axis = figures.forest(results, "L1H2").layout.yaxis

    assert axis.labelalias["0"] == "obj d→h"


@pytest.mark.parametrize("name", ["gpt2_run", "long_run"])
def test_the_colour_bar_is_no_taller_than_a_matrix_on_a_narrow_page(request, name):
    view = views.pattern_view(request.getfixturevalue(name), "L0H0")

    figure = figures.pattern_heatmap(view)

    bar, margin = figure.data[0].colorbar, figure.layout.margin
    assert bar.lenmode == "pixels"
    assert (bar.y, bar.yanchor) == (1, "top")  # where the matrix stands when its cells shrink
    assert bar.len <= min(160, figure.layout.height - margin.t - margin.b)
