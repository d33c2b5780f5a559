"""Contributions of heads to a logit: they add up, and a head that nothing depends on contributes nothing."""

from __future__ import annotations

import pytest
import torch
from random_models import RandomModel

import attnlens
from attnlens.errors import CaptureError, UsageError
from attnlens.measures.attribution import attribute_to_gates

TEXT = "the keys to the cabinet"


def test_linear_score_is_attributed_to_its_coefficients() -> None:
    weights = torch.tensor([[1.0, -2.0, 0.0], [0.5, 3.0, 7.0]])

    found = attribute_to_gates(lambda gates: (gates * weights).sum((1, 2)), 2, 3, name="linear")

    torch.testing.assert_close(found.values, weights)
    assert found.total == pytest.approx(9.5)
    assert found.gap == pytest.approx(0, abs=1e-5)


def test_contributions_sum_to_the_difference_that_all_heads_make(random_model: RandomModel) -> None:
    lens = attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)

    found = lens.attribute_heads(TEXT, steps=200)

    assert found.values.shape == (lens.anatomy.n_layers, lens.anatomy.n_heads)
    assert abs(found.gap) < 0.05 * max(1.0, abs(found.total))
    assert abs(found.total) > 0.1


def test_head_whose_output_is_discarded_contributes_nothing(random_gpt2: RandomModel) -> None:
    random_gpt2.model.transformer.h[1].attn.c_proj.weight.data[7:14] = 0  # rows of head 1, 7 dimensions each
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    found = lens.attribute_heads(TEXT, "b", against="c")

    assert found.values[1, 1].abs() < 1e-6
    assert found.values[1, 0].abs() > 1e-4
    assert "minus" in found.score


def test_model_without_a_head_and_wrong_targets_are_refused(random_bert: RandomModel, random_gpt2: RandomModel) -> None:
    headless = attnlens.load(model=random_bert.model.bert, tokenizer=random_bert.tokenizer)
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    with pytest.raises(CaptureError, match="no language-model head"):
        headless.attribute_heads(TEXT)
    with pytest.raises(UsageError, match="not one token"):
        lens.attribute_heads(TEXT, "cabinet")
    with pytest.raises(UsageError, match="not one token"):
        attnlens.load(model=random_bert.model, tokenizer=random_bert.tokenizer).attribute_heads(TEXT, "中")
    with pytest.raises(UsageError, match="position 99"):
        lens.attribute_heads(TEXT, position=99)
