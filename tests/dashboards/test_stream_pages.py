"""The pages Stream and Intervene: what their callbacks put in place, on real runs of a random model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from components import found_values, graphs_in, texts_in

import attnlens
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.interventions.edits import ablation, knock_out
from attnlens.interventions.metrics import Divergence
from attnlens.interventions.outcomes import masked_text
from attnlens.interventions.sweeps import ablate_each
from dashboards.changes import Changes, Cut, read_cuts
from dashboards.memo import Memo
from dashboards.pages import changing, intervene, reading, stream
from dashboards.state import ViewState

PLACE = 2


@pytest.fixture
def headless_desk(make_desk, random_bert) -> Any:
    """A desk whose model predicts nothing."""
    desk = make_desk()
    lens = attnlens.load(model=random_bert.model.bert, tokenizer=random_bert.tokenizer)
    desk.runs.adopt("attnlens/random", lens)
    return desk


def test_positions_are_offered_with_the_usual_one_first(desk, shown):
    tokens = desk.run(shown).tokens

    options = reading.position_options(desk, shown)

    assert [option["value"] for option in options] == ["", *map(str, range(len(tokens)))]
    assert options[0]["label"] == f"usual: {len(tokens) - 2} table"


@pytest.mark.parametrize("given", ["", None, "99", "-1", "x"])
def test_a_position_that_the_text_lacks_is_the_usual_one(desk, shown, given):
    run = desk.run(shown)

    assert reading.place_of(desk, shown, run, given) == len(run.tokens) - 2


def test_every_card_of_the_stream_is_drawn(desk, shown):
    cards = [
        stream.draw_stream(desk, shown, "stream-norm", str(PLACE), "light"),
        stream.draw_lens(desk, shown, str(PLACE), "dark"),
        stream.draw_shares(desk, shown, str(PLACE), "keys", "light"),
        stream.draw_token_shares(desk, shown, str(PLACE), "keys", "ablation", "light"),
    ]

    assert [len(graphs_in(card)) for card in cards] == [1, 1, 2, 1]
    assert "logit of 'keys' at 'keys'" in texts_in(cards[2])
    assert all("table" in texts_in(card) or "likeliest five" in texts_in(card) for card in cards)


def test_a_result_is_computed_once(desk, shown):
    stream.draw_lens(desk, shown, "1", "light")
    kept = len(desk.memo)

    stream.draw_lens(desk, shown, "4", "dark")

    assert len(desk.memo) == kept


def test_what_a_model_without_a_head_cannot_show_is_said_and_the_rest_is_shown(headless_desk, shown):
    desk = headless_desk

    assert graphs_in(stream.draw_stream(desk, shown, "stream-norm", "", "light"))
    for card in (
        stream.draw_lens(desk, shown, "", "light"),
        stream.draw_shares(desk, shown, "", "", "light"),
        stream.draw_token_shares(desk, shown, "", "", "gradients", "light"),
    ):
        assert not graphs_in(card)
        assert "no language-model head" in texts_in(card)


def test_a_target_that_is_no_token_is_named(desk, shown):
    card = stream.draw_shares(desk, shown, str(PLACE), "dogs bark", "light")

    assert "'dogs bark' is not one token" in texts_in(card)


def test_random_orders_of_a_long_text_are_refused_with_what_to_do(desk, shown, monkeypatch):
    monkeypatch.setattr(stream, "MAX_SHAPLEY", 4)

    card = stream.draw_token_shares(desk, shown, "", "", "shapley", "light")

    assert "up to 4 tokens" in texts_in(card)


def test_layouts_begin_with_the_view_of_the_address(desk):
    view = ViewState(at=3, target="dog", method="shapley", off="L1H2", how="mean", cut="2-1", other="a dog", patch=1)

    for page in (stream.PAGE, intervene.PAGE):
        values = found_values(page.layout(desk, view))
        for control in page.controls:
            assert values[control.id, control.prop] == control.value(view)


def test_changes_are_those_of_the_library(desk, shown, random_lens):
    lens, run = random_lens, desk.run(shown)
    changes = Changes(off=(Head(1, 2),), cuts=read_cuts("3-1@L0H0,x,4-0"), how="zero")
    text = masked_text(lens, run, PLACE)
    edit = ablation(lens, ["L1H2"]) + knock_out(lens, [(3, 1)], ["L0H0"]) + knock_out(lens, [(4, 0)])
    with lens.intervene(edit):
        after = lens.capture(text, points=()).logits[PLACE].double().softmax(-1)

    card = changing.draw_outcome(desk, shown, str(PLACE), changes, "light")

    bars = graphs_in(card)[0].data[1]
    assert max(bars.x) == pytest.approx(float(after.max()), rel=1e-4)
    assert changes.cuts == (Cut(3, 1, Head(0, 0)), Cut(4, 0, None))
    assert "which is masked" in texts_in(card)
    assert "knock out 3->1 in L0H0" in texts_in(card)


def test_values_of_a_second_text_are_patched_in(desk, shown, random_lens):
    other = shown["text"].replace("keys", "dogs")
    second = random_lens.capture(other, points=("resid_post",))
    run = desk.run(shown)
    with random_lens.patch(second, layers=2):
        expected = random_lens.capture(masked_text(random_lens, run, PLACE), points=()).logits[PLACE].double()

    card = changing.draw_outcome(desk, shown, str(PLACE), Changes(other=other, layer=2), "light")
    heads = changing.draw_outcome(
        desk, shown, str(PLACE), Changes(off=(Head(0, 1),), how="other", other=other), "light"
    )

    assert max(graphs_in(card)[0].data[1].x) == pytest.approx(float(expected.softmax(-1).max()), rel=1e-4)
    assert "patch z of L0H1" in texts_in(heads)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (Changes(layer=1), "no second text"),
        (Changes(layer=1, other="the dog"), "the second one 4"),
        (Changes(layer=77, other="the keys to the cabinet are on the table"), "layers"),
        (Changes(off=(Head(9, 9),)), "L9H9 does not exist"),
        (Changes(cuts=(Cut(1, 1, Head(7, 0)),)), "L7H0 does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_its_place(desk, shown, changes, said):
    assert said in texts_in(changing.draw_outcome(desk, shown, str(PLACE), changes, "light"))


def test_last_states_stand_in_for_predictions(headless_desk, shown):
    card = changing.draw_outcome(headless_desk, shown, "", Changes(off=(Head(0, 1),)), "light")

    assert len(graphs_in(card)[0].data[0].x) == len(headless_desk.run(shown).tokens)
    assert "last state" in texts_in(card)


def test_a_sweep_goes_layer_by_layer_and_ends_when_the_page_moves_on(desk, shown, random_lens):
    text = masked_text(random_lens, desk.run(shown), PLACE)
    expected = ablate_each(random_lens, text, Divergence(PLACE)).changes

    sweep = changing.sweep_layer(desk, shown, "zero", str(PLACE), 0, None, None)
    for layer in (1, 2):
        sweep = changing.sweep_layer(desk, shown, "zero", str(PLACE), layer, sweep, sweep["key"])

    assert list(sweep["effects"].values()) == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)
    assert (sweep["done"], sweep["of"]) == (3, 3)
    assert changing.sweep_layer(desk, shown, "zero", "3", 1, sweep, sweep["key"]) is None
    view = changing.off_view(desk, shown, "L0H1", sweep, "zero", str(PLACE))
    assert torch.from_numpy(view.values).flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)
    assert not changing.off_view(desk, shown, "", sweep, "mean", str(PLACE)).measured
    with pytest.raises(UsageError, match="zeros, means"):
        changing.sweep_layer(desk, shown, "other", str(PLACE), 0, None, None)


def test_means_of_other_texts_are_captured_once(desk, shown):
    changes = Changes(off=(Head(0, 1),), how="mean")

    changing.draw_outcome(desk, shown, str(PLACE), changes, "light")
    changing.draw_outcome(desk, shown, "3", changes, "light")

    kept = [key for key in desk.memo.keys if key[0] == "corpus"]
    assert len(kept) == 1


def test_a_cut_edge_is_a_button_that_says_which(desk, shown):
    first, second = changing.cut_buttons(desk, shown, "2-1@L0H3,3-99")

    assert texts_in(first) == "2 keys → 1 the in L0H3  ✕"
    assert texts_in(second).startswith("3 to → 99 in every head")
    assert first.id["index"] == 0


def test_a_memo_keeps_what_was_used_last_and_no_failure():
    memo, made = Memo(2), []

    def make(value: int) -> int:
        made.append(value)
        return value

    for value in (1, 2, 1, 3, 1, 2):
        assert memo.get(value, lambda value=value: make(value)) == value
    with pytest.raises(ZeroDivisionError):
        memo.get(4, lambda: 1 // 0)

    assert made == [1, 2, 3, 2]
    assert memo.keys == (1, 2)


def test_a_memo_keeps_as_much_as_its_results_may_weigh_and_the_latest():
    memo = Memo(10, weigh=len)

    for text in ("aaaa", "bbbb", "cc", "dddd"):
        memo.get(text, lambda text=text: text)
    kept = memo.keys
    memo.get("long", lambda: "x" * 11)

    assert kept == ("bbbb", "cc", "dddd")
    assert memo.keys == ("long",)


def test_a_text_that_is_read_differently_by_itself_is_refused(desk, shown, random_lens):
    generated = SimpleNamespace(text=shown["text"], tokens=range(99), source=None, anatomy=random_lens.anatomy)

    from dashboards.changes import given_text

    with pytest.raises(UsageError, match="the run has 99"):
        given_text(random_lens, shown, generated)
