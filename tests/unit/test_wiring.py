"""The wiring that is found equals the table of facts about each family, and the sums that it names hold."""

from __future__ import annotations

import math
import sys
from functools import cache
from typing import NamedTuple

import pytest
import torch
import transformers
from family_models import FAMILIES, draw_wide_weights
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from attnlens.errors import UnsupportedModelError
from attnlens.models.layers import find_stacks
from attnlens.models.points import recording_points
from attnlens.models.projections import head_writes, projection_bias, projection_weight
from attnlens.models.search import find_wiring
from attnlens.models.wiring import Wiring


class Parts(NamedTuple):
    """A family's row in the table: paths within a layer; `middle` and `after_cross` with the side that is read."""

    layout: str
    attn_out: str
    middle: str | None
    mlp_out: str
    projection: str
    mlp_act: str | None
    cross_out: str | None = None
    after_cross: str | None = None
    cross_projection: str | None = None


_BERT = Parts(
    "post-LN",
    "attention.output.dense",
    "output of attention.output.LayerNorm",
    "output.dense",
    "attention.output.dense",
    "output.dense",
)
_LLAMA = Parts(
    "pre-LN", "self_attn", "input of post_attention_layernorm", "mlp", "self_attn.o_proj", mlp_act="mlp.down_proj"
)
_EXPERTS = _LLAMA._replace(mlp_act=None)
_GEMMA = Parts(
    "post-norm",
    "post_attention_layernorm",
    "input of pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "self_attn.o_proj",
    "mlp.down_proj",
)
_GPT2 = Parts("pre-LN", "attn", "input of ln_2", "mlp", "attn.c_proj", "mlp.c_proj")
_NEOX = Parts("parallel", "attention", None, "mlp", "attention.dense", "mlp.dense_4h_to_h")
_FALCON = Parts("parallel", "self_attention", None, "mlp", "self_attention.dense", "mlp.dense_4h_to_h")
_AFTER = "input of post_attention_layernorm"
_OPT = Parts("pre-LN", "self_attn", "input of final_layer_norm", "fc2", "self_attn.out_proj", "fc2")
_BART = Parts("post-LN", "self_attn", "output of self_attn_layer_norm", "fc2", "self_attn.out_proj", "fc2")
_CROSS = {"cross_out": "encoder_attn", "cross_projection": "encoder_attn.out_proj"}
_T5 = Parts(
    "pre-LN",
    "layer.0.SelfAttention",
    "input of layer.1.layer_norm",
    "layer.1.DenseReluDense",
    "layer.0.SelfAttention.o",
    "layer.1.DenseReluDense.wo",
)

TABLE = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": _BERT,
    "distilbert": Parts(
        "post-LN", "attention", "output of sa_layer_norm", "ffn", "attention.out_lin", mlp_act="ffn.lin2"
    ),
    "albert": Parts(
        "post-LN", "attention.dense", "output of attention.LayerNorm", "ffn_output", "attention.dense", "ffn_output"
    ),
    # `attention.attn` hands on the output of `attention.attn.o` as it is: both hold what is written.
    "mpnet": Parts(
        "post-LN", "attention.attn", "output of attention.LayerNorm", "output.dense", "attention.attn.o", "output.dense"
    ),
    "modernbert": Parts("pre-LN", "attn", "input of mlp_norm", "mlp", "attn.Wo", "mlp.Wo"),
    "gpt2": _GPT2,
    "gpt2-upcast": _GPT2,
    "gpt_neo": _GPT2._replace(projection="attn.attention.out_proj"),
    "gpt_neox": _NEOX,
    "gpt_neox-sequential": _NEOX._replace(layout="pre-LN", middle=_AFTER),
    "gptj": Parts("parallel", "attn", None, "mlp", "attn.out_proj", "mlp.fc_out"),
    "opt": _OPT,
    "opt-post-norm": _OPT._replace(layout="post-LN", middle="output of self_attn_layer_norm"),
    "bloom": Parts(
        "pre-LN",
        "self_attention.dense",
        _AFTER,
        "mlp.dense_4h_to_h",
        "self_attention.dense",
        "mlp.dense_4h_to_h",
    ),
    "falcon": _FALCON,
    "falcon-alibi": _FALCON,
    "falcon-grouped": _FALCON,
    "falcon-sequential": _FALCON._replace(layout="pre-LN", middle=_AFTER),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi3": _LLAMA,
    "mixtral": _EXPERTS,
    "gpt_oss": _EXPERTS,
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "t5 encoder": _T5,
    "t5 decoder": _T5._replace(
        mlp_out="layer.2.DenseReluDense",
        mlp_act="layer.2.DenseReluDense.wo",
        cross_out="layer.1.EncDecAttention",
        after_cross="input of layer.2.layer_norm",
        cross_projection="layer.1.EncDecAttention.o",
    ),
    "bart encoder": _BART,
    "bart decoder": _BART._replace(after_cross="output of encoder_attn_layer_norm", **_CROSS),
    "marian encoder": _BART,
    "marian decoder": _BART._replace(after_cross="output of encoder_attn_layer_norm", **_CROSS),
    "whisper encoder": _OPT,
    "whisper decoder": _OPT._replace(
        middle="input of encoder_attn_layer_norm", after_cross="input of final_layer_norm", **_CROSS
    ),
    "bert-gpt2 encoder": _BERT,
    "bert-gpt2 decoder": _GPT2._replace(
        middle="input of ln_cross_attn",
        cross_out="crossattention",
        after_cross="input of ln_2",
        cross_projection="crossattention.c_proj",
    ),
    "vit": Parts("pre-LN", "attention", "input of layernorm_after", "mlp", "attention.o_proj", "mlp.fc2"),
}
WRITES = (("attn_out", "resid_mid"), ("cross_out", "resid_cross"), ("mlp_out", "resid_post"))


