"""Value zeroing against hooks that zero the values inside transformers' own modules."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from attnlens.measures import zeroing


def places(family, stack):
    """Per layer: the module that gives its output, the one that gives values, and where the values start in it."""
    model = family.model
    kind = model.config.model_type
    if kind == "bert":
        return [(layer, layer.attention.self.value, 0) for layer in model.bert.encoder.layer]
    if kind == "gpt2":
        return [(layer, layer.attn.c_attn, 2 * model.config.n_embd) for layer in model.transformer.h]
    if kind == "llama":
        return [(layer, layer.self_attn.v_proj, 0) for layer in model.model.layers]
    blocks = model.encoder.block if stack == "E" else model.decoder.block
    if stack == "X":
        return [(block, block.layer[1].EncDecAttention.v, 0) for block in blocks]
    return [(block, block.layer[0].SelfAttention.v, 0) for block in blocks]


def layer_output(family, inputs, place, key: int | None, columns: slice = slice(None)) -> np.ndarray:
    """What a layer gives with the values of `key` at zero in that layer."""
    layer, value, start = place
    kept = []

    def zero(_module, _args, output):
        edited = output.clone()
        if key is not None:
            edited[:, key, start:][..., columns] = 0
        return edited

    def keep(_module, _args, output):
        kept.append((output if isinstance(output, torch.Tensor) else output[0])[0].double().numpy())

    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(value.register_forward_hook(zero).remove)
        hooks.callback(layer.register_forward_hook(keep).remove)
        family.model(**inputs)
    return kept[0]


def cosine_distance(one: np.ndarray, other: np.ndarray) -> float:
    return 1 - float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize(
    ("name", "stack"), [("bert", ""), ("gpt2", ""), ("llama", ""), ("t5", "E"), ("t5", "D"), ("t5", "X")]
)
def test_distances_are_those_of_a_model_whose_values_are_zero(opened_family, name, stack):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    inputs = family.inputs(run)

    found = family.lens.measure("value-zeroing", run, stack=stack or None, shares=False).values

    for layer, place in enumerate(places(family, stack)):
        whole = layer_output(family, inputs, place, None)
        for key in range(found.shape[-1]):
            without = layer_output(family, inputs, place, key)
            expected = [cosine_distance(*pair) for pair in zip(whole, without, strict=True)]
            np.testing.assert_allclose(found[layer, :, key], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_one_heads_values_are_taken_away(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    d_head = family.lens.anatomy.d_head
    place = places(family, "")[1]

    found = family.lens.measure("head-value-zeroing", run, "L1H2", shares=False).values

    whole = layer_output(family, family.inputs(run), place, None)
    for key in range(found.shape[-1]):
        without = layer_output(family, family.inputs(run), place, key, slice(2 * d_head, 3 * d_head))
        expected = [cosine_distance(*pair) for pair in zip(whole, without, strict=True)]
        np.testing.assert_allclose(found[:, key], expected, atol=1e-5)


def test_a_head_of_all_heads_is_the_head_by_itself(opened_family):
    family = opened_family("llama")
    run = family.lens.capture(family.text)

    one = family.lens.measure("head-value-zeroing", run, "L1H4").values

    torch.testing.assert_close(one, family.lens.measure("head-value-zeroing", run).values[1, 4])


@pytest.mark.parametrize("name", ["gpt2", "gptj", "bloom", "mistral"])
def test_taking_away_a_value_that_nobody_reads_changes_nothing(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text)
    unseen = torch.stack([~run.visible(layer) for layer in range(run.n_layers)])

    found = family.lens.measure("value-zeroing", run, shares=False).values

    assert bool(unseen.any())
    assert float(found[unseen].abs().max()) == 0.0
    assert float(found[~unseen].max()) > 1e-3


def test_more_keys_than_run_at_a_time_give_the_same(opened_family):
    family = opened_family("bert")
    run = family.lens.capture("the cat sat on the mat")
    place = places(family, "")[2]

    found = family.lens.measure("value-zeroing", run, shares=False).values

    whole = layer_output(family, family.inputs(run), place, None)
    without = layer_output(family, family.inputs(run), place, 19)
    expected = [cosine_distance(*pair) for pair in zip(whole, without, strict=True)]
    np.testing.assert_allclose(found[2, :, 19], expected, atol=1e-5)


def test_both_segments_of_a_pair_run_again_as_they_did(opened_family):
    family = opened_family("bert")
    run = family.lens.capture(("the cat", "sat"))

    found = family.lens.measure("value-zeroing", run).values

    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:2]), atol=1e-5, rtol=0)


def test_shares_sum_to_one_and_a_row_without_change_has_none():
    shares = zeroing.shares_of_change(torch.tensor([[0.1, 0.3], [0.0, 0.0]]))

    assert shares[0].tolist() == pytest.approx([0.25, 0.75])
    assert bool(shares[1].isnan().all())


def test_opposite_vectors_are_two_apart():
    outputs = torch.tensor([[1.0, 2.0]])

    distances = zeroing.zeroing_distances(outputs, torch.stack([outputs, -outputs]))

    assert distances[0].tolist() == pytest.approx([0.0, 2.0], abs=1e-12)
