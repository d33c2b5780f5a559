"""Attribution: shares add up, nothing comes from what changes nothing, and each method against a loop of its own."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from captum.attr import LayerIntegratedGradients, LLMGradientAttribution, TextTokenInput
from family_models import FAMILIES
from random_models import BUILDERS, RandomModel
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import attnlens
from attnlens.errors import CaptureError, MeasureError, UsageError
from attnlens.measures.attribution import attribute_to_gates

TEXT = "the keys to the cabinet"


class Opened(NamedTuple):
    """An opened tiny model and what to ask it about."""

    lens: Any
    model: Any
    text: Any


@cache
def opened(name: str) -> Opened:
    """BERT, GPT-2 and LLaMA with wide weights, T5 with narrower ones: wide ReLUs take tens of thousands of steps."""
    if name == "t5":
        family = replace(FAMILIES["t5"], gain=0.5)
        model = family.build()
        return Opened(attnlens.load(model=model, tokenizer=family.tokenizer()), model, ("the cat", "le chat"))
    model, tokenizer = BUILDERS[name]()
    return Opened(attnlens.load(model=model, tokenizer=tokenizer), model, TEXT)


MODELS_AND_STACKS = [("bert", None), ("gpt2", None), ("llama", None), ("t5", "E"), ("t5", "D")]


def test_linear_score_is_attributed_to_its_coefficients():
    weights = torch.tensor([[1.0, -2.0, 0.0], [0.5, 3.0, 7.0]])

    for method in ("gradients", "ablation", "shapley"):
        found = attribute_to_gates(lambda gates: (gates * weights).sum((1, 2)), 2, 3, name="linear", method=method)

        torch.testing.assert_close(found.values, weights)
        assert found.total == pytest.approx(9.5)
        assert found.gap == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("method", "share"), [("gradients", 0.5), ("shapley", 0.5), ("ablation", 1.0)])
def test_heads_that_act_only_together_share_it_or_each_have_it_all(method, share):
    found = attribute_to_gates(
        lambda gates: gates[:, 0, 0] * gates[:, 0, 1], 1, 2, name="product", method=method, steps=400
    )

    torch.testing.assert_close(found.values, torch.full((1, 2), share), atol=0.05, rtol=0)
    assert found.gap == pytest.approx(2 * share - 1, abs=1e-5)


def test_way_with_sharp_turns_is_cut_where_they_are():
    turns = torch.tensor([[0.123, 0.777]])

    found = attribute_to_gates(lambda gates: 9 * (gates - turns).relu().sum((1, 2)), 1, 2, name="relu")

    torch.testing.assert_close(found.values, 9 * (1 - turns), atol=5e-5, rtol=0)
    assert abs(found.gap) < 1e-4
    assert found.steps < 800


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_heads_sum_to_the_difference_that_all_of_them_make(name):
    lens, _, text = opened(name)

    found = lens.attribute_heads(text)

    assert found.values.shape == (lens.anatomy.n_layers, lens.anatomy.n_heads)
    assert abs(found.gap) < 1e-4
    assert abs(found.total) > 0.1


@pytest.mark.parametrize(
    ("stack", "named"), [("E", "encoder.block"), ("D", "layer.0.SelfAttention"), ("X", "EncDecAttention")]
)
def test_heads_of_each_stack_of_an_encoder_decoder_sum_to_what_that_stack_does(stack, named):
    lens, model, text = opened("t5")
    source, target = t5_ids(lens, text)
    silenced = deepcopy(model)
    for name, parameter in silenced.named_parameters():
        if name.endswith("Attention.o.weight") and named in name and ("encoder" in name) == (stack == "E"):
            parameter.data.zero_()

    found = lens.attribute_heads(text, 9, stack=stack)

    with torch.no_grad():
        full, bare = (one(input_ids=source, decoder_input_ids=target).logits[0, -1, 9] for one in (model, silenced))
    assert found.total == pytest.approx(float(full - bare), abs=1e-4)
    assert found.values.shape == (lens.anatomy.stack(stack).n_layers, lens.anatomy.stack(stack).n_heads)
    assert found.stack == stack
    assert abs(found.gap) < 1e-4
    assert abs(found.total) > 1e-3


def t5_ids(lens: Any, text: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What T5 reads and what it writes, as ids."""
    run = lens.capture(text, points=())
    return tuple(torch.tensor([[token.id for token in tokens]]) for tokens in (run.source.tokens, run.tokens))


