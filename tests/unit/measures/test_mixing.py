"""Rollout and flow against closed forms, against loops over transformers' own weights, and against networkx."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch
from attention_parts import FAMILIES_READ
from eager_truth import eager_attentions

from attnlens.errors import MeasureError
from attnlens.measures import mixing


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).pow(4).softmax(-1)


def rolled_out(patterns: list[np.ndarray]) -> list[np.ndarray]:
    """Token by token: half of a token stays, half comes from where it looks."""
    n = len(patterns[0])
    shares, layers = np.eye(n), []
    for pattern in patterns:
        new = np.zeros((n, n))
        for query in range(n):
            for key in range(n):
                new[query] += 0.5 * pattern[query, key] * shares[key]
            new[query] += 0.5 * shares[query]
        shares = new
        layers.append(shares)
    return layers


def test_identity_attention_gives_identity_rollout():
    identity = torch.eye(5).expand(3, 5, 5)

    mixed = mixing.rollout(identity)

    assert torch.equal(mixed, identity.double())


def test_rollout_without_residual_is_the_product_of_the_patterns():
    patterns = drawn(3, 5, 5)

    mixed = mixing.rollout(patterns, residual=0.0)

    torch.testing.assert_close(mixed[-1], (patterns[2].double() @ patterns[1].double() @ patterns[0].double()))


def test_rows_of_a_rollout_sum_to_one():
    mixed = mixing.rollout(drawn(4, 6, 6))

    torch.testing.assert_close(mixed.sum(-1), torch.ones(4, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_rollout_is_that_of_the_models_own_weights(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    weights = eager_attentions(family.model, family.inputs(run))
    first = family.stacks[0]
    expected = rolled_out([layer[0].mean(0).numpy() for layer in weights[first]])

    mixed = family.lens.measure("rollout", run, stack=first or None).values

    np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_rollout_of_an_encoder_decoder_follows_both_texts(opened_family):
    family = opened_family("t5")
    run = family.lens.capture(family.text)
    weights = {
        letter: [layer[0].mean(0).double().numpy() for layer in layers]
        for letter, layers in eager_attentions(family.model, family.inputs(run)).items()
    }
    encoder = rolled_out(weights["E"])[-1]
    # One long token axis: the decoder's tokens, then the encoder's.
    n_target, n_source = weights["X"][0].shape
    state = np.concatenate([np.eye(n_target), np.zeros((n_target, n_source))], axis=1)
    expected = []
    for own, cross in zip(weights["D"], weights["X"], strict=True):
        state = 0.5 * state + 0.5 * own @ state
        state = 0.5 * state + 0.5 * np.concatenate([np.zeros((n_target, n_target)), cross @ encoder], axis=1)
        expected.append(state)

    target = family.lens.measure("rollout", run, stack="D").values
    source = family.lens.measure("rollout", run, stack="X").values

    np.testing.assert_allclose(torch.cat([target, source], dim=-1), expected, atol=1e-5)
    torch.testing.assert_close(
        target.sum(-1) + source.sum(-1), torch.ones(target.shape[:2]).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_rollout_of_a_head_reads_what_the_layers_below_left(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    weights = [layer[0].double().numpy() for layer in eager_attentions(family.model, family.inputs(run))[""]]
    below = [np.eye(len(run.tokens)), *rolled_out([layer.mean(0) for layer in weights])]

    found = family.lens.measure("head-rollout", run).values
    one = family.lens.measure("head-rollout", run, head="L1H2").values

    for layer, heads in enumerate(weights):
        for head, pattern in enumerate(heads):
            np.testing.assert_allclose(found[layer, head], pattern @ below[layer], atol=1e-5)
    assert torch.equal(one, found[1, 2])


def test_three_nodes_by_hand():
    # Two layers of two tokens. Capacities (A + I) / 2: token 1 keeps .75 and gives .25 to token 0; token 0 keeps 1.
    pattern = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).expand(2, 2, 2)

    flow = mixing.attention_flow(pattern)

    # From token 1 to token 0: .25 at once and then 1, or .75 and then .25: together .5. To token 1: .75 twice.
    torch.testing.assert_close(flow, torch.tensor([[1.0, 0.0], [0.5, 0.75]], dtype=torch.float64), atol=1e-8, rtol=0)


def test_flow_through_one_layer_is_rollout():
    pattern = drawn(1, 6, 6)

    torch.testing.assert_close(mixing.attention_flow(pattern), mixing.rollout(pattern)[0], atol=1e-8, rtol=0)


def test_flow_is_never_less_than_rollout():
    patterns = drawn(3, 6, 6)

    assert bool((mixing.attention_flow(patterns) >= mixing.rollout(patterns)[-1] - 1e-8).all())


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_flow_is_networkx_max_flow_on_the_models_own_weights(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    weights = [layer[0].mean(0).double() for layer in eager_attentions(family.model, family.inputs(run))[""]]
    graph = networkx.DiGraph()
    n = len(run.tokens)
    for layer, pattern in enumerate(weights):
        for query in range(n):
            for key in range(n):
                capacity = 0.5 * float(pattern[query, key]) + 0.5 * (query == key)
                graph.add_edge((layer + 1, query), (layer, key), capacity=capacity)
    pairs = [(n - 1, 0), (n - 1, 2), (2, n - 1), (1, 1)]

    flow = family.lens.measure("attention-flow", run).values

    for query, key in pairs:
        expected = networkx.maximum_flow_value(graph, (len(weights), query), (0, key))
        assert float(flow[query, key]) == pytest.approx(expected, abs=1e-5)


def test_a_text_too_long_for_flow_is_sent_to_rollout():
    with pytest.raises(MeasureError, match=r"65 tokens.*at most 64.*rollout"):
        mixing.attention_flow(torch.eye(65)[None])


def test_attention_with_sinks_has_no_rollout_and_names_what_works(opened_family):
    family = opened_family("gpt_oss")

    with pytest.raises(MeasureError, match=r"sinks.*value-zeroing"):
        family.lens.measure("rollout", family.text)


def test_flow_of_a_decoder_with_an_encoder_is_refused(opened_family):
    family = opened_family("t5")

    with pytest.raises(MeasureError, match="rollout"):
        family.lens.measure("attention-flow", family.text)
