"""Chefer's rules against numpy loops over transformers' own weights and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from eager_truth import run_eagerly

from attnlens.errors import MeasureError, UsageError
from attnlens.measures import relevance


def weights_and_gradients(family, run, position: int, token: int) -> dict[str, list[np.ndarray]]:
    """Mean over heads of the positive part of weight times gradient, by transformers' `output_attentions`."""
    names = {"": "attentions"} if run.source is None else {
        "E": "encoder_attentions", "D": "decoder_attentions", "X": "cross_attentions"
    }  # fmt: skip
    caching = None if family.model.config.model_type == "bert" else False
    with run_eagerly(family.model, use_cache=caching), torch.enable_grad():
        outputs = family.model(**family.inputs(run), output_attentions=True)
        found = {}
        for stack, name in names.items():
            weights = getattr(outputs, name)
            score = outputs.logits[0, position, token]
            gradients = torch.autograd.grad(score, weights, retain_graph=True)
            found[stack] = [
                np.maximum((weight * gradient)[0].detach().double().numpy(), 0).mean(0)
                for weight, gradient in zip(weights, gradients, strict=True)
            ]
    return found


def carried(weights: list[np.ndarray]) -> np.ndarray:
    relevance = np.eye(len(weights[0]))
    for layer in weights:
        relevance = relevance + layer @ relevance
    return relevance


def normalised(matrix: np.ndarray) -> np.ndarray:
    result = np.eye(len(matrix))
    for row in range(len(matrix)):
        rest = matrix[row] - np.eye(len(matrix))[row]
        if rest.sum() > 0:
            result[row] += rest / rest.sum()
    return result


@pytest.mark.parametrize(("name", "position"), [("bert", 3), ("gpt2", -1), ("llama", 4), ("gptj", -1), ("gemma2", -2)])
def test_relevance_is_that_of_the_loops(opened_family, name, position):
    family = opened_family(name)
    run = family.lens.capture(family.text, logits=True)
    expected = carried(weights_and_gradients(family, run, position, 17)[""])[position]

    found = family.lens.measure("relevance", run, target=17, position=position).values

    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_relevance_crosses_from_the_target_to_the_source(opened_family):
    family = opened_family("t5")
    run = family.lens.capture(family.text, logits=True)
    weights = weights_and_gradients(family, run, -1, 17)
    encoder = carried(weights["E"])
    own, source = np.eye(len(run.tokens)), np.zeros((len(run.tokens), len(encoder)))
    for self_weights, cross_weights in zip(weights["D"], weights["X"], strict=True):
        own, source = own + self_weights @ own, source + self_weights @ source
        source = source + normalised(own).T @ cross_weights @ normalised(encoder)

    target_side = family.lens.measure("relevance", run, target=17, position=-1).values
    source_side = family.lens.measure("relevance", run, target=17, position=-1, stack="X").values

    np.testing.assert_allclose(target_side, own[-1], atol=1e-4)
    np.testing.assert_allclose(source_side, source[-1], atol=1e-4)


def test_the_gradient_of_a_difference_is_another(opened_family):
    family = opened_family("gpt2")

    alone = family.lens.measure("relevance", family.text, target=17).values
    difference = family.lens.measure("relevance", family.text, target=17, against=31).values

    assert float((alone - difference).abs().max()) > 1e-3


def test_one_layer_by_hand():
    pattern = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.2, 0.8]]])
    gradient = torch.tensor([[[0.0, 0.0], [2.0, -4.0]], [[0.0, 0.0], [5.0, 1.0]]])

    weights = relevance.relevant_weights(pattern, gradient)
    found = relevance.self_relevance(weights[None])

    assert weights.tolist() == [[0.0, 0.0], pytest.approx([1.0, 0.4])]
    assert found.tolist() == [[1.0, 0.0], pytest.approx([1.0, 1.4])]


def test_without_gradient_a_token_is_relevant_to_itself_only():
    found = relevance.self_relevance(torch.zeros(3, 4, 4))

    assert torch.equal(found, torch.eye(4, dtype=torch.float64))


def test_a_target_that_is_no_token_is_refused(opened_family):
    family = opened_family("gpt2")

    with pytest.raises(UsageError, match="not one token"):
        family.lens.measure("relevance", family.text, target="several tokens")
    with pytest.raises(UsageError, match="0 to 260"):
        family.lens.measure("relevance", family.text, target=261)
    with pytest.raises(UsageError, match="position 99"):
        family.lens.measure("relevance", family.text, position=99)


def test_gradients_in_lazy_mode_say_which_mode_to_use(opened_family):
    family = opened_family("gpt2")

    with pytest.raises(MeasureError, match="exact"):
        family.lens.measure("relevance", family.text, mode="lazy")


def test_frozen_weights_have_the_same_gradients(opened_family):
    from family_models import FAMILIES

    import attnlens

    family = opened_family("llama")
    frozen = FAMILIES["llama"].build().requires_grad_(False)
    lens = attnlens.load(model=frozen, tokenizer=family.lens.tokenizer)

    found = lens.measure("relevance", family.text, target=17).values

    assert torch.equal(found, family.lens.measure("relevance", family.text, target=17).values)
    assert all(parameter.grad is None for parameter in family.model.parameters())


def test_a_model_without_logits_is_sent_to_a_measure_that_needs_none(minilm):
    import attnlens

    with pytest.raises(MeasureError, match=r"no language-model head.*rollout"):
        attnlens.load(minilm).measure("relevance", "The cat sat.")
