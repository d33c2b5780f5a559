"""TransformerLens' names stand for what they stand for there: against transformers, and projections made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eager_truth import eager_attentions, run_eagerly
from family_models import FAMILIES
from random_models import RandomModel
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import attnlens
from attnlens.errors import ActivationNameError, CaptureError, UsageError

TEXT = "the dog"


def opened(random: RandomModel) -> attnlens.Lens:
    return attnlens.load(model=random.model, tokenizer=random.tokenizer)


def family_lens(name: str) -> tuple[attnlens.Lens, Any, dict[str, Tensor]]:
    family = FAMILIES[name]
    model, inputs = family.build(), family.inputs(batch=1)
    return attnlens.load(model=model, tokenizer=family.tokenizer()), model, inputs


def eager(model: Any, **inputs: Tensor) -> Any:
    with run_eagerly(model, use_cache=False), torch.no_grad():
        return model(**inputs, output_attentions=True, output_hidden_states=True)


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=atol)


@torch.no_grad()
def test_every_name_of_a_gpt2(random_gpt2: RandomModel) -> None:
    model = random_gpt2.model
    names = (lambda name: True,)

    logits, cache = opened(random_gpt2).run_with_cache(TEXT, *names)

    ids = torch.tensor([[token.id for token in cache.run.tokens]])
    truth = eager(model, input_ids=ids)
    close(logits, truth.logits)
    close(cache["hook_embed"], model.transformer.wte(ids))
    close(cache["hook_full_embed"], truth.hidden_states[0])
    close(cache["ln_final.hook_normalized"], truth.hidden_states[-1])
    for layer, block in enumerate(model.transformer.h):
        front, n = f"blocks.{layer}.", ids.shape[1]
        pre = truth.hidden_states[layer]
        q, k, v = (part.view(1, n, 3, 7) for part in block.attn.c_attn(block.ln_1(pre)).split(21, -1))
        close(cache[f"{front}hook_resid_pre"], pre)
        for name, value in (("q", q), ("k", k), ("v", v)):
            close(cache[f"{front}attn.hook_{name}"], value)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 7**0.5
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        close(cache[f"{front}attn.hook_attn_scores"], scores.masked_fill(hidden, -torch.inf), atol=1e-4)
        pattern = truth.attentions[layer]
        close(cache[f"{front}attn.hook_pattern"], pattern)
        z = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
        close(cache[f"{front}attn.hook_z"], z)
        result = torch.einsum("bqhd,hdm->bqhm", z, block.attn.c_proj.weight.view(3, 7, 21))
        close(cache[f"{front}attn.hook_result"], result)
        attn_out = result.sum(2) + block.attn.c_proj.bias
        close(cache[f"{front}hook_attn_out"], attn_out)
        close(cache[f"{front}hook_resid_mid"], pre + attn_out)
        post = functional.gelu(block.mlp.c_fc(block.ln_2(pre + attn_out)), approximate="tanh")
        close(cache[f"{front}mlp.hook_post"], post, atol=1e-4)
        close(cache[f"{front}hook_mlp_out"], block.mlp.c_proj(post), atol=1e-4)
        after = pre + attn_out + block.mlp.c_proj(post)
        close(cache[f"{front}hook_resid_post"], after, atol=1e-4)
        for bridge, name in (("hook_in", "hook_resid_pre"), ("hook_out", "hook_resid_post"),
                             ("attn.hook_out", "hook_attn_out"), ("mlp.hook_out", "hook_mlp_out")):  # fmt: skip
            assert torch.equal(cache[front + bridge], cache[front + name])
    assert len(cache) == len(list(cache)) == 3 + 2 * 17


@torch.no_grad()
def test_a_norm_behind_the_sum_is_behind_the_sum(random_bert: RandomModel) -> None:
    model = random_bert.model

    _, cache = opened(random_bert).run_with_cache(TEXT)

    ids = torch.tensor([[token.id for token in cache.run.tokens]])
    states = eager(model, input_ids=ids).hidden_states
    close(cache["embed"], model.bert.embeddings.word_embeddings(ids))
    close(cache["full_embed"], states[0])
    for layer, block in enumerate(model.bert.encoder.layer):
        attention, output = block.attention.output, block.output
        mid = states[layer] + cache["attn_out", layer]
        close(cache["attn_out", layer], attention.dense(cache["z", layer].flatten(2)))
        close(cache["resid_mid", layer], mid)
        close(cache["normalized", layer, "ln1"], attention.LayerNorm(mid))
        post = attention.LayerNorm(mid) + output.dense(block.intermediate(attention.LayerNorm(mid)))
        close(cache["resid_post", layer], post, atol=1e-4)
        close(cache["normalized_resid_post", layer], states[layer + 1])
        close(cache[f"blocks.{layer}.hook_out"], states[layer + 1])
    with pytest.raises(ActivationNameError, match="no such norm behind its last layer"):
        cache["normalized"]


@torch.no_grad()
def test_rotated_queries_have_their_own_name(random_llama: RandomModel) -> None:
    model = random_llama.model

    _, cache = opened(random_llama).run_with_cache(TEXT, lambda name: "blocks.3" in name)

    ids = torch.tensor([[token.id for token in cache.run.tokens]])
    states = eager(model, input_ids=ids).hidden_states
    block, n = model.model.layers[3], ids.shape[1]
    normed = block.input_layernorm(states[3])
    q = block.self_attn.q_proj(normed).view(1, n, 4, 6).transpose(1, 2)
    k = block.self_attn.k_proj(normed).view(1, n, 2, 6).transpose(1, 2)
    q, k = apply_rotary_pos_emb(q, k, *model.model.rotary_emb(states[3], torch.arange(n)[None]))
    close(cache["rot_q", 3], q.transpose(1, 2))
    close(cache["rot_k", -2], k.transpose(1, 2))
    close(cache["v", 3], block.self_attn.v_proj(normed).view(1, n, 2, 6))
    with pytest.raises(ActivationNameError, match="after the rotary embedding, as hook_rot_q"):
        cache["q", 3]


@torch.no_grad()
def test_names_of_an_encoder_decoder() -> None:
    lens, model, inputs = family_lens("t5")

    logits, cache = lens.run_with_cache(inputs=inputs)

    truth = eager(model, **inputs)
    close(logits, truth.logits, atol=1e-4)
    close(cache["hook_embed"], model.shared(inputs["input_ids"]))
    for side, states in (("encoder", truth.encoder_hidden_states), ("decoder", truth.decoder_hidden_states)):
        close(cache[f"{side}_final_ln.hook_normalized"], states[-1])
        for layer, state in enumerate(states[:-1]):
            close(cache[f"{side}.{layer}.hook_resid_pre"], state)
    for name, attentions in (
        ("encoder.{}.attn", truth.encoder_attentions),
        ("decoder.{}.attn", truth.decoder_attentions),
        ("decoder.{}.cross_attn", truth.cross_attentions),
    ):
        for layer, weights in enumerate(attentions):
            close(cache[f"{name.format(layer)}.hook_pattern"], weights)
            close(cache[f"{name.format(layer)}.hook_attn_scores"].softmax(-1), weights)
    cross = model.decoder.block[1].layer[1].EncDecAttention
    source = truth.encoder_last_hidden_state
    close(cache["k", 1, "cross_attn"], cross.k(source).view(1, source.shape[1], lens.anatomy.n_heads, -1))
    mid = cache["resid_mid", 1]
    close(cache["resid_mid_cross", 1], mid + cross.o(cache["z", 1, "cross_attn"].flatten(2)))
    close(cache["cross_attn_out", 1], cache["decoder.1.cross_attn.hook_out"])
    assert torch.equal(cache["pattern", 1], cache["decoder.1.attn.hook_pattern"])


@torch.no_grad()
def test_norms_behind_cross_attention() -> None:
    lens, model, inputs = family_lens("bart")

    _, cache = lens.run_with_cache(inputs=inputs)

    states = eager(model, **inputs).decoder_hidden_states
    for layer, block in enumerate(model.model.decoder.layers):
        mid, crossed = cache["resid_mid", layer], cache["resid_mid_cross", layer]
        close(block.self_attn_layer_norm(mid), cache["normalized", layer, "ln1"])
        close(cache["normalized", layer, "ln1"] + cache["cross_attn_out", layer], crossed)
        close(block.encoder_attn_layer_norm(crossed), cache["normalized", layer, "ln2"])
        close(block.final_layer_norm(cache["resid_post", layer]), states[layer + 1], atol=1e-4)


@pytest.mark.parametrize("name", ["modernbert", "falcon-alibi", "gemma2", "mistral", "qwen3", "vit", "whisper"])
def test_scores_become_the_eager_weights(name: str) -> None:
    lens, model, inputs = family_lens(name)
    truth = eager_attentions(model, inputs)
    front = {"": "blocks.{}.attn", "E": "encoder.{}.attn", "D": "decoder.{}.attn", "X": "decoder.{}.cross_attn"}

    _, cache = lens.run_with_cache(names_filter=lambda name: name.endswith("attn_scores"), inputs=inputs)

    for stack, layers in truth.items():
        for layer, weights in enumerate(layers):
            close(cache[f"{front[stack].format(layer)}.hook_attn_scores"].softmax(-1), weights)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_name_can_be_read_in_every_family(name: str) -> None:
    lens, _, inputs = family_lens(name)

    _, cache = lens.run_with_cache(names_filter=lambda name: True, inputs=inputs)

    n = {True: len(cache.run.tokens)}
    n[False] = n[True] if cache.run.source is None else len(cache.run.source.tokens)
    for key, value in cache.items():
        of_source = lens.anatomy.is_encoder_decoder and not key.startswith("decoder")
        crossing = "cross_attn.hook_" in key
        own = n[not of_source]
        if key.endswith(("pattern", "attn_scores")):
            letter = "X" if crossing else "E" if of_source else lens.anatomy.main_stack
            assert value.shape == (
                1,
                lens.anatomy.stack(letter).n_heads,
                own,
                n[False] if crossing or of_source else own,
            )
        elif crossing and key.endswith(("hook_k", "hook_v")):
            assert value.shape[:2] == (1, n[False])
        else:
            assert value.shape[:2] == (1, own)


@pytest.mark.parametrize(
    ("names_filter", "kept", "points", "layers"),
    [
        ("blocks.1.attn.hook_pattern", 1, set(), [False, True]),
        (["blocks.0.hook_resid_post", "blocks.0.attn.hook_z"], 2, {"resid_post", "z"}, [True, False]),
        (lambda name: name.endswith("hook_mlp_out"), 2, {"mlp_out"}, [True, True]),
        ("hook_embed", 1, set(), [True, False]),
        ("ln_final.hook_normalized", 1, {"final"}, [True, False]),
        (("pattern", ), None, set(), []),
    ],
)  # fmt: skip
def test_only_what_is_named_is_captured(
    random_gpt2: RandomModel, names_filter: Any, kept: int | None, points: set[str], layers: list[bool]
) -> None:
    lens = opened(random_gpt2)
    if kept is None:  # a short name without a layer
        with pytest.raises(ActivationNameError, match=r"there is no 'hook_pattern'.*blocks\.\{layer\}\.attn"):
            lens.run_with_cache(TEXT, names_filter)
        return

    _, cache = lens.run_with_cache(TEXT, names_filter)

    assert len(cache) == kept
    assert set(cache.run.stream) == points
    assert [pattern is not None for pattern in cache.run.patterns] == layers
    assert all(value.shape[0] == 1 for value in cache.values())
    with pytest.raises(ActivationNameError, match="was not kept; name it in run_with_cache"):
        cache["k", 1]


def test_a_cache_is_a_mapping(random_gpt2: RandomModel) -> None:
    lens = opened(random_gpt2)
    _, cache = lens.run_with_cache(TEXT)

    _, flat = lens.run_with_cache(TEXT, remove_batch_dim=True)

    assert "blocks.1.attn.hook_pattern" in cache
    assert ("pattern", 1) in cache
    assert ("pattern", 2) not in cache
    assert cache.get("hook_pos_embed", 7) == 7
    assert "hook_result" not in " ".join(cache)
    for same in ("pattern", "attn"):
        assert torch.equal(cache[same, 1], cache["blocks.1.attn.hook_pattern"])
    for key in (("post", 1), ("mlp_post", 1), ("post", 1, "mlp"), ("post", -1, "m")):
        assert torch.equal(cache[key], cache["blocks.1.mlp.hook_post"])
    assert torch.equal(cache["resid_post", 0, None], cache["blocks.0.hook_resid_post"])
    assert torch.equal(flat["q", 0], cache["q", 0][0])
    assert torch.equal(cache.remove_batch_dim()["pattern", 0], cache["pattern", 0][0])


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "hook_pos_embed",
            r"no 'hook_pos_embed' in this model: positions are added inside.*hook_full_embed.*there are",
        ),
        (("scale", 1, "ln1"), r"no 'blocks.1.ln1.hook_scale'.*what a norm divides by"),
        (("normalized", 1, "ln1"), "what a norm gives"),
        (("pre", 1), r"blocks.1.mlp.hook_pre'.*captured after its activation"),
        (("q_input", 1), "inputs of q, k and v are not captured"),
        (("pattern", 9), "layer 9 does not exist"),
        (("pattern", -3), "blocks.-1"),
        (("pattern", "x"), "expected a name and a layer's number"),
        (("pattern", 1, "attn", 2), "is no name of an activation"),
        (7, "7 is no name of an activation"),
        ("blocks.0.hook_cross_attn_out", "there is no"),
    ],
)
def test_names_that_do_not_exist_say_why(random_gpt2: RandomModel, key: Any, said: str) -> None:
    _, cache = opened(random_gpt2).run_with_cache(TEXT)

    with pytest.raises(KeyError, match=said) as raised:
        cache[key]

    assert isinstance(raised.value, ActivationNameError)
    assert "blocks.{layer}.hook_resid_post" in str(raised.value) or "expected a name" in str(raised.value)


def test_what_a_family_lacks_says_why(random_gpt2: RandomModel) -> None:
    mistakes: list[tuple[str, Any, str]] = [
        ("gptj", ("resid_mid", 0), "attention and MLP are added to the stream at once"),
        ("gptj", ("attn_scores", 0), "code of its own, which hands over no scores"),
        ("gptj", ("k", 0), "rotary embedding|hands over no queries"),
        ("mixtral", ("post", 0), "sorted by expert"),
        ("vit", "hook_embed", "does not read tokens"),
        ("whisper", "hook_embed", "does not read tokens"),
    ]

    for name, key, said in mistakes:
        lens, _, inputs = family_lens(name)
        _, cache = lens.run_with_cache(inputs=inputs)
        with pytest.raises(ActivationNameError, match=said):
            cache[key]
    lens = opened(random_gpt2)
    _, exact = lens.run_with_cache(TEXT, mode="exact")
    with pytest.raises(CaptureError, match="mode='lazy'"):
        exact["attn_scores", 0]
    with pytest.raises(UsageError, match="leaves nothing; there are blocks"):
        lens.run_with_cache(TEXT, lambda name: False)
    with pytest.raises(ActivationNameError, match=r"no 'blocks\.0\.hook_nothing'"):
        lens.run_with_cache(TEXT, ["blocks.0.hook_nothing"])


def test_names_need_no_language_model_head() -> None:
    from transformers import BertModel

    bert = FAMILIES["bert"].build()
    lens = attnlens.load(model=BertModel(bert.config).eval(), tokenizer=FAMILIES["bert"].tokenizer())

    logits, cache = lens.run_with_cache("a b")

    assert logits is None
    assert cache["pattern", 0].shape[0] == 1
