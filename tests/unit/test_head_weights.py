"""Weights of heads, found by numbers: against the modules by name, and against what attention received."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from family_models import FAMILIES

import attnlens
from attnlens.models.columns import match_columns, scores_follow
from attnlens.models.head_weights import HeadMap, head_weights

# Key-value heads that the configs name; Falcon repeats its own before attention sees them.
KV_HEADS = {"falcon": 1, "falcon-grouped": 3}


@cache
def opened(name: str) -> Any:
    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


def by_name(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """A Linear's weight cut into heads, `[head d_in d_head]`."""
    return weight.detach().T.unflatten(1, (n_heads, -1)).transpose(0, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_map_of_every_family_is_found(name):
    lens = opened(name)

    found = {stack.letter: head_weights(lens.opened, stack.letter) for stack in lens.anatomy.stacks}

    for stack in lens.anatomy.stacks:
        layers = found[stack.letter]
        assert tuple(layers) == stack.attention_layers
        assert [dict(weights.absent) for weights in layers.values() if weights.absent] == []
        for weights in layers.values():
            for one in (weights.query, weights.key, weights.value):
                assert one.weight.shape[0] == stack.n_heads
                assert one.gap < 1e-5
            assert weights.query.kv_heads == tuple(range(stack.n_heads))
            named = FAMILIES[name].settings.get("num_key_value_heads")
            group = stack.n_heads // (named or KV_HEADS.get(name, stack.n_heads))
            for one in (weights.key, weights.value):
                assert one.kv_heads == tuple(head // group for head in range(stack.n_heads))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "mistral"])
def test_grouped_heads_share_the_map_of_their_group(name):
    lens = opened(name)
    attention = lens.model.model.layers[1].self_attn

    weights = head_weights(lens.opened)[1]

    gain = torch.ones(8)
    if name == "qwen3":
        gain = attention.q_norm.weight.detach()
    query = by_name(attention.q_proj.weight, 6) * gain
    value = by_name(attention.v_proj.weight, 3)
    torch.testing.assert_close(weights.query.weight, query, rtol=1e-4, atol=1e-5)
    for head in range(6):
        torch.testing.assert_close(weights.value.weight[head], value[head // 2])
    assert weights.query.rotated
    assert not weights.value.rotated
    assert weights.query.normed == (name == "qwen3")


def test_fused_thirds_of_gpt2():
    lens = opened("gpt2")
    fused = lens.model.transformer.h[1].attn.c_attn

    weights = head_weights(lens.opened)[1]

    for third, one in enumerate((weights.query, weights.key, weights.value)):
        for head in range(3):
            columns = slice(third * 21 + head * 7, third * 21 + head * 7 + 7)
            torch.testing.assert_close(one.weight[head], fused.weight.detach()[:, columns])
            torch.testing.assert_close(one.bias[head], fused.bias.detach()[columns])


@pytest.mark.parametrize(("name", "path"), [("gpt_neox", "attention"), ("bloom", "self_attention")])
def test_fused_head_by_head(name, path):
    lens = opened(name)
    layers = lens.model.gpt_neox.layers if name == "gpt_neox" else lens.model.transformer.h
    fused = getattr(layers[2], path).query_key_value.weight.detach()
    by_head = fused.unflatten(0, (3, 3, -1))  # [head, q k v, d_head, d_model]

    weights = head_weights(lens.opened)[2]

    for third, one in enumerate((weights.query, weights.key, weights.value)):
        torch.testing.assert_close(one.weight, by_head[:, third].transpose(1, 2))


@pytest.mark.parametrize("name", ["bert", "gpt2", "opt", "bloom", "t5"])
def test_scores_and_outputs_follow_from_the_weights(name):
    """The captured weights are the softmax of what the maps make of the captured stream, where nothing is rotated."""
    lens = opened(name)
    letter = "E" if name == "t5" else ""
    given = {"source": "the cat", "target": "le"} if letter else {"text": "the cat"}
    run = lens.capture(**given, points=("resid_pre", "v", "z", "attn_out") if name != "bloom" else ("resid_pre", "z"))
    layer = 1
    weights = head_weights(lens.opened, letter)[layer]
    read = _through_norm(lens, name, run.residual("resid_pre", layer, stack=letter or None))

    query, key, value = (
        torch.einsum("pd,hde->hpe", read, one.weight) + (0 if one.bias is None else one.bias[:, None])
        for one in (weights.query, weights.key, weights.value)
    )

    scores = weights.scaling * query @ key.mT
    if name == "bloom":
        scores = scores + _bloom_bias(lens, scores.shape)
    if name == "t5":
        scores = scores + lens.model.encoder.block[0].layer[0].SelfAttention.compute_bias(*scores.shape[1:])[0]
    if lens.anatomy.stack(letter).causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)
    pattern = scores.softmax(-1)
    torch.testing.assert_close(pattern, run.attention(layer, stack=letter or None), rtol=1e-4, atol=2e-5)
    heads_out = (pattern @ value).transpose(0, 1).flatten(1)
    written = run.residual("z", layer, stack=letter or None)
    written = written.transpose(0, 1).flatten(1) if written.ndim == 3 else written
    torch.testing.assert_close(heads_out, written, rtol=1e-4, atol=1e-4)


def _through_norm(lens: Any, name: str, stream: torch.Tensor) -> torch.Tensor:
    norms = {
        "gpt2": lambda model: model.transformer.h[1].ln_1,
        "bloom": lambda model: model.transformer.h[1].input_layernorm,
        "opt": lambda model: model.model.decoder.layers[1].self_attn_layer_norm,
        "t5": lambda model: model.encoder.block[1].layer[0].layer_norm,
    }
    with torch.no_grad():
        return norms[name](lens.model)(stream) if name in norms else stream


def _bloom_bias(lens: Any, shape: tuple[int, ...]) -> torch.Tensor:
    keep = torch.ones(1, shape[-1])
    return lens.model.transformer.build_alibi_tensor(keep, shape[0], torch.float32).view(shape[0], 1, -1)


def test_rotated_maps_give_what_attention_received_once_rotated():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    lens = opened("llama")
    run = lens.capture("the cat sat", points=("resid_pre", "q", "k"))
    model, weights = lens.model.model, head_weights(lens.opened)[2]
    read = model.layers[2].input_layernorm(run.residual("resid_pre", 2)).detach()
    places = torch.arange(len(read))[None]
    cosine, sine = model.rotary_emb(read[None], places)

    query, key = (torch.einsum("pd,hde->hpe", read, one.weight)[None] for one in (weights.query, weights.key))
    turned = apply_rotary_pos_emb(query, key, cosine, sine)

    torch.testing.assert_close(turned[0][0], run.residual("q", 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(turned[1][0, ::2], run.residual("k", 2), rtol=1e-4, atol=1e-4)


def test_the_norm_in_front_is_folded_as_a_product():
    lens = opened("gpt2")
    norm = lens.model.transformer.h[1].ln_1
    value: HeadMap = head_weights(lens.opened)[1].value
    stream = torch.randn(5, 21)

    folded = torch.einsum("pd,hde->hpe", stream, value.folded)

    sigma = (stream.var(-1, correction=0) + norm.eps).sqrt()
    straight = torch.einsum("pd,hde->hpe", (norm(stream) - norm.bias).detach(), value.weight)
    torch.testing.assert_close(folded / sigma[:, None], straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "opt-post-norm", "albert", "bart"])
def test_post_norm_stream_is_read_as_it_is(name):
    letter = "E" if name == "bart" else ""

    weights = head_weights(opened(name).opened, letter)

    assert all(one.value.norm is None for one in weights.values())


def test_what_stands_nowhere_is_absent_with_the_reason():
    module = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), 2, enable_nested_tensor=False
    )
    lens = attnlens.load(model=module.eval())

    weights = head_weights(lens.opened)[0]

    assert weights.value is None
    assert "used without a call" in weights.absent["value"]
    assert weights.output is not None
    assert weights.scaling is None


def test_columns_are_matched_up_to_one_factor_and_no_more():
    offered = torch.randn(9, 6)

    exact = match_columns(offered[:, [4, 1]], offered, 1e-6)
    scaled = match_columns(0.25 * offered[:, [4, 1]], offered, 1e-6)

    assert exact.columns.tolist() == scaled.columns.tolist() == [4, 1]
    assert exact.factor == 1
    assert scaled.factor == pytest.approx(0.25)
    assert match_columns(offered[:, [4, 1]] * torch.tensor([1.0, 2.0]), offered, 1e-6) is None
    assert match_columns(offered[:, [4]] + 1e-3, offered, 1e-6) is None
    assert match_columns(-offered[:, [4]], offered, 1e-6) is None


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_scores_tell_queries_from_keys(angle):
    query, key = torch.randn(2, 60, 6, 4, dtype=torch.float64)
    turn = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 4, dtype=torch.float64) * 0
    for one, other in ((0, 2), (1, 3)):
        turn[[one, other], [one, other]] = torch.tensor(angle).cos().double()
        turn[one, other], turn[other, one] = torch.tensor(angle).sin().double(), -torch.tensor(angle).sin().double()
    own = 0.5 * (query * key).sum(-1) + 0.1 * torch.arange(6)
    before = 0.5 * ((query[:, 1:] @ turn) * key[:, :-1]).sum(-1)

    right = scores_follow(own, before, query, key, 1e-6)
    swapped = scores_follow(own, before, key, query, 1e-6)

    assert right.factor == pytest.approx(0.5)
    assert right.rotated == (angle > 0)
    assert swapped is None
