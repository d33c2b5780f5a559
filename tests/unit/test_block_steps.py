"""The steps of a block, multiplied out here in plain torch, are what the model's own modules gave; in every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from family_models import FAMILIES
from opened_families import opened
from torch import Tensor
from torch.nn import functional

import attnlens
from attnlens.errors import CaptureError, HeadAddressError, UnsupportedModelError
from attnlens.report.inside.block_view import block_view
from attnlens.steps.block import block_steps
from attnlens.steps.neurons import strongest_neurons

CLOSE = 1e-5
# What the configs of the families say about their feed-forward layers.
FUNCTIONS = {
    "ReLU": torch.relu, "ReGLU": torch.relu, "GELU": functional.gelu, "GEGLU": functional.gelu,
    "GELU (tanh)": lambda x: functional.gelu(x, approximate="tanh"),
    "GEGLU (tanh)": lambda x: functional.gelu(x, approximate="tanh"), "SwiGLU": functional.silu,
}  # fmt: skip
NAMED = {
    "gelu": "GELU", "relu": "ReLU", "gelu_new": "GELU (tanh)", "gelu_pytorch_tanh": "GELU (tanh)", "silu": "SiLU",
    "gelu_fast": "GELU (tanh)",
}  # fmt: skip
GATED = {"GELU": "GEGLU", "GELU (tanh)": "GEGLU (tanh)", "SiLU": "SwiGLU"}
LAYOUTS = {
    "post-LN": "bert roberta xlm-roberta distilbert electra albert deberta-v2 mpnet opt-post-norm bart marian".split(),
    "parallel": "gpt_neox gptj falcon falcon-alibi falcon-grouped".split(),
    "post-norm": ["gemma2", "gemma3"],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_steps_multiply_out_to_what_the_layer_gives(name):
    lens, run, inputs = opened(name)
    for letter in ("E", "D") if lens.anatomy.is_encoder_decoder else ("",):
        layer = lens.anatomy.stack(letter).n_layers - 1
        steps = block_steps(lens, run, layer, letter or None, inputs=inputs)
        given, gave = ends_of_layer(lens, run, letter, layer, inputs)

        torch.testing.assert_close(steps.before, given, rtol=0, atol=0)
        assert gap(multiplied_out(steps), gave) < CLOSE
        assert steps.gap < CLOSE
        kinds = ["attention", *(["cross"] if letter == "D" else []), "feed-forward"]
        assert [part.kind for part in steps.sublayers] == kinds
        if not lens.anatomy.is_encoder_decoder:
            assert steps.layout == next((key for key, names in LAYOUTS.items() if name in names), "pre-LN")
        for norm in (norm for part in steps.sublayers for norm in part.norms):
            assert gap(normed(norm, norm.given), norm.gives) < CLOSE
            kind = "LayerNorm" if norm.mean is not None else "RMSNorm"
            assert norm.kind == kind == ("RMSNorm" if "RMS" in named_class(steps, lens, norm) else "LayerNorm")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("mixtral", "gpt_oss", "bert-gpt2")])
def test_the_activation_is_the_one_that_the_config_names(name):
    lens, run, inputs = opened(name)

    dense = block_steps(lens, run, 0, "E" if lens.anatomy.is_encoder_decoder else None, inputs=inputs).feed_forward

    config = lens.model.config
    keys = ("hidden_act", "activation_function", "activation", "hidden_activation", "dense_act_fn")
    wanted = next((NAMED[value] for key in keys if isinstance(value := getattr(config, key, None), str)), "")
    wanted = wanted or ("GELU (tanh)" if name == "bloom" else "")  # which has no choice
    assert dense.activation == wanted
    assert dense.name == (wanted if dense.up is None else GATED[wanted])
    assert (dense.up is None) == (
        name not in ("modernbert", "llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3")
    )


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_routing_is_the_routers_own_and_each_expert_is_its_weights(name):
    lens, run, _ = opened(name)
    layer = lens.model.model.layers[1]
    router = layer.mlp.gate if name == "mixtral" else layer.mlp.router
    seen: dict[str, Any] = {}
    hook = router.register_forward_hook(lambda _module, args, output: seen.update(given=args[0], output=output))

    found = block_steps(lens, run, 1).experts
    hook.remove()

    logits, weights, chosen = seen["output"]
    torch.testing.assert_close(found.logits, logits.double(), rtol=0, atol=0)
    torch.testing.assert_close(
        found.probability, (found.given @ router.weight.double().T + bias_of(router)).softmax(-1)
    )
    assert torch.equal(found.chosen, chosen)
    assert torch.equal(found.chosen.sort().values, logits.topk(2).indices.sort().values)
    torch.testing.assert_close(found.weights, found.logits.gather(1, found.chosen).softmax(-1))
    expert = expert_of(layer.mlp.experts, int(chosen[3, 1]), seen["given"][3].double(), name)
    torch.testing.assert_close(found.outputs[3, 1], weights[3, 1].double() * expert, rtol=1e-4, atol=1e-5)
    assert found.rest is None
    assert found.gap < CLOSE


def test_shared_experts_are_what_is_written_beside_the_chosen_ones():
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = Qwen2MoeConfig(
        vocab_size=261, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        moe_intermediate_size=16, shared_expert_intermediate_size=20, num_experts=5, num_experts_per_tok=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2MoeForCausalLM(config).eval()
    lens = attnlens.load(model=model, tokenizer=FAMILIES["qwen2"].tokenizer())
    run = lens.capture("the cat")

    steps = block_steps(lens, run, 1)

    mlp, given = model.model.layers[1].mlp, steps.experts.given.float()
    with torch.no_grad():
        shared = torch.sigmoid(mlp.shared_expert_gate(given)) * mlp.shared_expert(given)
    torch.testing.assert_close(steps.experts.rest.float(), shared, rtol=1e-4, atol=1e-6)
    view = block_view(steps, [token.label for token in run.tokens], 2)
    facts = next(dict(step.facts) for step in view.steps if step.key == "feed-forward")
    assert float(facts["length of the shared expert's part"]) == pytest.approx(float(shared[2].norm()), rel=1e-3)


def test_neurons_are_ranked_by_what_they_write_and_speak_for_tokens():
    lens, run, _ = opened("gpt2")
    steps, position = block_steps(lens, run, 1), 4
    mlp, model = lens.model.transformer.h[1].mlp, lens.model

    found = strongest_neurons(lens, run, steps, position, count=3, top=4)

    given = steps.feed_forward.given[position].float()
    with torch.no_grad():
        value = mlp.act(mlp.c_fc(given))
        rows = value[:, None] * mlp.c_proj.weight
        order = rows.norm(dim=-1).argsort(descending=True)[:3]
        centred = rows - rows.mean(-1, keepdim=True)
        effects = (centred * model.transformer.ln_f.weight) @ model.lm_head.weight.T
    assert [neuron.number for neuron in found.neurons] == order.tolist()
    assert found.neurons[0].value == pytest.approx(float(value[order[0]]), rel=1e-4)
    assert found.neurons[0].length == pytest.approx(float(rows[order[0]].norm()), rel=1e-4)
    best = effects[order[0]].topk(4)
    assert [token.effect for token in found.neurons[0].promotes] == pytest.approx(best.values.tolist(), rel=1e-3)


def test_a_model_whose_head_is_no_plain_map_names_no_tokens():
    lens, run, _ = opened("bert")

    found = strongest_neurons(lens, run, block_steps(lens, run, 0), 2)

    assert "more than a linear map" in found.absent
    assert found.neurons[0].promotes == ()


def test_what_cannot_be_taken_apart_is_refused_by_name():
    lens, run, _ = opened("gpt2")
    with pytest.raises(HeadAddressError, match="layer 2 does not exist"):
        block_steps(lens, run, 2)
    with pytest.raises(CaptureError, match="does not give this run"):
        block_steps(lens, replace(run, stream={"final": run.residual("final") + 1}), 0)
    lens, run, _ = opened("mixtral")
    with pytest.raises(UnsupportedModelError, match="routes its tokens"):
        strongest_neurons(lens, run, block_steps(lens, run, 0), 1)


def multiplied_out(steps: Any) -> Tensor:
    """The stream behind the layer from the stream in front of it and the heads' writes, by what the steps show."""
    stream = steps.before
    for part in steps.sublayers:
        if part.kind == "feed-forward":
            read = steps.before if steps.layout == "parallel" else stream
            read = read if part.norm_before is None else normed(part.norm_before, read)
            write = fed_forward(steps.feed_forward, read) if steps.feed_forward else steps.experts.outputs.sum(1)
        else:
            write = part.heads.sum(0) + (0 if part.bias is None else part.bias)
        if part.norm_on_write is not None:
            write = normed(part.norm_on_write, write)
        stream = stream + write
        if part.norm_after is not None:
            stream = normed(part.norm_after, stream)
    return stream


