"""Measures of mixing as maps: the measure's own numbers, of the head or its layer, under the same controls."""

from __future__ import annotations

import numpy as np
import pytest

from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report import mixing_maps
from attnlens.report.maps import Choice
from attnlens.report.mixing_maps import MIXINGS, mixing_map, needs_points

TEXT = "the keys to the cabinet"


@pytest.fixture(scope="module")
def lens():
    import attnlens

    return attnlens.load("attnlens/tiny-bert")


@pytest.fixture(scope="module")
def run(lens):
    return lens.capture(TEXT, points=("v", "attn_out", "resid_pre"))


def test_rollout_is_the_product_of_the_layers_up_to_the_heads_own(run, lens):
    means = run.attention().double().mean(1).numpy()
    identity = np.eye(len(run.tokens))
    expected = (means[1] + identity) / 2 @ (means[0] + identity) / 2

    maps = mixing_map("rollout", run, Head(1, 3), lens=lens)

    assert np.abs(maps.weights[0] - expected).max() < 1e-6
    assert maps.names == ("rollout, layer 1",)


@pytest.mark.parametrize("name", MIXINGS)
def test_every_mixing_is_drawn_with_and_without_special_tokens(run, lens, name):
    whole = mixing_map(name, run, Head(1, 2), lens=lens)
    part = mixing_map(name, run, Head(1, 2), Choice(hide_special=True), lens=lens)

    expected = lens.measure(name, TEXT, "L1H2" if "head-" in name or name == "norm-attention" else None).values
    expected = expected[1] if expected.ndim == 3 else expected
    assert np.abs(whole.weights[0] - expected.numpy()).max() < 1e-5
    assert np.array_equal(part.weights, whole.weights[:, 1:-1, 1:-1])
    assert "left out" in part.captions[0]


def test_measures_that_need_more_than_attention_say_so():
    assert [name for name in MIXINGS if needs_points(name)] == [
        "norm-attention", "layer-norm-attention", "block-norm-attention", "alti", "alti-rollout",
    ]  # fmt: skip


def test_a_long_text_and_another_measure_are_refused(run, monkeypatch):
    monkeypatch.setattr(mixing_maps, "LONGEST", 3)
    with pytest.raises(UsageError, match="up to 3"):
        mixing_map("rollout", run, Head(0, 0))
    with pytest.raises(UsageError, match="rollout"):
        mixing_map("entropy", run, Head(0, 0))
