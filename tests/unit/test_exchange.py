"""Attention from elsewhere becomes a run, and a run becomes what others read; nothing that is no attention does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from eager_truth import eager_attentions, run_eagerly
from family_models import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from random_models import RandomModel

import attnlens
from attnlens.errors import CaptureError, UsageError

LABELS = [f"t{i}" for i in range(11)]
# Two layers of two heads over three tokens; every row sums to 1.
CAUSAL = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]]).expand(2, 2, 3, 3).contiguous()


def outputs_of(name: str, **options: Any) -> tuple[Any, Any]:
    """What transformers' eager code gives for one text of 11 tokens, and the model."""
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs(batch=1)
    with run_eagerly(model, use_cache=False), torch.no_grad():
        return model(**inputs, output_attentions=True, **options), model


def forms(layers: list[torch.Tensor]) -> dict[str, Any]:
    """The same attention as everybody has it."""
    return {
        "tuple": tuple(layers),
        "list without batch": [layer[0] for layer in layers],
        "numpy per layer": [layer.numpy() for layer in layers],
        "array": torch.cat(layers).numpy(),
        "tensor": torch.cat(layers),
        "stacked with batch": torch.stack(layers),
        "mapping": {"attentions": tuple(layers)},
        "object": SimpleNamespace(attentions=tuple(layers)),
    }


@pytest.mark.parametrize("form", ["output", *forms([torch.zeros(1, 1, 1, 1)])])
def test_every_form_gives_the_same_run(form: str) -> None:
    output, _ = outputs_of("gpt2")
    given = output if form == "output" else forms(list(output.attentions))[form]

    run = attnlens.from_attentions(given, LABELS, model="mine")

    assert torch.equal(run.attention(), torch.cat(output.attentions))
    assert [token.label for token in run.tokens] == LABELS
    assert (run.anatomy.model, run.anatomy.causal, run.anatomy.n_heads) == ("mine", True, 3)
    assert torch.equal(run.visible(1), torch.ones(11, 11, dtype=torch.bool).tril())


def test_both_sides_of_an_encoder_decoder() -> None:
    output, _ = outputs_of("t5")
    target, source = LABELS[:7], LABELS

    runs = [
        attnlens.from_attentions(output, target, source_tokens=source),
        attnlens.from_attentions(
            output.decoder_attentions,
            target,
            source_tokens=source,
            encoder=output.encoder_attentions,
            cross=output.cross_attentions,
        ),
    ]

    for run in runs:
        assert torch.equal(run.attention(), torch.cat(output.decoder_attentions))
        assert torch.equal(run.attention(stack="E"), torch.cat(output.encoder_attentions))
        assert torch.equal(run.attention(kind="cross"), torch.cat(output.cross_attentions))
        assert (len(run.tokens), len(run.source.tokens)) == (7, 11)
        assert torch.equal(run.attention(head="XL1H2"), output.cross_attentions[1][0, 2])
        assert run.anatomy.stack("D").causal
        assert not run.anatomy.stack("E").causal


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "mistral", "llama"])
def test_steps_of_a_generation_are_stitched(name: str, options: dict[str, Any]) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs(batch=1)
    model.generation_config.pad_token_id = 0
    with run_eagerly(model):
        output = model.generate(
            **inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False,
            output_attentions=True, return_dict_in_generate=True, disable_compile=True, **options,
        )  # fmt: skip
    ids = output.sequences
    truth = eager_attentions(model, {"input_ids": ids[:, :-1], "attention_mask": torch.ones_like(ids[:, :-1])})[""]

    run = attnlens.from_attentions(output, [str(int(i)) for i in ids[0]])

    torch.testing.assert_close(run.attention(), torch.cat(truth), rtol=0, atol=1e-5)
    assert (len(run.tokens), run.n_prompt) == (15, 11)