def normed(norm: Any, x: Tensor) -> Tensor:
    if norm.mean is not None:
        return functional.layer_norm(x, x.shape[-1:], norm.scale, norm.shift, norm.epsilon)
    return functional.rms_norm(x, x.shape[-1:], norm.scale, norm.epsilon)


def fed_forward(dense: Any, x: Tensor) -> Tensor:
    neurons = FUNCTIONS[dense.name](linear(x, dense.gate))
    if dense.up is not None:
        neurons = neurons * linear(x, dense.up)
    return linear(neurons, dense)


def linear(x: Tensor, shown: Any) -> Tensor:
    return functional.linear(x, shown.weight.T.double(), None if shown.bias is None else shown.bias.double())


def ends_of_layer(lens: Any, run: Any, letter: str, layer: int, inputs: Any) -> tuple[Tensor, Tensor]:
    """What a layer is given and gives, by hooks of the test's own; the last call of a shared one."""
    module = lens.opened.stacks[letter].layers[-1]
    seen: dict[str, Tensor] = {}

    def note(_module: Any, args: Any, kwargs: Any, output: Any) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        seen.update(given=given, gave=output if isinstance(output, Tensor) else output[0])

    hook = module.register_forward_hook(note, with_kwargs=True)
    if inputs is None:
        own = torch.tensor([[token.id for token in run.tokens]])
        inputs = {"input_ids": own}
        if run.source is not None:
            inputs = {"input_ids": torch.tensor([[t.id for t in run.source.tokens]]), "decoder_input_ids": own}
    with torch.no_grad():
        lens.model(**inputs)
    hook.remove()
    return seen["given"][0].double(), seen["gave"][0].double()


def named_class(steps: Any, lens: Any, norm: Any) -> str:
    """The class of a norm by its name, where T5's is an RMSNorm that is called LayerNorm."""
    module = lens.opened.stacks[steps.letter].layers[-1].get_submodule(norm.path)
    name = type(module).__name__
    return "RMS" if name in ("T5LayerNorm", "FusedRMSNorm") else name


def bias_of(router: Any) -> Any:
    return router.bias.double() if hasattr(router, "bias") else 0


def expert_of(experts: Any, number: int, x: Tensor, name: str) -> Tensor:
    """One expert of a vector, from its weights."""
    if name == "mixtral":
        gate, up = functional.linear(x, experts.gate_up_proj[number].double()).chunk(2)
        return functional.linear(functional.silu(gate) * up, experts.down_proj[number].double())
    both = x @ experts.gate_up_proj[number].double() + experts.gate_up_proj_bias[number].double()
    gate, up = both[::2].clamp(max=experts.limit), both[1::2].clamp(-experts.limit, experts.limit)
    inner = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
    return inner @ experts.down_proj[number].double() + experts.down_proj_bias[number].double()


def gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