def test_family_that_builds_its_weights_itself_is_gated_too():
    family = FAMILIES["mpnet"]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())

    found = lens.attribute_heads("the cat")

    assert abs(found.gap) < 1e-4
    assert abs(found.total) > 0.1


def test_head_whose_output_is_discarded_contributes_nothing(random_gpt2: RandomModel):
    random_gpt2.model.transformer.h[1].attn.c_proj.weight.data[7:14] = 0  # rows of head 1, 7 dimensions each
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)

    for method in ("gradients", "ablation", "shapley"):
        found = lens.attribute_heads(TEXT, "b", against="c", method=method, steps=8)

        assert found.values[1, 1].abs() < 1e-6
        assert found.values[1, 0].abs() > 1e-4
        assert "minus" in found.score


def test_ablation_of_heads_is_that_of_their_rows_in_the_output_projection(random_gpt2: RandomModel):
    model, tokenizer = random_gpt2
    lens = attnlens.load(model=model, tokenizer=tokenizer)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        whole = model(ids).logits[0, -1]
    target = int(whole.argmax())

    found = lens.attribute_heads(TEXT, method="ablation")

    for layer in range(2):
        weight = model.transformer.h[layer].attn.c_proj.weight.data
        for head in range(3):
            before = weight.clone()
            weight[7 * head : 7 * head + 7] = 0
            with torch.no_grad():
                effect = whole[target] - model(ids).logits[0, -1, target]
            weight.copy_(before)
            torch.testing.assert_close(found.values[layer, head], effect, atol=1e-4, rtol=1e-4)


def test_random_orders_leave_torchs_random_state_alone():
    lens, _, text = opened("gpt2")
    before = torch.get_rng_state()

    one, same, other = (lens.attribute_heads(text, method="shapley", steps=3, seed=seed).values for seed in (1, 1, 2))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("name", "stack"), MODELS_AND_STACKS)
def test_tokens_sum_to_the_difference_between_text_and_baseline(name, stack):
    lens, _, text = opened(name)

    found = lens.attribute_tokens(text, stack=stack)

    assert len(found.values) == len(found.tokens)
    assert found.gap == pytest.approx(float(found.values.double().sum()) - found.total)
    assert abs(found.gap) < 1e-4
    assert abs(found.total) > 1e-3


def test_total_is_what_the_model_gives_for_text_and_for_baseline():
    lens, model, _ = opened("bert")
    tokenizer = lens.tokenizer
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    empty = ids.clone()
    empty[0, 1:-1] = tokenizer.mask_token_id
    chosen, other = tokenizer.convert_tokens_to_ids(["dog", "dogs"])

    found = lens.attribute_tokens(TEXT, "dog", against="dogs", position=2, steps=4)

    with torch.no_grad():
        full, bare = (model(given).logits[0, 2] for given in (ids, empty))
    expected = (full[chosen] - full[other]) - (bare[chosen] - bare[other])
    assert found.total == pytest.approx(float(expected), abs=1e-4)
    assert found.score == "logit of 'dog' minus logit of 'dogs' at 'keys'"
    assert "[MASK]" in found.baseline
    assert "2 special" in found.baseline


