"""Logit lens and direct attribution against transformers' own heads, loops, and the law that shares sum up."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from attnlens.capture.sites import DECODER
from attnlens.errors import MeasureError
from attnlens.measures import logits
from attnlens.models.direct import DIRECT_POINTS, attribute_directly
from attnlens.models.reruns import batch_of_run, read_states
from attnlens.models.targets import Target

POINTS = (*DIRECT_POINTS, "resid_pre", "attn_out")


def heads_by_name(model):
    """The model's own way from the stream to the logits."""
    kind = model.config.model_type
    if kind == "bert":
        return model.cls
    if kind == "gpt2":
        return lambda h: model.lm_head(model.transformer.ln_f(h))
    if kind == "llama":
        return lambda h: model.lm_head(model.model.norm(h))
    if kind == "gemma2":
        cap = model.config.final_logit_softcapping
        return lambda h: cap * torch.tanh(model.lm_head(model.model.norm(h)) / cap)
    if kind == "t5":
        return lambda h: model.lm_head(model.decoder.final_layer_norm(h) * model.config.d_model**-0.5)
    if kind == "bart":
        return lambda h: model.lm_head(h) + model.final_logits_bias
    return lambda h: model.lm_head(h)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "gemma2", "t5", "bart", "opt-post-norm"])
def test_each_layer_is_read_by_the_models_own_head(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    with torch.no_grad():
        expected = heads_by_name(family.model)(run.residual("resid_post"))

    found = read_states(family.lens.opened, batch_of_run(family.lens.opened, run), run.residual("resid_post"))

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra", "albert", "modernbert", "deberta-v2",
    "mpnet", "gpt2", "gptj", "opt", "opt-post-norm", "bloom", "llama", "mixtral", "gemma2", "t5", "bart", "bert-gpt2",
])  # fmt: skip
def test_the_last_layer_read_is_what_the_model_says(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)

    found = read_states(family.lens.opened, batch_of_run(family.lens.opened, run), run.residual("resid_post"))
    agrees = family.lens.measure("logit-lens-agreement", run).values
    divergence = family.lens.measure("logit-lens-divergence", run).values

    torch.testing.assert_close(found[-1], run.logits, atol=1e-6, rtol=1e-6)
    assert bool((agrees[-1] == 1).all())
    assert float(divergence[-1].max()) < 1e-9


def test_a_layer_that_says_something_else_by_hand():
    final = torch.tensor([[0.0, math.log(3.0)]])
    layer = torch.tensor([[[math.log(9.0), 0.0]]])

    reading = logits.read_lens(layer, final)

    assert reading.agrees.tolist() == [[0.0]]
    assert reading.rank.tolist() == [[1]]
    assert reading.first_choice.tolist() == [[0]]
    assert float(reading.probability) == pytest.approx(0.1)
    expected = 0.25 * math.log(0.25 / 0.9) + 0.75 * math.log(0.75 / 0.1)
    assert float(reading.divergence) == pytest.approx(expected)


def test_a_token_that_is_never_said_adds_nothing_and_not_a_number_stays_one():
    final = torch.tensor([[0.0, 0.0, -torch.inf], [torch.nan, 0.0, 0.0]])

    reading = logits.read_lens(final[None], final)

    assert float(reading.divergence[0, 0]) == 0
    assert reading.divergence[0, 1].isnan()


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neox", "gpt_neox-sequential", "gptj", "bloom", "falcon",
    "gpt_neo", "mixtral", "qwen3", "phi3", "gpt_oss", "gemma2", "gemma3", "t5", "bert-gpt2",
])  # fmt: skip
def test_shares_sum_to_the_logit_difference(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=DIRECT_POINTS)
    cap = getattr(family.model.config, "final_logit_softcapping", None)
    given = run.logits.double() if not cap else cap * torch.atanh(run.logits.double() / cap)

    for target in (Target(2, 17, 31, ""), Target(len(run.tokens) - 1, 31, None, "")):
        found = attribute_directly(family.lens.opened, run, target)
        crossed = 0.0 if found.cross_heads is None else float(found.cross_heads.sum())
        parts = (found.heads.sum(), found.mlp.sum(), found.attention_bias.sum())
        total = found.embedding + sum(float(part) for part in parts) + crossed + found.constant

        assert total == pytest.approx(float(target.of(given)), abs=1e-4)
        assert abs(found.gap) < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shares_of_heads_are_those_of_loops_over_the_models_weights(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=POINTS)
    model, position = family.model, len(run.tokens) - 1
    norm = model.transformer.ln_f if name == "gpt2" else model.model.norm
    direction = (model.lm_head.weight[17] - model.lm_head.weight[31]).detach().double()
    last = run.residual("resid_post")[-1, position].double()
    centred = last - last.mean() if name == "gpt2" else last
    sigma = math.sqrt(float(centred.square().mean()) + (norm.eps if name == "gpt2" else norm.variance_epsilon))

    found = family.lens.measure("logit-attribution", run, target=17, against=31, position=position).values
    mlp = family.lens.measure("mlp-logit-attribution", run, target=17, against=31, position=position).values

    def share(vector: torch.Tensor) -> float:
        part = vector - vector.mean() if name == "gpt2" else vector
        return float((part / sigma * norm.weight.detach().double()) @ direction)

    n_heads, d_head = family.lens.anatomy.n_heads, family.lens.anatomy.d_head
    for layer in range(run.n_layers):
        if name == "gpt2":
            matrix = model.transformer.h[layer].attn.c_proj.weight.detach().double()
        else:
            matrix = model.model.layers[layer].self_attn.o_proj.weight.detach().double().T
        for head in range(n_heads):
            z = run.residual("z", layer)[head, position].double()
            write = z @ matrix[head * d_head : (head + 1) * d_head]
            assert float(found[layer, head]) == pytest.approx(share(write), abs=1e-5)
        assert float(mlp[layer]) == pytest.approx(share(run.residual("mlp_out")[layer, position].double()), abs=1e-5)


