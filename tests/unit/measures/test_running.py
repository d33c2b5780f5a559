"""Running measures against the same measures of the whole map (`attnlens.measures.patterns`), and their laws."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlens.capture import scores as scores_module
from attnlens.capture.attend import attend_reduced
from attnlens.capture.scores import Scores
from attnlens.measures import patterns
from attnlens.measures.running import SUMMARY, RowMeans, WeightTile, head_summary


def scores_of(seed: int, n: int = 40, n_batch: int = 2, **terms) -> Scores:
    noise = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(n_batch, heads, n, 6, generator=noise) for heads in (6, 3))
    return Scores(2 * query, key, 0.4, **terms)


def value_of(scores: Scores) -> torch.Tensor:
    return torch.zeros(scores.shape[0], scores.key.shape[1], scores.shape[3], 1)


def reduced(scores: Scores, **options) -> dict[str, torch.Tensor]:
    summary = head_summary()
    attend_reduced(scores, value_of(scores), [summary], "site", **options)
    return summary.value()["site"]


def of_the_whole_map(
    scores: Scores, keep: torch.Tensor | None = None, starts: tuple[int, ...] = (), first_query: int = 0
) -> dict[str, torch.Tensor]:
    """The four measures by the functions on dense maps, in float64."""
    exact = Scores(
        scores.query.double(), scores.key.double(), scores.scaling, scores.mask, scores.causal, scores.offset,
        scores.softcap, scores.bias, scores.sinks,
    )  # fmt: skip
    pattern, visible = exact.weights(), exact.visible()
    starts = starts or (0,) * len(pattern)
    values = {
        "entropy": patterns.entropy(pattern),
        "distance": patterns.distance(pattern, first_query),
        "previous": patterns.offset_mass(pattern, -1, visible, first_query),
        "first": torch.stack(
            [patterns.key_mass(pattern[row], start, visible[row]) for row, start in enumerate(starts)]
        ),
    }
    everything = torch.ones(scores.shape[0], scores.shape[2], dtype=torch.bool) if keep is None else keep
    flat = everything[:, None, :].expand(pattern.shape[:3]).transpose(0, 1).flatten(1)
    return {name: patterns.over_queries(each.transpose(0, 1).flatten(1), flat) for name, each in values.items()}


@pytest.fixture(params=[300, 1 << 20], ids=["small tiles", "one tile"])
def tile_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(scores_module, "tile_cells", lambda dtype, device: request.param)
    return request.param


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    causal=st.booleans(),
    masked=st.booleans(),
    softcap=st.sampled_from([None, 2.0]),
    sinks=st.booleans(),
    double=st.booleans(),
)
def test_summary_equals_the_measures_of_the_whole_map(tile_size, seed, causal, masked, softcap, sinks, double):
    noise = torch.Generator().manual_seed(seed)
    scores = scores_of(
        seed,
        causal=causal,
        mask=torch.rand(2, 1, 40, 40, generator=noise) < 0.8 if masked else None,
        softcap=softcap,
        sinks=torch.randn(6, generator=noise) if sinks else None,
    )

    found = reduced(scores)

    assert tuple(found) == SUMMARY
    for name, expected in of_the_whole_map(scores).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6, equal_nan=True, msg=name)


@pytest.mark.parametrize(("causal", "offset"), [(False, 0), (True, 0)])
def test_padding_on_the_left_does_not_count_and_moves_the_first_token(tile_size, causal, offset):
    keep = torch.ones(2, 40, dtype=torch.bool)
    keep[0, :13] = False
    scores = scores_of(1, mask=keep[:, None, None, :], causal=causal, offset=offset)

    found = reduced(scores, keep=keep, text_starts=(13, 0))

    for name, expected in of_the_whole_map(scores, keep, (13, 0)).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6, msg=name)


def test_cached_tokens_shift_the_positions_of_the_queries(tile_size):
    whole = scores_of(2, n=40)
    tail = Scores(whole.query[:, :, 25:], whole.key, whole.scaling, causal=True, offset=25)

    found = reduced(tail)

    for name, expected in of_the_whole_map(tail, first_query=25).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6, msg=name)


def test_an_even_causal_head_has_the_closed_forms(tile_size):
    """Row i spreads over i + 1 keys: entropy ln(i + 1), distance i / 2, 1 / (i + 1) on each key."""
    n = 30
    scores = Scores(torch.zeros(1, 2, n, 3), torch.zeros(1, 1, n, 3), 1.0, causal=True)
    rows = torch.arange(n, dtype=torch.float64)

    found = reduced(scores)

    share = 1 / (rows + 1)
    expected = {"entropy": (rows + 1).log().mean(), "distance": (rows / 2).mean(), "previous": share[1:].mean()}
    for name, one in (expected | {"first": share.mean()}).items():
        torch.testing.assert_close(found[name], one.expand(2), rtol=1e-6, atol=0, msg=name)


def test_a_head_on_one_key_has_entropy_and_distance_zero(tile_size):
    query = 100 * torch.eye(20).expand(1, 1, 20, 20)
    scores = Scores(query, torch.eye(20).expand(1, 1, 20, 20), 1.0, mask=torch.ones(1, 1, 20, 20, dtype=torch.bool))

    found = reduced(scores)

    assert found["entropy"].abs().item() < 1e-12
    assert found["distance"].abs().item() < 1e-6


def test_measures_do_not_depend_on_how_large_the_scores_are():
    """Adding a constant to a row's scores changes no weight: entropy is taken where nothing cancels."""
    scores = scores_of(3, causal=True)
    bias = torch.full((1, 1, 40, 40), 64.0)
    shifted = Scores(scores.query, scores.key, scores.scaling, causal=True, bias=bias)

    found = reduced(shifted)

    torch.testing.assert_close(found["entropy"], of_the_whole_map(scores)["entropy"], rtol=1e-5, atol=1e-5)


