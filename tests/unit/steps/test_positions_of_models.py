"""What positions do in a model: turns proven on it, words in another order, positions taken away, texts too long."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from family_models import FAMILIES

from attnlens.errors import CaptureError, TextError
from attnlens.heads import Head
from attnlens.models.position_data import position_vectors
from attnlens.steps.beyond import beyond_the_limit
from attnlens.steps.order import other_order, rows_in_both_orders
from attnlens.steps.placeless import without_positions
from attnlens.steps.rotation import find_rotations, rotated_pair

TURNING = ("llama", "gpt_neox", "falcon", "modernbert", "gemma3", "gpt_oss")
TEXT = "ab c de"
# A family for every way in which a position comes in and can be taken away again.
BOTH_WAYS = ("bert", "roberta", "albert", "mpnet", "modernbert", "t5", "marian", "bart")
CAUSAL = ("gpt2", "opt", "gpt_neox", "falcon", "falcon-alibi", "bloom", "llama", "t5", "bart", "marian")


def products(run: Any, layer: int) -> torch.Tensor:
    """Query times key of every head and place of a layer, scaled, by plain torch."""
    given = run.patterns[layer].scores
    keys = given.key[0].repeat_interleave(given.query.shape[1] // given.key.shape[1], 0)
    return (given.query[0] @ keys.mT).double() * given.scaling


@pytest.mark.parametrize("name", TURNING)
def test_a_pair_scores_what_the_model_computes_at_other_positions(opened_family, name):
    lens = opened_family(name).lens
    ids = torch.tensor([[9, 40, 77, 12, 30]])
    query, key = 4, 1
    given = {"input_ids": ids, "position_ids": torch.arange(5)[None]}

    run = lens.capture(inputs=given, points=(), logits=False)
    rotations = find_rotations(lens)
    pairs = [rotated_pair(run, Head(0, head), query, key, rotations[0]) for head in range(lens.anatomy.n_heads)]

    assert len(rotations) == lens.anatomy.n_layers
    for stretched in (1, 3, 5):  # the first layer's vectors before the turn do not depend on positions
        moved = lens.capture(
            inputs=given | {"position_ids": stretched * torch.arange(5)[None]}, points=(), logits=False
        )
        found = torch.stack([pair.scores(torch.tensor([stretched * (key - query)]))[0] for pair in pairs])
        torch.testing.assert_close(found, products(moved, 0)[:, query, key], rtol=1e-4, atol=1e-4)
    assert max(pair.difference for pair in pairs) < 1e-5
    for pair in pairs:
        torch.testing.assert_close(
            pair.parts(torch.tensor([2])).sum() + pair.scaling * pair.rest, pair.scores(torch.tensor([2]))[0]
        )


def test_vectors_before_the_turn_are_what_the_projections_give(opened_family):
    opened = opened_family("llama")
    run = opened.lens.capture(TEXT, points=("embed",), logits=False)
    layer = opened.model.model.layers[0]
    states = layer.input_layernorm(run.residual("embed"))
    query = layer.self_attn.q_proj(states).view(-1, 6, 8)[5, 3].detach().double()
    key = layer.self_attn.k_proj(states).view(-1, 3, 8)[2, 1].detach().double()  # head 3 of 6 reads key head 1 of 3

    pair = rotated_pair(run, Head(0, 3), 5, 2, find_rotations(opened.lens)[0])

    torch.testing.assert_close(pair.query, query.view(2, 4).T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pair.key, key.view(2, 4).T, rtol=1e-5, atol=1e-6)


def test_each_layer_has_its_own_turn_where_a_model_has_several(opened_family):
    lens = opened_family("gemma3").lens

    found = find_rotations(lens)

    assert [one.name for one in found] == ["sliding_attention", "full_attention"] * 2
    assert max(one.error for one in found) < 1e-5
    torch.testing.assert_close(found[1].wavelengths[0].item(), 2 * math.pi)
    sinks = find_rotations(opened_family("gpt_oss").lens)
    assert sinks[0].error < 1e-5
    assert all(math.isnan(one.error) for one in sinks[1:])


@pytest.mark.parametrize(("name", "message"), [("gptj", "code of its own"), ("gpt2", "its scheme is learned")])
def test_a_model_without_a_turn_to_show_says_why(opened_family, name, message):
    with pytest.raises(CaptureError, match=message):
        find_rotations(opened_family(name).lens)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_without_positions_an_encoder_takes_words_in_any_order(opened_family, name):
    lens = opened_family(name).lens
    letter = "E" if lens.anatomy.is_encoder_decoder else ""
    last = 0 if name == "modernbert" else lens.anatomy.stack(letter).n_layers - 1

    rows = rows_in_both_orders(lens, Head(last, 1, letter), TEXT)

    with_places, without = rows.moved
    assert without < 1e-5 < 1e-3 < with_places
    assert not rows.mask_tells
    torch.testing.assert_close(rows.placed.sum(-1), torch.ones(2).double(), rtol=1e-5, atol=1e-5)
    order = [rows.labels[rows.places.index(place)] for place in range(len(rows.labels))]
    words = [label for label, special in zip(order, rows.special, strict=True) if not special]
    assert "".join(words).replace("␣", "").replace("Ġ", "").replace(" ", "") == "decab"


@pytest.mark.parametrize("name", CAUSAL)
def test_without_positions_the_first_causal_layer_sees_a_set_and_the_next_an_order(opened_family, name):
    lens = opened_family(name).lens
    letter = lens.anatomy.main_stack

    first, second = (rows_in_both_orders(lens, Head(layer, 1, letter), TEXT) for layer in (0, 1))

    assert (first.mask_tells, second.mask_tells) == (False, True)
    assert first.moved[1] < 1e-5 < 1e-3 < first.moved[0]
    assert second.moved[1] > 1e-3  # the mask alone tells earlier from later


def test_a_window_tells_places_too(opened_family):
    rows = [rows_in_both_orders(opened_family("modernbert").lens, Head(layer, 1), TEXT) for layer in (0, 4)]

    assert [row.mask_tells for row in rows] == [False, True]
    assert rows[0].moved[1] < 1e-5 < 1e-3 < rows[1].moved[1]


@pytest.mark.parametrize("name", ["deberta-v2", "gptj"])
def test_positions_that_cannot_be_taken_away_are_named(opened_family, name):
    rows = rows_in_both_orders(opened_family(name).lens, Head(1, 1), TEXT)

    assert rows.placeless is None
    assert "code of its own" in rows.how


def test_nothing_is_left_behind_and_other_threads_see_nothing(opened_family):
    from concurrent.futures import ThreadPoolExecutor

    opened = opened_family("gpt2")
    before = opened.lens.capture(TEXT, points=()).attention()
    hooks = hooks_of(opened.model)  # transformers leaves some of its own on a model that has given hidden states

    with without_positions(opened.lens.opened):
        inside = opened.lens.capture(TEXT, points=()).attention()
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(lambda: opened.lens.capture(TEXT, points=()).attention()).result()

    assert torch.equal(before, beside)
    assert not torch.allclose(before, inside, atol=1e-2)
    assert torch.equal(before, opened.lens.capture(TEXT, points=()).attention())
    assert hooks_of(opened.model) == hooks


def hooks_of(model):
    return [(list(module._forward_hooks), list(module._forward_pre_hooks)) for module in model.modules()]


def test_words_change_places_and_special_tokens_do_not():
    from attnlens.capture.tokens import Unit

    units = [Unit("[CLS]", (0,), None, True), Unit("playing", (1, 2), 0, False), Unit("cards", (3,), 1, False),
             Unit("now", (4, 5), 2, False), Unit("[SEP]", (6,), None, True)]  # fmt: skip

    assert other_order(units, causal=False) == (0, 4, 5, 3, 1, 2, 6)
    assert other_order(units, causal=True) == (0, 3, 1, 2, 4, 5, 6)


@pytest.mark.parametrize(("text", "head", "error"), [("one", Head(0, 0, "E"), TextError),
                                                     (TEXT, Head(0, 0, "X"), CaptureError)])  # fmt: skip
def test_what_has_no_other_order_is_refused(opened_family, text, head, error):
    with pytest.raises(error):
        rows_in_both_orders(opened_family("t5").lens, head, text)


def test_a_rotation_reads_on_beyond_the_limit_and_the_loss_says_how_well(opened_family):
    opened = opened_family("llama")

    found = beyond_the_limit(opened.lens, "some text that is repeated ")

    assert (found.scheme, found.limit) == ("rope", 64)
    assert "has 65 tokens" in found.refusal
    assert [(span.start, span.stop) for span in found.spans] == [(0, 32), (32, 64), (64, 96), (96, 128)]
    ids = opened.lens.tokenizer("some text that is repeated " * 60, add_special_tokens=False)["input_ids"]
    rows = torch.tensor(ids[: 128 * found.n_texts]).view(-1, 128)
    logs = opened.model(input_ids=rows).logits.log_softmax(-1).detach()
    taken = -logs[:, :-1].gather(-1, rows[:, 1:, None])[..., 0]  # column i: the loss of token i + 1
    assert found.spans[0].loss == pytest.approx(taken[:, :31].mean().item(), rel=1e-4)
    assert found.spans[3].loss == pytest.approx(taken[:, 95:].mean().item(), rel=1e-4)
    assert found.change == pytest.approx(found.spans[3].loss - found.spans[1].loss)


@pytest.mark.parametrize(("name", "limit", "reason"), [("gpt2", 64, "none for the next one"),
                                                       ("t5", None, "predicts the next token")])  # fmt: skip
def test_what_is_not_run_beyond_the_limit_says_why(opened_family, name, limit, reason):
    found = beyond_the_limit(opened_family(name).lens, "some text")

    assert (found.limit, found.spans, found.change) == (limit, (), None)
    assert reason in found.why_not
    assert (found.refusal is None) == (limit is None)


def test_a_bias_without_a_limit_is_run_for_comparison(opened_family):
    found = beyond_the_limit(opened_family("bloom").lens, "some text that is repeated ")

    assert (found.limit, found.refusal, found.change) == (None, None, None)
    assert found.spans[-1].stop == 256


@pytest.mark.parametrize("name", ["marian", "whisper"])
def test_the_sinusoids_of_transformers_are_the_formula_with_columns_in_another_order(name):
    from attnlens.measures.positions import sinusoidal_table
    from attnlens.models.loading import LoadedModel
    from attnlens.models.opening import open_model

    family = FAMILIES[name]
    model = family.build()
    opened = open_model(LoadedModel(name, model, family.tokenizer(), None, None))

    table = position_vectors(opened, "E").double()

    width, n = table.shape[1], len(table)
    half = width // 2
    if name == "marian":  # base 10000 ** (2i / width), sines first
        formula = sinusoidal_table(n, width)
    else:  # Whisper: base 10000 ** (i / (half - 1))
        angles = torch.arange(n).double()[:, None] * 10000.0 ** (-torch.arange(half).double() / (half - 1))
        formula = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    torch.testing.assert_close(table, torch.cat([formula[:, ::2], formula[:, 1::2]], -1), rtol=1e-5, atol=1e-5)
