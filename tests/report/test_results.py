"""Reading heads.json: typed, and one line for whatever is wrong with it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest

from attnlens import Head
from attnlens.errors import HeadAddressError, ResultsError
from attnlens.report.results import load_results, parse_results


@pytest.fixture
def folder(document, tmp_path):
    (tmp_path / "heads.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def test_a_folder_and_its_file_read_alike(folder):
    assert load_results(folder).heads == load_results(folder / "heads.json").heads


def test_everything_is_read(folder, document):
    results = load_results(folder)

    assert len(results.heads) == 12
    assert [str(result.head) for result in results.labelled] == ["L0H2", "L1H2"]
    head = results.of("L1H2")
    assert (head.primary, head.primary_label.label, head.labels[0].ci) == ("obj", "obj", (0.7, 0.8))
    assert head.labels[0].examples[0].tokens == ("The", "keys")
    assert head.labels[1].q is None
    assert results.of((2, 0)).weak[0].failed == "selectivity 0.07 < 0.15"
    assert [relation.best_head for relation in results.relations] == [Head(1, 2), None]
    assert results.anatomy.model == document["model"]["model"]
    assert results.anatomy.self_check.passed


def test_a_claim_about_language_is_more_telling_than_a_place(folder, document):
    assert str(load_results(folder).most_telling.head) == "L1H2"

    for head in document["heads"]:
        head |= {"labels": [], "primary": None}
    assert parse_results(document).most_telling is None


def test_a_label_can_be_without_numbers(document):
    document["heads"][2]["labels"][0] |= {"score": None, "ci": None, "baseline": None, "baseline_name": None}

    assert parse_results(document).of("L0H2").labels[0].score is None


def test_a_head_that_the_model_lacks(folder):
    with pytest.raises(HeadAddressError):
        load_results(folder).of("L3H0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"schema": NaN}', "is not JSON"),
        ("[]", "not probe results: expected schema 'attnlens.heads/1', found None"),
        ('{"schema": "other/1"}', "found 'other/1'"),
        ('{"schema": "attnlens.heads/2"}', "written as attnlens.heads/2, this attnlens reads attnlens.heads/1"),
        ('{"schema": "attnlens.heads/1"}', "attnlens.heads/1"),
        ('{"schema": 1e999}', "is not JSON"),
        ("[" * 100_000, "is not JSON (nested too deeply)"),
    ],
)
def test_other_content_is_named(tmp_path, content, message):
    (tmp_path / "heads.json").write_text(content, encoding="utf-8")

    with pytest.raises(ResultsError) as caught:
        load_results(tmp_path)

    assert message in str(caught.value)
    assert "heads.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ResultsError, match="does not exist"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match=r"holds no heads\.json"):
        load_results(tmp_path)


def test_a_name_that_no_file_can_have_is_refused_in_one_line():
    with pytest.raises(ResultsError, match="cannot read") as caught:
        load_results("x" * 300)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mine", "other", "same"),
    [
        ({"weights_sha256": "a" * 64}, {"weights_sha256": "a" * 64, "model": "moved"}, True),
        ({"weights_sha256": "a" * 64}, {"weights_sha256": "a" * 64, "n_heads": 6}, False),
        ({"revision": "1" * 40}, {"revision": "1" * 40, "model": "renamed"}, True),
        ({"revision": "1" * 40}, {"revision": "2" * 40}, False),
        ({"revision": "1" * 40}, {"revision": "1" * 40, "n_layers": 5}, False),
        ({"weights_sha256": "a" * 64}, {"revision": "1" * 40}, True),
        ({}, {}, True),
        ({}, {"model": "other"}, False),
    ],
)
def test_a_model_is_told_apart_by_hash_then_hub_commit_then_name_and_always_by_size(document, mine, other, same):
    results = parse_results(document | {"model": document["model"] | mine})
    anatomy = replace(results.anatomy, **{"weights_sha256": None, "revision": None} | other)

    with nullcontext() if same else pytest.raises(ResultsError, match="probe that model first"):
        results.check_same_model(anatomy)


def broken(document, change):
    change(document)
    with pytest.raises(ResultsError) as caught:
        parse_results(document)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_part_is_named(document):
    assert "score" in broken(document, lambda doc: doc["heads"][2]["labels"][0].pop("score"))


def test_a_head_outside_the_model_is_refused(document):
    assert "L9H9 does not exist" in broken(document, lambda doc: doc["heads"][0].update(head="L9H9"))


def test_an_example_outside_its_sentence_is_refused(document):
    example = document["heads"][2]["labels"][0]["examples"][0]

    assert "outside its sentence" in broken(document, lambda doc: example.update(query=2))


def test_wrong_types_are_refused(document):
    assert broken(document, lambda doc: doc.update(heads="none"))
    assert broken(document, lambda doc: doc.update(model=[]))