def test_beams_are_followed_back() -> None:
    model, inputs = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].inputs(batch=1)
    with run_eagerly(model):
        output = model.generate(
            **inputs, max_new_tokens=6, num_beams=3, num_return_sequences=3, pad_token_id=0,
            output_attentions=True, return_dict_in_generate=True,
        )  # fmt: skip
    moved = [sequence for sequence in range(3) if len(set(output.beam_indices[sequence].tolist())) > 1]

    for sequence in range(3):
        n_steps = int((output.beam_indices[sequence] >= 0).sum())
        ids = output.sequences[sequence : sequence + 1, : 11 + n_steps]
        truth = eager_attentions(model, {"input_ids": ids[:, :-1]})[""]

        run = attnlens.from_attentions(output, [str(int(i)) for i in ids[0]], sequence=sequence)

        torch.testing.assert_close(run.attention(), torch.cat(truth), rtol=0, atol=1e-5)
    assert moved  # some text changed its row on the way
    ended = output.beam_indices[:1].clone()
    ended[0, -2:] = -1  # as of a text that ended two steps before the others
    short = attnlens.from_attentions(
        SimpleNamespace(attentions=output.attentions, beam_indices=ended), [str(i) for i in range(14)]
    )
    whole = attnlens.from_attentions(output, [str(i) for i in range(16)])
    assert torch.equal(short.attention(), whole.attention()[..., :14, :14])
    with pytest.raises(UsageError, match="sequence=3 does not exist: 3 texts"):
        attnlens.from_attentions(output, LABELS, sequence=3)


def test_generation_of_an_encoder_decoder() -> None:
    model, inputs = FAMILIES["bart"].build(), FAMILIES["bart"].inputs(batch=1)
    inputs.pop("decoder_input_ids")
    with run_eagerly(model):
        output = model.generate(
            **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False, num_beams=1,
            output_attentions=True, return_dict_in_generate=True,
        )  # fmt: skip
    ids = output.sequences[:, :-1]
    truth = eager_attentions(model, {**inputs, "decoder_input_ids": ids})

    run = attnlens.from_attentions(output, [str(int(i)) for i in ids[0]], source_tokens=LABELS)

    for letter in "EDX":
        torch.testing.assert_close(run.attention(stack=letter), torch.cat(truth[letter]), rtol=0, atol=1e-5)
    assert run.n_prompt == 1


def test_one_text_of_a_batch() -> None:
    both = torch.stack([CAUSAL[0], CAUSAL[0].flip(0)])

    run = attnlens.from_attentions([both], LABELS[:3], sequence=1)

    assert torch.equal(run.attention(0), both[1])


def test_what_is_visible_is_seen_or_said() -> None:
    padded = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.2, 0.8, 0.0]]).expand(1, 2, 3, 3)

    seen = attnlens.from_attentions(padded, LABELS[:3])
    said = attnlens.from_attentions(padded, LABELS[:3], mask=torch.tensor([[1, 1, 0]]))
    square = attnlens.from_attentions(CAUSAL, LABELS[:3], mask=np.tri(3))

    assert seen.visible().tolist() == said.visible().tolist() == [[True, True, False]] * 3
    assert square.visible().tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    with pytest.raises(UsageError, match=r"L0H0, query 1, key 1 has weight, and the mask says"):
        attnlens.from_attentions(CAUSAL, LABELS[:3], mask=[1, 0, 1])
    with pytest.raises(UsageError, match=r"mask has shape \[2\]; expected \[3\]"):
        attnlens.from_attentions(CAUSAL, LABELS[:3], mask=[1, 0])


def test_sinks_take_weight_if_told() -> None:
    output, _ = outputs_of("gpt_oss")

    with pytest.raises(UsageError, match=r"L0H0: the row of query \d+ sums to 0.*sinks=True"):
        attnlens.from_attentions(output, LABELS)
    with pytest.raises(UsageError, match=r"sums to 1\.1, expected 1\."):
        attnlens.from_attentions(CAUSAL * 1.1, LABELS[:3], sinks=True)
    run = attnlens.from_attentions(output, LABELS, sinks=True)

    assert torch.equal(run.attention(), torch.cat(output.attentions))


