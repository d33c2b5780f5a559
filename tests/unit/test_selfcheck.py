"""A capture that is wrong on purpose is found out when the model is opened, with the figure that gives it away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from family_models import FAMILIES
from torch import Tensor, nn

import attnlens
from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.patterns import DensePattern, LazyPattern, Pattern
from attnlens.capture.recorders import ExactRecorder, LazyEagerRecorder, LazyRecorder, PatternRecorder
from attnlens.capture.sites import Site
from attnlens.errors import SelfCheckError, UnsupportedModelError
from attnlens.models import opening
from attnlens.models.made_up import made_up
from attnlens.models.selfcheck import Proof, check_attention

Corrupt = Callable[[type[PatternRecorder]], type[PatternRecorder]]


def wrong_scale(recorder: type[PatternRecorder]) -> type[PatternRecorder]:
    """Scores 5 % too large: rows still sum to 1."""

    class WrongScale(recorder):  # type: ignore[valid-type,misc]
        def patterns(self, row: int) -> dict[Site, Pattern]:
            return {site: _warmer(pattern) for site, pattern in super().patterns(row).items()}

    return WrongScale


def _warmer(pattern: Pattern) -> Pattern:
    if isinstance(pattern, LazyPattern):
        return replace(pattern, scores=replace(pattern.scores, scaling=1.05 * pattern.scores.scaling))
    powered = pattern.probabilities**1.05
    return replace(pattern, probabilities=powered / powered.sum(-1, keepdim=True))


def shifted_head(recorder: type[PatternRecorder]) -> type[PatternRecorder]:
    """Every head's pattern under the number of the next."""

    class ShiftedHead(recorder):  # type: ignore[valid-type,misc]
        def patterns(self, row: int) -> dict[Site, Pattern]:
            return {site: _dense(pattern, 1) for site, pattern in super().patterns(row).items()}

    return ShiftedHead


def _dense(pattern: Pattern, shift: int) -> DensePattern:
    return DensePattern(pattern.weights().roll(shift, dims=0), pattern.visible(), pattern.heads)


def transposed(recorder: type[PatternRecorder]) -> type[PatternRecorder]:
    """Query and key exchanged: no shape tells."""

    class Transposed(recorder):  # type: ignore[valid-type,misc]
        def patterns(self, row: int) -> dict[Site, Pattern]:
            return {site: self._turned(pattern) for site, pattern in super().patterns(row).items()}

        @staticmethod
        def _turned(pattern: Pattern) -> Pattern:
            if pattern.shape[0] != pattern.shape[1]:
                return pattern
            return DensePattern(pattern.weights().transpose(-1, -2), pattern.visible(), pattern.heads)

    return Transposed


def lost_layer(recorder: type[PatternRecorder]) -> type[PatternRecorder]:
    """The last site of each stack is not kept."""

    class LostLayer(recorder):  # type: ignore[valid-type,misc]
        def patterns(self, row: int) -> dict[Site, Pattern]:
            found = super().patterns(row)
            return {site: pattern for site, pattern in found.items() if Site(site.stack, site.layer + 1) in found}

    return LostLayer


def dropped_mask(recorder: type[PatternRecorder]) -> type[PatternRecorder]:
    """The model runs as if there were no mask, which is what an unregistered mask function leads to."""

    class DroppedMask(recorder):  # type: ignore[valid-type,misc]
        def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
            options = {**call.options, "is_causal": False}
            return super().on_attention(replace(call, mask=None, options=options))

        def on_weights(self, call: WeightsCall) -> Tensor:
            lowest = torch.finfo(call.scores.dtype).min / 2
            bare = torch.where(call.scores > lowest, call.scores, 0.0)
            return super().on_weights(replace(call, weights=bare.softmax(-1)))

    return DroppedMask


@cache
def opened(name: str) -> attnlens.Lens:
    return attnlens.load(model=FAMILIES[name].build(), tokenizer=FAMILIES[name].tokenizer())


