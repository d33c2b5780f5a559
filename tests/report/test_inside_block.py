"""What readers see of a block and of a model: the steps' own numbers, drawings that are whole, masks as they are."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from family_models import FAMILIES

import attnlens
from attnlens.errors import UsageError
from attnlens.report.inside import block_figure as figures
from attnlens.report.inside.architecture_view import architecture_view
from attnlens.report.inside.block_view import block_view
from attnlens.steps.block import block_steps
from attnlens.steps.neurons import strongest_neurons

HOSTILE = "<img src=x onerror=alert(1)>"


@cache
def opened(name: str) -> tuple[Any, Any]:
    family = FAMILIES[name]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    if family.kind == "encoder-decoder":
        return lens, lens.capture(source="the cat", target="le chat", points=("resid_post", "embed", "final"))
    return lens, lens.capture("the cat sat", points=("resid_post", "final"))


def viewed(name: str, position: int = 3, layer: int = 1) -> tuple[Any, Any]:
    """The steps of a block, and their view."""
    lens, run = opened(name)
    steps = block_steps(lens, run, layer)
    strongest = None if steps.feed_forward is None else strongest_neurons(lens, run, steps, position)
    return steps, block_view(steps, [token.label for token in run.tokens], position, strongest)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gptj", "falcon-grouped", "gemma2", "mixtral", "t5"])
def test_every_step_has_one_box_in_the_drawing_and_each_part_of_it_recomputes(name):
    steps, view = viewed(name)

    keys = [step.key for step in view.steps]
    assert len(set(keys)) == len(keys)
    assert {box.key for box in view.diagram.boxes} == set(keys)
    n_norms = sum(len(part.norms) for part in steps.sublayers)
    n_sums = 1 if steps.layout == "parallel" else len(steps.sublayers)
    assert len(keys) == 2 + len(steps.sublayers) + n_norms + n_sums
    assert [step.gap.split(" ")[0] for step in view.steps[1:-1]] == ["recomputes"] * (len(keys) - 2)
    assert view.exact
    for box in view.diagram.boxes:  # nothing sticks out, and no two boxes lie over each other
        assert box.width / 2 <= box.x <= view.diagram.width - box.width / 2
        assert box.y + box.height / 2 <= view.diagram.height
        assert sum(apart(box, other) for other in view.diagram.boxes) == len(keys) - 1


def test_the_numbers_of_a_norm_are_those_of_the_token():
    steps, view = viewed("gpt2")
    norm = steps.sublayers[0].norm_before
    x = norm.given[3]

    step = next(step for step in view.steps if step.key == "norm-attention")

    facts = {name: float(value.replace("−", "-")) for name, value in step.facts}
    assert facts["mean"] == pytest.approx(float(x.mean()), rel=1e-3)
    assert facts["variance"] == pytest.approx(float(x.var(correction=0)), rel=1e-3)
    assert facts["divided by"] == pytest.approx(float((x.var(correction=0) + 1e-5).sqrt()), rel=1e-3)
    given, divided, scaled, shifted = step.strips.values
    np.testing.assert_allclose(divided, (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt(), rtol=1e-6)
    np.testing.assert_allclose(scaled, divided * norm.scale.numpy(), rtol=1e-6)
    np.testing.assert_allclose(shifted, norm.gives[3], rtol=0)
    np.testing.assert_allclose(given, x, rtol=0)


def test_strips_of_the_whole_block_add_up_and_begin_and_end_with_the_stream():
    steps, view = viewed("llama")
    rows = dict(zip(view.strips.names, view.strips.values, strict=True))

    middle = rows["stream in"] + rows["self-attention adds"]
    np.testing.assert_allclose(rows["stream after self-attention"], middle, atol=1e-5)
    np.testing.assert_allclose(rows["stream out"], middle + rows["feed-forward adds"], atol=1e-5)
    np.testing.assert_allclose(rows["stream in"], steps.before[3], rtol=0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_say_hostile_tokens_and_name_no_tag(theme):
    lens, run = opened("mixtral")
    steps = block_steps(lens, run, 0)
    view = block_view(steps, [HOSTILE] * len(run.tokens), 2)
    experts = next(step.inside for step in view.steps if step.key == "feed-forward")

    for figure in (figures.strips(view.strips, theme=theme), figures.expert_bars(experts, theme=theme),
                   figures.routing_grid(experts, theme=theme)):  # fmt: skip
        assert "<img" not in repr(figure.to_dict())
    dots = figures.routing_grid(experts).data[1]
    assert sorted(zip(dots.x, dots.y, strict=True)) == sorted(
        (place, expert) for place in range(len(run.tokens)) for expert in steps.experts.chosen[place].tolist()
    )


def test_neurons_stand_on_the_curve_and_the_table_says_what_the_bars_show():
    steps, view = viewed("gpt2")
    dense = next(step.inside for step in view.steps if step.key == "feed-forward")

    line, others, strong = figures.activation_curve(dense).data
    bars = figures.neuron_bars(dense).data[0]

    np.testing.assert_allclose(line.y, torch.nn.functional.gelu(torch.tensor(line.x), approximate="tanh"), atol=1e-6)
    np.testing.assert_allclose(np.sort([*others.y, *strong.y]), steps.feed_forward.neurons[3].sort().values, atol=1e-6)
    assert list(bars.x) == [row[3] for row in dense.table().rows]
    assert len(strong.x) == len(dense.neurons) == 10


def test_labels_of_another_text_and_tokens_beyond_it_are_refused():
    steps, _ = viewed("gpt2")

    with pytest.raises(UsageError, match="labels were given"):
        block_view(steps, ["a"], 0)
    with pytest.raises(UsageError, match="position 99 does not exist"):
        block_view(steps, ["a"] * len(steps.before), 99)


@pytest.mark.parametrize(
    ("name", "kind", "sections"),
    [
        ("bert", "Encoder", {"head", "positions", "masks", "block"}),
        ("mistral", "Decoder", {"head", "positions", "masks", "block", "generation"}),
        ("t5", "Encoder-decoder", {"head", "positions", "masks", "block", "generation"}),
    ],
)
def test_a_model_is_drawn_with_the_shapes_of_the_text_and_what_its_tokens_see(name, kind, sections):
    _, run = opened(name)

    view = architecture_view(run)

    assert [drawn.name for drawn in view.kinds if drawn.opened] == [kind]
    assert {box.to.removeprefix("/inside/") for box in view.diagram.boxes if box.to} == sections
    details = [box.detail for box in view.diagram.boxes]
    assert f"[{len(run.tokens)} × {run.anatomy.d_model}]" in details
    assert f"[{len(run.tokens)} × {run.logits.shape[1]}]" in details
    assert [sight.letter for sight in view.sights] == [stack.letter for stack in run.anatomy.stacks]
    for sight in view.sights:
        seen = run.visible(0, stack=sight.letter or None)
        rebuilt = torch.zeros_like(seen)
        for row, parts in enumerate(sight.seen):
            for start, stop in parts:
                rebuilt[row, start:stop] = True
        assert torch.equal(rebuilt, seen)
    if name == "t5":
        assert f"[{len(run.source.tokens)} × 20]" in details
        assert sum(line.kind == "cross" for line in view.diagram.lines) == 1
    if name == "mistral":
        assert "at most 3 before it" in view.sights[0].sentence  # its window is 4


def test_layers_that_see_differently_are_told_apart():
    _, run = opened("gemma2")  # windows of 5 in every other layer; the text has 12 tokens

    assert "see at most 5 to 12 tokens" in architecture_view(run).sights[0].sentence


def test_the_three_masks_are_full_triangular_and_both():
    _, run = opened("bert")

    encoder, decoder, both = (kind.masks.boxes for kind in architecture_view(run).kinds)

    assert [sum(box.kind == "cell-on" for box in boxes) for boxes in (encoder, decoder, both)] == [25, 15, 16 + 15 + 20]


def apart(one: Any, other: Any) -> bool:
    across = abs(one.x - other.x) >= (one.width + other.width) / 2
    return across or abs(one.y - other.y) >= (one.height + other.height) / 2
