"""What a user can get wrong when opening a model and giving it input: each a named error with the way out."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from family_models import FAMILIES
from torch import nn

import attnlens
from attnlens.errors import (
    CaptureError,
    HeadAddressError,
    SelfCheckError,
    TextError,
    UnsupportedModelError,
    UsageError,
)


@cache
def opened(name: str) -> attnlens.Lens:
    return attnlens.load(model=FAMILIES[name].build(), tokenizer=FAMILIES[name].tokenizer())


def load(name: str, model: Any = None, tokenizer: Any = None) -> attnlens.Lens:
    family = FAMILIES[name]
    return attnlens.load(model=model or family.build(), tokenizer=tokenizer or family.tokenizer())


def ids(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)


# Models.


def test_a_model_in_training_mode_is_opened_in_evaluation_mode() -> None:
    model = FAMILIES["bert"].build().train()

    lens = load("bert", model)

    assert not any(part.training for part in lens.model.modules())


@pytest.mark.parametrize("part", [None, "bert.encoder.layer.1"])
def test_weights_on_the_meta_device_are_no_weights(part: str | None) -> None:
    model = FAMILIES["bert"].build()
    (model if part is None else model.get_submodule(part)).to("meta")

    with pytest.raises(UnsupportedModelError, match="weights on the meta device, that is, none at all; load it with"):
        load("bert", model)


def test_broken_weights_are_told_from_a_broken_capture() -> None:
    model = FAMILIES["llama"].build()
    model.model.layers[2].mlp.down_proj.weight.data[3, 3] = float("nan")

    with pytest.raises(SelfCheckError, match="finite is 0"):
        load("llama", model)


def test_a_device_map_on_one_device_is_no_obstacle() -> None:
    model = FAMILIES["llama"].build()
    model.hf_device_map = {"": "cpu"}

    run = next(load("llama", model).captures(inputs=FAMILIES["llama"].inputs()))

    torch.testing.assert_close(
        run.attention(), next(opened("llama").captures(inputs=FAMILIES["llama"].inputs())).attention()
    )


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_model_on_an_accelerator(device: str) -> None:
    if not (torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()):
        pytest.skip(f"needs {device}")
    expected = next(opened("llama").captures(inputs=FAMILIES["llama"].inputs())).attention()

    lens = attnlens.load(model=FAMILIES["llama"].build(), tokenizer=FAMILIES["llama"].tokenizer(), device=device)

    for mode in ({}, {"weights": True}, {"mode": "exact"}):
        run = next(lens.captures(inputs=FAMILIES["llama"].inputs(), **mode))
        torch.testing.assert_close(run.attention(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "gemma2", "bloom", "t5", "falcon"])
def test_low_precision_gives_float32_weights_near_those_of_float32(name: str, dtype: torch.dtype) -> None:
    """Recomputed in float32 from rounded queries and keys: rows still sum to 1 to float32's precision."""
    inputs = FAMILIES[name].inputs()
    expected = next(opened(name).captures(inputs=inputs)).attention(0)

    run = next(load(name, FAMILIES[name].build().to(dtype)).captures(inputs=inputs))

    found = run.attention(0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
    if run.mode == "lazy":
        torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]), atol=1e-5, rtol=0)


def test_two_encoders_side_by_side_are_refused_with_advice() -> None:
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=small | {"vocab_size": 261}, vision_config=small | {"image_size": 8, "patch_size": 4}
    )
    model = transformers.CLIPModel(config).eval()

    with pytest.raises(UnsupportedModelError, match=r"2 stacks of layers .* open one of its parts \(model.text_model"):
        load("bert", model)
    assert load("bert", copy.deepcopy(model.text_model)).anatomy.n_layers == 2


def test_a_model_with_unknown_input_says_what_to_give() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 9, batch_first=True) for _ in range(2))

        def forward(self, a: Any, b: Any, c: Any) -> Any:
            return self.layers[1](self.layers[0](a + b + c))

    with pytest.raises(UnsupportedModelError, match=r"takes a, b, c, .*example=\{\.\.\.\}"):
        attnlens.load(model=Model())


def test_a_name_or_a_model_but_not_both() -> None:
    with pytest.raises(UsageError, match="either a model's name or model="):
        attnlens.load()
    with pytest.raises(UsageError, match="either a model's name or model="):
        attnlens.load("attnlens/tiny-bert", model=FAMILIES["bert"].build())
    with pytest.raises(UsageError, match="needs tokenizer="):
        attnlens.load(model=FAMILIES["bert"].build())


