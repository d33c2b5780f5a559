"""The pages on a model that reads one text and writes another: what they do to each of its stacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from components import graphs_in, texts_in

import attnlens
from attnlens.interventions.edits import ablation, knock_out
from attnlens.interventions.metrics import Divergence
from attnlens.interventions.sweeps import ablate_each
from dashboards import classic, export
from dashboards.changes import Changes, heads_in, read_cuts
from dashboards.config import DashboardConfig
from dashboards.desk import Desk
from dashboards.pages import changing, compare, running, stream
from dashboards.pages import head as head_page
from dashboards.request import TARGET, WRITE

SOURCE, WRITTEN = "the dogs", "she saw"
SIZES = {"E": (4, 3), "D": (2, 3), "X": (2, 3)}


@pytest.fixture(scope="module")
def lens():
    """A random T5: 4 encoder layers, 2 decoder layers, 3 heads, a token per byte."""
    from family_models import FAMILIES

    t5 = FAMILIES["t5"]
    return attnlens.load(model=t5.build(), tokenizer=t5.tokenizer())


@pytest.fixture(scope="module")
def desk(lens):
    made = Desk.of(DashboardConfig(model="attnlens/random"))
    made.runs.adopt("attnlens/random", lens)
    return made


@pytest.fixture(scope="module")
def shown(desk) -> dict[str, Any]:
    request = {"model": "attnlens/random", "text": SOURCE, "kind": TARGET, "second": WRITTEN}
    return running.show_run(desk, request, "", "")[0]


def likeliest_after(lens, edit) -> float:
    """The largest probability after what is written, with the edit in force."""
    with lens.intervene(edit):
        run = lens.capture(source=SOURCE, target=WRITTEN, points=(), logits=True)
    return float(run.logits[-1].double().softmax(-1).max())


@pytest.mark.parametrize("head", ["EL3H1", "DL1H2", "XL1H0"])
def test_a_head_of_any_stack_is_switched_off(desk, shown, lens, head):
    card = changing.draw_outcome(desk, shown, "", Changes(off=heads_in(head)), "light")

    assert max(graphs_in(card)[0].data[1].x) == pytest.approx(likeliest_after(lens, ablation(lens, [head])), rel=1e-4)
    assert f"ablate {head} (zero)" in texts_in(card)


@pytest.mark.parametrize("letter", SIZES)
def test_the_map_the_edges_and_the_sweep_are_those_of_the_selected_heads_stack(desk, shown, lens, letter):
    n_layers, n_heads = SIZES[letter]
    n_written, n_read = len(WRITTEN) + 1, len(SOURCE) + 1  # the token that writing starts from, the end of what is read
    head = f"{letter}L1H2"

    view = changing.off_view(desk, shown, "L0H1,EL0H1,XL0H1", None, "zero", "", head)
    cells = changing.draw_off(view, head, "light").data[0].customdata
    queries, keys = changing.cut_options(desk, shown, head)
    sweep = changing.sweep_layer(desk, shown, "zero", "", 0, None, None, head)

    assert [str(off) for off in view.off] == [f"{letter}L0H1"]
    assert [len(cells), len(cells[0]), cells[1][2]] == [n_layers, n_heads, head]
    sides = {"E": (n_read, n_read), "D": (n_written, n_written), "X": (n_written, n_read)}
    assert (len(queries), len(keys)) == sides[letter]
    heads = [f"{letter}L0H{index}" for index in range(n_heads)]
    expected = ablate_each(lens, (SOURCE, WRITTEN), Divergence(n_written - 1), heads).changes
    assert list(sweep["effects"]) == heads
    assert list(sweep["effects"].values()) == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)
    assert sweep["of"] == n_layers
    other = "D" if letter == "E" else "E"
    assert changing.sweep_layer(desk, shown, "zero", "", 1, sweep, sweep["key"], f"{other}L0H0") is None


def test_an_edge_is_cut_in_every_head_of_a_stack(desk, shown, lens):
    every = [f"EL{layer}H{head}" for layer in range(4) for head in range(3)]

    card = changing.draw_outcome(desk, shown, "", Changes(cuts=read_cuts("7-2@E")), "light")
    [button] = changing.cut_buttons(desk, shown, "7-2@X")

    expected = likeliest_after(lens, knock_out(lens, [(7, 2)], every))
    assert max(graphs_in(card)[0].data[1].x) == pytest.approx(expected, rel=1e-4)
    assert "knock out 7->2 in every head of the encoder" in texts_in(card)
    assert texts_in(button).startswith("7 w → 2 e in every head of cross-attention")


def test_a_second_text_is_read_in_place_of_the_first(desk, shown, lens):
    other = "she saw a cat"
    second = lens.capture(source=other, target=WRITTEN, points=("resid_post",))
    with lens.patch(second, layers=1):
        run = lens.capture(source=SOURCE, target=WRITTEN, points=(), logits=True)

    card = changing.draw_outcome(desk, shown, "", Changes(other=other, layer=1), "light")
    encoder = changing.draw_outcome(desk, shown, "", Changes(off=heads_in("EL0H0"), how="other", other=other), "light")

    expected = float(run.logits[-1].double().softmax(-1).max())
    assert max(graphs_in(card)[0].data[1].x) == pytest.approx(expected, rel=1e-4)
    assert f"text has {len(SOURCE) + 1} tokens and the second one {len(other) + 1}" in texts_in(encoder)


def test_what_the_model_has_written_itself_is_changed_as_well(desk, lens):
    request = {"model": "attnlens/random", "text": SOURCE, "kind": WRITE, "new_tokens": 5}
    shown = running.show_run(desk, request, "", "")[0]
    written = desk.run(shown)
    with lens.intervene(ablation(lens, ["EL0H0"])):
        run = lens.capture(source=SOURCE, target=written.text, points=(), logits=True)

    card = changing.draw_outcome(desk, shown, "", Changes(off=heads_in("EL0H0")), "light")

    assert torch.equal(torch.tensor([t.id for t in run.tokens]), torch.tensor([t.id for t in written.tokens]))
    assert max(graphs_in(card)[0].data[1].x) == pytest.approx(
        float(run.logits[-1].double().softmax(-1).max()), rel=1e-4
    )


@pytest.mark.parametrize("letter", SIZES)
def test_the_stack_of_the_selected_head_is_compared(desk, shown, lens, letter):
    head, other = f"{letter}L1H2", "the cats"
    weights = lens.capture(source=SOURCE, target=WRITTEN).attention(head=head, words=True)

    pair = compare.Pair.of(desk, shown, compare.with_what(None, other), head)
    cells, first = graphs_in(pair.heads(head, "light"))[0].data[0], graphs_in(pair.head(head, "light"))[0].data[0]

    assert cells.z.shape == SIZES[letter]
    assert compare.clicked_head(cells.customdata[0][1], head) == f"{letter}L0H1"
    read, written = [0, 1, 3], [0, 1, 2, 3]  # of "the", the blank, "dogs" and the end, the third is in one text only
    queries, keys = {"E": (read, read), "D": (written, written), "X": (written, read)}[letter]
    assert first.z == pytest.approx(weights[queries][:, keys].numpy(), abs=1e-6)


@pytest.mark.parametrize("letter", SIZES)
def test_exports_and_bertviz_are_of_the_selected_heads_stack_or_of_the_whole_run(desk, shown, letter):
    n_layers, n_heads = SIZES[letter]
    given = {name: str(value) for name, value in shown["request"].items()} | {"head": f"{letter}L1H2"}

    rows = export.exported(desk, "heads.csv", given)[0].decode().splitlines()
    pages = [classic.classic_view_of(desk, given | {"view": view}) for view in ("head", "model", "neuron")]

    heads = [f"{letter}L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
    assert [row.split(",")[0] for row in rows[1:]] == heads
    assert all("<script>" in page for page in pages)


def test_the_other_pages_draw_each_stack_or_say_why_not(desk, shown):
    for head in ("EL3H1", "DL1H1", "XL0H2"):
        assert "models of one stack" in texts_in(head_page.draw_tokens(desk, shown, head))
        assert "Maps like this one" in texts_in(head_page.draw_similar(desk, shown, head, None))
    assert graphs_in(stream.draw_stream(desk, shown, "stream-norm", "", "light"))
