"""A capture that is wrong on purpose is found out when the model is opened, with the figure that gives it away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import RandomModel
from transformers import BloomConfig, BloomForCausalLM, T5Config, T5ForConditionalGeneration

import attnlens
from attnlens.capture.patterns import LazyPattern
from attnlens.capture.recorders import LazyRecorder
from attnlens.capture.tap import AttentionCall
from attnlens.errors import SelfCheckError, UnsupportedModelError
from attnlens.models.anatomy import SelfCheck
from attnlens.models.families import attention_layers, wiring_of
from attnlens.models.selfcheck import check_model


class WrongScale(LazyRecorder):
    def keep(self, call: AttentionCall, weights: torch.Tensor | None, row: int, n: int) -> LazyPattern:
        kept = super().keep(call, weights, row, n)
        return replace(kept, scaling=kept.scaling * 1.05)


class DroppedMask(LazyRecorder):
    def keep(self, call: AttentionCall, weights: torch.Tensor | None, row: int, n: int) -> LazyPattern:
        return replace(super().keep(call, weights, row, n), mask=None, causal=False)


class ShiftedHead(LazyRecorder):
    def keep(self, call: AttentionCall, weights: torch.Tensor | None, row: int, n: int) -> LazyPattern:
        kept = super().keep(call, weights, row, n)
        return replace(kept, query=kept.query.roll(1, dims=0))


class SkippedLayer(LazyRecorder):
    def on_attention(self, call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor | None]:
        output = super().on_attention(call)
        del self.layers[2:]
        return output


def check(random: RandomModel, recorder: type[LazyRecorder] = LazyRecorder) -> SelfCheck:
    return check_model(random.model, attention_layers(random.model), wiring_of(random.model), recorder).self_check


def test_honest_capture_passes_with_figures(random_model: RandomModel) -> None:
    found = check(random_model)

    assert found.passed
    figures = {one.name: one.value for one in found.checks}
    assert list(figures) == ["finite", "calls", "row_sums", "replay", "alteration", "resid_mid", "resid_post"]
    assert figures["replay"] < 1e-5 < 1e-2 < figures["alteration"]


@pytest.mark.parametrize("corruption", [WrongScale, ShiftedHead])
def test_wrong_pattern_fails_the_replay(random_model: RandomModel, corruption: type[LazyRecorder]) -> None:
    with pytest.raises(SelfCheckError, match=r"replay is .* limit"):
        check(random_model, corruption)


@pytest.mark.parametrize("family", ["random_gpt2", "random_llama"])
def test_dropped_mask_fails_the_replay_of_a_decoder(family: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(SelfCheckError, match=r"replay is .* limit"):
        check(request.getfixturevalue(family), DroppedMask)


def test_lost_layer_is_counted(random_llama: RandomModel) -> None:
    with pytest.raises(SelfCheckError, match="calls is 2, limit 5"):
        check(random_llama, SkippedLayer)


def test_broken_weights_are_refused(random_model: RandomModel) -> None:
    next(iter(random_model.model.parameters())).data[:] = float("nan")

    with pytest.raises(SelfCheckError, match="finite is 0"):
        attnlens.load(model=random_model.model, tokenizer=random_model.tokenizer)


def test_attention_that_does_nothing_is_refused(random_gpt2: RandomModel) -> None:
    """A layer whose output projection is zero: any pattern gives the model's output, so none can be proven."""
    for parameter in random_gpt2.model.transformer.h[1].attn.c_proj.parameters():
        parameter.data.zero_()

    with pytest.raises(SelfCheckError, match="alteration is 0"):
        attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)


def test_unknown_wiring_costs_the_points_and_not_the_model(
    random_llama: RandomModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnlens.models.lens.wiring_of", lambda _: None)

    lens = attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer)

    assert set(lens.anatomy.absent) == {"attn_out", "resid_mid", "mlp_out"}
    assert "not known" in lens.anatomy.absent["attn_out"]
    assert lens.capture("the dog").residual("resid_post").shape[0] == 5


def test_wrong_wiring_is_found_by_its_sums(random_llama: RandomModel) -> None:
    wrong = replace(wiring_of(random_llama.model), attn_out="mlp")

    findings = check_model(random_llama.model, attention_layers(random_llama.model), wrong)

    assert "resid_mid differs from its sum" in findings.absent["attn_out"]


def test_family_that_bypasses_the_interface_is_refused_by_name(random_gpt2: RandomModel) -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2)).eval()

    with pytest.raises(UnsupportedModelError, match="BloomForCausalLM"):
        attnlens.load(model=model, tokenizer=random_gpt2.tokenizer)


def test_encoder_decoder_is_refused_by_name(random_gpt2: RandomModel) -> None:
    config = T5Config(vocab_size=300, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)

    with pytest.raises(UnsupportedModelError, match="T5ForConditionalGeneration"):
        attnlens.load(model=T5ForConditionalGeneration(config).eval(), tokenizer=random_gpt2.tokenizer)
