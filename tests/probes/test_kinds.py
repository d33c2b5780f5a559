"""The heads of each kind that ship with attnlens: of the models and the corpus that are here, and measured again."""

from __future__ import annotations

import hashlib

import pytest

import attnlens
from attnlens.zoo.registry import PLANTED, embedded_corpus, embedded_models, find_embedded
from probes.kinds.found import KINDS, read_kinds
from probes.kinds.recipe import kinds_document
from probes.kinds.view import arc_of, category, figures_of, heads_table

AGAIN = "run the commands that found.json names, then python -m probes.kinds with their heads.json"


@pytest.fixture(scope="module")
def found():
    return read_kinds()


def test_every_kind_has_a_labelled_head_of_a_trained_model_and_something_to_show(found):
    for kind in KINDS:
        best = found.of(kind.name)[0]
        assert best.labelled, kind.name
        assert "planted" not in best.model
        assert best.sentence
        assert arc_of(best) is not None or best.sentence == kind.text


def test_they_are_of_the_models_and_the_corpus_that_are_here(found):
    trained = {model.name for model in embedded_models()} & found.models.keys() - PLANTED.keys()
    files = {name: next(find_embedded(name).glob("*.safetensors")) for name in trained}

    weights = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}

    assert len(weights) >= 3
    assert weights == {name: found.models[name] for name in trained}, AGAIN
    assert hashlib.sha256(embedded_corpus().read_bytes()).hexdigest() == found.corpus_sha256, AGAIN


@pytest.mark.parametrize(
    ("model", "family", "options", "kinds"),
    [
        ("attnlens/tiny-gpt2", "syntax", {"relations": ("obj",)}, ("object",)),
        ("attnlens/tiny-llama", "induction", {}, ("induction",)),
    ],
)
def test_a_fresh_probe_gives_the_same_scores(found, model, family, options, kinds):
    """Scores depend on neither random models nor resampling, which take the time."""
    report = attnlens.load(model).probe(family, random_models=0, bootstrap=1, **options)

    scores = {
        (head["head"], label["relation"], label["direction"], label["at"]): label["score"]
        for head in report.document["heads"]
        for label in head["labels"]
    }
    for kind in kinds:
        head = next(head for head in found.of(kind) if head.model == model)
        again = scores[head.head, head.relation, head.direction, head.at]
        assert again == pytest.approx(head.score, abs=1e-5), AGAIN


def label(relation="obj", name="obj", score=0.8, baseline=0.3, side="best"):
    example = {"tokens": ["x", "y"], "query": 0, "target": 1, "argmax": 1, "weight": 0.9, "hit": True, "side": side}
    return {
        "label": name, "family": "syntax", "relation": relation, "direction": "h2d", "at": "word", "text": "",
        "score": score, "ci": None, "n": 60, "baseline": baseline, "baseline_name": "chance", "examples": [example],
    }  # fmt: skip


def results(model, *labels, relations=(), weak=()):
    head = {"head": "L0H0", "labels": list(labels), "weak": list(weak)}
    scope = {"families": ["syntax"], "random_models": {"seeds": [1, 2, 3, 4, 5]}}
    return {
        "model": {"model": model, "weights_sha256": "a" * 64}, "corpus": {"name": "c", "sha256": "0"}, "scope": scope,
        "heads": [head], "relations": list(relations),
    }  # fmt: skip


def test_the_recipe_prefers_labels_trained_models_and_margins_over_rules():
    explained = label(name="explained-by-POS", score=1.0)
    documents = [
        results("planted", label(score=1.0, baseline=0.0)),
        results("one", label(score=0.8, baseline=0.6), label(score=0.7, baseline=0.2), explained),
        results("two", weak=[label() | {"failed": "margin"}]),
    ]

    heads = kinds_document(documents)["heads"]

    assert [(head["model"], head["score"], head["labelled"]) for head in heads] == [
        ("one", 0.7, True), ("planted", 1.0, True), ("two", 0.8, False),
    ]  # fmt: skip
    assert heads[2]["verdict"] == "margin"
    assert heads[0]["command"] == "attnlens probe syntax -m one"
    assert heads[0]["example"] is None  # no sentence of the embedded corpus


def test_figures_are_told_with_the_rule_and_what_is_no_label_is_said(found):
    antecedents = found.of("antecedent")
    unlabelled = next(head for head in antecedents if not head.labelled)

    assert "reaches 0.51" in figures_of(antecedents[0])
    assert "That is no label" in figures_of(unlabelled)
    assert "nearest word of a part of speech" in figures_of(found.of("determiner")[0])
    assert {category(found.of(kind.name)[0]) for kind in KINDS} == {
        "position", "syntax", "coreference", "sink", "broad", "induction",
    }  # fmt: skip
    assert len(heads_table(antecedents).rows) == len(antecedents)
