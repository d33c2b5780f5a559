"""Models that are not of transformers: torch's own attention and users' modules, against torch or the formula."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnlens
from attnlens.errors import CaptureError, UnsupportedModelError, UsageError

WIDTH, HEADS, LENGTH = 24, 4, 9
TOLERANCE = 1e-5


def wide(model: Any) -> Any:
    """Weights drawn wide enough for attention to be far from uniform; in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(1.5 * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return model.eval()


def vectors(rows: int = 2, length: int = LENGTH, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed))


def padding(rows: int = 2, length: int = LENGTH) -> Tensor:
    """True where there is padding, as torch has it: the last four positions of the second row."""
    hidden = torch.zeros(rows, length, dtype=torch.bool)
    hidden[1:, length - 4 :] = True
    return hidden


class Block(nn.Module):
    """Post-norm attention on `nn.MultiheadAttention` and an MLP."""

    def __init__(self, need_weights: bool = False, average: bool = True, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **options)
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 37), nn.GELU(), nn.Linear(37, WIDTH))
        self.asked = {"need_weights": need_weights, "average_attn_weights": average}
        self.returned: Tensor | None = None

    def forward(self, x: Tensor, pad: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        mixed, self.returned = self.attention(x, x, x, key_padding_mask=pad, attn_mask=mask, **self.asked)
        x = self.norm(x + mixed)
        result: Tensor = x + self.mlp(x)
        return result


class Net(nn.Module):
    """Two blocks."""

    def __init__(self, block: Callable[[], nn.Module] = Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(2))

    def forward(self, x: Tensor, pad: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, pad, mask)
        return x


def truth(net: Any, x: Tensor, pad: Tensor | None = None, mask: Tensor | None = None) -> list[Tensor]:
    """Each block's weights as nn.MultiheadAttention itself gives them."""
    found = []
    with torch.no_grad():
        for block in net.blocks:
            options = {"key_padding_mask": pad, "attn_mask": mask, "average_attn_weights": False}
            found.append(block.attention(x, x, x, **options)[1])
            x = block(x, pad, mask)
    return found


MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "padding": {"pad": padding()},
    "float padding": {"pad": torch.zeros(2, LENGTH).masked_fill(padding(), -torch.inf)},
    "causal": {"mask": torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)},
    "bias": {"mask": torch.randn(LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))},
    "bias per head": {"mask": torch.randn(2 * HEADS, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))},
    "other keys hidden from every head": {
        "mask": torch.rand(2 * HEADS, LENGTH, LENGTH, generator=torch.Generator().manual_seed(2)) < 0.4
    },
    "padding and causal": {"pad": padding(), "mask": torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)},
}


@pytest.mark.parametrize("given", MASKS)
@pytest.mark.parametrize("mode", [{"mode": "lazy"}, {"mode": "lazy", "weights": True}, {"mode": "exact"}])
def test_every_mask_of_multi_head_attention(given: str, mode: dict[str, Any]) -> None:
    net, x = wide(Net(lambda: Block(batch_first=True))), vectors()
    masks = MASKS[given]
    expected = truth(net, x, **masks)

    runs = list(attnlens.load(model=net).captures(inputs={"x": x, **masks}, **mode))

    for row, run in enumerate(runs):
        own = torch.stack([layer[row] for layer in expected])
        torch.testing.assert_close(run.attention(), own, atol=TOLERANCE, rtol=0)
        for layer in range(2):
            assert torch.equal(run.visible(layer), (own[layer] > 0).any(0))