# Texts.


def test_a_tokenizer_with_a_larger_vocabulary_does_not_fit() -> None:
    model = FAMILIES["gpt2"].build()
    model.resize_token_embeddings(30)

    lens = load("gpt2", model)

    with pytest.raises(UnsupportedModelError, match=r"the tokenizer does not fit the model: .*the model knows 0 to 29"):
        lens.capture("zzz")


@pytest.mark.parametrize("name", ["gpt2", "roberta", "llama", "opt"])
def test_a_text_beyond_the_context(name: str) -> None:
    lens = opened(name)
    limit = lens.anatomy.max_length
    assert limit is not None

    with pytest.raises(TextError, match=f"takes at most {limit}; shorten it or split it"):
        lens.capture("x" * (limit + 1))
    with pytest.raises(TextError, match=f"takes at most {limit}"):
        lens.capture(inputs=torch.full((1, limit + 1), 9))
    with pytest.raises(TextError, match=r"text 2: .*takes at most"):
        list(lens.captures(["x", "x" * (limit + 1)]))


@pytest.mark.parametrize("text", ["", None])
def test_no_text(text: Any) -> None:
    with pytest.raises((TextError, UsageError)):
        opened("gpt2").capture(text)


def test_an_encoder_decoder_needs_both_sides() -> None:
    lens = opened("t5")

    for arguments in ({"text": "dog"}, {"source": "dog"}, {"target": "dog"}, {"text": "dog", "source": "dog"}):
        with pytest.raises(UsageError, match=r"is an encoder-decoder; give source=.* and target="):
            lens.capture(**arguments)
    with pytest.raises(UsageError, match=r"decoder_input_ids"):
        lens.capture(inputs={"input_ids": ids([5, 6, 7])})
    with pytest.raises(UsageError, match=r"decoder_input_ids"):
        lens.reduce(inputs={"input_ids": ids([5, 6, 7])})
    assert lens.capture(inputs={"input_ids": ids([5, 6, 7])}, target="dog").source is not None


@pytest.mark.parametrize("arguments", [{"source": "a", "target": "b"}, {"text": "a", "target": "b"}])
def test_a_model_of_one_stack_takes_no_source_and_target(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has one stack; give it one text"):
        opened("gpt2").capture(**arguments)


@pytest.mark.parametrize("name", ["gpt2", "distilbert"])
def test_a_pair_of_texts_needs_a_model_of_two_segments_or_runs_as_one(name: str) -> None:
    """A pair for a model without segments is what its tokenizer makes of two texts."""
    expected: Any = FAMILIES[name].tokenizer()("ab", "cd")["input_ids"]

    run = opened(name).capture(("ab", "cd"))

    assert [token.id for token in run.tokens] == expected


def test_a_model_of_pictures_reads_no_text() -> None:
    with pytest.raises(UsageError):
        opened("vit").capture("dog")
    with pytest.raises(UsageError):
        opened("vit").n_tokens("dog")
    with pytest.raises(UsageError):
        list(opened("vit").captures(["dog"]))


# Tensors.


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, UsageError, "inputs holds nothing .dict.; expected a tensor"),
        ([1, 2, 3], UsageError, "inputs is no tensor .list."),
        ({"input_ids": [1, 2]}, UsageError, "holds input_ids .dict.; expected a tensor"),
        (torch.zeros(1, 0, dtype=torch.long), UsageError, r"shape \[1, 0\], so there is nothing to attend to"),
        (torch.zeros(0, 4, dtype=torch.long), UsageError, r"shape \[0, 4\], so there is nothing to attend to"),
        ({"attention_mask": torch.ones(1, 4)}, UsageError, "reads input_ids; inputs holds attention_mask"),
        (torch.tensor([5, 6, 7]), UsageError, r"input_ids has shape \[3\]; expected \[batch position\]"),
        (torch.ones(1, 2, 3, dtype=torch.long), UsageError, r"shape \[1, 2, 3\]; expected \[batch position\]"),
        (torch.rand(1, 4), UsageError, "input_ids holds float32; expected whole numbers"),
        (
            {"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 5)},
            UsageError,
            r"attention_mask has shape \[1, 5\], input_ids has \[1, 4\]",
        ),
        (
            {"input_ids": torch.full((2, 3), 9), "attention_mask": torch.tensor([[1, 1, 1], [0, 0, 0]])},
            TextError,
            "row 1 of attention_mask is all zeros, so there is no token to attend; leave the row out",
        ),
        (torch.tensor([[5, 261]]), UnsupportedModelError, "id 261.*0 to 260"),
        (torch.tensor([[5, -100]]), UnsupportedModelError, "id -100"),
    ],
)
@pytest.mark.parametrize("way", ["captures", "reduce"])
def test_tensors_that_no_model_can_read(inputs: Any, error: type[Exception], message: str, way: str) -> None:
    lens = opened("gpt2")

    with pytest.raises(error, match=message):
        list(lens.captures(inputs=inputs)) if way == "captures" else lens.reduce(inputs=inputs)


