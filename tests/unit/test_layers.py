"""Stacks of layers and their attention modules, found by what they hold."""

from __future__ import annotations

import pytest
import torch
from family_models import FAMILIES
from torch import nn

from attnlens.errors import UnsupportedModelError
from attnlens.models.layers import attention_places, attention_sites, find_stacks, stack_at

TWO_STACKS = {"t5": (4, 2), "bart": (2, 5), "marian": (2, 5), "whisper": (2, 5), "bert-gpt2": (3, 2)}
CROSS = {"t5": "layer.1.EncDecAttention", "bert-gpt2": "crossattention"}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in TWO_STACKS])
def test_one_stack_is_found_with_every_layer(name):
    family = FAMILIES[name]
    model = family.build()

    (stack,) = find_stacks(model)

    n_layers = 1 if name == "albert" else model.config.num_hidden_layers  # ALBERT's only layer is called three times
    assert len(stack.layers) == n_layers
    assert stack.kind == ("decoder" if family.kind == "decoder" else "encoder")
    assert stack.owner is model
    assert not stack.has_cross
    assert [place.kind for place in attention_places([stack]).values()] == ["self"] * n_layers


@pytest.mark.parametrize("name", TWO_STACKS)
def test_two_stacks_are_an_encoder_and_a_decoder_that_looks_at_it(name):
    model = FAMILIES[name].build()

    encoder, decoder = find_stacks(model)

    assert (encoder.kind, decoder.kind) == ("encoder", "decoder")
    assert (encoder.has_cross, decoder.has_cross) == (False, True)
    assert (len(encoder.layers), len(decoder.layers)) == TWO_STACKS[name]
    assert not set(encoder.owner.modules()) & set(decoder.layers)
    sites = attention_sites(decoder.layers[0])
    assert [site.kind for site in sites] == ["self", "cross"]
    assert sites[1].path == CROSS.get(name, "encoder_attn")


def test_places_tell_who_is_calling():
    model = FAMILIES["bart"].build()

    places = attention_places(find_stacks(model))

    place = places[model.model.decoder.layers[3].encoder_attn]
    assert (place.stack, place.layer, place.kind) == (1, 3, "cross")
    assert len(places) == 2 + 2 * 5


def test_torchs_own_transformer_is_an_encoder_and_a_decoder():
    model = nn.Transformer(12, 4, 2, 4, 20, batch_first=True)

    encoder, decoder = find_stacks(model)

    assert (len(encoder.layers), len(decoder.layers)) == (2, 4)
    assert [(site.path, site.kind) for site in attention_sites(decoder.layers[0])] == [
        ("self_attn", "self"),
        ("multihead_attn", "cross"),
    ]


@pytest.mark.parametrize("batch_first", [True, False])
def test_which_axis_comes_first_is_read_from_torchs_attention(batch_first):
    (stack,) = find_stacks(nn.TransformerDecoderLayer(12, 3, 20, batch_first=batch_first))

    assert stack.batch_first == batch_first


def layer():
    return nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)


class Head(nn.Module):
    """Embedding, one block as an attribute, and a head."""

    def __init__(self):
        super().__init__()
        self.embedding, self.block, self.head = nn.Embedding(30, 12), layer(), nn.Linear(12, 30)


@pytest.mark.parametrize(
    ("model", "name", "n_layers"),
    [
        (layer(), "", 1),
        (Head(), "block", 1),
        (nn.Sequential(nn.Embedding(30, 12), layer(), layer(), nn.Linear(12, 30)), "", 2),
        (
            nn.Sequential(
                nn.Embedding(30, 12), nn.TransformerEncoder(layer(), 3, enable_nested_tensor=False), nn.Linear(12, 30)
            ),
            "1.layers",
            3,
        ),
    ],
    ids=["block", "attribute", "sequence", "encoder in a sequence"],
)
def test_plain_modules_are_found_without_a_list_too(model, name, n_layers):
    (stack,) = find_stacks(model)

    assert (stack.name, len(stack.layers)) == (name, n_layers)
    assert all(isinstance(found, nn.TransformerEncoderLayer) for found in stack.layers)


def test_a_list_of_heads_inside_a_block_is_no_stack():
    class AttentionHead(nn.Module):
        pass

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads, self.mlp = nn.ModuleList([AttentionHead(), AttentionHead()]), nn.Linear(3, 3)

    model = nn.ModuleDict({"blocks": nn.ModuleList([Block() for _ in range(3)])})

    (stack,) = find_stacks(model)

    assert (stack.name, len(stack.layers)) == ("blocks", 3)


def test_layers_can_be_named_by_the_modules_author():
    model = nn.ModuleDict({"mixers": nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])})

    stack = stack_at(model, "mixers")

    assert stack.layers == tuple(model["mixers"])
    assert stack.owner is model


def test_a_model_without_attention_is_refused():
    with pytest.raises(UnsupportedModelError, match="LSTM has no layers with attention"):
        find_stacks(nn.LSTM(3, 3))


def test_a_layer_in_the_list_twice_is_one_layer():
    shared = layer()

    (stack,) = find_stacks(nn.ModuleList([shared, layer(), shared]))

    assert len(stack.layers) == 2
    assert torch.is_tensor(next(stack.layers[0].parameters()))
