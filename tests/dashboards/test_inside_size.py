"""The page of sizes: what it shows of the opened model and of a published one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from components import graphs_in, texts_in
from torch import nn

from attnlens.models.sizing import model_size
from attnlens.report.inside import size_figure, size_view
from attnlens.sizes.presets import find_preset
from dashboards.pages.inside import size
from dashboards.state import ViewState


@pytest.fixture(scope="module")
def models():
    return [(name, model_size(find_preset(name).config())) for name in ("gpt2", "mixtral-8x7b")]


def test_the_opened_model_stands_beside_a_published_one(desk, shown, random_bert):
    cards = size.draw(desk, shown, "gpt3", "512", "light")

    text = texts_in(cards)
    assert f"random has {random_bert.model.num_parameters():,} parameters" in text
    assert "GPT-3 175B has 174,604,259,328 parameters" in text
    assert "one text of 512 tokens" in text
    assert len(graphs_in(cards)) == 5


def test_a_module_without_a_config_is_said_and_the_preset_is_shown(desk, shown):
    desk.runs.adopt("attnlens/random", SimpleNamespace(model=nn.Linear(2, 2), anatomy=SimpleNamespace(model="Mine")))

    cards = size.draw(desk, shown, "gpt2", "2048", "dark")

    assert "Mine has no config" in texts_in(cards[0])
    assert "GPT-2 small has 124,439,808 parameters" in texts_in(cards)


def test_stale_controls_fall_back(desk):
    layout = size.layout(desk, ViewState(preset="gone", reach="7"))

    assert "Size and cost" in texts_in(layout)


def test_bars_are_shares_and_tables_have_the_amounts(models):
    view = size_view.parameters_view(models)

    figure = size_figure.shares_of_wholes(view)

    for row in range(2):
        assert sum(trace.x[row] for trace in figure.data) == pytest.approx(1)
    assert view.table().rows[-1] == ("all", 124_439_808, 46_702_792_704)
    assert "a token uses 12,879,925,248" in view.caption


def test_training_memory_differs_by_the_attention_weights_alone(models):
    view = size_view.memory_view(models[:1], 2)

    eager, fused = (dict(zip(view.parts, amounts, strict=True)) for amounts in view.amounts)
    assert eager["attention weights"] == 12 * 12 * 2048 * 2048 * 4
    assert fused["attention weights"] == 12 * 12 * 2048 * 4
    assert {**eager, "attention weights": 0} == {**fused, "attention weights": 0}


def test_growth_has_the_slope_of_its_power(models):
    operations = size_view.operations_view(models[:1])

    square, linear = operations.lines

    assert linear.values[-1] / linear.values[-2] == 4
    assert square.values[-1] / square.values[-2] == pytest.approx(16, rel=1e-3)
    assert [trace.line.dash for trace in size_figure.growth_lines(operations).data] == ["solid", "dash"]
    assert size_view.cache_view(models).lines[3].name == "mixtral-8x7b: GQA (its own)"


def test_a_model_without_a_cache_has_no_such_view():
    assert size_view.cache_view([("bert", model_size(find_preset("bert-base").config()))]) is None