def test_a_target_outside_the_vocabulary() -> None:
    with pytest.raises(UnsupportedModelError, match="id 261"):
        opened("bart").capture(inputs={"input_ids": ids([5, 6, 7]), "decoder_input_ids": ids([2, 261])})


def test_more_rows_than_a_capture_takes() -> None:
    with pytest.raises(UsageError, match=r"inputs has 2 rows; expected one, or use lens.captures\(inputs="):
        opened("gpt2").capture(inputs=ids([5, 6], [7, 8]))


def test_texts_and_tensors_at_once() -> None:
    with pytest.raises(UsageError, match="not both"):
        opened("gpt2").capture("dog", inputs=ids([5, 6]))
    with pytest.raises(UsageError, match="not both"):
        list(opened("gpt2").captures(["dog"], inputs=ids([5, 6])))
    with pytest.raises(UsageError, match="not both"):
        opened("gpt2").reduce(["dog"], inputs=ids([5, 6]))
    with pytest.raises(UsageError, match="give texts, or inputs="):
        list(opened("gpt2").captures())
    with pytest.raises(UsageError, match="give texts, or inputs="):
        opened("gpt2").reduce()


def test_a_picture_of_another_size() -> None:
    with pytest.raises(UsageError, match="ViTForImageClassification cannot be run on pixel_values"):
        opened("vit").capture(inputs=torch.randn(1, 3, 5, 5))


def test_a_model_opened_without_a_tokenizer_takes_tensors_only() -> None:
    lens = attnlens.load(model=nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 3, 17, batch_first=True), 2,
                                                     enable_nested_tensor=False).eval())  # fmt: skip

    for ask in (lens.capture, lens.n_tokens):
        with pytest.raises(UsageError, match="opened without a tokenizer"):
            ask("dog")


# What to keep.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": (7,)}, UsageError, r"layers=\[7\] is not within the model's layers, 0 to 1"),
        ({"layers": (-1,)}, UsageError, r"layers=\[-1\]"),
        ({"layers": ()}, UsageError, r"layers=\[\]"),
        ({"heads": ("L0H3",)}, HeadAddressError, "L0H3 does not exist"),
        ({"heads": ("L2H0",)}, HeadAddressError, "L2H0 does not exist"),
        ({"heads": ("EL0H0",)}, HeadAddressError, "has no stack 'E'"),
        ({"heads": ("first",)}, HeadAddressError, "'first' is not a head"),
        ({"heads": ("L0H0",), "layers": (1,)}, UsageError, "names no head of the layers asked for"),
        ({"mode": "quick"}, UsageError, "mode 'quick' does not exist; expected one of lazy, exact"),
        ({"points": ("middle",)}, UsageError, "'middle' is no point"),
        ({"points": ("router_logits",)}, CaptureError, "'router_logits' is not available"),
        ({"max_memory": "lots"}, UsageError, "'lots' is not an amount of memory"),
        ({"max_memory": 10}, TextError, "10 B are allowed; about 0 tokens would fit"),
    ],
)
def test_what_cannot_be_kept(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        opened("gpt2").capture("the dog", **options)


def test_a_family_that_builds_its_own_weights_has_one_mode() -> None:
    with pytest.raises(CaptureError, match="BloomForCausalLM runs in mode='exact' only"):
        opened("bloom").capture("dog", mode="lazy")


def test_a_batch_size_of_nothing() -> None:
    with pytest.raises(UsageError, match="batch_size is 0; expected at least 1"):
        list(opened("gpt2").captures(["dog"], batch_size=0))
