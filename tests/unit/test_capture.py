"""Capture against transformers' own eager attention, and what a capture leaves behind: nothing."""

from __future__ import annotations

from contextlib import suppress
from threading import Thread

import numpy as np
import pytest
import torch
from random_models import BUILDERS, RandomModel
from transformers import RobertaConfig, RobertaForMaskedLM

import attnlens
from attnlens.errors import CaptureError, HeadAddressError, TextError, UnsupportedModelError, UsageError

TEXT = "the keys to the cabinet"
TEXTS = ["the keys", "she saw her dogs on the table", "the dog", "keys to the cabinet"]


def lens_of(random: RandomModel) -> attnlens.Lens:
    return attnlens.load(model=random.model, tokenizer=random.tokenizer)


def eager_attentions(random: RandomModel, rows: list[list[int]]) -> torch.Tensor:
    """[layer batch head query key] by the family's eager code on a right-padded batch."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    keep = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    before = random.model.config._attn_implementation
    random.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = random.model(input_ids=ids, attention_mask=keep, output_attentions=True)
    random.model.set_attn_implementation(before)
    return torch.stack(output.attentions)


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_padded_batch_equals_eager_transformers(random_model: RandomModel, mode: str) -> None:
    lens = lens_of(random_model)

    runs = list(lens.captures(TEXTS, batch_size=len(TEXTS), mode=mode))

    expected = eager_attentions(random_model, [[token.id for token in run.tokens] for run in runs])
    for row, run in enumerate(runs):
        n = len(run.tokens)
        torch.testing.assert_close(run.attention(), expected[:, row, :, :n, :n], atol=1e-5, rtol=0)
    assert len({len(run.tokens) for run in runs}) > 1, "the batch has no padding, so this shows less than it claims"
    assert float(expected.max() - expected[expected > 0].min()) > 0.5, "attention is near uniform: a weak comparison"


def test_default_sdpa_is_never_captured_as_nothing(random_model: RandomModel) -> None:
    lens = lens_of(random_model)
    assert lens.anatomy.backend == "sdpa"

    run = lens.capture(TEXT)

    assert run.attention().shape == (lens.anatomy.n_layers, lens.anatomy.n_heads, len(run.tokens), len(run.tokens))
    torch.testing.assert_close(run.attention().sum(-1), torch.ones(run.attention().shape[:-1]))


def test_attention_points_from_query_to_key(random_model: RandomModel) -> None:
    """No shape check sees a transpose of a square map; causality does."""
    lens = lens_of(random_model)

    run = lens.capture(TEXT)

    above = run.attention().triu(1)
    assert lens.anatomy.causal == (random_model.model.config.model_type != "bert")
    assert bool((above == 0).all()) == lens.anatomy.causal
    assert bool(run.visible().triu(1).any()) != lens.anatomy.causal


def test_logits_and_final_are_the_models_own(random_model: RandomModel) -> None:
    lens = lens_of(random_model)

    run = lens.capture(TEXT)

    with torch.no_grad():
        own = random_model.model(torch.tensor([[token.id for token in run.tokens]]), output_hidden_states=True)
    torch.testing.assert_close(run.logits, own.logits[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run.residual("final"), own.hidden_states[-1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run.residual("embed"), own.hidden_states[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        run.residual("resid_pre"), torch.stack(own.hidden_states[:-1])[:, 0], atol=1e-5, rtol=1e-5
    )


def test_residual_points_add_up(random_model: RandomModel) -> None:
    lens = lens_of(random_model)
    points = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")

    run = lens.capture(TEXT, points=points)

    middle = run.residual("resid_pre") + run.residual("attn_out")
    end = run.residual("resid_mid") + run.residual("mlp_out")
    if random_model.model.config.model_type == "bert":  # post-LN: the stream is normalised after each sum
        layers = random_model.model.bert.encoder.layer
        middle = torch.stack([layers[i].attention.output.LayerNorm(x) for i, x in enumerate(middle)]).detach()
        end = torch.stack([layers[i].output.LayerNorm(x) for i, x in enumerate(end)]).detach()
    torch.testing.assert_close(run.residual("resid_mid"), middle, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run.residual("resid_post"), end, atol=1e-5, rtol=1e-5)


def test_words_sum_to_and_mean_from(random_model: RandomModel) -> None:
    run = lens_of(random_model).capture("her cabinet barks.")
    pieces, groups = run.attention(layer=1, head=2), [unit.tokens for unit in run.units]

    by_word = run.attention(layer=1, head=2, words=True)

    expected = torch.tensor(
        [[sum(sum(pieces[q, k] for k in to) for q in of) / len(of) for to in groups] for of in groups]
    )
    torch.testing.assert_close(by_word, expected)
    torch.testing.assert_close(by_word.sum(-1), torch.ones(len(groups)))
    assert max(map(len, groups)) > 1
    assert [unit.label for unit in run.units if unit.word is not None] == ["her", "cabinet", "barks", "."]


def test_callers_words_replace_the_rule(random_model: RandomModel) -> None:
    text = "don't stop"

    run = lens_of(random_model).capture(text, word_spans=[(0, 2), (2, 5), (6, 10)])

    assert [word.label for word in run.words] == ["do", "n't", "stop"]
    assert {text[token.span[0]]: token.word for token in run.tokens if token.span and token.word == 1}


def test_every_way_of_naming_a_head_and_a_part_agrees(random_gpt2: RandomModel) -> None:
    run = lens_of(random_gpt2).capture(TEXT)

    whole = run.attention()

    assert torch.equal(run.attention(np.int64(1), np.int64(2)), whole[1, 2])
    for address in ("L1H2", "1.2", "1:2", (1, 2), attnlens.Head(1, 2)):
        assert torch.equal(run.attention(head=address), whole[1, 2])
    assert torch.equal(run.attention(layer=1), whole[1])
    part = run.attention(layer=1, head=2, queries=slice(3, 6), keys=slice(1, 4))
    torch.testing.assert_close(part, whole[1, 2, 3:6, 1:4])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"head": "L9H0"}, HeadAddressError),
        ({"head": "first"}, HeadAddressError),
        ({"layer": 7}, UsageError),
        ({"head": 1}, UsageError),
        ({"layer": 0, "head": "L1H1"}, UsageError),
        ({"kind": "cross"}, CaptureError),
    ],
)
def test_wrong_address_is_one_clear_line(random_gpt2: RandomModel, arguments: dict[str, object], error: type) -> None:
    run = lens_of(random_gpt2).capture(TEXT)

    with pytest.raises(error) as raised:
        run.attention(**arguments)

    assert "\n" not in str(raised.value)


def hook_count(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_capture_leaves_nothing_behind(random_model: RandomModel, monkeypatch, mode: str, fails: bool) -> None:
    lens, model = lens_of(random_model), random_model.model
    before = hook_count(model), model.config._attn_implementation
    if fails:
        last = list(model.modules())[-1]
        monkeypatch.setattr(last, "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("inside")))

    with suppress(RuntimeError):
        lens.capture(TEXT, mode=mode)

    assert (hook_count(model), model.config._attn_implementation) == before


def test_threads_do_not_mix(random_llama: RandomModel) -> None:
    lens = lens_of(random_llama)
    alone = {text: lens.capture(text).attention() for text in TEXTS}
    together: dict[str, list[torch.Tensor]] = {text: [] for text in TEXTS}

    def work(text: str) -> None:
        together[text].extend(lens.capture(text).attention() for _ in range(5))

    threads = [Thread(target=work, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(torch.equal(alone[text], found) for text in TEXTS for found in together[text])
    assert [len(found) for found in together.values()] == [5] * len(TEXTS)
    assert random_llama.model.config._attn_implementation == "sdpa"


def test_many_texts_keep_their_order_and_report_progress(random_bert: RandomModel) -> None:
    lens, seen = lens_of(random_bert), []

    runs = list(lens.captures(TEXTS * 9, batch_size=2, progress=lambda done, total: seen.append((done, total))))

    assert [run.text for run in runs] == TEXTS * 9
    assert seen == [(done, 36) for done in range(2, 37, 2)]


def test_pair_runs_as_two_segments(random_bert: RandomModel) -> None:
    lens = lens_of(random_bert)

    run = lens.capture(("the dog", "her keys"))

    encoded = random_bert.tokenizer("the dog", "her keys", return_tensors="pt")
    with torch.no_grad():
        own = random_bert.model(**encoded).logits[0]
    torch.testing.assert_close(run.logits, own, atol=1e-5, rtol=1e-5)
    assert run.text == "the dog\nher keys"
    assert [run.text[slice(*t.span)] for t in run.tokens if t.span] == [t.label for t in run.tokens if t.span]


def test_bos_is_added_only_on_demand_and_said(random_gpt2: RandomModel) -> None:
    lens = lens_of(random_gpt2)

    plain, with_bos = lens.capture(TEXT), lens.capture(TEXT, bos=True)

    assert [t.id for t in with_bos.tokens] == [random_gpt2.tokenizer.bos_token_id, *(t.id for t in plain.tokens)]
    assert (plain.settings["bos_added"], with_bos.settings["bos_added"]) == (False, True)
    assert with_bos.tokens[0].special


@pytest.mark.parametrize("text", ["", "  \n\t", ("the dog", " ")])
def test_empty_text_is_refused(random_bert: RandomModel, text: str) -> None:
    with pytest.raises(TextError, match="empty"):
        lens_of(random_bert).capture(text)


def test_text_beyond_the_context_is_refused_with_both_lengths(random_model: RandomModel) -> None:
    lens = lens_of(random_model)
    limit = lens.anatomy.max_length

    with pytest.raises(TextError, match=rf"takes at most {limit}"):
        lens.capture("dog " * 100)
    with pytest.raises(TextError, match=r"text 2: .* takes at most"):
        list(lens.captures(["the dog", "dog " * 100]))


def test_training_mode_is_refused(random_bert: RandomModel) -> None:
    lens = lens_of(random_bert)
    random_bert.model.train()

    with pytest.raises(CaptureError, match=r"model\.eval\(\)"):
        lens.capture(TEXT)


def test_tokenizer_that_does_not_fit_is_named(random_bert: RandomModel, random_gpt2: RandomModel) -> None:
    lens = attnlens.load(model=random_bert.model, tokenizer=random_gpt2.tokenizer)

    with pytest.raises(UnsupportedModelError, match="does not fit"):
        lens.capture("ÿ")


def test_roberta_does_not_count_positions_that_padding_takes(random_bert: RandomModel) -> None:
    config = RobertaConfig(
        vocab_size=200, num_hidden_layers=2, num_attention_heads=2, hidden_size=8, intermediate_size=9,
        max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    lens = attnlens.load(model=RobertaForMaskedLM(config), tokenizer=random_bert.tokenizer)

    longest = lens.capture("dog " * 16)

    assert len(longest.tokens) == lens.anatomy.max_length == 18
    with pytest.raises(TextError, match="takes at most 18"):
        lens.capture("dog " * 17)


@pytest.mark.parametrize("points", [("nonsense",), ("resid_post", "resid")])
def test_unknown_point_is_refused_before_the_run(random_bert: RandomModel, points: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no point"):
        lens_of(random_bert).capture(TEXT, points=points)


def test_point_that_was_not_kept_says_how_to_keep_it(random_bert: RandomModel) -> None:
    run = lens_of(random_bert).capture(TEXT)

    with pytest.raises(CaptureError, match=r"points=\('attn_out'"):
        run.residual("attn_out")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_pass_their_own_tolerance(dtype: torch.dtype) -> None:
    random = BUILDERS["llama"]()
    random.model.to(dtype)

    run = lens_of(random).capture(TEXT)

    assert run.attention().dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(
        run.attention().sum(-1), torch.ones(run.attention().shape[:-1], dtype=run.attention().dtype)
    )


def test_real_encoder_has_its_known_heads(minilm: str) -> None:
    """`L0H2` of MiniLM-L6 looks at the token before, `L1H8` leans to the next (measured with eager transformers)."""
    run = attnlens.load(minilm).capture("The keys to the old cabinet are still lying on the kitchen table.")

    before, after = run.attention(head="L0H2"), run.attention(head="L1H8")

    assert float(before.diagonal(-1).mean()) > 0.95
    assert float(after.diagonal(1).mean()) > 0.5
