"""Norm-weighted attention against loops over heads, queries and keys, and the law that parts sum to the output."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attention_parts import FAMILIES_READ, Parts, attention_parts

from attnlens.errors import MeasureError
from attnlens.measures import norms

POINTS = ("v", "attn_out", "resid_pre", "resid_post", "final", "embed")


def parts_of(family, run) -> list[Parts]:
    return attention_parts(family.model, family.inputs(run))


def linear_part(norm, sums: torch.Tensor, vector: torch.Tensor, query: int) -> torch.Tensor:
    """LayerNorm's effect on one part of its input, with the mean and the deviation of the whole input."""
    whole = sums[query]
    deviation = math.sqrt(float((whole - whole.mean()).square().mean()) + norm.eps)
    return (vector - vector.mean()) / deviation * norm.weight.detach().double()


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_norms_of_heads_are_those_of_the_vectors_moved(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=POINTS)

    for stack in family.stacks:
        found = family.lens.measure("norm-attention", run, stack=stack or None).values
        for part in (part for part in parts_of(family, run) if part.stack == stack):
            for head, query, key in np.ndindex(*part.pattern.shape):
                vector = part.pattern[head, query, key] * part.moved[head, key]
                assert float(found[part.layer, head, query, key]) == pytest.approx(float(vector.norm()), abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_norms_of_layers_are_those_of_the_sum_over_heads(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=POINTS)

    for stack in family.stacks:
        found = family.lens.measure("layer-norm-attention", run, stack=stack or None).values
        for part in (part for part in parts_of(family, run) if part.stack == stack):
            for query, key in np.ndindex(*part.pattern.shape[1:]):
                vector = sum(part.pattern[h, query, key] * part.moved[h, key] for h in range(len(part.pattern)))
                assert float(found[part.layer, query, key]) == pytest.approx(float(vector.norm()), abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_residual_and_norm_are_part_of_what_a_block_gives(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=POINTS)
    stack = family.stacks[0]

    found = family.lens.measure("block-norm-attention", run, stack=stack or None).values
    ratio = family.lens.measure("mixing-ratio", run, stack=stack or None).values

    for part in (part for part in parts_of(family, run) if part.stack == stack):
        vectors = torch.einsum("hqk,hkd->qkd", part.pattern, part.moved)
        sums = vectors.sum(1) + part.bias + part.residual
        for query in range(len(vectors)):
            own = [vectors[query, key] + (part.residual[query] if query == key else 0) for key in range(len(vectors))]
            if part.norm is not None:
                own = [linear_part(part.norm, sums, vector, query) for vector in own]
            expected = [float(vector.norm()) for vector in own]
            np.testing.assert_allclose(found[part.layer, query], expected, atol=1e-4)
            mixed = float(sum(own[key] for key in range(len(own)) if key != query).norm()) if len(own) > 1 else 0.0
            share = mixed / (mixed + expected[query])
            assert float(ratio[part.layer, query]) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(
    "name", [*FAMILIES_READ, "gpt_neox", "gemma2", "gemma3", "qwen3", "opt-post-norm", "bart", "falcon"]
)
def test_parts_and_biases_sum_to_what_the_block_gives(opened_family, name):
    from attnlens.models.readouts import blocks

    family = opened_family(name)
    cross = ("cross_out", "resid_mid") if "X" in family.stacks else ()
    run = family.lens.capture(family.text, points=(*POINTS, *cross))

    for stack in family.stacks:
        for _, block in blocks(family.lens.opened, run, stack):
            written = torch.einsum("hqk,hkd->qd", block.pattern, block.moved)
            written = written if block.bias is None else written + block.bias
            written = written if block.inner is None else with_bias(block.inner, written)
            total = block.residual + written
            total = total if block.outer is None else with_bias(block.outer, total)
            torch.testing.assert_close(total, block.outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "gpt2", "bert"])
def test_parts_scaled_by_the_norms_around_them_sum_to_the_output_less_biases(opened_family, name):
    from attnlens.models.readouts import attention_block

    family = opened_family(name)
    block = attention_block(family.lens.opened, family.lens.capture(family.text, points=POINTS), "", 1)

    pattern, moved, residual, sigma = block.scaled

    total = (torch.einsum("hqk,hkd->qd", pattern, moved) + residual) / sigma.to(residual)[:, None]
    constant = torch.zeros_like(residual) if block.bias is None else block.bias.expand_as(residual)
    constant = constant if block.outer is None else with_bias(block.outer, constant)
    torch.testing.assert_close(total + constant, block.outputs, atol=1e-5, rtol=1e-5)


def with_bias(norm, vectors: torch.Tensor) -> torch.Tensor:
    moved = norm.linear(vectors)
    return moved if norm.bias is None else moved + norm.bias


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_heads_and_bias_sum_to_the_attention_output_of_the_model(opened_family, name):
    from attnlens.models.readouts import attention_block

    family = opened_family(name)
    run = family.lens.capture(family.text, points=POINTS)
    stack = family.stacks[0]

    for layer in range(2):
        block = attention_block(family.lens.opened, run, stack, layer)
        total = torch.einsum("hqk,hkd->qd", block.pattern, block.moved)
        total = total if block.bias is None else total + block.bias
        torch.testing.assert_close(total, run.residual("attn_out", layer, stack=stack or None), atol=1e-5, rtol=1e-5)


def test_heads_that_move_opposite_vectors_cancel():
    pattern = torch.full((2, 3, 3), 1 / 3)
    moved = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    moved[1] = -moved[0]

    together = norms.layer_norms(pattern, moved)

    assert float(together.max()) == pytest.approx(0, abs=1e-7)
    assert float(norms.head_norms(pattern, moved).min()) > 0


def test_more_keys_than_are_held_at_once_give_the_same_norms():
    generator = torch.Generator().manual_seed(0)
    pattern = torch.rand(2, 3, 150, generator=generator).softmax(-1)
    moved = torch.randn(2, 150, 5, generator=generator)

    together = norms.layer_norms(pattern, moved)

    expected = torch.einsum("hqk,hkd->qkd", pattern, moved).norm(dim=-1)
    torch.testing.assert_close(together, expected)


def test_a_token_that_is_kept_has_ratio_zero_and_one_that_is_replaced_one():
    mixed, preserved = (
        torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    )

    ratio = norms.mixing_ratio(mixed, preserved)

    assert ratio[:2].tolist() == [0.0, 1.0]
    assert ratio[2].isnan()


def test_one_head_is_that_head_of_all(opened_family):
    family = opened_family("llama")
    run = family.lens.capture(family.text, points=POINTS)

    one = family.lens.measure("norm-attention", run, "L2H5").values

    torch.testing.assert_close(one, family.lens.measure("norm-attention", run).values[2, 5])


def test_families_that_hand_over_no_values_are_refused_with_what_works(opened_family):
    family = opened_family("gptj")

    with pytest.raises(MeasureError, match=r"no queries, keys or values.*head-value-zeroing"):
        family.lens.measure("norm-attention", family.text)