@pytest.mark.parametrize("head", ["L0H1", "L1H3"])
def test_one_head_of_a_mask_per_head(head: str) -> None:
    net, x = wide(Net(lambda: Block(batch_first=True))), vectors()
    masks = MASKS["other keys hidden from every head"]
    layer, number = int(head[1]), int(head[3])

    for mode in ({}, {"weights": True}, {"mode": "exact"}):
        run = next(attnlens.load(model=net).captures(inputs={"x": x, **masks}, heads=(head,), **mode))

        expected = truth(net, x, **masks)[layer][0, number]
        torch.testing.assert_close(run.attention(head=head), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "asked", [{"need_weights": False}, {"need_weights": True, "average": False}, {"need_weights": True}]
)
def test_either_order_of_axes_and_every_way_of_asking_for_weights(batch_first: bool, asked: dict[str, bool]) -> None:
    net = wide(Net(lambda: Block(batch_first=batch_first, **asked)))
    x = vectors() if batch_first else vectors().transpose(0, 1).contiguous()
    expected = truth(net, x)
    with torch.no_grad():
        own = net(x)
    points = ("q", "v", "z", "write", "attn_out", "resid_pre", "resid_post")

    lens = attnlens.load(model=net)
    runs = list(lens.captures(inputs=x, points=points, logits=True))

    assert lens.anatomy.route == "multi-head"
    assert len(runs) == 2
    for row, run in enumerate(runs):
        torch.testing.assert_close(
            run.attention(), torch.stack([layer[row] for layer in expected]), atol=TOLERANCE, rtol=0
        )
        torch.testing.assert_close(run.logits, own[row] if batch_first else own[:, row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run.attention() @ run.residual("v"), run.residual("z"), atol=1e-5, rtol=1e-5)
        written = run.residual("write").sum(1)
        bias = torch.stack([block.attention.out_proj.bias for block in net.blocks])[:, None].detach()
        torch.testing.assert_close(written + bias, run.residual("attn_out"), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run.residual("resid_pre")[0], x[row] if batch_first else x[:, row])


def test_the_module_gets_the_weights_that_it_asked_for() -> None:
    """A module that uses the averaged weights goes on as without a capture."""
    net, x = wide(Net(lambda: Block(batch_first=True, need_weights=True))), vectors()
    expected = [layer.mean(1) for layer in truth(net, x)]
    lens = attnlens.load(model=net)

    for mode in ({}, {"weights": True}, {"mode": "exact"}):
        list(lens.captures(inputs=x, **mode))

        for block, weights in zip(net.blocks, expected, strict=True):
            torch.testing.assert_close(block.returned, weights, atol=TOLERANCE, rtol=0)


class CrossBlock(nn.Module):
    """Queries from one stream, keys and values from another of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=10, vdim=10, batch_first=True, bias=False)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        result: Tensor = x + self.attention(x, source, source, need_weights=False)[0]
        return result


def test_separate_projections_of_keys_and_values() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(CrossBlock() for _ in range(2))

        def forward(self, x: Tensor, source: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x, source)
            return x

    net, x, source = wide(Reader()), vectors(), vectors(length=5, width=10, seed=7)
    expected = net.blocks[0].attention(x, source, source, average_attn_weights=False)[1]

    lens = attnlens.load(model=net, example={"x": x, "source": source})
    run = next(lens.captures(inputs={"x": x, "source": source}))

    torch.testing.assert_close(run.attention(0), expected[0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_keys_that_stand_for_no_position_are_refused(option: str) -> None:
    net = wide(Net(lambda: Block(batch_first=True, **{option: True})))

    with pytest.raises(UnsupportedModelError, match="attends to keys that are no position"):
        attnlens.load(model=net)


def test_one_text_without_a_batch_axis_is_refused() -> None:
    lens = attnlens.load(model=wide(Net(lambda: Block(batch_first=True))))

    with pytest.raises(CaptureError, match="give tensors with a batch axis"):
        list(lens.captures(inputs=vectors()[0]))
    with pytest.raises(UsageError, match="9 rows"):
        lens.capture(inputs=vectors()[0])


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_encoder_fast_path_included(norm_first: bool, batch_first: bool) -> None:
    """In evaluation mode without gradients torch runs one fused kernel per layer, on nested tensors where padded."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 37, batch_first=batch_first, norm_first=norm_first)
    nested = batch_first and not norm_first
    net, x = wide(nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)), vectors()
    x = x if batch_first else x.transpose(0, 1).contiguous()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = net(x, src_key_padding_mask=padding())

    lens = attnlens.load(model=net)
    runs = list(lens.captures(inputs={"src": x, "src_key_padding_mask": padding()}, logits=True))

    first = net.layers[0]
    with torch.no_grad():
        given = first.norm1(x) if norm_first else x
        options = {"key_padding_mask": padding(), "average_attn_weights": False}
        expected = first.self_attn(given, given, given, **options)[1]
    for row, (run, real) in enumerate(zip(runs, (9, 5), strict=True)):
        torch.testing.assert_close(run.attention(0), expected[row], atol=TOLERANCE, rtol=0)
        output = own[row] if batch_first else own[:, row]
        assert run.logits is not None
        torch.testing.assert_close(run.logits[:real], output[:real], atol=1e-5, rtol=1e-5)
    assert {"attn_out", "resid_mid", "mlp_out", "write"} <= set(lens.anatomy.residual_points)


