"""Maps too long to be built: pooled overviews equal the dense map pooled, and 16,384 tokens stay within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from family_models import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnlens
from attnlens.capture.overview import Overview, pooled
from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.scores import Scores
from attnlens.errors import CaptureError, UsageError
from attnlens.models.lens import Lens


@cache
def lens_of(name: str) -> Lens:
    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


def pooled_cell_by_cell(weights: Tensor, visible: Tensor, rows: int, columns: int, pool: str) -> tuple[Tensor, Tensor]:
    """The overview of a dense map `[head query key]`, one cell after the other."""
    n_heads, n_queries, n_keys = weights.shape
    rows, columns = min(rows, n_queries), min(columns, n_keys)
    cells = torch.full((n_heads, rows, columns), torch.nan, dtype=weights.dtype)
    shares = torch.zeros(rows, columns)
    for row in range(rows):
        for column in range(columns):
            queries = slice(row * n_queries // rows, (row + 1) * n_queries // rows)
            keys = slice(column * n_keys // columns, (column + 1) * n_keys // columns)
            seen = visible[queries, keys]
            shares[row, column] = seen.float().mean()
            for head in range(n_heads):
                own = weights[head, queries, keys][seen]
                if len(own):
                    cells[head, row, column] = own.max() if pool == "max" else own.double().mean()
    return cells, shares


def assert_pools(found: Overview, pattern: Pattern, rows: int, columns: int, heads: slice = slice(None)) -> None:
    cells, shares = pooled_cell_by_cell(pattern.weights(heads), pattern.visible(), rows, columns, found.pool)
    torch.testing.assert_close(found.weights, cells, atol=1e-6, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.visible, shares)


@given(
    seed=st.integers(0, 99),
    n_queries=st.integers(1, 23),
    n_keys=st.integers(1, 29),
    grid=st.tuples(st.integers(1, 31), st.integers(1, 31)),
    hidden=st.sampled_from(["nothing", "later keys", "by a mask", "later keys and by a mask"]),
    offset=st.integers(-3, 9),
    pool=st.sampled_from(["max", "mean"]),
    dense=st.booleans(),
)
def test_an_overview_is_the_dense_map_pooled(
    seed: int, n_queries: int, n_keys: int, grid: tuple[int, int], hidden: str, offset: int, pool: str, dense: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, n_queries, n_keys, generator=generator) > 0.6
    scores = Scores(
        query=3 * torch.randn(1, 4, n_queries, 5, generator=generator),
        key=torch.randn(1, 2, n_keys, 5, generator=generator),
        scaling=0.7,
        mask=mask if "mask" in hidden else None,
        causal="later" in hidden,
        offset=offset,
    )
    pattern: Pattern = LazyPattern(scores)
    if dense:
        pattern = DensePattern(pattern.weights(), pattern.visible())

    found = pooled(pattern, slice(1, 4), *grid, pool)

    assert_pools(found, pattern, *grid, slice(1, 4))
    assert found.query_edges[-1] == n_queries
    assert found.key_edges[-1] == n_keys


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss", "bloom", "bert"])
def test_a_run_gives_the_overview_of_a_head_or_a_layer(name: str, pool: str) -> None:
    lens = lens_of(name)
    run = lens.capture(inputs=FAMILIES[name].inputs(batch=1, length=41))
    pattern = run.patterns[1]
    assert pattern is not None

    layer = run.overview(1, rows=7, columns=9, pool=pool)
    head = run.overview(head="L1H2", rows=7, columns=9, pool=pool)

    assert_pools(layer, pattern, 7, 9)
    torch.testing.assert_close(head.weights, layer.weights[2], atol=1e-6, rtol=0, equal_nan=True)
    assert head.weights.shape == (7, 9)
    assert bool(layer.weights.isnan().any()) == lens.anatomy.causal  # cells after the diagonal show nothing


def test_an_overview_of_cross_attention_has_the_target_along_its_rows() -> None:
    run = lens_of("t5").capture(inputs=FAMILIES["t5"].inputs(batch=1, length=23))
    pattern = run.cross[0]
    assert pattern is not None

    found = run.overview(0, kind="cross", rows=5, columns=50)

    assert found.weights.shape == (3, 5, 23)
    assert_pools(found, pattern, 5, 50)


def test_an_overview_as_fine_as_the_map_is_the_map() -> None:
    run = lens_of("llama").capture(inputs=FAMILIES["llama"].inputs(batch=1))

    found = run.overview(head="L2H5", rows=999, columns=999, pool="mean")

    # Each row of cells is a matrix product of its own, which some processors round otherwise than the whole map's.
    torch.testing.assert_close(found.weights.nan_to_num(0), run.attention(head="L2H5"), atol=1e-6, rtol=0)
    assert torch.equal(found.visible.bool(), run.visible(2))


def test_overviews_that_cannot_be_are_refused() -> None:
    run = lens_of("llama").capture(inputs=FAMILIES["llama"].inputs(batch=1), heads=["L1H2"])

    with pytest.raises(UsageError, match="layer="):
        run.overview()
    with pytest.raises(UsageError, match="0 x 5"):
        run.overview(head="L1H2", rows=0, columns=5)
    with pytest.raises(UsageError, match=r"'median'.*max, mean"):
        run.overview(head="L1H2", pool="median")
    with pytest.raises(CaptureError, match="keeps L1H2 only"):
        run.overview(1)
    with pytest.raises(CaptureError, match="was not kept"):
        run.overview(head="L1H3")


# In a process of its own, whose peak memory is that of a long text alone.
_LONG = """
import json, resource, sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
import attnlens
from random_models import random_llama

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)