class Case:
    """One stack of one family, and a padded batch to run it on."""

    def __init__(self, name, dtype=torch.float32):
        family, _, stack = name.partition(" ")
        self.family = FAMILIES[family]
        self.model = self.family.build().to(dtype)
        self.inputs = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in self.family.inputs(padding=self.family.paddings[-1]).items()
        }
        self.stack = next(found for found in find_stacks(self.model) if stack in ("", found.kind))

    def run(self, **options):
        with torch.no_grad():
            return self.model(**self.inputs, **options)

    def wiring(self, **options) -> Wiring:
        return find_wiring(self.stack, self.run, **options)


@cache
def opened(name):
    """A case and its wiring; made once, so no test may change the model."""
    case = Case(name)
    return case, case.wiring()


@torch.no_grad()
def relative_gap(one, other):
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", TABLE)
def test_every_family_is_found_to_be_wired_as_the_table_of_facts_says(name):
    _, wiring = opened(name)

    found = {point: str(reading) for point, reading in wiring.readings.items()}
    assert (
        Parts(
            layout=wiring.layout,
            attn_out=wiring.readings["attn_out"].path,
            middle=found.get("resid_mid"),
            mlp_out=wiring.readings["mlp_out"].path,
            projection=wiring.projections["self"],
            mlp_act=wiring.readings["mlp_act"].path if "mlp_act" in found else None,
            cross_out=wiring.readings["cross_out"].path if "cross_out" in found else None,
            after_cross=found.get("resid_cross"),
            cross_projection=wiring.projections.get("cross"),
        )
        == TABLE[name]
    )
    assert found["z"] == f"input of {wiring.projections['self']}"


def test_the_table_covers_every_family():
    assert {name.split()[0] for name in TABLE} == set(FAMILIES)


@pytest.mark.parametrize("name", TABLE)
def test_what_is_written_adds_up_to_the_stream_in_every_layer(name):
    case, wiring = opened(name)
    writes = [(write, after) for write, after in WRITES if write in wiring.points]

    with recording_points(case.stack, wiring, [p for p in wiring.points if not p.startswith("router")]) as points:
        case.run()

    for call, index in enumerate(wiring.order):
        stream = points["resid_pre"][call]
        for write, after in writes:
            stream = stream + points[write][call]
            if wiring.layout == "post-LN":
                stream = case.stack.layers[index].get_submodule(wiring.norms[after])(stream)
            if after in points:
                assert relative_gap(stream, points[after][call]) < 1e-5
        of_call = {point: values[call] for point, values in points.items() if point not in ("embed", "final")}
        gaps = wiring.gaps(case.stack.layers[index], of_call)
        assert set(gaps) == {after for _, after in writes if after in points}
        assert max(gaps.values()) < 1e-5


