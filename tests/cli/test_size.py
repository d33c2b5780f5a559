"""`attnlens size`: what a config says is what the model turns out to have."""

from __future__ import annotations

import json
from itertools import chain

import pytest
import torch
from family_models import FAMILIES
from torch.utils.flop_counter import FlopCounterMode

LENGTH = 8
LLAMA_8B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 8192, "dtype": "bfloat16",
}  # fmt: skip


def size_of(family, lengths=(LENGTH,)):
    from attnlens.models.sizing import model_size

    model = family.build()
    model.config.architectures = [family.architecture]
    return model, model_size(model.config, lengths=lengths)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_and_heads_are_those_of_the_model(name):
    from eager_truth import eager_attentions

    family = FAMILIES[name]

    model, size = size_of(family)

    eager = eager_attentions(model, family.inputs(batch=1))
    assert size.n_parameters == sum(parameter.numel() for parameter in model.parameters()) == model.num_parameters()
    found = {stack.letter: (stack.n_layers, stack.n_heads) for stack in size.stacks}
    assert found == {letter: (len(layers), layers[0].shape[1]) for letter, layers in eager.items()}


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if "decoder" in family.kind])
def test_the_cache_is_as_large_as_the_one_that_transformers_fills(name):
    family = FAMILIES[name]
    model, size = size_of(family)
    inputs = family.inputs(batch=1, length=LENGTH)
    if "decoder_input_ids" in inputs:
        inputs["decoder_input_ids"] = torch.full((1, LENGTH), 7)

    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values

    sides = [getattr(cache, side) for side in ("self_attention_cache", "cross_attention_cache") if hasattr(cache, side)]
    layers = chain.from_iterable(side.layers for side in sides or [cache])
    assert size.costs[0].kv_cache == sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)


@pytest.mark.parametrize(("name", "computed"), [("bert", 1), ("gpt2", (LENGTH + 1) / (2 * LENGTH))])
def test_attention_costs_what_torch_counts(name, computed):
    """Eager attention is all that multiplies batches of matrices here; it computes hidden cells as well."""
    family = FAMILIES[name]
    model, size = size_of(family)
    model.set_attn_implementation("eager")

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**family.inputs(batch=1, length=LENGTH))

    counted = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    assert counted > 0
    assert size.costs[0].attention_flops == counted * computed


def test_a_config_in_a_file_is_enough(cli, tmp_path):
    path = tmp_path / "llama.json"
    path.write_text(json.dumps(LLAMA_8B))

    plain, document = cli("size", path), json.loads(cli("size", path, "--json").out)

    assert (plain.code, plain.err) == (0, "")
    assert document["n_parameters"] == 8_030_261_248  # as Meta's card says: 8.03B
    assert document["kv_bytes_per_token"] == 32 * 2 * 8 * 128 * 2
    assert document["weight_bytes"] == 2 * document["n_parameters"]
    assert [cost["fits"] for cost in document["costs"]] == [True] * 4 + [False]
    assert "128 KiB per token" in plain.out
    assert "32,768*" in plain.out
    assert max(map(len, plain.out.splitlines()[1:])) <= 80


def test_presets_are_listed_and_told(cli):
    listed, told = json.loads(cli("size", "--presets", "--json").out), cli("size", "--preset", "mixtral-8x7b")

    assert {"gpt3", "bert-base", "gpt2"} <= {preset["name"] for preset in listed["presets"]}
    assert (told.code, told.err) == (0, "")
    for part in ("46,702,792,704", "12,879,925,248 for each token", "experts", "arXiv:2401.04088"):
        assert part in told.out


def test_precision_and_lengths_change_what_is_told(cli, bert):
    single, half = (
        json.loads(cli("size", bert, "--json", "--dtype", dtype, "--lengths", "16,32").out)
        for dtype in ("float32", "float16")
    )

    assert [cost["n_tokens"] for cost in single["costs"]] == [16, 32]
    assert single["weight_bytes"] == 2 * half["weight_bytes"]
    assert single["costs"][1]["lazy"] == 2 * half["costs"][1]["lazy"]
    assert single["costs"][1]["weights"] == half["costs"][1]["weights"]  # float32 at least


@pytest.mark.parametrize(
    ("config", "arguments", "code", "expected"),
    [
        ({"model_type": "mamba"}, [], 1, "state-space"),
        ({"model_type": "no-such-family"}, [], 1, "no-such-family"),
        (LLAMA_8B, ["--lengths", "many"], 2, "--lengths 128,512"),
        (LLAMA_8B, ["--lengths", "0"], 2, "--lengths 128,512"),
        (LLAMA_8B, ["--dtype", "int4"], 2, "bfloat16"),
        (LLAMA_8B | {"num_attention_heads": 3}, [], 1, "num_attention_heads=3, which does not divide"),
        (LLAMA_8B | {"num_hidden_layers": 0}, [], 1, "num_hidden_layers=0"),
        (LLAMA_8B, ["--preset", "gpt3"], 2, "name one model"),
    ],
)
def test_what_has_no_size_is_one_line(cli, tmp_path, config, arguments, code, expected):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))

    done = cli("size", path, *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert expected in done.err
    assert "bug" not in done.err


@pytest.mark.parametrize("name", ["no-such-model", "no-such.json", ""])
def test_a_config_that_is_not_there_is_one_line(cli, name):
    done = cli("size", name)

    assert (done.out, done.err.count("\n")) == ("", 1)
    assert done.code in (1, 2)
    assert "bug" not in done.err
