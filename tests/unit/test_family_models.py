"""The models that capture is tested on, and the truth it is compared with, keep the laws of attention themselves."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from eager_truth import eager_attentions, eager_generation, fused_weights, kept_rows, run_eagerly
from family_models import FAMILIES, N_VOCABULARY, FamilyModel
from torch import Tensor
from transformers import PreTrainedModel

CASES = [pytest.param(family, padding, id=f"{name}-{padding}") for name, family in FAMILIES.items()
         for padding in family.paddings]  # fmt: skip
GENERATING = [name for name, family in FAMILIES.items() if family.kind in ("decoder", "encoder-decoder", "speech")]
DOUBLED_BIAS = ("falcon-alibi", "falcon-sequential")  # transformers 5.23 adds their ALiBi twice in eager
SINKS = ("gpt_oss",)  # a share of each row goes to a learned sink
# Visible tokens to the left and to the right of a query, by layer; None is a layer without a window.
WINDOWS = {
    "mistral": [(3, 0)] * 4,
    "phi3": [(5, 0)] * 5,
    "qwen2": [None, None, (3, 0), (3, 0), (3, 0)],
    "gemma2": [(4, 0), None, (4, 0), None],
    "gemma3": [(4, 0), None, (4, 0), None],
    "gpt_oss": [(4, 0), None, (4, 0), None],
    "gpt_neo": [None, (4, 0), None, (4, 0)],
    "modernbert": [None, (3, 3), (3, 3), None, (3, 3)],
}


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def family(request: pytest.FixtureRequest) -> FamilyModel:
    return request.param


def real_weights(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, list[list[Tensor]]]:
    """By stack and layer and text: `[head query key]` without padding."""
    return {
        stack: [
            [weights[row][:, queries, keys] for row, (queries, keys) in enumerate(kept_rows(inputs, stack))]
            for weights in layers
        ]
        for stack, layers in eager_attentions(model, inputs).items()
    }


def test_attention_is_neither_flat_nor_saturated(family):
    model = family.build()

    stacks = real_weights(model, family.inputs())

    for layers in stacks.values():
        weights = torch.cat([text.flatten(0, 1) for layer in layers for text in layer])
        entropy = -torch.xlogy(weights, weights).sum(-1)
        assert weights.amax(-1).sub(weights.amin(-1)).max() > 0.3
        assert weights[:, 1:].std() > 0.05  # not all on one key
        assert entropy.max() > 0.5
        assert entropy.mean() > 0.1


def test_no_two_axes_are_equally_long(family):
    model = family.build()
    inputs = family.inputs(batch=1)
    width = model.get_input_embeddings().weight.shape[-1] if family.kind != "vision" else model.config.hidden_size

    stacks = eager_attentions(model, inputs)

    for layers in stacks.values():
        _, n_heads, n_queries, n_keys = layers[0].shape
        lengths = {len(layers), n_heads, *{n_queries, n_keys}, width}
        assert len(lengths) == 4 + (n_queries != n_keys)


@pytest.mark.parametrize(("family", "padding"), CASES)
def test_padding_changes_no_logit(family, padding):
    model = family.build()
    inputs = family.inputs(padding=padding)
    text = "E" if model.config.is_encoder_decoder else ""
    alone = [
        {name: tensor[row : row + 1] if name.startswith("decoder") else tensor[row : row + 1, queries]
         for name, tensor in inputs.items()}
        for row, (queries, _) in enumerate(kept_rows(inputs, text))
    ]  # fmt: skip

    with torch.no_grad():
        together = model(**inputs).logits
        apart = [model(**row).logits[0] for row in alone]

    assert together.isfinite().all()
    assert together.std() > 0.3
    assert together.dtype == torch.float32
    outputs = "D" if model.config.is_encoder_decoder else ""
    for row, (queries, _) in enumerate(kept_rows(inputs, outputs)):
        kept = together[row, queries] if family.kind != "vision" else together[row]
        torch.testing.assert_close(kept, apart[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("family", "padding"), CASES)
def test_truth_rows_sum_to_one(family, padding):
    model = family.build()

    stacks = real_weights(model, family.inputs(padding=padding))

    sums = torch.cat([text.sum(-1).flatten() for layers in stacks.values() for layer in layers for text in layer])
    if family.name in SINKS:
        assert sums.max() < 1
        assert sums.min() > 0
    else:
        torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(("family", "padding"), CASES)
def test_truth_is_causal_in_decoders_only(family, padding):
    model = family.build()

    stacks = real_weights(model, family.inputs(padding=padding))

    for stack, layers in stacks.items():
        looks_ahead = any(bool(text.triu(1).any()) for layer in layers for text in layer)
        assert looks_ahead == (family.kind != "decoder" and stack != "D")


@pytest.mark.parametrize("name", WINDOWS)
def test_truth_keeps_to_the_windows(name):
    family = FAMILIES[name]
    column = torch.arange(11)
    distance = column[None] - column[:, None]

    layers = eager_attentions(family.build(), family.inputs())[""]

    for weights, window in zip(layers, WINDOWS[name], strict=True):
        left, right = window or (10, 0 if family.kind == "decoder" else 10)
        visible = (distance >= -left) & (distance <= right)
        assert torch.equal((weights > 0).any(0).any(0), visible)


def test_truth_belongs_to_the_model_as_users_run_it(family):
    model = family.build()
    inputs = family.inputs()
    with torch.no_grad():
        default = model(**inputs).logits

    eager_attentions(model, inputs)

    with torch.no_grad():
        afterwards = model(**inputs).logits
    with run_eagerly(model), torch.no_grad():
        eager = model(**inputs).logits
    assert torch.equal(afterwards, default)
    if family.name in DOUBLED_BIAS:
        assert (eager - default).abs().max() > 0.1
    else:
        torch.testing.assert_close(eager, default, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["falcon", "falcon-grouped"])
def test_weights_by_the_fused_kernel_are_the_eager_ones(name):
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs(padding="right")
    eager = eager_attentions(model, inputs)[""]

    with fused_weights() as fused, torch.no_grad():
        model(**inputs)

    torch.testing.assert_close(fused, eager)


@pytest.mark.parametrize("name", DOUBLED_BIAS)
def test_doubled_bias_is_not_taken_for_the_truth(name):
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs()
    fused = eager_attentions(model, inputs)[""][0].log()
    model.config._attn_implementation = "eager"

    doubled = eager_attentions(model, inputs)[""][0].log()

    # One slope too many, whatever the query: 2**-4, 2**-8 and 2**-2 per token for three heads of eight dimensions.
    last = (doubled - fused)[:, :, -1]
    slopes = torch.tensor([2**-4, 2**-8, 2**-2]) / 8**0.5
    torch.testing.assert_close(last.diff(dim=-1), slopes[None, :, None].expand(2, 3, 10), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fails", [False, True])
def test_truth_leaves_the_model_as_it_was(family, fails):
    model = family.build()
    inputs = family.inputs()
    configs = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    before = [(config._attn_implementation, getattr(config, "use_cache", None)) for config in configs]

    def fail(*_: object) -> None:
        raise RuntimeError

    if fails:
        model.register_forward_hook(fail)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        eager_attentions(model, inputs)

    assert [(config._attn_implementation, getattr(config, "use_cache", None)) for config in configs] == before


@pytest.mark.parametrize("name", GENERATING)
def test_generated_steps_are_the_rows_of_one_forward(name):
    family = FAMILIES[name]
    model = family.build()
    inputs = {name: tensor for name, tensor in family.inputs().items() if name != "decoder_input_ids"}

    sequences, attentions = eager_generation(model, inputs, max_new_tokens=5)

    read = sequences[:, :-1]  # the last token is never a query
    if model.config.is_encoder_decoder:
        whole = eager_attentions(model, inputs | {"decoder_input_ids": read})
    else:
        whole = eager_attentions(model, {"input_ids": read, "attention_mask": torch.ones_like(read)})
    for stack in set(attentions) - {"E"}:
        assert len(attentions[stack]) == 5
        for layer, expected in enumerate(whole[stack]):
            last = attentions[stack][-1][layer][:, :, -1]  # a sliding cache has dropped the first columns
            torch.testing.assert_close(last, expected[:, :, -1, -last.shape[-1] :], atol=1e-5, rtol=1e-4)
    for got, expected in zip(attentions.get("E", ()), whole.get("E", ()), strict=True):
        torch.testing.assert_close(got, expected)


def test_kept_rows_are_those_of_the_mask():
    left = {"input_ids": torch.zeros(2, 5), "attention_mask": torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])}
    right = {"input_ids": torch.zeros(1, 5), "attention_mask": torch.tensor([[1, 1, 0, 0, 0]])}

    assert kept_rows(left, "") == [(slice(0, 5), slice(0, 5)), (slice(2, 5), slice(2, 5))]
    assert kept_rows(right, "E") == [(slice(0, 2), slice(0, 2))]
    assert kept_rows(right, "D") == [(slice(None), slice(None))]
    assert kept_rows(right, "X") == [(slice(None), slice(0, 2))]
    assert kept_rows({"pixel_values": torch.zeros(2, 3, 4, 4)}, "") == [(slice(None), slice(None))] * 2


def test_a_seed_fixes_every_weight(family):
    torch.manual_seed(1)
    model = family.build(seed=3)
    torch.manual_seed(2)

    again, other = family.build(seed=3).state_dict(), family.build(seed=4).state_dict()

    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert {name for name, _ in model.named_parameters() if torch.equal(again[name], other[name])} == fixed
    assert all("position" in name for name in fixed)  # sinusoids


def test_tied_weights_stay_tied(family):
    model = family.build()
    if family.kind == "vision":
        return
    part = model.decoder if family.architecture == "EncoderDecoderModel" else model

    shared = part.get_output_embeddings().weight is part.get_input_embeddings().weight

    untied = "gpt_neox gpt_neox-sequential gptj llama mistral mixtral qwen2 qwen3 phi3 gpt_oss".split()
    assert shared == (family.name not in untied)
    assert shared == part.config.tie_word_embeddings


def test_the_tokenizer_fits_the_model(family):
    tokenizer, model = family.tokenizer(), family.build()
    if family.kind == "vision":
        assert tokenizer is None
        return

    one, two = tokenizer("né"), tokenizer("né", "b")

    ids = [*one["input_ids"], *two["input_ids"], tokenizer.pad_token_id, tokenizer.eos_token_id]
    config = model.config if family.architecture != "EncoderDecoderModel" else model.config.encoder
    assert max(ids) < N_VOCABULARY == len(tokenizer) == config.vocab_size
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (config.pad_token_id, config.eos_token_id)
    assert tokenizer.decode(one["input_ids"], skip_special_tokens=True) == "né"
    assert tokenizer.decode(two["input_ids"], skip_special_tokens=True) == "néb"
    assert ("token_type_ids" in one) == family.takes_segments