def test_two_reducers_of_logarithms_get_the_same():
    scores, first, second = scores_of(4), head_summary(), head_summary()

    attend_reduced(scores, value_of(scores), [first, second], "site")

    for name, expected in of_the_whole_map(scores).items():
        torch.testing.assert_close(first.value()["site"][name], expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(second.value()["site"][name], expected, rtol=1e-6, atol=1e-6)


def test_shards_merge_in_any_order():
    shards = [scores_of(seed, causal=True) for seed in range(3)]
    together, apart = head_summary(), [head_summary() for _ in shards]
    for layer in range(2):
        for shard, own in zip(shards, apart, strict=True):
            attend_reduced(shard, value_of(shard), [own], layer)
            attend_reduced(shard, value_of(shard), [together], layer)

    left = apart[0].merge(apart[1]).merge(apart[2])
    right = apart[2].merge(apart[0].merge(apart[1]))

    for layer in range(2):
        for name in SUMMARY:
            torch.testing.assert_close(left.value()[layer][name], together.value()[layer][name], rtol=1e-12, atol=0)
            torch.testing.assert_close(left.value()[layer][name], right.value()[layer][name], rtol=1e-12, atol=0)
        assert torch.equal(left.counts()[layer], together.counts()[layer])
    assert together.counts()[0][SUMMARY.index("previous")].tolist() == [3 * 2 * 39] * 6


def test_merging_leaves_both_sides_as_they_are():
    own, other = head_summary(), head_summary()
    scores = scores_of(5)
    attend_reduced(scores, value_of(scores), [own], "site")
    attend_reduced(scores, value_of(scores), [other], "site")
    before = own.sums()["site"].clone()

    own.merge(other).sums()["site"].zero_()

    assert torch.equal(own.sums()["site"], before)


def test_a_reducer_travels_between_processes():
    summary, scores = head_summary(), scores_of(6)
    attend_reduced(scores, value_of(scores), [summary], "site")

    copy = pickle.loads(pickle.dumps(summary))

    torch.testing.assert_close(copy.value()["site"]["entropy"], summary.value()["site"]["entropy"])


def test_what_is_not_defined_is_not_a_number():
    """One query and one key: there is no previous token."""
    scores = scores_of(7, n=1)

    found = reduced(scores)

    assert found["previous"].isnan().all()
    assert found["first"].tolist() == [1.0] * 6


def test_a_model_s_own_weights_are_a_tile_too():
    pattern = torch.tensor([[[[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]]]])
    everything = slice(0, 1), slice(0, 1), slice(0, 3)
    summary = head_summary()

    summary.add(WeightTile("site", *everything, 1, pattern))

    found = summary.value()["site"]
    assert found["distance"].item() == pytest.approx((0.5 + 0.5 + 2) / 3)
    assert found["previous"].item() == pytest.approx((0.25 + 0) / 2)
    assert found["first"].item() == pytest.approx((0.5 + 0.25 + 1) / 3)
    assert found["entropy"].item() == pytest.approx(patterns.entropy(pattern).mean().item(), abs=1e-6)


def test_sums_of_many_rows_stay_exact():
    """2**25 rows of weight 1: a float32 sum would stop at 2**24."""
    ones = RowMeans(("one",), lambda tile: tile.weights[..., 0][None])
    row = torch.ones(1, 1, 1 << 20, 1)
    tile = WeightTile("site", slice(0, 1), slice(0, 1), slice(0, 1 << 20), 1, row)

    for _ in range(33):
        ones.add(tile)

    assert ones.sums()["site"].item() == 33 << 20
