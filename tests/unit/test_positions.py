"""How positions enter each family, and the longest text: the last length that runs."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from family_models import FAMILIES
from torch import nn

from attnlens.models.layers import find_stacks
from attnlens.models.positions import longest_text, position_scheme

ROPE = "gpt_neox gpt_neox-sequential gptj falcon falcon-grouped llama mistral mixtral qwen2 qwen3 gemma2 gemma3 phi3"
LEARNED = "bert roberta xlm-roberta distilbert electra albert gpt2 gpt2-upcast gpt_neo opt opt-post-norm vit"
SCHEMES = (
    dict.fromkeys(f"{ROPE} gpt_oss modernbert".split(), ("rope",))
    | dict.fromkeys(LEARNED.split(), ("learned",))
    | dict.fromkeys(("bloom", "falcon-alibi", "falcon-sequential"), ("alibi",))
    | dict.fromkeys(("deberta-v2", "mpnet"), ("relative bias",))
    | {
        "t5": ("relative bias", "relative bias"),
        "bart": ("learned", "learned"),
        "marian": ("sinusoidal", "sinusoidal"),
        "whisper": ("sinusoidal", "learned"),
        "bert-gpt2": ("learned", "learned"),
    }
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_scheme_is_found(name):
    stacks = find_stacks(FAMILIES[name].build())

    assert tuple(position_scheme(stack.owner) for stack in stacks) == SCHEMES[name]


@pytest.mark.parametrize(("name", "offset"), [("bert", 0), ("roberta", 2), ("mpnet", 2), ("gpt2", 0), ("gpt_neo", 0),
                                              ("electra", 0), ("gptj", 0)])  # fmt: skip
def test_the_longest_text_runs_and_a_longer_one_does_not(name, offset):
    family = FAMILIES[name]
    model = family.build()

    longest = longest_text(model)
    model(input_ids=torch.full((1, longest), 9))

    assert longest == 64 - offset  # RoBERTa and MPNet number positions behind the padding id, which is 1
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 9))


@pytest.mark.parametrize("name", ["opt", "bart"])
def test_rows_in_front_of_an_offset_are_no_positions(name):
    model = FAMILIES[name].build()
    longest = longest_text(model)

    model(input_ids=torch.full((1, longest), 9))

    tables = [module for path, module in model.named_modules() if path.endswith("embed_positions")]
    assert {table.num_embeddings for table in tables} == {longest + 2}
    with pytest.raises(IndexError):
        model(input_ids=torch.full((1, longest + 1), 9))


@pytest.mark.parametrize("name", ["t5", "bloom", "falcon-alibi", "deberta-v2"])
def test_biases_by_distance_limit_nothing(name):
    assert longest_text(FAMILIES[name].build()) is None


def test_a_window_is_no_limit():
    family = FAMILIES["mistral"]
    model = family.build()

    assert model.config.sliding_window == 4
    assert longest_text(model) == 64


def test_each_stack_has_a_limit_of_its_own():
    encoder, decoder = find_stacks(FAMILIES["whisper"].build())

    assert (longest_text(encoder.owner), longest_text(decoder.owner)) == (13, 64)


@pytest.mark.parametrize(("sinusoidal", "scheme"), [(True, "sinusoidal"), (False, "learned")])
def test_sines_and_cosines_are_recognised_by_their_numbers(sinusoidal, scheme):
    sizes = {"vocab_size": 60, "n_layers": 2, "n_heads": 3, "dim": 24, "hidden_dim": 30, "max_position_embeddings": 40}
    config = transformers.DistilBertConfig(**sizes, sinusoidal_pos_embds=sinusoidal)

    model = transformers.DistilBertModel(config)

    assert position_scheme(model) == scheme


class Tutorial(nn.Module):
    """The table of the original paper as a buffer `pe`, `[position 1 d_model]`, next to an encoder."""

    def __init__(self, width=12, length=50):
        super().__init__()
        angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        self.register_buffer("pe", table[:, None])
        self.encoder = nn.TransformerEncoderLayer(width, 3)


def test_a_buffer_of_sines_is_a_table_too():
    model = Tutorial()

    assert position_scheme(model) == "sinusoidal"
    assert longest_text(model) == 50


def test_torchs_modules_alone_add_no_position():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 4, batch_first=True), 2).eval()
    text, order = torch.randn(1, 7, 12), torch.randperm(7)

    assert position_scheme(model) == "none"
    torch.testing.assert_close(model(text[:, order]), model(text)[:, order], rtol=1e-4, atol=1e-5)


def test_nothing_is_claimed_about_a_module_without_a_known_scheme():
    model = Tutorial()
    del model._buffers["pe"]

    assert position_scheme(model) == "unknown"
    assert longest_text(model) is None
