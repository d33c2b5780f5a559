"""What a model is made of and what it costs: against its own modules, closed forms, and what torch counts and keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from family_models import FAMILIES
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from attnlens.errors import UnsupportedModelError, UsageError
from attnlens.models.sizing import model_size
from attnlens.sizes.parameters import count_parameters
from attnlens.sizes.possible import refuse_impossible
from attnlens.sizes.presets import PRESETS, find_preset

# Published sizes that are rounded, or that count otherwise; all others must meet within 1 %.
ROUNDED = {"transformer-base", "transformer-big", "bert-large", "t5-base", "t5-large", "t5-11b"}


def counted_of(model):
    return count_parameters(model, model.config)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_all_parameters_and_each_is_where_its_module_is(name):
    model = FAMILIES[name].build()

    counted = counted_of(model)

    norms = {id(p): p for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}
    assert counted.parts.total == model.num_parameters()
    assert counted.parts.norms == sum(p.numel() for p in norms.values())
    assert counted.parts.attention > 0
    assert counted.parts.mlp + counted.parts.experts > 0
    assert counted.active <= counted.parts.total


def test_parts_have_the_closed_form_of_their_family():
    """GPT-2: 2 layers, width 21, MLP 44, 261 tokens, 64 positions. Mixtral: 4 layers of width 36, 6 heads on 3 of 8."""
    gpt2, mixtral = (counted_of(FAMILIES[name].build()) for name in ("gpt2", "mixtral"))

    assert gpt2.parts.to_json() == {
        "embeddings": 261 * 21 + 64 * 21,
        "attention": 2 * (21 * 63 + 63 + 21 * 21 + 21),
        "mlp": 2 * (21 * 44 + 44 + 44 * 21 + 21),
        "norms": 5 * 2 * 21,
    }
    assert gpt2.tied
    assert mixtral.parts.to_json() == {
        "embeddings": 261 * 36,
        "attention": 4 * (36 * 48 + 2 * 36 * 24 + 48 * 36),
        "experts": 4 * 5 * 3 * 36 * 44,
        "router": 4 * 5 * 36,
        "norms": 9 * 36,
        "head": 261 * 36,
    }
    assert not mixtral.tied


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_active_parameters_are_those_of_a_model_with_only_the_experts_that_run(name):
    family = FAMILIES[name]
    small = replace(family, settings={**family.settings, "num_local_experts": 2}).build()

    counted, fewer = counted_of(family.build()), counted_of(small)

    assert counted.active - counted.parts.router == small.num_parameters() - fewer.parts.router
    assert fewer.active == small.num_parameters()


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2", "llama", "gemma2", "t5", "bart"])
def test_the_linear_part_is_what_torch_counts_outside_of_attention(name):
    """Eager attention is all that multiplies batches of matrices."""
    family, length = FAMILIES[name], 8
    model = family.build()
    model.config.architectures = [family.architecture]
    model.set_attn_implementation("eager")
    inputs = family.inputs(batch=1, length=length)
    if "decoder_input_ids" in inputs:
        inputs["decoder_input_ids"] = torch.full((1, length), 7)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)

    counted = dict(counter.get_flop_counts()["Global"])
    counted.pop(torch.ops.aten.bmm)
    assert model_size(model.config, lengths=[length]).costs[0].linear_flops == sum(counted.values())


def kept_for_backward(model, n_tokens):
    """Bytes of every tensor that autograd keeps, weights left out and shared storage counted once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other tensor gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.full((1, n_tokens), 7))
    return sum(storage.nbytes() for storage in kept.values())


SHAPE = {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 4, "vocab_size": 50}
TRAINED = {
    "opt": (OPTForCausalLM, OPTConfig(**SHAPE, ffn_dim=384, dropout=0.0)),
    "bert": (BertForMaskedLM, BertConfig(**SHAPE, intermediate_size=384, hidden_dropout_prob=0.0,
                                         attention_probs_dropout_prob=0.0)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**SHAPE, activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0,
                                         attn_pdrop=0.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_activations_are_about_what_autograd_keeps(name):
    """The square part exactly where nothing else differs; the body within what kernels save beside it."""
    architecture, config = TRAINED[name]
    config.architectures = [architecture.__name__]
    model = architecture(config).train()
    expected = model_size(config, lengths=[48]).costs[0].activations

    kept = {}
    for kind in ("eager", "sdpa"):
        model.set_attn_implementation(kind)
        kept[kind] = kept_for_backward(model, 48)

    assert kept["eager"] == pytest.approx(expected.eager, rel=0.3)
    assert kept["sdpa"] == pytest.approx(expected.fused, rel=0.3)
    if name == "opt":
        assert kept["eager"] - kept["sdpa"] == expected.weights - expected.fused_weights


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_published_number_of_parameters(name):
    preset = find_preset(name)

    found = model_size(preset.config(), lengths=[128])

    within = 0.05 if name in ROUNDED else 0.01
    assert found.n_parameters == pytest.approx(preset.parameters, rel=within)
    assert found.counted.active == pytest.approx(preset.active or found.n_parameters, rel=0.02)
    assert preset.source


def test_gpt3_has_its_published_shape():
    found = model_size(find_preset("gpt3").config(), lengths=[2048])

    stack = found.stacks[0]
    assert (stack.n_layers, stack.n_heads, found.d_model, stack.d_head) == (96, 96, 12288, 128)
    assert find_preset("gpt3").settings["n_inner"] == 49152
    assert found.kv_bytes_per_token == 96 * 2 * 12288 * 2
    cost = found.costs[0]
    assert cost.linear_flops == pytest.approx(2 * 174.6e9 * 2048, rel=1e-3)
    assert cost.moved["eager"] - cost.moved["fused"] == 96 * 4 * 96 * 2048**2 * 2


def test_attention_outweighs_the_linear_part_from_the_crossing_on():
    length = model_size(find_preset("gpt2").config(), lengths=[1]).crossing

    below, above = model_size(find_preset("gpt2").config(), lengths=[length - 2, length + 1]).costs

    assert below.attention_flops < below.linear_flops
    assert above.attention_flops > above.linear_flops


def test_sharing_keys_divides_the_cache():
    found = model_size(find_preset("llama3-8b").config(), lengths=[1])

    assert found.kv_by_sharing == {"MHA": 4 * found.kv_bytes_per_token, "GQA": found.kv_bytes_per_token,
                                   "MQA": found.kv_bytes_per_token // 8}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_head": 3, "n_embd": 4096}, "n_head=3, which does not divide n_embd=4096"),
        ({"n_layer": 0}, "n_layer=0"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3}, "num_key_value_heads=3, which does not divide"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok=5"),
        ({"vocab_size": "many"}, "vocab_size=many"),
    ],
)  # fmt: skip
def test_sizes_that_no_model_can_have_are_named(settings, named):
    with pytest.raises(UnsupportedModelError, match=named):
        refuse_impossible(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_no_published_model_is_refused(name):
    refuse_impossible(PRESETS[name].config().to_dict())


def test_heads_may_be_wider_than_their_share():
    refuse_impossible({"hidden_size": 36, "num_attention_heads": 5, "head_dim": 8})
    refuse_impossible({"model_type": "gemma", "hidden_size": 36, "num_attention_heads": 5})


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(UsageError, match="gpt2-xl"):
        find_preset("gpt5")