@pytest.mark.parametrize("name", TABLE)
def test_stream_between_layers_is_what_transformers_calls_hidden_states(name):
    case, wiring = opened(name)

    with recording_points(case.stack, wiring, ["embed", "resid_pre", "resid_post", "final"]) as points:
        outputs = case.run(output_hidden_states=True)

    which = f"{case.stack.kind}_hidden_states" if len(find_stacks(case.model)) > 1 else "hidden_states"
    theirs = outputs[which]
    after_last = theirs[-1] if name != "vit" else case.model.vit.layernorm(theirs[-1])  # ViT normalises after these
    torch.testing.assert_close(points["embed"], [theirs[0]], rtol=0, atol=0)
    torch.testing.assert_close(points["resid_pre"], list(theirs[:-1]), rtol=0, atol=0)
    torch.testing.assert_close(points["resid_post"][:-1], list(theirs[1:-1]), rtol=0, atol=0)
    torch.testing.assert_close(points["final"], [after_last], rtol=0, atol=0)


@pytest.mark.parametrize("name", TABLE)
def test_the_heads_writes_and_the_bias_add_up_to_what_attention_writes(name):
    case, wiring = opened(name)
    written = {}

    for kind, path in wiring.projections.items():
        point = {"self": "z", "cross": "cross_z"}[kind]
        projection = case.stack.layers[-1].get_submodule(path)
        hook = projection.register_forward_hook(lambda _module, _args, output: written.update(now=output))
        with recording_points(case.stack, wiring, [point]) as points:
            case.run()
        hook.remove()
        z = points[point][-1]
        heads = head_writes(z, projection, number_of_heads(case))

        total = heads.sum(-3) + (0 if projection_bias(projection) is None else projection_bias(projection))
        assert heads.shape == (*z.shape[:-2], number_of_heads(case), z.shape[-2], written["now"].shape[-1])
        assert relative_gap(total, written["now"].reshape(total.shape)) < 1e-5


def number_of_heads(case):
    config = getattr(case.stack.owner, "config", case.model.config)
    ours = {"encoder": "encoder_attention_heads", "decoder": "decoder_attention_heads"}[case.stack.kind]
    return getattr(config, ours, None) or config.num_attention_heads


@pytest.mark.parametrize("name", [name for name in TABLE if FAMILIES[name.split()[0]].path == "interface"])
def test_the_projection_takes_what_the_attention_function_gave(name):
    case = Case(name)
    outputs = {"self": [], "cross": []}
    inside = {module for layer in case.stack.layers for module in layer.modules()}

    def listening(module, *args, **options):
        home = sys.modules[type(module).__module__]
        output, weights = home.eager_attention_forward(module, *args, **options)
        if module in inside:
            kind = (
                "cross" if getattr(module, "is_cross_attention", False) or "encoder_attn" in names[module] else "self"
            )
            outputs[kind].append(output.flatten(2))
        return output, weights

    names = {module: path.replace("EncDecAttention", "encoder_attn") for path, module in case.model.named_modules()}
    AttentionInterface.register("attnlens-test", listening)
    transformers.AttentionMaskInterface.register("attnlens-test", transformers.masking_utils.eager_mask)
    case.model.set_attn_implementation("attnlens-test")

    wiring = case.wiring(head_outputs=lambda: {kind: values for kind, values in outputs.items() if values})

    assert wiring.projections["self"] == TABLE[name].projection
    assert wiring.projections.get("cross") == TABLE[name].cross_projection
    assert all(len(values) in (0, len(wiring.order)) for values in outputs.values())


def test_a_projection_that_takes_something_else_is_not_believed():
    case = Case("gpt2")
    wiring = case.wiring()
    with recording_points(case.stack, wiring, ["z"]) as points:
        case.run()

    mixed_up = case.wiring(head_outputs=lambda: {"self": [z.roll(7, -1) for z in points["z"]]})
    too_few = case.wiring(head_outputs=lambda: {"self": points["z"][:1]})

    for wiring in (mixed_up, too_few):
        assert wiring.projections == {}
        assert wiring.absent["z"] == "what attn.c_proj is given is not what the heads put out"
        assert "attn_out" in wiring.points


def test_linear_and_conv1d_are_the_same_map_stored_differently():
    conv = transformers.pytorch_utils.Conv1D(nf=5, nx=6)
    linear = nn.Linear(6, 5)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.T)
        linear.bias.copy_(conv.bias.normal_())
    z = torch.randn(3, 4, 6)

    torch.testing.assert_close(head_writes(z, conv, 2), head_writes(z, linear, 2))
    torch.testing.assert_close(z @ projection_weight(linear) + linear.bias, conv(z))


def test_heads_that_do_not_fit_the_projection_are_refused():
    with pytest.raises(UnsupportedModelError, match="takes 6 numbers per position, which 4 heads"):
        head_writes(torch.randn(3, 6), nn.Linear(6, 5), 4)