def check_with(name: str, corrupt: Corrupt) -> Proof:
    """The check of a family's model, with the recorder that its captures use by default, corrupted."""
    lens = opened(name)
    recorders, batch = lens._opened.recorders, made_up(lens.model)
    recorder = corrupt(recorders.get("lazy", recorders["exact"]))
    return check_attention(lens._opened.tap, batch, lambda: recorder(batch.extents))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_honest_capture_passes_with_figures(name: str) -> None:
    found = opened(name).anatomy.self_check

    assert found.passed
    figures = {check.name: check.value for check in found.checks}
    assert list(figures)[:6] == ["finite", "calls", "listening", "row_sums", "replay", "alteration"]
    assert figures["replay"] < 1e-5
    assert figures["alteration"] > 1e-4


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("corrupt", [wrong_scale, shifted_head, transposed])
def test_a_wrong_pattern_fails_the_replay(name: str, corrupt: Corrupt) -> None:
    with pytest.raises(SelfCheckError, match=r"(replay|row_sums) is .*, limit"):
        check_with(name, corrupt)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_lost_layer_is_counted(name: str) -> None:
    stacks = opened(name).anatomy.stacks
    n_sites = sum(len(stack.attention_layers) for stack in stacks)

    with pytest.raises(SelfCheckError, match=f"calls is {n_sites - len(stacks)}, limit {n_sites}"):
        check_with(name, lost_layer)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.kind != "vision"])
def test_a_dropped_mask_changes_what_the_model_puts_out(name: str) -> None:
    with pytest.raises(SelfCheckError, match=r"listening is .*, limit"):
        check_with(name, dropped_mask)


@pytest.mark.parametrize("name", ["bert", "bloom", "gemma2", "t5"])
def test_a_model_does_not_open_with_a_wrong_capture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for recorder in (LazyRecorder, LazyEagerRecorder, ExactRecorder):
        monkeypatch.setattr(opening, recorder.__name__, shifted_head(recorder))

    with pytest.raises(SelfCheckError, match=r"replay is .*, limit .* attnlens shows nothing that it cannot prove"):
        attnlens.load(model=FAMILIES[name].build(), tokenizer=FAMILIES[name].tokenizer())


@pytest.mark.parametrize("name", ["bert", "bloom", "t5", "gpt_oss"])
def test_broken_weights_are_refused(name: str) -> None:
    model = FAMILIES[name].build()
    list(model.parameters())[-1].data[:] = float("nan")

    with pytest.raises(SelfCheckError, match="finite is 0, limit 1"):
        attnlens.load(model=model, tokenizer=FAMILIES[name].tokenizer())


def test_attention_that_does_nothing_is_refused() -> None:
    """A layer whose output projection is zero: any pattern gives the model's output, so none can be proven."""
    model = FAMILIES["gpt2"].build()
    for parameter in model.transformer.h[1].attn.c_proj.parameters():
        parameter.data.zero_()

    with pytest.raises(SelfCheckError, match="alteration is 0, limit"):
        attnlens.load(model=model, tokenizer=FAMILIES["gpt2"].tokenizer())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2e-2), (torch.bfloat16, 8e-2), (torch.float64, 1e-6)])
@pytest.mark.parametrize("name", ["bert", "bloom", "gpt2", "gemma2", "llama", "t5"])
def test_the_limit_is_that_of_the_precision(name: str, dtype: torch.dtype, limit: float) -> None:
    lens = attnlens.load(model=FAMILIES[name].build().to(dtype), tokenizer=FAMILIES[name].tokenizer())

    checks = {check.name: check for check in lens.anatomy.self_check.checks}
    assert checks["replay"].limit == limit
    assert checks["replay"].value <= limit
    assert lens.anatomy.dtype == str(dtype).removeprefix("torch.")


def test_a_family_that_nobody_can_capture_is_refused_before_it_runs() -> None:
    class Conv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv1d(3, 5, 1)

    with pytest.raises(UnsupportedModelError, match="Conv has no layers with attention"):
        attnlens.load(model=Conv())
