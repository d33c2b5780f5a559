"""What the page's scripts are sent: the run's own numbers, kept by the browser, and refusals in one line."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from packed_maps import STEPS, unpacked, weights_of

from attnlens.errors import HeadAddressError, ModelNotFoundError, TextError, UsageError
from attnlens.report import thumbnails
from dashboards import data
from dashboards.app import create_app
from dashboards.config import DashboardConfig


@pytest.fixture
def asked(shown):
    """A request for the shown run."""
    return {"model": shown["model"], "text": shown["text"], "head": "L1H2"}


def test_all_heads_of_a_short_text_come_at_once(desk, asked, shown, random_lens):
    expected = random_lens.capture(shown["text"]).attention().numpy()

    header, weights = weights_of(data.maps_for(desk, asked))

    assert header["names"] == [f"L{layer}H{index}" for layer in range(3) for index in range(4)]
    assert np.abs(weights - expected.reshape(weights.shape)).max() <= 0.5 / STEPS + 1e-7


def test_an_answer_is_made_once_for_each_thing_that_is_asked(desk, asked):
    made = []

    def find(_desk, given):
        made.append(given)
        return b"numbers"

    for given in (asked, asked, asked | {"words": "1"}, asked | {"text": "she saw"}):
        assert data.kept_answer(desk, "maps", find, given) == b"numbers"
    with pytest.raises(ModelNotFoundError):
        data.kept_answer(desk, "maps", find, asked | {"model": "org/unknown"})

    assert len(made) == 3


def test_where_all_heads_are_too_large_the_one_that_is_shown_comes_alone(desk, asked, monkeypatch):
    whole = weights_of(data.maps_for(desk, asked))[1]
    monkeypatch.setattr(data, "BUNDLE", 100)

    header, weights = weights_of(data.maps_for(desk, asked))

    assert header["names"] == ["L1H2"]
    assert np.array_equal(weights[0], whole[6])


def test_controls_choose_rows_and_columns(desk, asked, random_lens, shown):
    expected = random_lens.capture(shown["text"]).attention(head="L1H2", words=True).numpy()[1:-1, 1:-1]

    _, weights = weights_of(data.maps_for(desk, asked | {"words": "1", "hide_special": "1"}))

    assert np.abs(weights[6] - expected).max() < 2 / STEPS


def test_several_heads_are_combined_exactly(desk, asked, random_lens, shown):
    attention = random_lens.capture(shown["text"]).attention().numpy()

    header, weights = weights_of(data.maps_for(desk, asked | {"also": "L0H1,L1H2", "combine": "max"}))

    assert header["names"] == ["max of L1H2, L0H1"]
    assert np.abs(weights[0] - np.maximum(attention[1, 2], attention[0, 1])).max() < 1 / STEPS


def test_a_measure_of_mixing_is_sent_in_its_own_unit(desk, asked, random_lens, shown):
    rollout = random_lens.measure("rollout", shown["text"]).values[1].numpy()
    moved = random_lens.measure("norm-attention", shown["text"], "L1H2").values.numpy()

    header, weights = weights_of(data.maps_for(desk, asked | {"measure": "rollout"}))
    norms, raw = unpacked(data.maps_for(desk, asked | {"measure": "norm-attention"}))

    assert header["names"] == ["rollout, layer 1"]
    assert np.abs(weights[0] - rollout).max() <= 0.5 / STEPS + 1e-6
    assert (norms["kind"], norms["unit"]) == ("f4", "stream")
    assert np.allclose(raw.view("<f4").reshape(moved.shape), moved, atol=1e-5)


def test_a_picture_of_every_head_is_sent(desk, asked, random_lens, shown):
    expected = random_lens.capture(shown["text"]).attention().numpy()

    header, raw = unpacked(data.thumbnails_for(desk, asked))

    assert header["next"] is None
    n_tokens = expected.shape[-1]
    assert header["sizes"]["L2H3"] == [n_tokens, n_tokens]
    assert np.abs(raw.reshape(expected.shape) / 254 - expected).max() <= 0.5 / 254 + 1e-6


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "org/unknown"}, ModelNotFoundError),
        ({"model": ""}, ModelNotFoundError),
        ({"text": " "}, TextError),
        ({"head": "L9H9"}, HeadAddressError),
        ({"between": "CC"}, UsageError),
        ({"combine": "sum", "also": "L0H0"}, UsageError),
    ],
)
def test_what_cannot_be_sent_is_an_error_that_the_page_shows(desk, asked, changes, error):
    with pytest.raises(error):
        data.maps_for(desk, asked | changes)


def test_of_a_long_text_a_window_is_sent_exactly(desk, asked, random_lens, shown, monkeypatch):
    monkeypatch.setattr(thumbnails, "SHORT", 4)
    expected = random_lens.capture(shown["text"]).attention(layer=1, queries=slice(3, 9), keys=slice(0, 7)).numpy()

    header, weights = weights_of(data.maps_for(desk, asked | {"window": "3-9,0-7"}))

    assert header["names"] == ["L1H0", "L1H1", "L1H2", "L1H3"]
    assert header["window"] == [3, 9, 0, 7]
    assert header["rows"]["places"] == [3, 4, 5, 6, 7, 8]
    assert np.abs(weights - expected).max() <= 0.5 / STEPS + 1e-7


@pytest.mark.parametrize("window", ["", "900-950,0-5", "5-2,0-5", "0-5", "-1-5,0-5"])
def test_a_window_of_another_text_gives_way_to_the_beginning(desk, asked, monkeypatch, window):
    monkeypatch.setattr(thumbnails, "SHORT", 4)
    monkeypatch.setattr(data, "WINDOW", 6)

    header, _ = weights_of(data.maps_for(desk, asked | {"window": window}))

    assert header["window"] == [0, 6, 0, 6]


def test_a_window_is_no_larger_than_a_screen(desk, asked, monkeypatch):
    monkeypatch.setattr(thumbnails, "SHORT", 4)
    monkeypatch.setattr(data, "SCREEN", 5)

    assert weights_of(data.maps_for(desk, asked | {"window": "2-900,1-800"}))[0]["window"] == [2, 7, 1, 6]


def test_an_overview_is_the_pooled_map(desk, asked, random_lens, shown, monkeypatch):
    monkeypatch.setattr(data, "OVERVIEW", 4)
    attention = random_lens.capture(shown["text"]).attention(head="L1H2").numpy()
    edges = np.arange(5) * len(attention) // 4
    expected = [[attention[a:b, c:d].max() for c, d in pairwise(edges)] for a, b in pairwise(edges)]

    header, raw = unpacked(data.overview_for(desk, asked))

    assert header["sizes"] == {"L1H2": [4, 4]}
    assert np.abs(raw.reshape(4, 4) / 254 - expected).max() <= 0.5 / 254 + 1e-6


def test_a_layer_that_is_no_number_is_refused(desk, asked):
    with pytest.raises(UsageError, match="from"):
        data.thumbnails_for(desk, asked | {"from": "-1"})


def test_answers_are_sent_once_and_errors_as_one_line():
    client = create_app(DashboardConfig()).server.test_client()
    run = {"model": "attnlens/tiny-bert", "text": "the dogs bark"}
    asked = {"query_string": run | {"head": "L0H0"}, "headers": {"Host": "127.0.0.1:8050"}}

    first = client.get("/data/maps", **asked)
    again = client.get("/data/maps", **asked | {"headers": asked["headers"] | {"If-None-Match": first.headers["ETag"]}})
    wrong = client.get("/data/maps", **asked | {"query_string": run | {"head": "<b>"}})

    assert (first.status_code, again.status_code, wrong.status_code) == (200, 304, 400)
    assert "no-cache" in first.headers["Cache-Control"]
    assert again.data == b""
    assert wrong.mimetype == "text/plain"
    assert wrong.text.count("\n") == 1
    assert client.get("/scripts/packed.js", headers=asked["headers"]).mimetype == "text/javascript"
    assert client.get("/scripts/maps.py", headers=asked["headers"]).status_code == 404