N = 16384
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=261, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, head_dim=16,
    intermediate_size=96, max_position_embeddings=N, initializer_range=0.3,
)
model = LlamaForCausalLM(config).eval()
lens = attnlens.load(model=model, tokenizer=random_llama().tokenizer)
ids = torch.randint(0, 261, (1, N))
before = peak_mib()
run = lens.capture(inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})
captured = peak_mib() - before
overview = run.overview(head="L0H3", pool="max")
tile = run.attention(head="L0H3", queries=slice(N - 64, N))
first = run.attention(layer=1, queries=slice(0, 64), keys=slice(0, 64))
looked_at = peak_mib() - before

model.set_attn_implementation("eager")
with torch.no_grad():
    start = model(ids[:, :64], output_attentions=True).attentions[1][0]
    layer = model.model.layers[0]
    hidden = layer.input_layernorm(model.model.embed_tokens(ids))
    query = layer.self_attn.q_proj(hidden).view(1, N, 4, 16).transpose(1, 2)
    key = layer.self_attn.k_proj(hidden).view(1, N, 2, 16).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *model.model.rotary_emb(hidden, torch.arange(N)[None]))
    scores = query[0, 3, -64:].double() @ key[0, 1].double().T / 4
    truth = scores.masked_fill(torch.ones(64, N, dtype=torch.bool).triu(N - 63), -torch.inf).softmax(-1)
print(json.dumps({
    "captured": captured,
    "looked_at": looked_at,
    "first": float((first - start).abs().max()),
    "last": float((tile - truth).abs().max()),
    "cells": float((overview.weights[-1] - truth.view(64, 256, 64).amax((0, 2))).abs().max()),
    "last_row": float(overview.visible[-1, -1]),
    "kept": run.nbytes / 2**20,
    "masks": sum(pattern.scores.mask is not None for pattern in run.patterns),
}))
"""


def test_a_text_of_16384_tokens_is_captured_looked_over_and_zoomed_into_without_its_map(root: Path) -> None:
    command = [sys.executable, "-c", _LONG]

    done = subprocess.run(command, cwd=root / "tests", capture_output=True, text=True, check=True, timeout=300)

    told = json.loads(done.stdout.splitlines()[-1])
    assert told["first"] < 1e-5  # causality: the first rows are those of a short text, by transformers' eager code
    assert told["last"] < 1e-5  # from the projections of the first layer, in float64
    assert told["cells"] < 1e-5
    assert told["last_row"] == pytest.approx((64 * 65 / 2) / 64**2)
    assert told["masks"] == 0
    # One map of booleans is 256 MiB, of weights 1 GiB; queries, keys, stream and logits kept are 47 MiB.
    assert told["kept"] < 60
    assert told["captured"] < 150
    assert told["looked_at"] < 200
