"""What the callbacks return, called as the plain functions that they are, on real runs of a random model."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from components import texts_in
from dash import no_update

from attnlens.errors import ModelNotFoundError, TextError
from attnlens.report import views
from dashboards import ids
from dashboards.pages import addressing, drawing, evidence, frame, pattern, rail, running
from dashboards.pages.listing import PAGES, find_page
from dashboards.state import ViewState

HEAD = "L1H2"


def test_a_run_sets_the_stage(desk, shown):
    run, stage, summary, options, head, _note, hidden = running.show_run(desk, shown, "", HEAD)

    stacks = [{"letter": "", "n_layers": 3, "n_heads": 4}]
    asked = {"model": shown["model"], "text": shown["text"]}
    assert run == shown | {"request": asked, "n_tokens": len(desk.run(shown).tokens), "stacks": stacks}
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
    cells, _ = drawing.cells_of(desk, shown | {"request": shown}, "entropy", "found")

    assert "other" in note
    assert all("·" not in option["label"] for option in options)
    assert not any(cell["category"] for cell in cells["heads"].values())


def test_the_examples_of_a_model_are_run_as_they_stand(desk):
    buttons = rail.example_buttons(desk, "attnlens/random")

    request, text, kind = running.example_of(desk, "attnlens/random", buttons[1].id["index"])

    assert request == {"model": "attnlens/random", "text": "the dogs bark"}
    assert (text, kind) == ("the dogs bark", "text")


def test_fields_that_the_kind_does_not_use_are_not_part_of_the_run(desk, shown):
    fields = shown | {"kind": "text", "second": "draft", "new_tokens": None}

    run = running.show_run(desk, fields, "", HEAD)[0]

    assert run["request"] == {"model": shown["model"], "text": shown["text"]}


def test_a_new_text_of_the_same_model_draws_no_control_again(desk, shown):
    found = running.show_run(desk, shown, "", HEAD)
    again = running.without_repeats(found, found[0] | {"text": "another"}, HEAD)
    elsewhere = running.without_repeats(found, found[0] | {"model": "another"}, HEAD)
    first = running.without_repeats(found, None, HEAD)

    assert again == (found[0], no_update, found[2], no_update, no_update, no_update, True)
    assert running.without_repeats(found, found[0], "L9H9")[4] == HEAD
    assert elsewhere == first == found


def test_what_is_known_of_a_head_needs_no_run_where_no_result_is_loaded(make_desk, results_folder, shown):
    desk = make_desk(results=(results_folder,))

    nothing = drawing.head_evidence(desk, theme="light")
    labels, said = drawing.head_evidence(desk, shown, "L1H2", "found", "light")

    assert nothing[0] == []
    assert "nothing has been tested" in texts_in(nothing[1])
    assert texts_in(labels) == "previous-token"
    assert "0.81 [0.75, 0.88]" in texts_in(said)


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


def test_the_map_says_of_every_head_where_its_number_stands(desk, shown, random_lens):
    attention = random_lens.capture(shown["text"]).attention().double()
    rows = attention[:, :, 1:-1]  # without the special tokens at both ends as queries
    entropy = -(rows * rows.log()).sum(-1).mean(-1)

    cells, caption = drawing.cells_of(desk, shown | {"request": shown}, "entropy", "")

    assert list(cells["heads"]) == [f"L{layer}H{index}" for layer in range(3) for index in range(4)]
    for name, cell in cells["heads"].items():
        value = entropy[int(name[1]), int(name[3])]
        assert cell["lines"] == [f"entropy: {value:.4f} nats"]
        assert cell["share"] == pytest.approx(float(value / entropy.max()))
    assert cells["of"] == shown
    assert "ntropy" in caption


@pytest.mark.parametrize("metric", ["max", "previous", "labels", "no-such-metric"])
def test_the_map_can_be_coloured_by_anything_in_the_address(make_desk, results_folder, shown, metric):
    desk = make_desk(results=(results_folder,))

    for results in ("", "found", "gone"):
        cells, _ = drawing.cells_of(desk, shown | {"request": shown}, metric, results)

        labelled = {name: cell["category"] for name, cell in cells["heads"].items() if cell["category"]}
        assert labelled == ({"L1H2": "position"} if results == "found" else {})
        assert cells["name"] == ("" if (metric, results) == ("labels", "found") else cells["name"])


def test_the_map_brings_the_labels_that_the_drawer_shows(make_desk, results_folder, shown):
    desk = make_desk(results=(results_folder,))
    shown = running.show_run(desk, shown, "found", HEAD)[0]
    [label] = json.loads((results_folder / "heads.json").read_text())["heads"][6]["labels"]

    with_results, _ = drawing.cells_of(desk, shown, "entropy", "found")
    without, _ = drawing.cells_of(desk, shown, "entropy", "")

    assert list(with_results["labels"]) == ["L1H2"]
    [[_, category, said]] = with_results["labels"]["L1H2"]
    assert category == "position"
    assert said == f"score {label['score']:.2f}, confidence {label['confidence']:.2f}"
    assert "labels" not in without


def test_heads_of_a_very_long_text_are_listed_and_not_measured(make_desk, results_folder, shown, monkeypatch):
    monkeypatch.setattr(views, "LONGEST_MEASURED", 5)
    desk = make_desk(results=(results_folder,))

    cells, caption = drawing.cells_of(desk, shown | {"request": shown}, "entropy", "found")

    assert (cells["name"], cells["n_layers"], cells["n_heads"]) == ("", 3, 4)
    assert [name for name, cell in cells["heads"].items() if cell["category"]] == ["L1H2"]
    assert "5 tokens" in caption


def test_the_frame_of_bertviz_is_sandboxed_and_names_the_run(shown):
    frame = pattern.classic_frame(shown | {"request": shown}, HEAD, "dark")

    assert frame.sandbox == "allow-scripts"
    asked = parse_qs(frame.src.removeprefix("classic?"))
    assert (asked["model"], asked["text"], asked["head"]) == ([shown["model"]], [shown["text"]], [HEAD])


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
        (ids.QUERY, "data", {"position": 2, "of": True}),
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
