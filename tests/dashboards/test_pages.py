"""What the callbacks return, called as the plain functions that they are, on real runs of a random model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from dash import no_update
from plotly.utils import PlotlyJSONEncoder

from attnlens.errors import HeadAddressError, ModelNotFoundError, TextError
from dashboards import ids
from dashboards.pages import addressing, drawing, evidence, frame, pattern, rail, running
from dashboards.pages.listing import PAGES, find_page
from dashboards.pages.pattern import Selection
from dashboards.request import RunRequest
from dashboards.state import ViewState

HEAD = "L1H2"


def texts_in(component) -> str:
    """Every piece of text in a tree of components, joined by blanks."""
    if component is None or isinstance(component, str | int | float):
        return str(component or "")
    if isinstance(component, list | tuple):
        return " ".join(texts_in(child) for child in component)
    return texts_in(getattr(component, "children", None))


def selection(shown, **changes) -> Selection:
    return replace(Selection(shown, HEAD, False, False), **changes)


def test_a_run_sets_the_stage(desk, shown):
    run, stage, summary, options, head, _note, hidden = running.show_run(desk, shown, "", HEAD)

    stacks = [{"letter": "", "n_layers": 3, "n_heads": 4}]
    assert run == shown | {"request": shown, "n_tokens": len(desk.run(shown).tokens), "stacks": stacks}
    assert stage == "stage"
    assert hidden is True
    assert "3 layers × 4 heads" in texts_in(summary)
    assert [option["value"] for option in options] == [f"L{layer}H{index}" for layer in range(3) for index in range(4)]
    assert head == HEAD


@pytest.mark.parametrize("gone", [None, "", "L9H9", "nonsense"])
def test_a_head_that_the_model_lacks_gives_way_to_the_one_that_most_looks_back(desk, shown, random_lens, gone):
    attention = random_lens.capture(shown["text"]).attention()
    inner = attention[:, :, 1:-1]  # without the special tokens at both ends as queries
    back = inner.diagonal(offset=0, dim1=-2, dim2=-1).mean(-1)
    expected = f"L{int(back.argmax()) // 4}H{int(back.argmax()) % 4}"

    head = running.show_run(desk, shown, "", gone)[4]

    assert head == expected


def test_a_labelled_head_comes_first_when_results_are_loaded(make_desk, results_folder, shown):
    desk = make_desk(results=(results_folder,))

    _, _, _, options, head, note, _ = running.show_run(desk, shown, "found", "")

    assert head == "L1H2"
    assert {option["label"] for option in options if option["value"] == "L1H2"} == {"L1H2 · previous-token"}
    assert "made-up" in note


def test_results_of_another_model_are_named_and_not_used(make_desk, results_folder, shown):
    document = json.loads((results_folder / "heads.json").read_text())
    document["model"] |= {"model": "other", "n_heads": 2, "weights_sha256": None}
    document["heads"] = [head for head in document["heads"] if head["index"] < 2]
    (results_folder / "heads.json").write_text(json.dumps(document))
    desk = make_desk(results=(results_folder,))

    _, _, _, options, _, note, _ = running.show_run(desk, shown, "found", HEAD)
    figure, _ = drawing.draw_map(desk, shown, "entropy", "found", HEAD, "light")

    assert "other" in note
    assert all("·" not in option["label"] for option in options)
    assert figure.data[0].customdata is not None


def test_the_examples_of_a_model_are_run_as_they_stand(desk):
    buttons = rail.example_buttons(desk, "attnlens/random")

    pair = RunRequest("attnlens/random", "draft", "pair", "b")
    request, text, kind = running.ask(desk, pair, buttons[1].id["index"])

    assert request == {"model": "attnlens/random", "text": "the dogs bark"}
    assert (text, kind) == ("the dogs bark", "text")


def test_run_takes_the_text_that_stands_there(desk):
    request = RunRequest("m", "draft", "pair", "b")

    assert running.ask(desk, request) == (request.to_json(), no_update, no_update)


@pytest.mark.parametrize(
    ("picked", "other", "expected"),
    [("attnlens/x", "y", "attnlens/x"), (ids.OTHER, " org/y ", "org/y"), (ids.OTHER, None, "")],
)
def test_the_model_is_the_picked_one_or_the_typed_one(picked, other, expected):
    assert running.chosen_model(picked, other) == expected


@pytest.mark.parametrize("text", ["", "word " * 600])
def test_a_text_that_cannot_be_run_is_an_error_for_the_page(desk, text):
    with pytest.raises(TextError):
        running.show_run(desk, {"model": "attnlens/random", "text": text}, "", HEAD)


def test_a_model_that_may_not_be_opened_is_an_error_for_the_page(desk):
    with pytest.raises(ModelNotFoundError):
        running.show_run(desk, {"model": "/etc", "text": "a"}, "", HEAD)


def test_the_map_holds_every_head_and_frames_the_selected_one(desk, shown):
    figure, caption = drawing.draw_map(desk, shown, "entropy", "", HEAD, "light")

    addresses = [address for row in figure.data[0].customdata for address in row]
    assert addresses == [f"L{layer}H{index}" for layer in range(3) for index in range(4)]
    assert any(shape.x0 <= 2 <= shape.x1 and shape.y0 <= 1 <= shape.y1 for shape in figure.layout.shapes)
    assert "ntropy" in caption


@pytest.mark.parametrize("metric", ["max", "previous", "labels", "no-such-metric"])
def test_the_map_can_be_coloured_by_anything_in_the_address(make_desk, results_folder, shown, metric):
    desk = make_desk(results=(results_folder,))

    for results in ("", "found", "gone"):
        figure, _ = drawing.draw_map(desk, shown, metric, results, HEAD, "dark")

        assert len(figure.data[0].customdata) == 3


def test_the_theme_changes_the_figure(desk, shown):
    light, dark = (drawing.draw_map(desk, shown, "entropy", "", HEAD, theme)[0] for theme in ("light", "dark"))

    assert light.layout != dark.layout


def test_the_matrix_holds_the_numbers_of_the_run(desk, shown, random_lens):
    expected = random_lens.capture(shown["text"]).attention(head=HEAD).numpy()

    figure = pattern.draw(desk, selection(shown), "matrix", "light", 0.1, None)[2]

    assert figure.data[0].z == pytest.approx(expected, abs=1e-6)


def test_words_and_hidden_special_tokens_change_the_matrix(desk, shown):
    def size(**changes):
        return pattern.draw(desk, selection(shown, **changes), "matrix", "light", 0.1, None)[2].data[0].z.shape

    n_tokens, n_words = len(desk.run(shown).tokens), 9
    assert size() == (n_tokens, n_tokens)
    assert size(words=True) == (n_words + 2, n_words + 2)
    assert size(words=True, hide_special=True) == (n_words, n_words)


@pytest.mark.parametrize(("tab", "drawn"), [("links", {0, 1, 6}), ("matrix", {2, 3, 7}), ("classic", {5})])
def test_only_the_open_tab_is_drawn(desk, shown, tab, drawn):
    outputs = pattern.draw(desk, selection(shown), tab, "light", 0.1, None)

    assert {index for index, output in enumerate(outputs) if output is not no_update} == drawn


def test_the_table_of_the_matrix_is_made_when_it_is_open(desk, shown):
    table = pattern.draw(desk, selection(shown), "matrix", "light", 0.1, None, with_table=True)[4]

    weight = float(desk.run(shown).attention(head=HEAD)[1, 2])
    assert f"{weight:.4f}" in texts_in(table)


def test_a_large_matrix_is_not_written_into_the_page(random_lens, make_desk):
    text = "a " * (pattern.MAX_TABLE // 2 + 10)
    desk = make_desk()
    run = {"model": "attnlens/random", "text": text}

    view = selection(run).view(desk)
    table = pattern.matrix_table(replace(view, row_labels=("a",) * (pattern.MAX_TABLE + 1)))

    assert "too many" in texts_in(table)


def test_the_threshold_and_the_followed_token_change_the_links(desk, shown):
    def links(threshold, query):
        figure = pattern.draw(desk, selection(shown), "links", "light", threshold, query)[0]
        return json.dumps(figure, cls=PlotlyJSONEncoder)

    plain = links(0.1, None)
    assert links(0.9, None) != plain
    assert links(0.1, {"position": 3, "of": [False, False]}) != plain
    assert links(0.1, {"position": 3, "of": [True, False]}) == plain  # chosen among words, shown are pieces
    assert links(0.1, {"position": 999, "of": [False, False]}) == plain


def test_the_strongest_links_are_the_largest_weights(desk, shown):
    run = desk.run(shown)

    rows = texts_in(pattern.strongest_links(selection(shown).view(desk)))

    assert f"{float(run.attention(head=HEAD).max()):.4f}" in rows


def test_the_frame_of_bertviz_is_sandboxed_and_names_the_run(shown):
    frame = pattern.classic_frame(selection(shown), "dark")

    assert frame.sandbox == "allow-scripts"
    assert frame.src.startswith("classic?model=attnlens%2Frandom&text=the+keys")
    assert "head=L1H2" in frame.src


def test_a_head_of_another_model_is_an_error_for_the_page(desk, shown):
    with pytest.raises(HeadAddressError):
        pattern.draw(desk, selection(shown, head="L9H0"), "links", "light", 0.1, None)


def test_evidence_shows_score_interval_baseline_and_scope(make_desk, results_folder, shown):
    desk = make_desk(results=(results_folder,))
    results, _ = desk.results_for(desk.run(shown), "found")

    said = texts_in(evidence.evidence(results, "L1H2", "light"))

    for part in (
        "previous-token",
        "0.81 [0.75, 0.88]",
        "uniform 0.06",
        "n = 640",
        "1,234 sentences",
        "not explanation",
    ):
        assert part in said


def test_evidence_of_other_heads_says_what_was_not_found(make_desk, results_folder, shown):
    desk = make_desk(results=(results_folder,))
    results, _ = desk.results_for(desk.run(shown), "found")

    assert "Unclassified" in texts_in(evidence.evidence(results, "L0H0", "light"))
    assert "selectivity 0.06 < 0.15" in texts_in(evidence.evidence(results, "L2H0", "light"))
    assert "No probe result" in texts_in(evidence.evidence(None, "L0H0", "light"))
    assert texts_in(evidence.badges(results, "L0H0")) == "unclassified"
    assert evidence.badges(None, "L0H0") == []


def test_the_model_card_shows_every_figure_of_the_self_check(random_lens):
    said = texts_in(evidence.model_card(random_lens.anatomy))

    assert f"{random_lens.anatomy.n_parameters:,}" in said
    assert said.count("passed") == len(random_lens.anatomy.self_check.checks) > 0
    assert "FAILED" not in said


def test_an_empty_address_shows_the_first_example_of_the_first_model(desk):
    view = addressing.completed(desk, ViewState())

    assert (view.model, view.text) == ("attnlens/random", desk.choices.listed[0].examples[0])


def test_the_text_given_at_start_comes_before_examples(make_desk):
    assert addressing.completed(make_desk(text="mine"), ViewState()).text == "mine"


def test_results_given_at_start_are_on_the_heads_of_a_plain_visit(make_desk, random_lens, results_folder):
    desk = make_desk(model=random_lens.anatomy.model, text="mine", results=(results_folder,))

    plain = addressing.completed(desk, ViewState())
    linked = addressing.completed(desk, ViewState(model=random_lens.anatomy.model))

    assert (plain.results, plain.metric) == ("found", drawing.LABELS)
    assert (linked.results, linked.metric) == ("", ViewState.metric)


def test_results_of_another_model_stay_off_the_heads(make_desk, results_folder):
    assert addressing.completed(make_desk(results=(results_folder,)), ViewState()).results == ""


def test_a_link_sets_the_frame_and_the_controls_of_its_page(desk):
    view = ViewState(
        model="attnlens/random", text="the dogs bark", head="L1H1", metric="max", words=True, hide_special=True,
        threshold=0.25, query=2, tab="matrix", results="found",
    )  # fmt: skip

    request, *shared = addressing.restored(desk, view, None)
    _, layout = frame.open_page(desk, "", view.query_string())[0]

    assert request == {"model": view.model, "text": view.text}
    assert shared == [view.model, "", view.text, "text", "", 20, view.head, view.results]
    for id, property, value in [
        (ids.METRIC, "value", "max"),
        (ids.WORDS, "value", "words"),
        (ids.HIDE_SPECIAL, "checked", True),
        (ids.THRESHOLD, "value", 0.25),
        (ids.QUERY, "data", {"position": 2, "of": [True, True]}),
        (ids.TAB, "value", "matrix"),
    ]:
        assert getattr(layout[id], property) == value, id


def test_every_control_of_a_page_is_on_it_with_the_value_of_the_view(desk):
    view = ViewState(model="attnlens/random", text="the dogs bark", head="L1H1")

    for page in PAGES:
        layout = page.layout(desk, view)
        for control in page.controls:
            assert getattr(layout[control.id], control.prop, None) == control.value(view), (page.path, control.id)
            assert control.field in ViewState.defaults()


def test_a_path_that_is_no_page_says_so(desk):
    page, named = frame.open_page(desk, "nowhere", "")

    assert find_page("/nowhere", ViewState()) is None
    assert "no such page" in texts_in(page)
    assert named["path"] is None


def test_going_back_to_the_same_text_does_not_run_it_again(desk):
    view = ViewState(model="attnlens/random", text="the dogs bark")

    request = addressing.restored(desk, view, {"model": "attnlens/random", "text": "the dogs bark"})[0]

    assert request is no_update


def test_a_link_does_not_make_the_server_open_a_model_that_it_does_not_list(desk, monkeypatch):
    said = {}
    monkeypatch.setattr(addressing, "set_props", lambda id, props: said.update({id: props}))

    request, model, other, *_ = addressing.restored(desk, ViewState(model="org/unknown", text="a"), None)

    assert request is no_update
    assert (model, other) == (ids.OTHER, "org/unknown")
    assert "press Run" in said[ids.NOTICE]["children"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TextError("the text is empty; type a sentence."), "the text is empty"),
        (KeyError("inside"), "something went wrong"),
    ],
)
def test_errors_are_one_readable_line(monkeypatch, caplog, error, expected):
    said = {}
    monkeypatch.setattr(running, "set_props", lambda id, props: said.update({id: props}))

    running.report_error(error)

    assert said[ids.NOTICE]["hide"] is False
    assert said[ids.NOTICE]["children"].startswith(expected)
    assert "inside" not in said[ids.NOTICE]["children"]
    assert bool(caplog.records) is isinstance(error, KeyError)
