"""Views and figures of the stream, of sums and of interventions: numbers are those of plain torch, text is escaped."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from random_models import BUILDERS

import attnlens
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head
from attnlens.interventions.edits import ablation
from attnlens.interventions.outcomes import compare_predictions
from attnlens.report import figures
from attnlens.report.outcome_view import ablation_view, change_view
from attnlens.report.shares_view import Share, SharesView, direct_view, gates_view, token_shares_view
from attnlens.report.stream_view import STREAM_MEASURES, Choice, LensView, lens_view, points_given, stream_view

TEXT = "the keys to the cabinet"
HOSTILE = "<img src=x onerror=alert(1)>"


@cache
def lens_of(name: str) -> Any:
    model, tokenizer = BUILDERS[name]()
    return attnlens.load(model=model, tokenizer=tokenizer)


@cache
def run_of(name: str) -> Any:
    return lens_of(name).capture(TEXT, points=points_given(lens_of(name).anatomy))


def drawn_text(figure: Any) -> str:
    """Everything that plotly gets; its JSON would spell `<` in a way of its own."""
    return repr(figure.to_dict())


def test_lengths_of_the_stream_are_those_of_its_vectors():
    run = run_of("gpt2")

    view = stream_view(run, "stream-norm")

    expected = run.residual("resid_post").double().norm(dim=-1)
    np.testing.assert_allclose(view.values, expected.numpy(), rtol=1e-6)
    assert np.asarray(figures.stream_grid(view).data[0].z).tolist() == view.values.tolist()
    assert view.table().rows[2] == (2, run.tokens[2].label, *map(float, view.values[:, 2]))
    assert view.low < view.high <= view.values.max()


@pytest.mark.parametrize("name", STREAM_MEASURES)
def test_every_measure_of_the_stream_is_drawn_in_both_themes(name):
    view = stream_view(run_of("bert"), name)

    for theme in ("light", "dark"):
        figure = figures.stream_grid(view, theme=theme, position=3)
        (frame,) = figure.layout.shapes
        assert (frame.x0, frame.x1) == (2.5, 3.5)


def test_one_huge_value_does_not_pale_the_others():
    run = run_of("gpt2")
    huge = {**run.stream, "resid_post": run.stream["resid_post"].clone()}
    huge["resid_post"][1, 0] *= 1000

    view = stream_view(replace(run, stream=huge), "stream-norm")

    assert view.high < view.values.max() / 100
    assert "lie beyond" in view.caption


def test_an_unknown_measure_names_those_there_are():
    with pytest.raises(UsageError, match="stream-norm"):
        stream_view(run_of("gpt2"), "length")


def test_the_grid_shows_what_the_lens_reads():
    run, lens = run_of("gpt2"), lens_of("gpt2")
    found = lens.logit_lens(run, 3)

    view = lens_view(run, found)
    figure = figures.lens_grid(view, position=2)

    np.testing.assert_allclose(figure.data[0].z, found.probability[..., 0].numpy())
    assert view.choices[1][2][0] == Choice(found.spelled[int(found.ids[1, 2, 0])], float(found.probability[1, 2, 0]))
    assert view.table(2).rows[1][1:3] == (view.choices[1][2][0].token, view.choices[1][2][0].probability)
    with pytest.raises(CaptureError, match="readings are of"):
        lens_view(lens.capture("the keys", points=()), found)


def test_a_long_text_shows_the_positions_around_the_chosen_one():
    cell = (Choice(HOSTILE, 0.5),)
    view = LensView(((cell,) * 100,) * 2, tuple(f"t{i}" for i in range(100)), "", "")

    assert [view.around(place, 24) for place in (0, 50, 99)] == [range(24), range(38, 62), range(76, 100)]
    assert view.around(3, 200) == range(100)
    figure = figures.lens_grid(view, position=50)
    assert list(figure.data[0].customdata[0]) == list(range(38, 62))
    assert "<img" not in drawn_text(figure)


def test_direct_shares_stand_in_order_and_sum_to_the_logit():
    view = direct_view(lens_of("gpt2").attribute_directly(run_of("gpt2")))

    for parts in (view.shares, view.steps):
        assert sum(part.value for part in parts) == pytest.approx(view.total, abs=1e-3)
    largest, rest = view.ranked(4)
    sizes = [abs(part.value) for part in view.shares]
    assert [abs(part.value) for part in largest] == sorted(sizes, reverse=True)[:4]
    assert sum(part.value for part in largest) + rest.value == pytest.approx(view.total, abs=1e-3)
    assert [row[0] for row in view.table().rows[:4]] == [part.name for part in largest]
    waterfall = figures.shares_waterfall(view).data[0]
    assert list(waterfall.y)[-1] == view.total
    assert list(waterfall.measure) == ["relative"] * len(view.steps) + ["total"]


def test_a_deep_model_has_one_step_per_layer():
    found = lens_of("gpt2").attribute_directly(run_of("gpt2"))
    deep = type(found)(
        target=found.target,
        embedding=1.0,
        heads=torch.ones(20, 2).double(),
        cross_heads=None,
        attention_bias=torch.zeros(20).double(),
        mlp=torch.full((20,), 0.5).double(),
        constant=0.0,
        logit=51.0,
    )

    view = direct_view(deep)

    assert [step.name for step in view.steps] == ["embedding", *(f"L{layer}" for layer in range(20))]
    assert {step.value for step in view.steps[1:]} == {2.5}
    assert len(view.shares) == 1 + 20 * 3


def test_heads_by_gates_sum_to_what_all_heads_do():
    found = lens_of("bert").attribute_heads(TEXT, position=2)

    view = gates_view(found)

    assert len(view.shares) == 12
    assert sum(step.value for step in view.steps) == pytest.approx(found.total, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "said"), [("gradients", "Convergence delta"), ("shapley", "rounding"), ("ablation", "only together")]
)
def test_tokens_say_by_which_method_and_how_far_the_sum_is_off(method, said):
    found = lens_of("bert").attribute_tokens(TEXT, position=2, method=method, steps=8 if method != "ablation" else None)

    view = token_shares_view(found)

    assert said in view.caption
    assert f"{found.gap:.2g}" in view.caption
    assert list(figures.token_bars(view).data[0].x) == pytest.approx(found.values.tolist())


def test_parts_are_ranked_by_size_whatever_their_sign():
    shares = tuple(Share(name, "head", 0, value) for name, value in [("a", 1.0), ("b", -3.0), ("c", 2.0), ("d", -0.5)])
    view = SharesView(shares, shares, -0.5, "logit", 0.0, "", "", "")

    largest, rest = view.ranked(2)

    assert [part.name for part in largest] == ["b", "c"]
    assert (rest.name, rest.value) == ("2 others", 0.5)
    assert view.ranked(4)[1] is None
    assert list(figures.shares_bars(view).data[0].x) == [-3.0, 2.0, 1.0, -0.5]


def test_names_of_parts_are_escaped():
    part = Share(HOSTILE, "head", 0, 1.0)
    view = SharesView((part,), (part,), 1.0, HOSTILE, 0.0, HOSTILE, "", "")

    assert "<img" not in drawn_text(figures.shares_bars(view)) + drawn_text(figures.shares_waterfall(view))


def test_the_map_of_heads_tells_off_and_effect():
    view = ablation_view(2, 3, heads_off("L1H2", "L0H0", "L9H9", "EL0H1"), {Head(0, 1): 0.5}, "divergence", "nats")

    assert view.off == {Head(1, 2), Head(0, 0)}
    assert "2 heads of 6 switched off" in view.caption
    assert "most for L0H1, 0.500 nats" in view.caption
    assert view.table().rows[0] == ("L0H1", 0.5, "on")
    assert {row[0] for row in view.table().rows if row[2] == "off"} == {"L1H2", "L0H0"}
    cells, crosses = figures.ablation_map(view, selected=Head(1, 0)).data
    assert [list(row) for row in cells.customdata] == [[f"L{layer}H{head}" for head in range(3)] for layer in range(2)]
    assert sorted(zip(crosses.y, crosses.x, strict=True)) == [(0, 0), (1, 2)]


def test_the_map_of_a_decoder_takes_its_heads_with_and_without_their_letter():
    view = ablation_view(2, 3, heads_off("DL1H2", "XL0H0"), {}, "", "")

    assert view.off == {Head(1, 2)}


def heads_off(*names: str) -> list[Head]:
    return [Head.parse(name) for name in names]


def test_bars_before_and_after_are_the_probabilities_of_the_table():
    lens = lens_of("gpt2")
    found = compare_predictions(lens, TEXT, ablation(lens, ["L1H1"]))

    view = change_view(found, masked=False, causal=True)
    before, after = figures.change_bars(view).data

    rows = view.table().rows
    assert list(before.x) == [row[1] for row in rows] == found.before.tolist()
    assert list(after.x) == [row[2] for row in rows] == found.after.tolist()
    assert [row[3] for row in rows] == pytest.approx((found.after - found.before).tolist())
    assert "KL divergence" in view.caption
