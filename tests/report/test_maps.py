"""Maps as people look at them: laws against the run's own weights, and the numbers that a script gets to show."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.report import maps as made
from attnlens.report import thumbnails as small
from attnlens.report.maps import Choice, Window, combined, held_heads, maps_of, sinks_of
from attnlens.report.packed import HIDDEN, STEPS, codes_of, pack_maps, thumbnail_codes
from attnlens.report.thumbnails import pool_to, thumbnails

TEXT = "the keys to the cabinet unquestionably are on the table"
HEAD = Head(1, 2)


@pytest.fixture(scope="module")
def causal():
    """A run of a causal model: cells above the diagonal are hidden."""
    import attnlens

    return attnlens.load("attnlens/tiny-gpt2").capture(TEXT, points=())


@pytest.fixture(scope="module")
def pair():
    """A run of two texts of an encoder."""
    import attnlens

    return attnlens.load("attnlens/tiny-bert").capture(("the dogs bark", "they see the girl"), points=())


def test_all_heads_at_once_are_the_runs_weights_with_hidden_cells_marked(causal):
    maps = maps_of(causal, held_heads(causal, ""))

    expected = causal.attention().numpy().reshape(maps.weights.shape)
    hidden = np.isnan(maps.weights)
    assert np.array_equal(hidden[0], ~np.tril(np.ones(hidden.shape[1:], bool)))
    assert np.array_equal(maps.weights[~hidden], expected[~hidden])
    assert maps.names[6] == "L1H2"


def test_words_are_the_runs_words_and_a_window_is_a_part_of_the_whole(causal):
    whole = maps_of(causal, [HEAD], Choice(words=True))
    part = maps_of(causal, [HEAD], Choice(words=True), Window((4, 8), (1, 5)))

    expected = causal.attention(head=HEAD, words=True).numpy()
    seen = ~np.isnan(whole.weights[0])
    assert np.abs(whole.weights[0] - expected)[seen].max() < 1e-6
    assert len(whole.rows.labels) < len(causal.tokens)
    cut = whole.weights[0][np.ix_(part.rows.places, part.columns.places)]
    assert 0 < cut.size < whole.weights[0].size
    assert np.allclose(part.weights[0], cut, equal_nan=True, atol=1e-6)


def test_the_words_at_the_edge_of_a_window_are_whole(causal):
    long_word = next(unit.tokens for unit in causal.units if len(unit.tokens) > 1)

    maps = maps_of(causal, [HEAD], Choice(words=True), Window((long_word[-1], long_word[-1] + 1), (0, 3)))

    assert maps.rows.members == (long_word,)


def test_tokens_that_are_left_out_leave_the_others_as_they_are(pair):
    maps = maps_of(pair, [HEAD], Choice(hide_special=True))

    kept = [i for i, token in enumerate(pair.tokens) if not token.special]
    assert list(maps.rows.places) == list(maps.columns.places) == kept
    assert np.array_equal(maps.weights[0], pair.attention(head=HEAD).numpy()[np.ix_(kept, kept)])
    assert "3 special tokens left out" in maps.captions[0]


def test_whole_rows_sum_to_one_and_keep_their_shape(pair):
    plain = maps_of(pair, [HEAD], Choice(hide_special=True)).weights[0].astype(np.float64)
    whole = maps_of(pair, [HEAD], Choice(hide_special=True, whole_rows=True)).weights[0]

    assert np.allclose(whole.sum(1), 1, atol=1e-6)
    assert np.allclose(whole, plain / plain.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("between", ["AA", "AB", "BA", "BB"])
def test_segments_of_a_pair_share_out_all_cells(pair, between):
    maps = maps_of(pair, [HEAD], Choice(words=True, hide_special=True, between=between))

    texts = {"A": ("the", "dogs", "bark"), "B": ("they", "see", "the", "girl")}
    assert (maps.rows.labels, maps.columns.labels) == (texts[between[0]], texts[between[1]])


def test_a_sink_is_what_gets_much_weight_from_every_head(causal, monkeypatch):
    weights = causal.attention().double().numpy()
    n = weights.shape[-1]
    received = np.array([weights[..., key:, key].mean() for key in range(n)])
    half = [key for key in range(n) if 2 * (n - key) >= n]
    bound = float(np.sort(received[half])[-3:-1].mean())
    monkeypatch.setattr(made, "SINK", bound)

    found = sinks_of(causal)

    assert found == {key for key in half if received[key] > bound}
    assert len(found) == 2
    shown = maps_of(causal, [HEAD], Choice(hide_sinks=True))
    assert not found & set(shown.columns.places)


def test_several_heads_as_one(causal):
    several = maps_of(causal, [HEAD, Head(0, 1), Head(2, 3)])
    stack = several.weights.astype(np.float64)

    mean, largest = combined(several, "mean"), combined(several, "max")

    seen = ~np.isnan(stack[0])
    assert np.allclose(mean.weights[0][seen], stack.mean(0)[seen], atol=1e-7)
    assert np.array_equal(largest.weights[0][seen], stack.max(0)[seen].astype(np.float32))
    assert np.array_equal(np.isnan(mean.weights[0]), ~seen)
    assert mean.names == ("mean of L1H2, L0H1, L2H3",)
    with pytest.raises(UsageError, match="mean, max"):
        combined(several, "sum")


def test_a_window_beside_the_map_and_heads_of_two_stacks_are_refused(causal):
    with pytest.raises(UsageError, match="no part"):
        maps_of(causal, [HEAD], window=Window((900, 901), (0, 1)))
    with pytest.raises(UsageError, match="one stack"):
        maps_of(causal, [HEAD, Head(0, 0, "E")])


def shown_with(code: int, digits: int) -> str:
    """What a script writes: the middle of the interval, a tie upwards, as toFixed does."""
    middle = Decimal(0) if code == 0 else (Decimal(code) + Decimal("0.5")) / STEPS
    return str(middle.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


@given(st.floats(0, 1, width=32), st.integers(1, 4))
def test_a_packed_weight_is_shown_as_the_weight_itself_rounded_once(weight, digits):
    code = int(codes_of(np.array([weight], np.float32))[0])

    assert shown_with(code, digits) == str(Decimal(weight).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def test_hidden_cells_have_a_code_of_their_own():
    assert codes_of(np.array([np.nan, 0, 1], np.float32)).tolist() == [HIDDEN, 0, STEPS - 1]
    assert thumbnail_codes(np.array([[np.nan, 0, 1, 0.5]], np.float32)).tolist() == [[255, 0, 254, 127]]


def test_packed_maps_are_read_back(causal):
    maps = maps_of(causal, held_heads(causal, ""), Choice(hide_special=True))

    packed = pack_maps(maps)

    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    codes = np.frombuffer(packed[4 + length :], "<u2").reshape(maps.weights.shape)
    assert header["names"][6] == "L1H2"
    assert tuple(header["rows"]["labels"]) == maps.rows.labels
    assert (4 + length) % 4 == 0
    seen = codes != HIDDEN
    assert np.array_equal(seen, ~np.isnan(maps.weights))
    assert np.abs((codes[seen] + 0.5) / STEPS - maps.weights[seen]).max() < 1 / STEPS


def test_a_pooled_picture_keeps_the_largest_weight_of_each_part():
    weights = np.arange(35, dtype=np.float32).reshape(5, 7)
    weights[:2, :2] = np.nan

    pooled = pool_to(weights, 3)

    rows, columns = [slice(0, 1), slice(1, 3), slice(3, 5)], [slice(0, 2), slice(2, 4), slice(4, 7)]
    expected = [[np.nanmax(weights[r, c]) if not (i == j == 0) else np.nan for j, c in enumerate(columns)]
                for i, r in enumerate(rows)]  # fmt: skip
    assert np.array_equal(pooled, np.array(expected, np.float32), equal_nan=True)


def test_pictures_of_long_and_short_texts_agree_and_come_layer_by_layer(causal, monkeypatch):
    whole, following = thumbnails(causal, "")
    assert following is None
    assert len(whole) == 12

    monkeypatch.setattr(small, "SHORT", 4)
    monkeypatch.setattr(small, "_WORK", 1)
    first, following = thumbnails(causal, "")
    second, _ = thumbnails(causal, "", first_layer=following)

    assert following == 1
    assert list(first) == ["L0H0", "L0H1", "L0H2", "L0H3"]
    for name, picture in (first | second).items():
        assert np.abs(picture.astype(int) - whole[name]).max() <= 1