def test_effects_of_a_head_are_its_shares_token_by_token(opened_family):
    family = opened_family("gpt2")
    run = family.lens.capture(family.text, points=POINTS)

    effects = family.lens.measure("head-logit-effects", run, "L1H2", position=4).values
    every = family.lens.measure("head-logit-effects", run, position=4).values

    shares = [
        float(family.lens.measure("logit-attribution", run, "L1H2", target=token, position=4).values)
        for token in (0, 17, 260)
    ]
    np.testing.assert_allclose(effects[[0, 17, 260]], shares, atol=1e-4)
    torch.testing.assert_close(every[1, 2], effects)


def test_tokens_stand_in_the_order_of_their_effects():
    promoted, suppressed = logits.top_tokens(torch.tensor([0.5, -3.0, 2.0, -1.0]), count=2)

    assert promoted.tolist() == [2, 0]
    assert suppressed.tolist() == [1, 3]


def test_cross_attention_has_shares_of_its_own(opened_family):
    family = opened_family("t5")
    run = family.lens.capture(family.text, points=POINTS)
    found = attribute_directly(family.lens.opened, run, Target(3, 17, None, ""))

    own = family.lens.measure("logit-attribution", run, stack=DECODER, target=17, position=3).values
    cross = family.lens.measure("logit-attribution", run, stack="X", target=17, position=3).values

    assert torch.equal(own, found.heads)
    assert torch.equal(cross, found.cross_heads)
    with pytest.raises(MeasureError, match="another stream"):
        family.lens.measure("logit-attribution", run, stack="E", target=17)


@pytest.mark.parametrize("name", ["bert", "opt-post-norm", "bart"])
def test_post_norm_models_have_no_direct_attribution_and_name_what_works(opened_family, name):
    family = opened_family(name)

    with pytest.raises(MeasureError, match=r"a norm in every layer.*relevance"):
        family.lens.measure("logit-attribution", family.text)


def test_a_head_with_a_layer_inside_is_not_linear(opened_family):
    family = opened_family("modernbert")

    with pytest.raises(MeasureError, match="more than a linear map"):
        family.lens.measure("logit-attribution", family.text)


def test_a_run_of_other_tokens_is_not_taken_for_this_one(opened_family):
    family = opened_family("gpt2")
    run = family.lens.capture("the cat")
    other = replace(run, tokens=family.lens.capture("the dog").tokens)

    with pytest.raises(MeasureError, match="does not give this run"):
        family.lens.measure("logit-lens-rank", other)


def test_the_masked_token_is_what_is_read_where_there_is_one(opened_family):
    family = opened_family("bert")
    run = family.lens.capture("the <mask> sat")
    place = [token.label for token in run.tokens].index("<mask>")

    found = family.lens.measure("relevance", run).values

    torch.testing.assert_close(found, family.lens.measure("relevance", run, position=place).values)
    assert float((found - family.lens.measure("relevance", run, position=-1).values).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert"])
def test_a_model_in_bfloat16_is_split_as_in_float32(name):
    from family_models import FAMILIES

    import attnlens

    family = FAMILIES[name]
    measure = "mixing-ratio" if name == "bert" else "logit-attribution"
    options = {} if name == "bert" else {"target": 17}

    wide, narrow = (
        attnlens.load(model=family.build().to(dtype), tokenizer=family.tokenizer()).measure(
            measure, "the cat", **options
        )
        for dtype in (torch.float32, torch.bfloat16)
    )

    gap = float((wide.values - narrow.values).abs().max())
    assert gap < 0.1 * float(wide.values.abs().max())


def hook_count(model) -> int:
    """transformers' recording of attentions leaves hooks of its own."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_running_again_leaves_no_hook_behind(opened_family, fails):
    from attnlens.models.reruns import zeroed_outputs

    family = opened_family("gpt2")
    opened, run = family.lens.opened, family.lens.capture(family.text)
    batch = batch_of_run(opened, run)
    states = torch.zeros(2, 3, 5) if fails else run.residual("resid_post")
    before = hook_count(family.model)

    list(zeroed_outputs(opened, batch, ""))
    with suppress(RuntimeError):
        read_states(opened, batch, states)

    assert hook_count(family.model) == before
    assert family.model.config._attn_implementation == "sdpa"
