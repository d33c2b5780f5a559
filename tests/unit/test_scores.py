"""Weights by tile against the formula written out in float64, whole and without any of the shortcuts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlens.capture import scores as scores_module
from attnlens.capture.attend import attend_dense, attend_reduced
from attnlens.capture.scores import Scores
from attnlens.capture.tiles import Workspace, tiles
from attnlens.measures.running import RowMeans, WeightTile

SMALL, LARGE = 40, 1 << 20  # weights per tile: every size is cut many times, or never
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def reference(scores: Scores) -> torch.Tensor:
    """`[batch head query key]` in float64: repeated keys, one softmax over everything."""
    n_batch, n_heads, n_queries, n_keys = scores.shape
    key = scores.key.double().repeat_interleave(n_heads // scores.key.shape[1], dim=1)
    logits = scores.query.double() @ key.transpose(-1, -2) * scores.scaling
    if scores.softcap is not None:
        logits = scores.softcap * torch.tanh(logits / scores.softcap)
    if scores.bias is not None:
        logits = logits + scores.bias.double()
    logits = logits.masked_fill(~reference_visible(scores), -torch.inf)
    if scores.sinks is not None:
        sink = scores.sinks.double()[None, :, None, None].expand(n_batch, n_heads, n_queries, 1)
        logits = torch.cat([logits, sink], -1)
    return logits.softmax(-1)[..., :n_keys].nan_to_num(0.0)


def reference_visible(scores: Scores) -> torch.Tensor:
    seen = torch.ones(scores.shape, dtype=torch.bool)
    if scores.mask is not None:
        seen = seen & scores.mask
    if scores.causal:
        query, key = torch.arange(scores.shape[2])[:, None], torch.arange(scores.shape[3])[None, :]
        seen = seen & (key <= query + scores.offset)
    return seen


def reference_output(scores: Scores, value: torch.Tensor) -> torch.Tensor:
    repeated = value.double().repeat_interleave(scores.shape[1] // value.shape[1], dim=1)
    return (reference(scores) @ repeated).transpose(1, 2)


@st.composite
def any_scores(draw: st.DrawFn) -> Scores:
    n_batch, n_kv, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_queries, n_keys, d_head = draw(st.integers(1, 9)), draw(st.integers(1, 11)), draw(st.integers(1, 5))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n_heads = n_kv * group
    query = 3 * torch.randn(n_batch, n_queries, n_heads, d_head, generator=noise).transpose(1, 2)
    key = torch.randn(n_batch, n_kv, n_keys, d_head, generator=noise)
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    mask = None
    if draw(st.booleans()):
        sizes = draw(st.sampled_from([(n_batch, 1), (1, n_heads), (1, 1), (n_batch, n_heads)]))
        rows = draw(st.sampled_from([1, n_queries]))
        mask = torch.rand(*sizes, rows, n_keys, generator=noise) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return Scores(
        query=query.to(dtype),
        key=key.to(dtype),
        scaling=draw(st.sampled_from([1.0, d_head**-0.5])),
        mask=mask,
        causal=draw(st.booleans()),
        offset=draw(st.integers(-3, 4)),
        softcap=draw(st.sampled_from([None, 1.5])),
        bias=torch.randn(1, n_heads, n_queries, n_keys, generator=noise) if draw(st.booleans()) else None,
        sinks=torch.randn(n_heads, generator=noise) if draw(st.booleans()) else None,
    )


def slices(n: int) -> st.SearchStrategy[slice]:
    return st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda ends: slice(min(ends), max(ends)))


@pytest.fixture(params=[SMALL, LARGE], ids=["small tiles", "one tile"])
def tile_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(scores_module, "tile_cells", lambda dtype, device: request.param)
    return request.param


# The fixture sets the tile size, which is the same for every example.
anything_goes = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@anything_goes
@given(scores=any_scores())
def test_weights_equal_the_formula(tile_size: int, scores: Scores):
    weights = scores.weights()

    assert weights.dtype == (torch.float64 if scores.query.dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(weights.double(), reference(scores), **TOLERANCE)


@anything_goes
@given(data=st.data())
def test_a_rectangle_is_cut_after_the_softmax(tile_size: int, data: st.DataObject):
    scores = data.draw(any_scores())
    rectangle = tuple(data.draw(slices(n)) for n in scores.shape)

    tile = scores.weights(*rectangle)

    torch.testing.assert_close(tile.double(), reference(scores)[rectangle], **TOLERANCE)
    assert torch.equal(scores.visible(*rectangle), reference_visible(scores)[rectangle])


@anything_goes
@given(scores=any_scores(), d_value=st.integers(1, 4))
def test_dense_attention_gives_the_weights_and_what_they_mix(tile_size: int, scores: Scores, d_value: int):
    value = torch.randn(scores.shape[0], scores.key.shape[1], scores.shape[3], d_value)

    output, weights = attend_dense(scores, value)

    torch.testing.assert_close(weights.double(), reference(scores), **TOLERANCE)
    torch.testing.assert_close(output.double(), reference_output(scores, value), rtol=1e-5, atol=1e-5)


@anything_goes
@given(scores=any_scores(), logs=st.booleans())
def test_reducers_see_every_weight_once(tile_size: int, scores: Scores, logs: bool):
    value = torch.randn(scores.shape[0], scores.key.shape[1], scores.shape[3], 3)
    seen = torch.zeros(scores.shape, dtype=torch.float64)
    visible = torch.zeros(scores.shape, dtype=torch.bool)

    def measure(tile: WeightTile) -> torch.Tensor:
        keys = slice(tile.first_key, tile.first_key + tile.weights.shape[-1])
        seen[tile.batch, tile.heads, tile.queries, keys] += tile.weights
        visible[tile.batch, tile.heads, tile.queries, keys] |= tile.visible()
        return tile.weights.sum(-1)[None]

    collect = RowMeans(("mass",), measure, logs=logs)

    output = attend_reduced(scores, value, [collect], "site")

    torch.testing.assert_close(seen, reference(scores), **TOLERANCE)
    assert not (visible & ~reference_visible(scores)).any()
    assert seen[~visible].eq(0).all()
    torch.testing.assert_close(output.double(), reference_output(scores, value), rtol=1e-5, atol=1e-5)


@anything_goes
@given(data=st.data())
def test_a_text_cut_out_of_its_padding_keeps_its_weights(tile_size: int, data: st.DataObject):
    """Left and right padding: everything outside the text is hidden from its rows, so the cut has the same weights."""
    scores = data.draw(any_scores())
    row = data.draw(st.integers(0, scores.shape[0] - 1))
    queries, keys = data.draw(slices(scores.shape[2])), data.draw(slices(scores.shape[3]))
    real = torch.zeros(1, 1, 1, scores.shape[3], dtype=torch.bool)
    real[..., keys] = True
    padded = replace(scores, mask=real if scores.mask is None else scores.mask & real)

    cut = scores.of(row, queries, keys)

    expected = reference(padded)[row : row + 1, :, queries, keys]
    torch.testing.assert_close(cut.weights().double(), expected, **TOLERANCE)
    assert torch.equal(cut.visible(), reference_visible(scores)[row : row + 1, :, queries, keys])
    assert cut.query.untyped_storage().data_ptr() == scores.query.untyped_storage().data_ptr()


def test_scores_far_apart_are_exact_and_hidden_keys_are_zero():
    """Differences of hundreds: exp is taken where it is 1, 0, or too small for a normal number."""
    query = torch.ones(1, 1, 4, 1)
    key = torch.tensor([0.0, -85.0, -95.0, -400.0, 300.0]).view(1, 1, 5, 1)
    scores = Scores(query, key, 1.0, mask=torch.tensor([True, True, True, True, False]).view(1, 1, 1, 5))

    weights, blocks = scores.weights(), list(scores.blocks(Workspace(), logs=True))

    torch.testing.assert_close(weights.double(), reference(scores), rtol=1e-6, atol=1e-34)
    torch.testing.assert_close(blocks[0].weights.double(), reference(scores)[..., :4], rtol=1e-6, atol=1e-34)
    assert weights[..., 4].eq(0).all()


def test_a_row_that_sees_no_key_has_no_weight_and_no_output():
    scores = Scores(torch.ones(1, 2, 3, 4), torch.ones(1, 1, 3, 4), 0.5, causal=True, offset=-2)

    output, weights = attend_dense(scores, torch.ones(1, 1, 3, 4))

    assert weights.sum(-1).tolist() == [[[0, 0, 1], [0, 0, 1]]]
    assert output.sum(-1).tolist() == [[[0, 0], [0, 0], [4, 4]]]


def test_output_keeps_the_precision_of_the_values_and_weights_have_float32():
    scores = Scores(torch.randn(1, 2, 5, 4).bfloat16(), torch.randn(1, 2, 5, 4).bfloat16(), 0.5)

    output, weights = attend_dense(scores, torch.randn(1, 2, 5, 4).bfloat16())

    assert (output.dtype, weights.dtype) == (torch.bfloat16, torch.float32)


def test_a_tile_of_a_long_text_takes_no_more_than_its_rows():
    """One row of 100,000 keys: the whole map would be 40 GB."""
    key = torch.zeros(1, 1, 100_000, 2)
    scores = Scores(key.expand(1, 3, -1, -1), key, 1.0, causal=True)

    row = scores.weights(heads=slice(1, 2), queries=slice(49_999, 50_000), keys=slice(49_998, 50_002))

    torch.testing.assert_close(row, torch.tensor([[[[2e-5, 2e-5, 0, 0]]]]))


def test_a_step_is_refused():
    scores = Scores(torch.ones(1, 2, 3, 4), torch.ones(1, 1, 3, 4), 0.5)

    with pytest.raises(ValueError, match="steps of 1, not of 2"):
        scores.weights(queries=slice(0, 3, 2))


def test_bytes_are_those_of_the_tensors():
    scores = Scores(torch.ones(1, 2, 3, 4), torch.ones(1, 1, 5, 4), 0.5, mask=torch.ones(1, 1, 3, 5, dtype=torch.bool))

    assert scores.nbytes == 4 * (24 + 20) + 15


@given(
    n_texts=st.integers(0, 4),
    heads=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    queries=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    n_keys=st.integers(0, 300),
    group=st.integers(1, 4),
    cells=st.integers(1, 5000),
    causal=st.one_of(st.none(), st.integers(-200, 200)),
    whole=st.booleans(),
)
def test_tiles_cover_a_rectangle_once(n_texts, heads, queries, n_keys, group, cells, causal, whole):
    head_range, query_range = range(min(heads), max(heads)), range(min(queries), max(queries))
    covered = torch.zeros(n_texts, 7, 300, dtype=torch.int)

    for tile in tiles(
        range(n_texts), head_range, query_range, n_keys, group=group, cells=cells, causal_offset=causal, whole=whole
    ):
        covered[tile.batch, tile.heads, tile.queries] += 1
        inside = tile.heads.stop - 1 < tile.heads.start - tile.heads.start % group + group
        assert inside or (tile.heads.start % group == 0 and tile.heads.stop % group == 0)

    expected = torch.zeros_like(covered)
    expected[:, head_range.start : head_range.stop, query_range.start : query_range.stop] = 1
    assert torch.equal(covered, expected)


def test_threads_do_not_share_memory():
    torch.manual_seed(0)
    many = [Scores(torch.randn(1, 4, 60, 8), torch.randn(1, 2, 60, 8), 0.3, causal=True) for _ in range(8)]
    value = torch.randn(1, 2, 60, 8)

    def entropy(scores: Scores) -> torch.Tensor:
        reducer = RowMeans(("square",), lambda tile: tile.weights.square().sum(-1)[None])
        for _ in range(20):
            attend_reduced(scores, value, [reducer], 0)
        return reducer.value()[0]["square"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(entropy, many))

    for scores, measured in zip(many, found, strict=True):
        torch.testing.assert_close(measured, reference(scores).square().sum(-1).mean((0, 2)), rtol=1e-5, atol=1e-7)
