"""Predictions and last states side by side, the logit lens, and tokens replaced one at a time, against plain loops."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import pytest
import torch
from random_models import BUILDERS

import attnlens
from attnlens.capture.tokens import printable
from attnlens.errors import CaptureError, UsageError
from attnlens.interventions.edits import ablation
from attnlens.interventions.effects import effect
from attnlens.interventions.metrics import Divergence, Turn
from attnlens.interventions.outcomes import compare_predictions, compare_states, masked_text
from attnlens.measures.attribution import attribute_to_changed
from attnlens.models.targets import reading_position

TEXT = "the keys to the cabinet"


@cache
def opened(name: str) -> tuple[Any, Any]:
    model, tokenizer = BUILDERS[name]()
    return attnlens.load(model=model, tokenizer=tokenizer), model


@cache
def headless() -> Any:
    model, tokenizer = BUILDERS["bert"]()
    return attnlens.load(model=model.bert, tokenizer=tokenizer)


def zero_head(model: Any, layer: int, head: int) -> Any:
    """A hook that silences a head of GPT-2 in front of W_O."""

    def silence(_module, args):
        heads = args[0].clone().unflatten(-1, (model.config.n_head, -1))
        heads[..., head, :] = 0
        return (heads.flatten(-2),)

    return model.transformer.h[layer].attn.c_proj.register_forward_pre_hook(silence)


def spelled(lens: Any, token: int) -> str:
    return printable(lens.tokenizer.decode([token]).strip(" "))


@torch.no_grad()
def probabilities(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    return model(**tokenizer(text, return_tensors="pt")).logits[0, -1].double().softmax(-1)


def test_prediction_before_and_after_is_that_of_a_model_with_a_hook():
    lens, model = opened("gpt2")
    before = probabilities(model, lens.tokenizer, TEXT)
    hook = zero_head(model, 1, 2)
    after = probabilities(model, lens.tokenizer, TEXT)
    hook.remove()

    found = compare_predictions(lens, TEXT, ablation(lens, ["L1H2"]), count=3)

    ids = sorted({*before.topk(3).indices.tolist(), *after.topk(3).indices.tolist()}, key=lambda at: -float(before[at]))
    torch.testing.assert_close(found.before, before[ids], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.after, after[ids], rtol=1e-4, atol=1e-6)
    assert found.divergence == pytest.approx(float((before * (before / after).log()).sum()), rel=1e-4)
    assert [spelled(lens, token) for token in ids] == list(found.tokens)


def test_nothing_done_changes_nothing():
    found = compare_predictions(opened("gpt2")[0], TEXT)
    states = compare_states(headless(), TEXT)

    assert found.divergence == 0
    torch.testing.assert_close(found.before, found.after, rtol=0, atol=0)
    torch.testing.assert_close(states.turn, torch.zeros_like(states.turn), rtol=0, atol=0)


def test_last_states_of_a_model_without_a_head_turn_as_hidden_states_do():
    lens = headless()
    edit = ablation(lens, ["L0H1", "L2H3"])
    run = lens.capture(TEXT, points=("final",))
    with lens.intervene(edit):
        changed = lens.capture(TEXT, points=("final",))
    one, other = run.residual("final").double(), changed.residual("final").double()

    found = compare_states(lens, TEXT, edit)

    cosine = torch.nn.functional.cosine_similarity(one, other, dim=-1)
    torch.testing.assert_close(found.turn, 1 - cosine, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.length, other.norm(dim=-1) / one.norm(dim=-1), rtol=1e-5, atol=1e-6)
    words = slice(1, -1)  # all but [CLS] and [SEP]
    assert effect(lens, TEXT, edit, Turn()).change == pytest.approx(float((1 - cosine)[words].mean()), rel=1e-3)


def test_what_a_model_has_not_is_refused_with_what_it_has():
    lens = opened("gpt2")[0]

    with pytest.raises(CaptureError, match="last states can be compared instead"):
        compare_predictions(headless(), TEXT)
    with pytest.raises(UsageError, match="compare its predictions instead"):
        compare_states(lens, TEXT)
    with pytest.raises(UsageError, match="how far its prediction moves"):
        effect(lens, TEXT, ablation(lens, ["L0H0"]), Turn())
    with pytest.raises(CaptureError, match="metric Turn"):
        effect(headless(), TEXT, ablation(headless(), ["L0H0"]), Divergence())


def test_a_masked_text_hides_one_token_and_moves_no_other():
    lens = opened("bert")[0]
    run = lens.capture(TEXT, points=())

    text = masked_text(lens, run, 2)

    assert text == "the [MASK] to the cabinet"
    assert masked_text(lens, lens.capture(text, points=()), 2) == text
    for place, problem in [(0, "stands for no characters"), (99, "outside")]:
        with pytest.raises(UsageError, match=problem):
            masked_text(lens, run, place)
    with pytest.raises(UsageError, match="no mask token"):
        masked_text(opened("gpt2")[0], opened("gpt2")[0].capture(TEXT, points=()), 1)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [("gpt2", TEXT, -1), ("bert", "the [MASK] to the cabinet .", 2), ("bert", "the keys .", 2), ("bert", "...", -1)],
)
def test_output_is_read_at_the_mask_or_the_last_word(name, text, expected):
    lens = opened(name)[0]
    tokens = lens.capture(text, points=()).tokens

    assert reading_position(tokens, lens.tokenizer, lens.anatomy.causal) == expected % len(tokens)


@torch.no_grad()
def test_logit_lens_reads_each_layer_through_norm_and_head():
    lens, model = opened("gpt2")
    run = lens.capture(TEXT, points=("resid_post",))
    rows = [model.lm_head(model.transformer.ln_f(state)).double().softmax(-1) for state in run.residual("resid_post")]

    found = lens.logit_lens(run, 4)

    expected = torch.stack(rows).topk(4)
    torch.testing.assert_close(found.probability, expected.values, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.ids, expected.indices)
    assert found.spelled == {int(at): spelled(lens, at) for at in found.ids.unique()}


def test_logit_lens_needs_a_head():
    with pytest.raises(CaptureError, match="predict no tokens"):
        headless().logit_lens(TEXT)


@torch.no_grad()
def test_direct_attribution_sums_to_the_logit_of_the_target():
    lens, model = opened("gpt2")
    token = lens.tokenizer(" dog")["input_ids"][0]

    found = lens.attribute_directly(TEXT, token)

    logit = float(model(**lens.tokenizer(TEXT, return_tensors="pt")).logits[0, -1, token])
    parts = float(found.heads.sum() + found.attention_bias.sum() + found.mlp.sum()) + found.embedding + found.constant
    assert parts == pytest.approx(logit, rel=1e-3, abs=1e-3)


def joint(vectors: torch.Tensor) -> torch.Tensor:
    """Tokens 1 and 2 count together, 3 by itself, 0 never moves."""
    total = vectors.sum(-1)
    return total[:, 1] * total[:, 2] + 2 * total[:, 3]


@pytest.mark.parametrize("method", ["ablation", "shapley"])
def test_replaced_tokens_get_what_a_loop_over_orders_gives_them(method):
    vectors, baseline = torch.tensor([[1.0, 1], [2, 0], [1, 2], [0, 3]]), torch.zeros(4, 2)
    baseline[0] = vectors[0]
    moving = [1, 2, 3]
    orders = list(permutations(moving)) if method == "shapley" else [(at,) for at in moving]
    expected = torch.zeros(4)
    for order in orders:
        given = vectors.clone()
        for at in order:
            before = joint(given[None])
            given[at] = baseline[at]
            expected[at] += float(before - joint(given[None])) / (len(orders) if method == "shapley" else 1)

    values, total, _ = attribute_to_changed(joint, vectors, baseline, method, 400 if method == "shapley" else None)

    torch.testing.assert_close(values, expected, atol=0.6 if method == "shapley" else 1e-6, rtol=0)
    assert total == pytest.approx(float(joint(vectors[None]) - joint(baseline[None])))
    if method == "shapley":
        assert float(values.sum()) == pytest.approx(total, abs=1e-4)


def test_tokens_of_a_model_are_replaced_one_at_a_time():
    lens, model = opened("bert")
    encoded = lens.tokenizer(TEXT, return_tensors="pt")
    ids = encoded["input_ids"]

    def logit(given: torch.Tensor) -> float:
        with torch.no_grad():
            return float(model(**(encoded | {"input_ids": given})).logits[0, 2, ids[0, 2]])

    expected = []
    for at in range(ids.shape[1]):
        other = ids.clone()
        if 0 < at < ids.shape[1] - 1:
            other[0, at] = lens.tokenizer.mask_token_id
        expected.append(logit(ids) - logit(other))

    found = lens.attribute_tokens(TEXT, int(ids[0, 2]), position=2, method="ablation")

    torch.testing.assert_close(found.values, torch.tensor(expected), rtol=1e-3, atol=1e-4)
    assert (found.method, found.steps) == ("ablation", 0)
    assert found.values[0] == found.values[-1] == 0
    with pytest.raises(UsageError, match="gradients, ablation, shapley"):
        lens.attribute_tokens(TEXT, method="guesswork")
