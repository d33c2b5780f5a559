"""Recorded points: what is asked for and nothing else, in the context that asks, and nothing left behind."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache

import pytest
import torch
import transformers
from family_models import FAMILIES, draw_wide_weights
from torch import nn

from attnlens.errors import CaptureError
from attnlens.models.hooks import first_tensor
from attnlens.models.layers import find_stacks
from attnlens.models.points import recording_points
from attnlens.models.search import find_wiring


@cache
def opened(name):
    """Model, padded inputs, stacks and wirings of a family; made once, so no test may change the model."""
    family = FAMILIES[name]
    model, inputs = family.build(), family.inputs(padding=family.paddings[-1])
    stacks = find_stacks(model)
    with torch.no_grad():
        wirings = [find_wiring(stack, lambda: model(**inputs)) for stack in stacks]
    return model, inputs, stacks, wirings


def hook_count(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_recording_leaves_no_hook_behind(fails):
    model, inputs, (stack,), (wiring,) = opened("mixtral")
    before = hook_count(model)

    with suppress(RuntimeError), recording_points(stack, wiring, wiring.points) as points:
        inside = hook_count(model)
        model(**inputs)
        if fails:
            raise RuntimeError

    assert inside > before
    assert hook_count(model) == before
    assert all(points.values())


@pytest.mark.parametrize(("asked", "hooks"), [([], 0), (["resid_post"], 4), (["embed", "final"], 2), (["z"], 4)])
def test_only_what_is_asked_for_is_hooked(asked, hooks):
    model, inputs, (stack,), (wiring,) = opened("llama")
    before = hook_count(model)

    with recording_points(stack, wiring, asked) as points:
        inside = hook_count(model)
        model(**inputs)

    assert inside - before == hooks
    assert sorted(points) == sorted(asked)


def test_another_thread_is_not_heard():
    model, inputs, (stack,), (wiring,) = opened("gpt2")

    with recording_points(stack, wiring, ["resid_post"]) as points:
        thread = threading.Thread(target=lambda: model(**inputs))
        thread.start()
        thread.join()
        after_thread = len(points["resid_post"])
        model(**inputs)

    assert after_thread == 0
    assert len(points["resid_post"]) == len(stack.layers)


def test_two_threads_do_not_mix():
    model, inputs, (stack,), (wiring,) = opened("gpt2")
    batches = [{name: tensor[row : row + 1] for name, tensor in inputs.items()} for row in range(2)]
    kept, barrier = {}, threading.Barrier(2)

    def record(row):
        with torch.no_grad(), recording_points(stack, wiring, ["resid_post"]) as points:
            barrier.wait()
            for _ in range(10):
                model(**batches[row])
            barrier.wait()
        kept[row] = points["resid_post"]

    threads = [threading.Thread(target=record, args=(row,)) for row in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for row in range(2):
        with torch.no_grad(), recording_points(stack, wiring, ["resid_post"]) as alone:
            model(**batches[row])
        assert len(kept[row]) == 10 * len(stack.layers)
        torch.testing.assert_close(kept[row], alone["resid_post"] * 10)


def test_blocks_of_two_stacks_can_be_nested():
    model, inputs, (encoder, decoder), wirings = opened("bart")

    outer, inner = (
        recording_points(encoder, wirings[0], ["final"]),
        recording_points(decoder, wirings[1], ["cross_out"]),
    )
    with torch.no_grad(), outer as source, inner as target:
        output = model.model(**inputs)

    torch.testing.assert_close(source["final"], [output.encoder_last_hidden_state], rtol=0, atol=0)
    assert [tuple(written.shape) for written in target["cross_out"]] == [(2, 7, 24)] * 5


def test_what_is_kept_is_the_models_own_tensor_detached():
    model, inputs, (stack,), (wiring,) = opened("llama")
    given = []
    hook = stack.layers[0].mlp.register_forward_hook(lambda _module, _args, output: given.append(output))

    with recording_points(stack, wiring, ["mlp_out"]) as points:
        model(**inputs)
    hook.remove()

    assert given[0].requires_grad
    assert not points["mlp_out"][0].requires_grad
    assert points["mlp_out"][0].data_ptr() == given[0].data_ptr()


@pytest.mark.parametrize("name", ["opt", "opt-post-norm"])
def test_rows_get_their_batch_and_position_back(name):
    model, inputs, (stack,), (wiring,) = opened(name)

    with recording_points(stack, wiring, wiring.points) as points, torch.no_grad():
        model(**inputs)

    widths = {"mlp_act": 44}
    shapes = {point: {tuple(tensor.shape) for tensor in tensors} for point, tensors in points.items()}
    assert shapes == {point: {(2, 11, widths.get(point, 21))} for point in wiring.points}


def test_positions_come_second_where_the_model_has_them_first():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 3, 20), 2, enable_nested_tensor=False).eval()
    (stack,) = find_stacks(model)
    text = torch.randn(7, 2, 12)
    with torch.no_grad():
        wiring = find_wiring(stack, lambda: model(text))

        with recording_points(stack, wiring, ["embed", "final"]) as points:
            output = model(text)

    torch.testing.assert_close(points["embed"], [text.transpose(0, 1)], rtol=0, atol=0)
    torch.testing.assert_close(points["final"], [output.transpose(0, 1)], rtol=0, atol=0)


def test_a_module_called_for_several_layers_gives_one_tensor_per_call():
    settings = {"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4, "embedding_size": 10}
    sizes = {"vocab_size": 60, "hidden_size": 20, "num_attention_heads": 4, "intermediate_size": 37}
    model = transformers.AlbertModel(transformers.AlbertConfig(**sizes, **settings)).eval()
    draw_wide_weights(model, gain=1.5, seed=0)
    (stack,) = find_stacks(model)
    ids = torch.arange(18).reshape(2, 9)
    with torch.no_grad():
        wiring = find_wiring(stack, lambda: model(ids))

        with recording_points(stack, wiring, ["embed", "resid_pre", "resid_post", "final"]) as points:
            twice = [model(ids).last_hidden_state, model(ids.flip(1)).last_hidden_state]

    assert {point: len(tensors) for point, tensors in points.items()} == {
        "embed": 2,
        "resid_pre": 16,
        "resid_post": 16,
        "final": 2,
    }
    torch.testing.assert_close(points["final"], twice, rtol=0, atol=0)
    torch.testing.assert_close(points["embed"], points["resid_pre"][::8], rtol=0, atol=0)
    torch.testing.assert_close(points["resid_pre"][1:8], points["resid_post"][:7], rtol=0, atol=0)


def test_generation_appends_step_by_step():
    model, _, (stack,), (wiring,) = opened("llama")
    prompt = torch.arange(10, 16)[None]

    with recording_points(stack, wiring, ["embed", "resid_post"]) as points:
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, min_new_tokens=3)

    assert [tensor.shape[1] for tensor in points["embed"]] == [6, 1, 1]
    assert [tensor.shape[1] for tensor in points["resid_post"]] == [6] * 4 + [1] * 8


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_routers_give_what_transformers_calls_router_logits_and_the_choice_made_of_them(name):
    model, inputs, (stack,), (wiring,) = opened(name)

    asked = ["router_logits", "router_weights", "router_experts"]
    with torch.no_grad(), recording_points(stack, wiring, asked) as points:
        outputs = model(**inputs, output_router_logits=True)

    torch.testing.assert_close(points["router_logits"], list(outputs.router_logits), rtol=0, atol=0)
    for logits, weights, experts in zip(*points.values(), strict=True):
        best, chosen = logits.topk(2)  # of 5 experts, for each of 2 x 11 tokens
        assert logits.shape == (22, 5)
        assert torch.equal(experts, chosen)
        torch.testing.assert_close(weights, best.softmax(-1))  # normalising the chosen ones undoes the other experts


@pytest.mark.parametrize(
    ("name", "point", "message"),
    [
        ("gptj", "resid_mid", "'resid_mid' is not available for this model: attention and MLP are added .* at once"),
        ("mixtral", "mlp_act", "'mlp_act' is not available for this model: the experts' activations are sorted"),
        ("llama", "cross_out", "'cross_out' is not available for this model; it has embed, resid_pre, z,"),
        ("llama", "resid_middle", "'resid_middle' is no point of a stack; expected one of embed, resid_pre, z,"),
    ],
)
def test_points_that_there_are_not_are_refused_with_the_reason(name, point, message):
    model, _, (stack,), (wiring,) = opened(name)
    before = hook_count(model)

    with pytest.raises(CaptureError, match=message), recording_points(stack, wiring, [point]):
        pass

    assert hook_count(model) == before


def test_the_first_tensor_of_an_output_is_found_in_tuples_and_mappings():
    tensor = torch.zeros(2)

    assert first_tensor((None, tensor)) is tensor
    assert first_tensor({"loss": None, "last_hidden_state": tensor}) is tensor
    assert first_tensor("text") is None