@pytest.mark.parametrize("stack", ["E", "D"])
def test_total_of_one_stacks_tokens_leaves_the_other_stacks_as_they_are(stack):
    lens, model, text = opened("t5")
    source, target = t5_ids(lens, text)
    changed = {"E": source.clone(), "D": target.clone()}
    special = torch.tensor(lens.tokenizer.all_special_ids)
    changed[stack][~torch.isin(changed[stack], special)] = 7

    found = lens.attribute_tokens(text, 9, baseline=7, stack=stack, steps=4)

    with torch.no_grad():
        full = model(input_ids=source, decoder_input_ids=target).logits[0, -1, 9]
        bare = model(input_ids=changed["E"], decoder_input_ids=changed["D"]).logits[0, -1, 9]
    assert found.total == pytest.approx(float(full - bare), abs=1e-4)
    assert len(found.values) == changed[stack].shape[1]
    run = lens.capture(text)
    measured = lens.measure("integrated-gradients", run, target=9, baseline=7, stack=stack, steps=4)
    torch.testing.assert_close(measured.values, found.values)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_integrated_gradients_are_those_of_a_plain_sum_over_the_way(name):
    lens, model, text = opened(name)
    found = lens.attribute_tokens(text, 9, against=5, baseline=7)
    run = lens.capture(text, points=())
    ids = torch.tensor([[token.id for token in run.tokens]])
    moving = torch.tensor([[not token.special for token in run.tokens]])
    table = model.get_input_embeddings()
    position = len(run.tokens) - 1

    end = table(ids).detach()
    begin = torch.where(moving[..., None], table(torch.full_like(ids, 7)).detach(), end)
    sums, n = torch.zeros(len(run.tokens)), 1000
    for step in range(n):
        there = (begin + (step + 0.5) / n * (end - begin)).requires_grad_()
        logits = model(inputs_embeds=there).logits[0, position]
        (gradient,) = torch.autograd.grad(logits[9] - logits[5], there)
        sums += (gradient * (end - begin)).sum(-1)[0] / n

    torch.testing.assert_close(found.values, sums, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_tokens_that_are_in_the_baseline_too_get_nothing(name):
    lens, _, _ = opened(name)

    found = lens.attribute_tokens("s e s a", baseline="s", steps=8)

    same = [label.strip("#") in ("s", "[CLS]", "[SEP]", "<s>") for label in found.tokens]
    assert 2 <= sum(same) < len(same)
    assert bool((found.values[torch.tensor(same)] == 0).all())
    assert bool((found.values[~torch.tensor(same)] != 0).any())


def test_tokens_after_the_one_that_is_read_get_nothing_in_a_causal_model():
    lens, _, text = opened("llama")

    found = lens.attribute_tokens(text, position=4, steps=8)

    assert bool((found.values[5:] == 0).all())
    assert bool((found.values[1:5] != 0).all())


def test_attribution_is_to_the_model_that_a_block_makes_of_it(random_gpt2: RandomModel):
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)
    plain = lens.attribute_tokens(TEXT, "b", steps=8)

    with lens.ablate("L1H1"):
        heads = lens.attribute_heads(TEXT, "b", steps=8)
        tokens = lens.attribute_tokens(TEXT, "b", steps=8)

    random_gpt2.model.transformer.h[1].attn.c_proj.weight.data[7:14] = 0
    expected = lens.attribute_tokens(TEXT, "b", steps=8)
    assert heads.values[1, 1] == 0
    torch.testing.assert_close(tokens.values, expected.values, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(tokens.values, plain.values)


@pytest.mark.parametrize(("name", "stack"), MODELS_AND_STACKS)
def test_conductance_of_every_layer_sums_to_the_same_difference(name, stack):
    lens, _, text = opened(name)

    found = lens.attribute_layers(text, stack=stack, steps=64 if name == "t5" else None)

    tokens = lens.attribute_tokens(text, stack=stack, steps=8)
    letter = lens.anatomy.main_stack if stack is None else stack
    assert found.values.shape == (lens.anatomy.stack(letter).n_layers, len(tokens.values))
    assert found.total == pytest.approx(tokens.total, abs=1e-5)
    torch.testing.assert_close(found.gap, found.values.sum(-1) - found.total, atol=1e-5, rtol=0)
    assert float(found.gap.abs().max()) < 0.01 * max(1, abs(found.total))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_everything_leaves_the_last_layer_at_the_position_that_is_read(name):
    lens, _, text = opened(name)

    found = lens.attribute_layers(text, position=3, steps=128)

    others = [place for place in range(len(found.tokens)) if place != 3]
    assert bool((found.values[-1, others] == 0).all())
    assert float(found.values[-1, 3]) == pytest.approx(found.total, abs=0.02 * max(1, abs(found.total)))
    assert bool((found.values[0, others] != 0).any())


def test_conductance_is_the_sum_of_small_changes_of_the_stream_times_their_gradients():
    lens, model, text = opened("gpt2")
    found = lens.attribute_layers(text, 9, baseline=7, steps=400)
    ids = torch.tensor([[token.id for token in lens.capture(text, points=()).tokens]])
    table = model.get_input_embeddings()
    begin, end = table(torch.full_like(ids, 7)).detach(), table(ids).detach()

    kept: list[torch.Tensor] = []
    hook = model.transformer.h[0].register_forward_hook(
        lambda _m, _a, out: kept.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    states, gradients, n = [], [], 400
    for step in range(n + 1):
        there = (begin + step / n * (end - begin)).requires_grad_()
        score = model(inputs_embeds=there).logits[0, -1, 9]
        states.append(kept[-1].detach()[0])
        gradients.append(torch.autograd.grad(score, kept[-1])[0][0])
    hook.remove()
    expected = torch.zeros(ids.shape[1])
    for step in range(n):
        middle = (gradients[step] + gradients[step + 1]) / 2
        expected += (middle * (states[step + 1] - states[step])).sum(-1)

    torch.testing.assert_close(found.values[0], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["shapley", "gradients"])
def test_prompt_sums_to_what_it_adds_to_each_written_token(name, method):
    lens, _, _ = opened(name)

    found = lens.attribute_generation(
        "the cat", method=method, max_new_tokens=3, steps=4 if method == "shapley" else None
    )

    assert found.values.shape == (len(found.written), len(found.prompt))
    assert float(found.gap.abs().max()) < 1e-4
    assert float(found.total.abs().min()) > 1e-3


def test_gradients_of_a_prompt_are_those_of_captums_own_class_for_it():
    lens, model, _ = opened("gpt2")
    tokenizer = lens.tokenizer
    layer = LayerIntegratedGradients(model, model.transformer.wte)
    ids = torch.tensor(tokenizer("bed", add_special_tokens=False)["input_ids"])

    found = lens.attribute_generation("a dog", "bed", method="gradients", baseline="x")

    given = TextTokenInput("a dog", tokenizer, baselines=tokenizer("x")["input_ids"][0])
    expected = LLMGradientAttribution(layer, tokenizer).attribute(given, target=ids, n_steps=300).token_attr
    torch.testing.assert_close(found.values, expected, atol=1e-4, rtol=1e-4)


def test_ablation_of_a_prompt_is_the_change_of_log_probability_token_by_token():
    lens, model, _ = opened("llama")
    tokenizer = lens.tokenizer
    prompt = tokenizer("a dog")["input_ids"]
    written = tokenizer("ed", add_special_tokens=False)["input_ids"]

    found = lens.attribute_generation("a dog", "ed", baseline="x")

    def log_probabilities(ids):
        with torch.no_grad():
            rows = model(torch.tensor([[*ids, *written]])).logits[0].log_softmax(-1)
        return torch.stack([rows[len(ids) - 1 + step, token] for step, token in enumerate(written)])

    whole, empty = log_probabilities(prompt), tokenizer.convert_tokens_to_ids("x")
    assert bool((found.values[:, 0] == 0).all())  # <s>
    for place in range(1, len(prompt)):
        without = [*prompt[:place], empty, *prompt[place + 1 :]]
        torch.testing.assert_close(found.values[:, place], whole - log_probabilities(without), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.total, whole - log_probabilities([prompt[0], *[empty] * 5]), atol=1e-4, rtol=1e-4)
    assert found.written == ("e", "d")


def test_generation_and_run_of_a_generation_are_explained_alike():
    lens, _, _ = opened("gpt2")
    run = lens.generate("the cat", max_new_tokens=2)

    of_run = lens.attribute_generation(run)

    of_text = lens.attribute_generation("the cat", max_new_tokens=2)
    assert of_run.written == of_text.written
    assert torch.equal(of_run.values, of_text.values)


def test_class_of_a_classifier_is_explained_by_its_name():
    tokenizer = BUILDERS["bert"]().tokenizer
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 12, "intermediate_size": 17}
    config = BertConfig(
        vocab_size=len(tokenizer), **sizes, id2label={0: "bad", 1: "good", 2: "neither"}, initializer_range=0.5
    )
    model = BertForSequenceClassification(config).eval()
    lens = attnlens.load(model=model, tokenizer=tokenizer)

    tokens = lens.attribute_tokens(TEXT, "good", against="bad")
    heads = lens.attribute_heads(TEXT, "good")

    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    empty = ids.clone()
    empty[0, 1:-1] = tokenizer.mask_token_id
    with torch.no_grad():
        full, bare = (model(given).logits[0] for given in (ids, empty))
    assert tokens.total == pytest.approx(float(full[1] - full[0] - bare[1] + bare[0]), abs=1e-5)
    assert max(abs(tokens.gap), abs(heads.gap)) < 1e-4
    assert tokens.score == "logit of class 'good' minus that of 'bad'"
    with pytest.raises(UsageError, match="'bad', 'good', 'neither'"):
        lens.attribute_tokens(TEXT, "great")
    with pytest.raises(UsageError, match="sorts into classes at 1"):
        lens.attribute_tokens(TEXT, "good", position=3)


def test_classes_of_tokens_are_explained_at_a_position():
    tokenizer = BUILDERS["bert"]().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, num_attention_heads=3, hidden_size=12, num_labels=2
    )
    lens = attnlens.load(model=BertForTokenClassification(config).eval(), tokenizer=tokenizer)

    found = lens.attribute_tokens(TEXT, "LABEL_1", position=2, steps=32)

    assert abs(found.gap) < 1e-4