def test_a_quantised_projection_is_refused():
    quantised = nn.Linear(6, 5)
    quantised.weight = nn.Parameter(torch.zeros(5, 6, dtype=torch.int8), requires_grad=False)

    with pytest.raises(UnsupportedModelError, match="not a plain matrix of floating-point numbers"):
        head_writes(torch.randn(3, 6), quantised, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["bert", "gpt_neox", "llama", "gemma2", "falcon", "t5 decoder"])
def test_precision_changes_nothing_of_what_is_found(name, dtype):
    wiring = Case(name, dtype).wiring()

    assert wiring.layout == TABLE[name].layout
    assert wiring.readings["attn_out"].path == TABLE[name].attn_out
    assert wiring.readings["mlp_out"].path == TABLE[name].mlp_out


def test_padding_that_is_not_a_number_hides_nothing():
    case = Case("gemma2", torch.float64)
    output = case.run(output_hidden_states=True).hidden_states[1]
    assert output.isnan().any()  # in float64 SDPA gives NaN for queries that see no key
    assert not output.isnan().all(-1).all()

    wiring = case.wiring()

    assert wiring.layout == "post-norm"
    assert wiring.final_norm == "model.norm"


def test_points_that_the_model_overwrites_are_copied():
    case = Case("falcon")
    wiring = case.wiring()
    at_the_time = []
    for layer in case.stack.layers:
        layer.mlp.register_forward_hook(lambda _module, _args, output: at_the_time.append(output.clone()))

    with recording_points(case.stack, wiring, ["mlp_out"]) as points:
        case.run()

    assert wiring.copies == {"mlp_out"}
    torch.testing.assert_close(points["mlp_out"], at_the_time, rtol=0, atol=0)


