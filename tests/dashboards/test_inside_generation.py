"""The page of generation: candidates whose probabilities can be computed again, tokens that are taken, masked words."""

from __future__ import annotations

import pytest
import torch
from components import graphs_in, texts_in
from family_models import FAMILIES

import attnlens
from attnlens.report.inside import generation_view as views
from attnlens.report.inside.generation_figure import cache_bars, row_bars
from attnlens.steps.sampling import next_token_probabilities
from dashboards.pages.inside import generation
from dashboards.state import ViewState


@pytest.fixture
def writing(desk, random_llama):
    """The desk with a decoder."""
    desk.runs.adopt("attnlens/random", attnlens.load(model=random_llama.model, tokenizer=random_llama.tokenizer))
    return desk


def test_a_step_shows_the_text_its_candidates_and_the_cache(writing, shown):
    lens = writing.runs.lens("attnlens/random")

    story, data, table, cache, *hidden = generation.draw_step(writing, shown, "40,41", None, "light")

    written = lens.write(shown["text"], (40, 41))
    assert data["ids"][0] == int(written.logits.argmax())
    assert data["writes"]
    assert hidden == [False, True]
    assert written.run.tokens[-1].label in texts_in(story)
    assert f"{written.cache_bytes[-1]:,} bytes" in texts_in(cache)
    assert list(graphs_in(cache)[0].data[0].x) == list(written.cache_bytes)
    assert data["labels"][0] in texts_in(table)


def test_the_row_is_the_last_one_of_the_head(writing, shown):
    run = writing.runs.lens("attnlens/random").write(shown["text"], (40,)).run

    view = views.row_view(run, "L1H0")

    assert list(view.all_weights) == run.attention(head="L1H0")[-1].double().tolist()
    assert sum(view.all_weights) == pytest.approx(1)
    assert len(graphs_in(generation.draw_row(writing, shown, "40", "L1H0", "dark"))) == 1
    assert list(row_bars(view).data[0].x) == list(view.weights)


def test_an_encoder_is_asked_for_the_masked_word(desk, shown):
    story, data, _, cache, moves, asked = generation.draw_step(desk, shown, "", "2", "light")

    lens = desk.runs.lens("attnlens/random")
    logits = lens.capture("the [MASK] to the cabinet are on the table").logits[2]
    assert "[MASK]" in texts_in(story)
    assert data["ids"][0] == int(logits.argmax())
    assert not data["writes"]
    assert (moves, asked) == (True, False)
    assert "one pass" in texts_in(cache)
    assert "no newest token" in texts_in(generation.draw_row(desk, shown, "", "L1H0", "light"))


def test_what_an_address_takes_is_read_with_care(writing, shown):
    assert generation.took_of("3,x,,-1,5," + "9" * 12) == (3, 5)
    assert len(generation.took_of(",".join("7" * 100))) == generation.MAX_TAKEN
    assert "no token" in texts_in(generation.draw_step(writing, shown, "999999", None, "light")[0])
    assert "came from a file" in texts_in(
        generation.draw_step(writing, shown | {"run": "0" * 64}, "", None, "light")[0]
    )


def test_controls_of_a_stale_address_fall_back(desk):
    for view in (ViewState(temp="x", topk="-1", topp="7"), ViewState(temp="0.7", topk="5", topp="0.9")):
        assert "Temperature" in texts_in(generation.layout(desk, view))


@pytest.mark.parametrize("temperature", views.TEMPERATURES[::6])
def test_what_is_not_listed_is_summed_exactly(temperature, monkeypatch):
    monkeypatch.setattr(views, "LISTED", 10)
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 4

    view = views.candidates_view(logits, str)

    whole = next_token_probabilities(logits, temperature=temperature)
    listed = torch.tensor(view.logits).double() / temperature
    rest = view.rest[views.TEMPERATURES.index(temperature)]
    total = torch.logaddexp(listed.logsumexp(0), torch.tensor(rest).double())
    torch.testing.assert_close((listed - total).exp(), whole[list(view.ids)])
    assert view.n_rest == 40
    assert [row[2] for row in view.table(3).rows] == pytest.approx(
        next_token_probabilities(logits).topk(3).values.tolist()
    )


def test_an_encoder_decoder_writes_after_its_source(desk, shown):
    family = FAMILIES["t5"]
    lens = attnlens.load(model=family.build(), tokenizer=family.tokenizer())
    desk.runs.adopt("attnlens/random", lens)
    request = shown | {"text": "the keys", "kind": "write", "new_tokens": 3}

    story, data, _, cache, *hidden = generation.draw_step(desk, request, "40", None, "light")
    heads = ("DL0H1", "XL0H1", "EL0H1")
    rows = {head: texts_in(generation.draw_row(desk, request, "40", head, "light")) for head in heads}

    assert "→" in texts_in(story)
    assert data["writes"]
    assert hidden == [False, True]
    assert "source are computed once" in texts_in(cache)
    assert "in the text so far, by DL0H1" in rows["DL0H1"]
    assert "in the source, by XL0H1" in rows["XL0H1"]
    assert "EL0H1 belongs to the encoder" in rows["EL0H1"]


def test_the_cache_is_drawn_as_it_grew(random_gpt2):
    lens = attnlens.load(model=random_gpt2.model, tokenizer=random_gpt2.tokenizer)
    written = lens.write("the keys", (7, 8))

    view = views.cache_view(written.run, written.cache_bytes)

    assert "2 layers × 3 key-value heads × 7 dimensions × 4 bytes = 336 bytes" in view.caption
    assert view.n_tokens == (8, 9, 10)
    assert view.n_bytes == (8 * 336, 9 * 336, 10 * 336)
    assert len(cache_bars(view, theme="dark").data[0].y) == 3