def test_masked_token_is_found_or_asked_for():
    lens, _, _ = opened("bert")

    masked = lens.attribute_tokens("the keys [MASK] on", "are", against="to", position="mask", steps=8)
    unsaid = lens.attribute_tokens("the keys [MASK] on", "are", against="to", steps=8)

    assert masked.score == "logit of 'are' minus logit of 'to' at '[MASK]'"
    assert unsaid.score == masked.score
    with pytest.raises(UsageError, match=r"no masked token; expected exactly one \[MASK\]"):
        lens.attribute_heads(TEXT, position="mask")
    with pytest.raises(UsageError, match="masked tokens at 2, 4"):
        lens.attribute_heads("the [MASK] to [MASK]", position="mask")
    with pytest.raises(UsageError, match="no mask token"):
        opened("gpt2").lens.attribute_heads(TEXT, position="mask")


@pytest.mark.parametrize("how", ["tokens", "heads", "layers"])
def test_measures_are_the_same_numbers(how):
    lens, _, text = opened("gpt2")
    name = {"tokens": "integrated-gradients", "heads": "head-attribution", "layers": "layer-conductance"}[how]

    measured = lens.measure(name, text, target="b", against="c", steps=8)

    expected = getattr(lens, f"attribute_{how}")(text, "b", against="c", steps=8).values
    torch.testing.assert_close(measured.values, expected)


