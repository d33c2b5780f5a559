"""ALTI against loops over queries and keys on vectors made by hand from the models' own modules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attention_parts import FAMILIES_READ, Parts, attention_parts

from attnlens.errors import MeasureError
from attnlens.measures import alti


def contributions(part: Parts) -> np.ndarray:
    """`max(0, |y_i|_1 - |y_i - T_i(x_j)|_1)` over the sum of each row, pair by pair."""
    n = part.pattern.shape[1]
    shares = np.zeros((n, n))
    for query in range(n):
        parts = []
        for key in range(n):
            vector = sum(part.pattern[head, query, key] * part.moved[head, key] for head in range(len(part.pattern)))
            parts.append(vector + (part.residual[query] if query == key else 0))
        total = sum(parts) + part.bias
        reached = total
        if part.norm is not None:
            deviation = math.sqrt(float((total - total.mean()).square().mean()) + part.norm.eps)
            weight, bias = part.norm.weight.detach().double(), part.norm.bias.detach().double()
            parts = [(vector - vector.mean()) / deviation * weight for vector in parts]
            reached = (total - total.mean()) / deviation * weight + bias
        for key in range(n):
            nearness = float(reached.abs().sum() - (reached - parts[key]).abs().sum())
            shares[query, key] = max(0.0, nearness)
        shares[query] /= shares[query].sum()
    return shares


@pytest.mark.parametrize("name", FAMILIES_READ)
def test_contributions_are_those_of_the_loops(opened_family, name):
    family = opened_family(name)
    run = family.lens.capture(family.text, points=("v", "attn_out", "resid_pre"))

    for stack in [letter for letter in family.stacks if letter != "X"]:
        found = family.lens.measure("alti", run, stack=stack or None).values
        for part in (part for part in attention_parts(family.model, family.inputs(run)) if part.stack == stack):
            np.testing.assert_allclose(found[part.layer], contributions(part), atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "gemma2"])
def test_rows_sum_to_one_over_any_number_of_layers(opened_family, name):
    family = opened_family(name)

    for measure in ("alti", "alti-rollout"):
        found = family.lens.measure(measure, family.text).values

        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), atol=1e-5, rtol=0)


def test_over_layers_contributions_are_multiplied_from_the_last_to_the_first():
    shares = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)

    mixed = alti.alti_rollout(shares)

    torch.testing.assert_close(mixed[2], (shares[2] @ shares[1] @ shares[0]).double())
    torch.testing.assert_close(mixed[0], shares[0].double())


def test_tokens_that_read_nothing_are_made_of_themselves():
    residual = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))

    shares = alti.alti_contributions(torch.eye(3)[None], torch.zeros(1, 3, 5), residual, residual)

    torch.testing.assert_close(shares, torch.eye(3, dtype=torch.float64))


def test_blocks_of_queries_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pattern = torch.rand(2, 7, 7, generator=generator).softmax(-1)
    moved, residual = torch.randn(2, 7, 5, generator=generator), torch.randn(7, 5, generator=generator)
    outputs = torch.einsum("hqk,hkd->qd", pattern, moved) + residual
    whole = alti.alti_contributions(pattern, moved, residual, outputs)

    monkeypatch.setattr(alti, "_NUMBERS_AT_ONCE", 2 * 7 * 5)

    torch.testing.assert_close(alti.alti_contributions(pattern, moved, residual, outputs), whole)


def test_cross_attention_has_no_contributions_and_names_what_works(opened_family):
    family = opened_family("t5")

    with pytest.raises(MeasureError, match="value-zeroing"):
        family.lens.measure("alti", family.text, stack="X")