def test_layers_without_attention_stay_so(tmp_path: Path) -> None:
    run = attnlens.from_attentions([None, CAUSAL[0]], LABELS[:3])

    again = attnlens.open(run.save(tmp_path / "run.attn"))

    assert torch.equal(again.attention(1), CAUSAL[0])
    with pytest.raises(CaptureError, match=r"layer 0 of .* has no attention"):
        again.attention(0)
    assert [layer is None for layer in again.to_attentions()] == [True, False]


def test_hostile_labels_are_printable_and_runs_have_reasons() -> None:
    run = attnlens.from_attentions(CAUSAL, ["a\nb", "</script>", "\x1b[31m"])

    assert [token.label for token in run.tokens] == ["a↵b", "</script>", "\\x1b[31m"]
    with pytest.raises(CaptureError, match="brought from elsewhere"):
        run.residual("resid_post")
    assert attnlens.head_view(run, html_action="return") == attnlens.head_view(
        CAUSAL, ["a\nb", "</script>", "\x1b[31m"], html_action="return"
    )


def changed(value: float, *place: int) -> torch.Tensor:
    weights = CAUSAL.clone()
    weights[place] = value
    return weights


@pytest.mark.parametrize(
    ("given", "tokens", "said"),
    [
        (None, LABELS[:3], "no attention in attentions=None"),
        ((), LABELS[:3], "no attention in attentions: transformers gives an empty tuple under SDPA.*eager"),
        ({"attentions": ()}, LABELS[:3], "no attention in this output.*eager"),
        ({"logits": 1}, LABELS[:3], "no attention in this output"),
        ([None, None], LABELS[:3], "no attention in attentions"),
        ("weights", LABELS[:3], "attentions is str; expected an output of transformers"),
        (7, LABELS[:3], "attentions is int"),
        ([1.0], LABELS[:3], r"attentions\[0\] is float; expected a tensor"),
        (CAUSAL, None, "tokens is None; expected one label for each of the 3"),
        (CAUSAL, "abc", "tokens is 'abc'"),
        (CAUSAL, ["a", "b"], "tokens has 2 labels for 3 positions"),
        (CAUSAL, LABELS[:4], "tokens has 4 labels for 3 positions"),
        (CAUSAL[:, :, :2], LABELS[:2], r"L0 has shape \[2, 2, 3\] .*expected \[2, 2, 2\]"),
        ([CAUSAL[0], CAUSAL[0, :1]], LABELS[:3], r"L1 has shape \[1, 3, 3\] .*expected \[2, 3, 3\]"),
        ([CAUSAL], LABELS[:3], r"attentions\[0\] has shape \[2, 2, 3, 3\], 2 texts; say which by sequence=0"),
        (CAUSAL[0, 0], LABELS[:3], r"has shape \[3, 3\]; expected \[layer, head, query, key\]"),
        (CAUSAL.numpy().astype(int), LABELS[:3], "array of int64; expected floating-point"),
        (CAUSAL.bool(), LABELS[:3], "tensor of bool"),
        (changed(float("nan"), 1, 0, 2, 1), LABELS[:3], "L1H0, query 2, key 1 is not finite"),
        (changed(-0.5, 0, 1, 1, 0), LABELS[:3], "L0H1, query 1, key 0 is negative: these look like scores"),
        (changed(0.5, 1, 1, 2, 0) * 1.1, LABELS[:3], r"L0H0: the row of query 0 sums to 1\.1, expected 1"),
        (changed(0.4, 1, 1, 2, 0), LABELS[:3], r"L1H1: the row of query 2 sums to 0\.9, expected 1"),
    ],
)
def test_what_is_no_attention_is_refused(given: Any, tokens: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        attnlens.from_attentions(given, tokens)


def test_sides_that_do_not_fit_are_refused() -> None:
    output, _ = outputs_of("t5")
    own, source = LABELS[:7], LABELS

    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: attnlens.from_attentions(output, own), "source_tokens is None; expected .* 11 positions"),
        (lambda: attnlens.from_attentions(output, source, source_tokens=own), "tokens has 11 labels for 7"),
        (
            lambda: attnlens.from_attentions(output, own, source_tokens=source, cross=CAUSAL),
            "leave encoder= and cross=",
        ),
        (lambda: attnlens.from_attentions(CAUSAL, LABELS[:3], source_tokens=own), "belong to an encoder-decoder"),
        (
            lambda: attnlens.from_attentions(
                output.decoder_attentions, own, source_tokens=own, cross=output.cross_attentions, encoder=CAUSAL
            ),
            "source_tokens has 7 labels for 3",
        ),
    ]

    for mistake, said in mistakes:
        with pytest.raises(UsageError, match=said):
            mistake()