def test_models_without_logits_and_wrong_questions_are_refused(random_bert: RandomModel):
    headless = attnlens.load(model=random_bert.model.bert, tokenizer=random_bert.tokenizer)
    lens, bert, t5 = opened("gpt2").lens, opened("bert").lens, opened("t5")

    with pytest.raises(CaptureError, match="no language-model head"):
        headless.attribute_heads(TEXT)
    with pytest.raises(MeasureError, match="no language-model head"):
        headless.measure("integrated-gradients", TEXT)
    with pytest.raises(UsageError, match="not one token of this model, it is read as 'c', 'a', 'b'"):
        lens.attribute_heads(TEXT, "cabinet")
    with pytest.raises(UsageError, match="not one token"):
        bert.attribute_heads(TEXT, "中")
    with pytest.raises(UsageError, match="position 99"):
        lens.attribute_heads(TEXT, position=99)
    with pytest.raises(UsageError, match="baseline 10000 does not exist"):
        lens.attribute_tokens(TEXT, baseline=10000)
    with pytest.raises(UsageError, match="method 'best'"):
        lens.attribute_heads(TEXT, method="best")
    with pytest.raises(UsageError, match="steps is 0"):
        lens.attribute_tokens(TEXT, steps=0)
    with pytest.raises(UsageError, match="expected E or D"):
        t5.lens.attribute_tokens(t5.text, stack="X")
    with pytest.raises(UsageError, match="stack 'E'"):
        lens.attribute_heads(TEXT, stack="E")


def test_generations_that_cannot_be_explained_are_refused():
    lens, bert, t5 = opened("gpt2").lens, opened("bert").lens, opened("t5").lens

    with pytest.raises(CaptureError, match="writes no text"):
        bert.attribute_generation(TEXT)
    with pytest.raises(CaptureError, match="encoder-decoder"):
        t5.attribute_generation("the cat")
    with pytest.raises(UsageError, match="nothing was written"):
        lens.attribute_generation(lens.capture(TEXT))
    with pytest.raises(UsageError, match="nothing was written"):
        lens.attribute_generation(TEXT, "")
    with pytest.raises(UsageError, match="compared with tokens"):
        lens.attribute_generation(TEXT, "b", baseline="zero")
    with pytest.raises(UsageError, match="method 'best'"):
        lens.attribute_generation(TEXT, "b", method="best")
