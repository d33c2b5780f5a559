"""What a model can be given, told from its files and from the opened model; two stacks and generation on the page."""

from __future__ import annotations

import json

import pytest
from packed_maps import STEPS, weights_of

from dashboards.abilities import kinds_of_files, kinds_of_lens
from dashboards.data import maps_for
from dashboards.pages import addressing, drawing, running
from dashboards.request import CHAT, KINDS, PAIR, TARGET, TEXT, WRITE, RunRequest
from dashboards.state import ViewState

EXPECTED = {"bert": (TEXT, PAIR), "gpt2": (TEXT, WRITE), "t5": (WRITE, TARGET)}


@pytest.fixture(scope="module")
def lenses():
    """An opened random model of each family."""
    from family_models import FAMILIES
    from random_models import BUILDERS

    import attnlens

    t5 = FAMILIES["t5"]
    built = {name: BUILDERS[name]() for name in ("bert", "gpt2")} | {"t5": (t5.build(), t5.tokenizer())}
    return {name: attnlens.load(model=model, tokenizer=tokenizer) for name, (model, tokenizer) in built.items()}


@pytest.mark.parametrize("family", EXPECTED)
def test_the_files_say_the_same_as_the_opened_model(lenses, tmp_path, family):
    lens = lenses[family]
    lens.model.save_pretrained(tmp_path)
    lens.tokenizer.save_pretrained(tmp_path)

    assert kinds_of_lens(lens) == EXPECTED[family]
    assert kinds_of_files(tmp_path) == EXPECTED[family]


def test_a_chat_template_among_the_files_is_found(lenses, tmp_path):
    lenses["gpt2"].model.save_pretrained(tmp_path)
    lenses["gpt2"].tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")

    assert kinds_of_files(tmp_path) == (TEXT, WRITE, CHAT)


@pytest.mark.parametrize("config", ["", "[]", "{", '{"architectures": 7}', '{"architectures": [null]}'])
def test_files_that_make_no_sense_give_the_plain_text(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "tokenizer.json").write_text("{}")

    assert kinds_of_files(tmp_path) == (TEXT,)


@pytest.fixture
def desk_with(make_desk, lenses):
    """`desk_with("t5")`: a desk whose listed model is an opened one of this family."""

    def make(family: str):
        desk = make_desk()
        desk.runs.adopt("attnlens/random", lenses[family])
        return desk

    return make


def shown_by(desk, **fields):
    request = RunRequest.from_json({"model": "attnlens/random", "text": "the dogs"} | fields).to_json()
    return running.show_run(desk, request, "", "")


def test_the_heads_of_all_stacks_can_be_picked_and_seen(desk_with, lenses):
    desk = desk_with("t5")

    run, _, summary, options, head, _, _ = shown_by(desk, kind=TARGET, second="she")

    stacks = lenses["t5"].anatomy.stacks
    names = [option["value"] for option in options]
    assert len(names) == sum(stack.n_layers * stack.n_heads for stack in stacks)
    assert head.startswith("D")
    assert "read" in summary[2].children
    assert [stack["letter"] for stack in run["stacks"]] == ["E", "D", "X"]
    expected = lenses["t5"].capture(source="the dogs", target="she")
    for name in ("EL0H1", "DL0H1", "XL0H1"):
        header, weights = weights_of(maps_for(desk, run["request"] | {"head": name}))
        shown = weights[header["names"].index(name)]
        assert shown.shape == expected.attention(head=name).shape
        assert abs(shown - expected.attention(head=name).numpy())[shown < 1].max() < 1 / STEPS
        assert name in drawing.cells_of(desk, run, "entropy", "", name[0])[0]["heads"]


def test_a_written_text_is_shown_with_its_prompt(desk_with):
    run, _, summary, *_ = shown_by(desk_with("gpt2"), kind=WRITE, new_tokens=3)

    assert run["kind"] == WRITE
    assert summary[2].children.endswith("written")
    assert run["n_tokens"] > len("the dogs")  # a token per byte, and what was written


@pytest.mark.parametrize(("family", "kind", "display"), [("t5", WRITE, "block"), ("bert", TEXT, "block")])
def test_the_picker_offers_what_the_model_takes(desk_with, family, kind, display):
    options, chosen, shown = running.offered_kinds(desk_with(family), "attnlens/random", CHAT)

    assert tuple(option["value"] for option in options) == EXPECTED[family]
    assert (chosen, shown) == (kind, display)


def test_a_kind_that_the_model_lacks_gives_way_in_a_link(desk_with):
    view = ViewState(model="attnlens/random", text="a", kind="pair", second="b")

    assert addressing.completed(desk_with("t5"), view).kind == WRITE
    assert addressing.completed(desk_with("bert"), view) == view


def test_everything_is_offered_where_nothing_is_known(desk):
    assert desk.kinds("org/unknown") == KINDS
    assert desk.kinds("/etc") == KINDS


def test_a_link_to_an_uploaded_run_needs_no_model(desk, random_lens, tmp_path):
    saved = random_lens.capture("she saw").save(tmp_path / "mine.attn")
    request = desk.runs.take(saved, "ab" * 32)
    view = ViewState.read(f"?model=someone/else&text=she+saw&run={'ab' * 32}")

    asked = addressing.restored(desk, view, None)[0]

    assert asked == request.to_json() | {"model": "someone/else"}
    assert running.show_run(desk, asked, "", "")[0]["n_tokens"] == len(random_lens.capture("she saw").tokens)
    assert json.dumps(asked)