def test_sdpa_is_named_as_the_cause() -> None:
    model, inputs = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].inputs(batch=1)

    with torch.no_grad():
        output = model(**inputs, output_attentions=True)

    assert output.attentions == ()
    with pytest.raises(UsageError, match=r"empty tuple under SDPA\. Load the model with attn_implementation='eager'"):
        attnlens.from_attentions(output, LABELS)


@given(
    layers=st.integers(1, 3), heads=st.integers(1, 3), n=st.integers(1, 5), seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)  # fmt: skip
def test_out_and_in_again_is_the_same(layers: int, heads: int, n: int, seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(layers, heads, n, n, generator=generator).double().softmax(-1).to(dtype)
    run = attnlens.from_attentions(weights, LABELS[:n])

    for exported in (run.to_numpy(), run.to_attentions(), run.to_model_output()):
        again = attnlens.from_attentions(exported, LABELS[:n])

        assert torch.equal(again.attention().float(), weights.float())


def test_a_run_goes_out_as_transformers_has_it(random_gpt2: RandomModel) -> None:
    model, tokenizer = random_gpt2
    run = attnlens.load(model=model, tokenizer=tokenizer).capture("the dog")
    ids = torch.tensor([[token.id for token in run.tokens]])
    with run_eagerly(model), torch.no_grad():
        truth = model(input_ids=ids, output_attentions=True, output_hidden_states=True)

    output, array = run.to_model_output(), run.to_numpy()

    assert (array.dtype, array.shape) == (np.float32, (2, 3, 7, 7))
    torch.testing.assert_close(output.attentions, truth.attentions, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.hidden_states, truth.hidden_states, rtol=0, atol=1e-5)
    np.testing.assert_allclose(array, torch.cat(truth.attentions).numpy(), atol=1e-5)


def test_an_encoder_decoder_goes_out_as_transformers_has_it() -> None:
    family = FAMILIES["bart"]
    model, inputs = family.build(), family.inputs(batch=1)
    run = attnlens.load(model=model, tokenizer=family.tokenizer()).capture(inputs=inputs)
    with run_eagerly(model, use_cache=False), torch.no_grad():
        truth = model.model(**inputs, output_attentions=True, output_hidden_states=True)

    output = run.to_model_output()

    for name in ("encoder_attentions", "decoder_attentions", "cross_attentions", "encoder_hidden_states",
                 "decoder_hidden_states", "last_hidden_state", "encoder_last_hidden_state"):  # fmt: skip
        torch.testing.assert_close(output[name], truth[name], rtol=0, atol=1e-4)
    assert run.to_numpy(kind="cross").shape == (run.n_layers, run.n_heads, 7, 11)


def test_what_cannot_go_out_is_said(random_gpt2: RandomModel) -> None:
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)
    run = lens.capture("the dog", heads=("L1H0",), points=())

    with pytest.raises(CaptureError, match="layer 0 was not kept"):
        run.to_numpy()
    with pytest.raises(CaptureError, match=re.escape("L1H0 only")):
        run.to_attentions()
    with pytest.raises(CaptureError, match=r"would take 0 MiB, and 0 MiB are allowed; ask for one layer"):
        lens.capture("the dog").to_numpy(max_memory=100)
    with pytest.raises(CaptureError, match="one stack"):
        run.to_numpy(kind="cross")
    assert lens.capture("the dog", points=()).to_model_output().hidden_states is None