def test_one_module_called_for_several_layers_is_described_once():
    settings = {"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4, "embedding_size": 10}
    sizes = {"vocab_size": 60, "hidden_size": 20, "num_attention_heads": 4, "intermediate_size": 37}
    model = transformers.AlbertModel(transformers.AlbertConfig(**sizes, **settings)).eval()
    draw_wide_weights(model, gain=1.5, seed=0)
    (stack,) = find_stacks(model)

    wiring = find_wiring(stack, lambda: model(torch.arange(18).reshape(2, 9)))

    assert wiring.order == (0, 1, 0, 1, 2, 3, 2, 3)
    assert wiring.readings["attn_out"].path == "attention.dense"


class Attention(nn.Module):
    """Causal self-attention with a fused map in front, as in a tutorial."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads, self.qkv, self.out = n_heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(width), Attention(width, 3), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class UnseenMiddle(Block):
    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(functional.layer_norm(x, (12,)))


class InPlace(Block):
    def forward(self, x):
        x += self.attn(self.ln1(x))
        x += self.mlp(self.ln2(x))
        return x


class Scaled(Block):
    def forward(self, x):
        x = x + 0.5 * self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class AttentionOnly(Block):
    def forward(self, x):
        return x + self.attn(self.ln1(x))


class Plain(nn.Module):
    """Embedding, blocks, final norm and head."""

    def __init__(self, *blocks):
        super().__init__()
        self.embedding, self.blocks = nn.Embedding(30, 12), nn.ModuleList(blocks)
        self.ln_f, self.head = nn.LayerNorm(12), nn.Linear(12, 30)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


def wiring_of_plain(*blocks):
    model = Plain(*blocks).eval()
    (stack,) = find_stacks(model)
    with torch.no_grad():
        return find_wiring(stack, lambda: model(torch.arange(18).reshape(2, 9)))


def test_a_module_of_ones_own_is_found_by_the_same_rule():
    wiring = wiring_of_plain(Block(), Block())

    assert wiring.layout == "pre-LN"
    assert {point: str(reading) for point, reading in wiring.readings.items()} == {
        "resid_pre": "input of the layer",
        "z": "input of attn.out",
        "attn_out": "output of attn",
        "resid_mid": "input of ln2",
        "mlp_act": "input of mlp.2",
        "mlp_out": "output of mlp",
        "resid_post": "output of the layer",
    }
    assert wiring.final_norm == "ln_f"
    assert not wiring.absent


def test_sums_that_no_module_sees_are_not_called_parallel():
    wiring = wiring_of_plain(UnseenMiddle(), UnseenMiddle())

    assert wiring.layout == "pre-LN"
    assert wiring.absent == {"resid_mid": "no module sees the stream at this point"}
    assert {"attn_out", "mlp_out"} < set(wiring.points)


def test_a_stream_written_in_place_is_copied():
    wiring = wiring_of_plain(InPlace(), InPlace())

    assert wiring.copies == {"embed", "resid_pre", "resid_mid", "resid_post", "final"}


def test_a_block_without_mlp_says_so():
    wiring = wiring_of_plain(AttentionOnly(), AttentionOnly())

    assert wiring.points == ("embed", "resid_pre", "z", "attn_out", "resid_post", "final")
    assert wiring.absent["mlp_out"] == "nothing of this kind is written in these layers"


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ((Scaled, Scaled), "no module's output was found that, added to the layer's input, makes up its output"),
        ((Block, Scaled), "layer 1 of blocks is wired differently from the ones before it"),
    ],
)
def test_sums_that_do_not_hold_in_every_layer_are_absent_with_the_reason(blocks, reason):
    wiring = wiring_of_plain(*(block() for block in blocks))

    assert wiring.points == ("embed", "resid_pre", "resid_post", "final")
    assert wiring.layout is None
    assert {wiring.absent[point] for point in ("z", "attn_out", "resid_mid", "mlp_act", "mlp_out")} == {reason}


def test_layers_that_are_never_called_are_reported():
    model = Plain(Block(), Block())
    (stack,) = find_stacks(model)

    wiring = find_wiring(stack, lambda: None)

    assert wiring.points == ()
    assert wiring.absent == {"resid_pre": "the layers of blocks are never called"}


@pytest.mark.parametrize(
    ("norm_first", "layout", "middle"), [(True, "pre-LN", "input of norm2"), (False, "post-LN", "output of norm1")]
)
def test_torchs_own_encoder_is_found_its_fused_path_included(norm_first, layout, middle):
    layer = nn.TransformerEncoderLayer(16, 4, 20, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    padding = torch.arange(7)[None] >= torch.tensor([[7], [5]])
    (stack,) = find_stacks(model)

    with torch.no_grad():
        wiring = find_wiring(stack, lambda: model(torch.randn(2, 7, 16), src_key_padding_mask=padding))

    assert wiring.layout == layout
    assert str(wiring.readings["resid_mid"]) == middle
    assert (wiring.readings["attn_out"].path, wiring.readings["mlp_out"].path) == ("self_attn", "linear2")


def test_torchs_attention_uses_its_projection_without_calling_it_so_the_heads_outputs_prove_it():
    model = nn.TransformerDecoderLayer(12, 3, 20, batch_first=True).eval()
    target, source = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    with torch.no_grad():
        own = torch_heads(model.self_attn, target, target)
        middle = model.norm1(target + model.self_attn.out_proj(own))
        across = torch_heads(model.multihead_attn, middle, source)
        (stack,) = find_stacks(model)

        unproven = find_wiring(stack, lambda: model(target, source))
        proven = find_wiring(stack, lambda: model(target, source), lambda: {"self": [own], "cross": [across]})
        refuted = find_wiring(stack, lambda: model(target, source), lambda: {"self": [across], "cross": [own]})

    assert proven.projections == {"self": "self_attn.out_proj", "cross": "multihead_attn.out_proj"}
    assert unproven.projections == refuted.projections == {}
    assert "without being called" in unproven.absent["z"]
    assert "not what the heads put out" in refuted.absent["cross_z"]


def torch_heads(attention, queries, keys):
    """The heads' outputs side by side, from the packed weights and a softmax written out."""
    parts = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), (queries, keys, keys), strict=True)
    q, k, v = (
        (x @ weight.T + bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for weight, bias, x in parts
    )
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def test_attending_modules_can_be_named():
    class Mixer(Attention):
        pass

    blocks = (Block(), Block())
    for block in blocks:
        block.attn.__class__ = type("Mixer", (Mixer,), {})
    model = nn.Sequential(*blocks)
    stack = find_stacks(nn.ModuleList([Block()]))[0]
    stack = type(stack)("blocks", "decoder", blocks, has_cross=False, owner=model)

    with torch.no_grad():
        unnamed = find_wiring(stack, lambda: model(torch.randn(2, 9, 12)))
        named = find_wiring(
            stack, lambda: model(torch.randn(2, 9, 12)), attending={block.attn: "self" for block in blocks}
        )

    assert "attn_out" not in unnamed.points
    assert named.readings["attn_out"].path == "attn"