def test_transformer_decoder_stands_alone() -> None:
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 37, batch_first=True)
    net, target, memory = wide(nn.TransformerDecoder(layer, 3)), vectors(length=7), vectors(length=LENGTH, seed=5)
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    first = net.layers[0]
    with torch.no_grad():
        own = first.self_attn(target, target, target, attn_mask=causal, average_attn_weights=False)[1]
        middle = first.norm1(target + first.self_attn(target, target, target, attn_mask=causal)[0])
        cross = first.multihead_attn(middle, memory, memory, average_attn_weights=False)[1]

    lens = attnlens.load(model=net)
    run = next(lens.captures(inputs={"tgt": target, "memory": memory, "tgt_mask": causal}))

    assert [stack.letter for stack in lens.anatomy.stacks] == ["D", "X"]
    torch.testing.assert_close(run.attention(0), own[0], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(run.attention(0, kind="cross"), cross[0], atol=TOLERANCE, rtol=0)
    assert (len(run.tokens), run.source and len(run.source.tokens)) == (7, LENGTH)
    with pytest.raises(CaptureError):
        run.attention(0, stack="E")


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_whole_transformer_of_torch(batch_first: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = wide(nn.Transformer(WIDTH, HEADS, 2, 3, 37, batch_first=batch_first))
    source, target = vectors(length=LENGTH), vectors(length=7, seed=1)
    if not batch_first:
        source, target = (x.transpose(0, 1).contiguous() for x in (source, target))
    with torch.no_grad():
        memory = net.encoder(source)
        own = net.encoder.layers[0].self_attn(source, source, source, average_attn_weights=False)[1]
        first = net.decoder.layers[0]
        middle = first.norm1(target + first.self_attn(target, target, target)[0])
        cross = first.multihead_attn(middle, memory, memory, average_attn_weights=False)[1]

    lens = attnlens.load(model=net)
    runs = list(lens.captures(inputs={"src": source, "tgt": target}))
    (summary,) = lens.reduce(inputs={"src": source, "tgt": target})

    assert [(stack.letter, stack.n_layers) for stack in lens.anatomy.stacks] == [("E", 2), ("D", 3), ("X", 3)]
    assert len(summary.value()) == 8
    for row, run in enumerate(runs):
        torch.testing.assert_close(run.attention(0, stack="E"), own[row], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(run.attention(0, kind="cross"), cross[row], atol=TOLERANCE, rtol=0)


class Mixer(nn.Module):
    """Causal attention in a user's own code, on a fused projection; `how` it computes is up to the test."""

    def __init__(self, how: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.n_head, self.how = HEADS, how
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.how(*self.heads(x)).transpose(1, 2).flatten(2))
        return result


class CausalSelfAttention(Mixer):
    """The same under a name that says what it is."""


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return formula(q, k) @ v


def formula(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)), later keys hidden."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def heads_in_the_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Batch and heads as one axis, as older code has it."""
    mixed = torch.bmm(formula(q.flatten(0, 1), k.flatten(0, 1)), v.flatten(0, 1))
    return mixed.unflatten(0, (-1, HEADS))


class Gpt(nn.Module):
    """Like nanoGPT: ids in, logits out, blocks in a list."""

    def __init__(self, how: Callable[[Tensor, Tensor, Tensor], Tensor], kind: type[Mixer]) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(61, WIDTH), nn.Embedding(32, WIDTH)
        self.blocks = nn.ModuleList(nn.ModuleDict({"ln": nn.LayerNorm(WIDTH), "mixer": kind(how)}) for _ in range(3))
        self.head = nn.Linear(WIDTH, 61, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = x + block["mixer"](block["ln"](x))
        result: Tensor = self.head(x)
        return result


def gpt_truth(net: Gpt, ids: Tensor) -> Tensor:
    """[layer batch head query key] by the formula."""
    found = []
    with torch.no_grad():
        x = net.tokens(ids) + net.places(torch.arange(ids.shape[1]))
        for block in net.blocks:
            given = block["ln"](x)
            found.append(formula(*block["mixer"].heads(given)[:2]))
            x = x + block["mixer"](given)
    return torch.stack(found)


@pytest.mark.parametrize(("how", "route"), [(fused, "sdpa"), (by_hand, "softmax"), (heads_in_the_batch, "softmax")])
def test_a_users_own_module(how: Callable[..., Tensor], route: str) -> None:
    net = wide(Gpt(how, CausalSelfAttention))
    ids = torch.randint(61, (2, 7), generator=torch.Generator().manual_seed(0))
    expected = gpt_truth(net, ids)

    lens = attnlens.load(model=net)
    runs = list(lens.captures(inputs=ids, logits=True))

    assert (lens.anatomy.route, lens.anatomy.causal, lens.anatomy.n_layers) == (route, True, 3)
    for row, run in enumerate(runs):
        torch.testing.assert_close(run.attention(), expected[:, row], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(run.logits, net(ids)[row].detach(), atol=1e-5, rtol=1e-5)
        assert [token.id for token in run.tokens] == ids[row].tolist()
        assert torch.equal(run.visible(0), torch.ones(7, 7, dtype=torch.bool).tril())


def test_ids_beyond_the_vocabulary_of_a_users_own_module() -> None:
    lens = attnlens.load(model=wide(Gpt(fused, CausalSelfAttention)))

    with pytest.raises(UnsupportedModelError, match="61"):
        lens.capture(inputs=torch.tensor([[1, 61, 2]]))


class Fused(torch.autograd.Function):
    """A kernel of its own, in which no softmax of torch is ever called."""

    @staticmethod
    def forward(_context: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2)).exp()
        return scores @ v / scores.sum(-1, keepdim=True)


def own_kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed: Tensor = Fused.apply(q, k, v)
    return mixed


def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Differential attention: the difference of two maps."""
    return by_hand(q, k, v) - 0.5 * by_hand(k, q, v)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (own_kernel, "no attention of Gpt could be reached.*fused kernel"),
        (twice, "layer 0 of Gpt attends more than once per token"),
        (lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(1) @ v, "softmax over axis 1 of 4, not over the keys"),
    ],
)
def test_what_is_no_map_per_head_is_refused_by_name(how: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        attnlens.load(model=wide(Gpt(how, CausalSelfAttention)))


@pytest.mark.parametrize(("how", "refused"), [(by_hand, False), (twice, True)])
def test_one_layer_that_runs_several_times(how: Callable[..., Tensor], refused: bool) -> None:
    """Like ALBERT: each run is a layer of its own; two maps per run are not two layers."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = CausalSelfAttention(how)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = x + self.mixer(x)
            return result

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Layer()])

        def forward(self, x: Tensor) -> Tensor:
            return self.layers[0](self.layers[0](x))  # type: ignore[no-any-return]

    net, x = wide(Shared()), vectors()
    if refused:
        with pytest.raises(UnsupportedModelError, match="attends more than once per token"):
            attnlens.load(model=net)
        return

    run = next(attnlens.load(model=net).captures(inputs=x))

    mixer = net.layers[0].mixer
    expected = [formula(*mixer.heads(given)[:2])[0] for given in (x, net.layers[0](x))]
    torch.testing.assert_close(run.attention(), torch.stack(expected).detach(), atol=TOLERANCE, rtol=0)


def test_attention_within_windows_is_refused_by_name() -> None:
    def in_windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = (part.unflatten(2, (-1, 4)).transpose(1, 2).flatten(0, 1) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(*parts)
        return mixed.unflatten(0, (q.shape[0], -1)).transpose(1, 2).flatten(2, 3)

    with pytest.raises(UnsupportedModelError, match=r"attends in groups of \[6\], not text by text"):
        attnlens.load(model=wide(Gpt(in_windows, CausalSelfAttention)))


def test_a_module_without_attention_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match="Sequential has no layers with attention"):
        attnlens.load(model=nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
