"""Views: the run's own numbers, with labels, captions and tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from report_samples import load_run, made_run

from attnlens import Head
from attnlens.errors import HeadAddressError, ResultsError, UsageError
from attnlens.report import metrics, views
from attnlens.report.results import parse_results

UNIFORM = np.full((5, 5), 0.2)
PREVIOUS = np.eye(5, k=-1) + np.diag([1.0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("key", "uniform", "previous"),
    [
        ("max", 0.2, 1.0),
        ("entropy", math.log(5), 0.0),
        ("breadth", 1.0, 0.0),
        ("distance", (10 + 7 + 6 + 7 + 10) / 25, 4 / 5),
        ("previous", 0.2, 1.0),
        ("next", 0.2, 0.0),
        ("self", 0.2, 1 / 5),
        ("first", 0.2, 2 / 5),
    ],
)
def test_metrics_of_a_uniform_and_a_previous_token_head(key, uniform, previous):
    run = made_run(np.stack([[UNIFORM, PREVIOUS]]))

    values = measured(run, key)

    np.testing.assert_allclose(values, [[uniform, previous]], atol=1e-6)


def measured(run, key):
    return metrics.metric_values_of(run, (key,))[key]


def test_special_tokens_do_not_count_as_queries():
    weights = PREVIOUS.copy()
    weights[0] = weights[4] = [0, 0, 0, 0, 1]  # both specials look at the last one
    run = made_run(weights[None, None], special=[True, False, False, False, True])

    assert measured(run, "previous")[0, 0] == 1.0
    assert measured(run, "special")[0, 0] == pytest.approx(1 / 3)  # only token 1 looks at [CLS]


def test_a_metric_that_is_nowhere_defined_is_not_measured(gpt2_run):
    view = views.head_map_view(gpt2_run, "next")

    assert np.isnan(view.values).all()
    assert view.value(Head(0, 0)) is None
    assert {row[3] for row in view.table().rows} == {None}


def test_one_head_at_a_time_gives_the_same_metrics(bert_run, monkeypatch):
    together = metrics.metric_values_of(bert_run)

    monkeypatch.setattr(metrics, "TILE", 0)
    apart = metrics.metric_values_of(bert_run)

    for key in metrics.METRICS:
        np.testing.assert_allclose(apart[key], together[key], atol=1e-6)


def test_the_head_map_holds_the_metric_of_every_head(bert_run):
    view = views.head_map_view(bert_run, "previous")

    weights = bert_run.attention().double()
    inner = range(1, len(bert_run.tokens) - 1)  # without [CLS] and [SEP]
    for layer in range(3):
        for head in range(4):
            expected = np.mean([weights[layer, head, q, q - 1] for q in inner])
            assert view.value(Head(layer, head)) == pytest.approx(expected, abs=1e-7)
    assert view.table().rows[5][:3] == ("L1H1", 1, 1)
    assert view.table().rows[5][3] == view.value(Head(1, 1))
    assert "Layer 0 is the top row" in view.caption


def test_an_unknown_metric_lists_the_known_ones(bert_run):
    with pytest.raises(UsageError, match=r"'loudness'.*entropy, breadth"):
        views.head_map_view(bert_run, "loudness")


def test_labels_stand_on_the_heads_that_have_them(bert_run, results):
    by_label, by_metric = views.results_map_view(results), views.head_map_view(bert_run, "max", results)

    assert by_label.notes == by_metric.notes
    assert {str(head): note.category for head, note in by_label.notes.items()} == {
        "L0H2": "position",
        "L1H2": "syntax",
    }
    assert by_label.notes[Head(1, 2)].texts[0] == "obj (dependent to head): 0.75 (offset -1 0.50)"
    assert by_label.caption.startswith("2 of 12 heads carry a label")
    assert by_label.table().rows[1][-1] is None


def test_labels_of_another_model_are_refused(gpt2_run, results):
    with pytest.raises(ResultsError, match="probe that model first"):
        views.head_map_view(gpt2_run, "max", results)
    with pytest.raises(ResultsError, match=r"\(3 x 4 heads\).*\(2 x 3\)"):
        views.pattern_view(gpt2_run, "L0H0", results=results)


def test_labels_of_the_same_name_with_other_weights_are_refused(bert_run, document):
    document["model"]["weights_sha256"] = "a" * 64
    mine = parse_results(document)

    mine.check_same_model(mine.anatomy)
    other = parse_results(document | {"model": document["model"] | {"weights_sha256": "b" * 64}})
    with pytest.raises(ResultsError):
        mine.check_same_model(other.anatomy)


def test_a_pattern_is_the_runs_own(bert_run):
    view = views.pattern_view(bert_run, (2, 1))

    np.testing.assert_allclose(view.weights, bert_run.attention()[2, 1].numpy(), atol=1e-6)
    assert view.row_labels == view.column_labels == tuple(token.label for token in bert_run.tokens)
    assert view.table().rows[3][0] == view.row_labels[3]
    assert view.table().rows[3][1 + 5] == pytest.approx(float(bert_run.attention(2, 1)[3, 5]), abs=1e-6)


def test_hidden_cells_are_none_in_the_table_and_named_in_the_caption(gpt2_run):
    view = views.pattern_view(gpt2_run, "L1H0")

    n = len(gpt2_run.tokens)
    np.testing.assert_array_equal(view.visible, np.tril(np.ones((n, n), dtype=bool)))
    assert view.table().rows[0][1:] == (1.0, *[None] * (n - 1))
    assert "not visible, which is not 0" in view.caption


def test_special_tokens_can_be_left_out(bert_run):
    whole, part = (views.pattern_view(bert_run, "L0H1", hide_special=hide) for hide in (False, True))

    np.testing.assert_array_equal(part.weights, whole.weights[1:-1, 1:-1])
    assert part.row_labels == whole.row_labels[1:-1]
    assert "2 special tokens left out" in part.caption


def test_words_sum_what_is_attended_to_and_average_what_attends():
    split = load_run("bert", "dogsing the")  # [CLS] dogs ##ing the [SEP]

    view = views.pattern_view(split, "L1H3", words=True)

    tokens = split.attention(1, 3).double().numpy()
    members = np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    expected = (members / members.sum(1, keepdims=True)) @ tokens @ members.T
    np.testing.assert_allclose(view.weights, expected, atol=1e-6)
    assert view.row_labels[1] == "dogsing"


def test_the_labels_of_a_head_come_with_its_pattern(bert_run, results):
    assert [label.label for label in views.pattern_view(bert_run, "L1H2", results=results).labels] == [
        "obj",
        "first-token",
    ]
    assert views.pattern_view(bert_run, "L2H3", results=results).labels == ()


def test_a_head_that_does_not_exist(bert_run):
    with pytest.raises(HeadAddressError, match="L0H0 to L2H3"):
        views.pattern_view(bert_run, "L3H0")


def test_the_strongest_links_are_sorted_and_leave_out_queries_without_a_choice(gpt2_run):
    view = views.pattern_view(gpt2_run, "L0H1")

    links = views.strongest(view, limit=1000)

    n = len(gpt2_run.tokens)
    assert len(links) == n * (n + 1) // 2 - 1  # the first token sees itself only
    assert [link.weight for link in links] == sorted((link.weight for link in links), reverse=True)
    assert all(link.weight == view.weights[link.query, link.key] for link in links)
    assert all(link.source == view.row_labels[link.query] for link in links)
    assert (0, 0) not in {(link.query, link.key) for link in links}


def test_standouts_are_the_largest_of_each_metric(bert_run, gpt2_run):
    values = metrics.metric_values_of(bert_run)

    for leader in views.standouts(values):
        assert leader.value == values[leader.metric.key].max()
        assert values[leader.metric.key][leader.head.layer, leader.head.head] == leader.value
    assert "next" not in {leader.metric.key for leader in views.standouts(metrics.metric_values_of(gpt2_run))}
