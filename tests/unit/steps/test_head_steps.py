"""The steps of a head, multiplied out here in plain torch, are what the model's own modules gave; in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from family_models import FAMILIES
from opened_families import opened
from torch import Tensor

import attnlens
from attnlens.errors import HeadAddressError, UsageError
from attnlens.heads import Head
from attnlens.report.inside.head_view import head_steps_view
from attnlens.steps.head import head_steps
from attnlens.steps.heads import many_heads

CLOSE = 1e-5
NO_PRODUCTS = ("deberta-v2",)  # whose scores hold products with positions too
TURNED = (
    "modernbert gpt_neox gpt_neox-sequential gptj falcon falcon-grouped llama mistral mixtral qwen2 qwen3 gemma2 "
    "gemma3 phi3 gpt_oss"
).split()
BIASED = ("mpnet", "bloom", "falcon-alibi", "falcon-sequential", "t5")
FACTORS = {"t5": 1.0, "gpt_neo": 1.0, "gemma2": 10**-0.5, "gemma3": 3**-0.5, "gpt2-upcast": 7**-0.5 / 2}


def stacks_of(lens: Any) -> list[Any]:
    return list(lens.anatomy.stacks)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_steps_of_all_heads_multiply_out_to_what_the_layer_writes(name):
    lens, run, inputs = opened(name)
    for stack in stacks_of(lens):
        layer = stack.attention_layers[-1]
        found = many_heads(lens, run, layer, -1, stack.letter or None, inputs=inputs)
        gave = output_of_projection(lens, run, stack.letter, layer, inputs)

        heads = [multiplied_out(steps) for steps in found.heads]
        total = torch.stack(heads).sum(0) + (0 if found.bias is None else found.bias)
        assert gap(total, gave) < CLOSE
        assert found.gap < CLOSE
        assert gap(torch.stack(heads), found.writes) < CLOSE
        assert float(found.shares.sum()) == pytest.approx(1)
        for number, steps in enumerate(found.heads):
            own = run.attention(head=Head(layer, number, stack.letter))[-1].double()
            assert gap(steps.weights, own) < CLOSE
            assert all(check.gap < CLOSE for check in steps.checks)
            assert {check.key for check in steps.checks} == (
                {"attention", "output", "layer"} | (set() if name in NO_PRODUCTS else {"torch"})
            )


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NO_PRODUCTS])
def test_a_step_is_there_if_the_model_has_it(name):
    lens, run, inputs = opened(name)
    stack = stacks_of(lens)[0]

    steps = head_steps(lens, run, Head(stack.attention_layers[-1], stack.n_heads - 1, stack.letter), -1, inputs=inputs)

    assert steps.scaling == pytest.approx(FACTORS.get(name, len(steps.q) ** -0.5))
    assert (steps.unscaled is None) == (steps.scaling == 1)
    assert (steps.rotation is not None) == (name in TURNED)
    assert (steps.added is not None) == (name in BIASED)
    assert steps.softcap == (3.0 if name == "gemma2" else None)
    assert (steps.sink is not None) == (name == "gpt_oss")
    assert steps.absent == {}
    if steps.rotation is not None:
        torch.testing.assert_close(turned(steps.q_before, steps.query, steps.rotation), steps.q)
        at = len(steps.keys) - 2
        torch.testing.assert_close(turned(steps.keys_before[at], at, steps.rotation), steps.keys[at])
        torch.testing.assert_close(steps.keys_before[0], steps.keys[0])


def test_what_a_model_adds_that_builds_its_own_scores_is_its_bias():
    lens, run, _ = opened("bloom")

    found = [head_steps(lens, run, Head(3, head), -1) for head in range(3)]

    for steps, slope in zip(found, (1 / 16, 1 / 256, 1 / 4), strict=True):  # Press et al. 2021, for three heads
        distance = torch.arange(len(steps.keys)).flip(0).double()
        assert steps.added_is_rest
        torch.testing.assert_close(steps.added - steps.added[-1], -slope * distance, rtol=1e-4, atol=1e-5)


def test_why_products_are_not_shown_is_said():
    lens, run, _ = opened("deberta-v2")

    steps = head_steps(lens, run, "L0H1", 2)

    assert (steps.q, steps.products, steps.unscaled) == (None, None, None)
    assert "read more than the tokens" in steps.absent["query"]


def test_a_shared_key_value_head_is_the_same_for_those_that_share_it():
    lens, run, _ = opened("llama")

    found = [head_steps(lens, run, Head(1, head), 2) for head in range(6)]

    assert [steps.shared_by for steps in found] == [(0, 1), (0, 1), (2, 3), (2, 3), (4, 5), (4, 5)]
    assert torch.equal(found[4].keys, found[5].keys)
    assert torch.equal(found[4].values, found[5].values)
    assert not torch.equal(found[3].keys, found[4].keys)


def test_what_is_hidden_has_no_weight_and_no_place_in_the_unscaled_row():
    lens, run, _ = opened("gpt2")

    steps = head_steps(lens, run, "L1H2", 2)

    assert steps.visible.tolist() == [True] * 3 + [False] * (len(run.tokens) - 3)
    assert not steps.weights[3:].any()
    torch.testing.assert_close(steps.unscaled[:3], (steps.keys[:3] @ steps.q).softmax(0))
    assert not steps.unscaled[3:].any()


@pytest.mark.parametrize(("head", "query", "error"), [
    ("L9H0", 0, HeadAddressError), ("L0H7", 0, HeadAddressError), ("EL0H0", 0, HeadAddressError),
    ("L0H0", 99, UsageError),
])  # fmt: skip
def test_what_does_not_exist_is_refused_by_name(head, query, error):
    lens, run, _ = opened("gpt2")

    with pytest.raises(error, match=r"no query 99|does not exist|no attention"):
        head_steps(lens, run, head, query)


def test_half_precision_is_told_apart_from_a_step_that_is_missing():
    lens = attnlens.load("attnlens/tiny-llama", dtype="bfloat16")
    run = lens.capture("The keys are here.", points=("final",))
    labels = tuple(token.label for token in run.tokens)

    steps = head_steps(lens, run, "L1H2", 3)

    view = head_steps_view(steps, labels, labels)
    assert CLOSE < steps.gap < steps.limit == pytest.approx(16 * 2**-7)  # 8 bits of a number are kept
    assert view.exact
    assert "which is what bfloat16 keeps" in view.summary


def test_torchs_own_layers_are_taken_apart_too():
    layer = torch.nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, dropout=0.0)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    inputs = torch.randn(1, 7, 12, generator=torch.Generator().manual_seed(0))
    lens = attnlens.load(model=model, example=torch.randn(2, 9, 12))

    steps = head_steps(lens, lens.capture(inputs=inputs), "L0H1", 3, inputs=inputs)

    own = model.layers[0].self_attn
    with torch.no_grad():
        gave, weights = own(inputs, inputs, inputs, average_attn_weights=False)
    assert gap(steps.weights, weights[0, 1, 3].double()) < CLOSE
    assert gap(steps.layer_output, gave[0, 3].double()) < CLOSE


def multiplied_out(steps: Any) -> Tensor:
    """What the head writes, by what the steps show."""
    if steps.q is None:
        weights = steps.logits.softmax(-1)
    else:
        scores = torch.einsum("kd,d->k", steps.keys, steps.q) * steps.scaling
        if steps.softcap is not None:
            scores = torch.tanh(scores / steps.softcap) * steps.softcap
        scores = scores if steps.added is None else scores + steps.added
        powers = torch.where(steps.visible, (scores - scores[steps.visible].max()).exp(), 0.0)
        sink = 0 if steps.sink is None else (steps.sink - scores[steps.visible].max()).exp()
        weights = powers / (powers.sum() + sink)
    return torch.einsum("k,kv,vm->m", weights, steps.values, steps.output)


def turned(vector: Tensor, position: int, rotation: Any) -> Tensor:
    """A vector turned at its position, as multiplication of complex numbers."""
    n = len(rotation.frequencies)
    pairs = vector[: 2 * n]
    pairs = torch.stack(pairs.chunk(2), -1) if rotation.halves else pairs.view(n, 2)
    turn = torch.polar(torch.ones(n, dtype=torch.float64), position * rotation.frequencies)
    made = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn)
    flat = made.T.reshape(-1) if rotation.halves else made.reshape(-1)
    return torch.cat([flat, vector[2 * n :]])


def output_of_projection(lens: Any, run: Any, letter: str, layer: int, inputs: Any) -> Tensor:
    """What W_O gave at the last query, by a hook of the test's own; the last call of a shared module."""
    home = "D" if letter == "X" else letter
    path = lens.opened.wirings[home].projections["cross" if letter == "X" else "self"]
    module = lens.opened.stacks[home].layers[-1].get_submodule(path)
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    if inputs is None:
        own = torch.tensor([[token.id for token in run.tokens]])
        inputs = {"input_ids": own}
        if run.source is not None:
            inputs = {"input_ids": torch.tensor([[t.id for t in run.source.tokens]]), "decoder_input_ids": own}
    with torch.no_grad():
        lens.model(**inputs)
    hook.remove()
    return seen[-1].reshape(-1, seen[-1].shape[-1])[-1].double()


def gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
