"""Agreement: which verbs are asked about, where, and what a head that finds the subject scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from probe_arrays import pointing, seen, sentence, uniform

from probes.causal import CausalSettings, Tasks
from probes.corpora.data import Choice, Corpus, Document
from probes.corpora.sources import open_corpus
from probes.family import Judging, Masking, rule_names
from probes.plain import observe
from probes.split import split_corpus
from probes.syntax import SyntaxProbe
from probes.syntax.agreement import contests
from probes.tally import UNIT, Key, Tally
from probes.thresholds import Thresholds

PROBE = SyntaxProbe()
WORD, PRED = Key("agreement"), Key("agreement", None, "pred")
PLURAL, SINGULAR = "Number=Plur", "Number=Sing"
FINITE = "Mood=Ind|Number=Plur|Person=3|Tense=Pres|VerbForm=Fin"
#        0    1    2   3      4    5
WORDS = "the keys to cabinet here rust"


def keys_rust(**changed):
    parts = {
        "relations": "det nsubj case nmod advmod root",
        "upos": "DET NOUN ADP NOUN ADV VERB",
        "features": ["_", PLURAL, "_", SINGULAR, "_", FINITE],
    } | changed
    return sentence(WORDS, [2, 6, 4, 2, 6, 0], **parts)


def tally_of(tree, attention, **how):
    tally = Tally(1, len(attention), rule_names(PROBE))
    observe(PROBE, tally, seen(tree, attention, **how))
    return tally


@pytest.fixture(scope="module")
def embedded():
    return open_corpus(None)


@pytest.fixture(scope="module")
def many_contests(embedded):
    """The embedded corpus, less the sentences that ask nothing about agreement."""
    found = (
        replace(document, id=f"{document.id}-{index}", sentences=(each,), first=index)
        for document in embedded.documents()
        for index, each in enumerate(document.sentences)
        if contests(each)
    )
    return Corpus.of("attractors", tuple(found))


@pytest.mark.parametrize(
    ("model", "head", "causal"),
    [("attnlens/tiny-gpt2", "L2H1", None), ("attnlens/tiny-bert", "L2H2", CausalSettings(draws=1, most_heads=1))],
)
def test_the_head_that_the_tiny_models_agree_with_is_labelled_where_the_verb_is_predicted(
    many_contests, monkeypatch, model, head, causal
):
    """The heads that interventions find carry the label, and the badge; in BERT the verb is predicted at its mask."""
    import attnlens
    from probes.engine import run

    monkeypatch.setattr("probes.engine.Tasks", partial(Tasks, n=40))  # the badge by few choices, which is quicker

    report = run(
        attnlens.load(model), "syntax", many_contests, random_models=0, close_reading=False, bootstrap=200,
        permutations=999, relations=["agreement"], examples=0, causal=causal,
    )  # fmt: skip

    labelled = {
        name: label for name, labels in report.labels.items() for label in labels if label["relation"] == "agreement"
    }
    assert max(labelled, key=lambda name: labelled[name]["score"]) == head
    assert {label["at"] for label in labelled.values()} == {"pred"}
    assert labelled[head]["ci"][0] > 0.8
    assert causal is None or labelled[head]["causal"]["verdict"] == "supported"


def test_the_embedded_corpus_asks_often_enough_for_a_label(embedded, many_contests):
    split = split_corpus(embedded)
    halves = Counter(
        bool(split.confirm[split.cluster(document.id.rpartition("-")[0], "")])
        for document in many_contests.documents()
        for _ in contests(document.sentences[0])
    )

    assert min(halves[False], halves[True]) >= Thresholds().fewest


def test_a_verb_its_subject_and_the_noun_of_the_other_number_between_them():
    (contest,) = contests(keys_rust())

    assert contest == ((5,), ((1,), (3,)), (0,))


@pytest.mark.parametrize(
    ("word", "features"),
    [
        (3, PLURAL),  # the noun between has the same number
        (1, SINGULAR),  # subject and verb differ
        (5, FINITE.replace("Fin", "Part")),
        (5, FINITE.replace("Pres", "Past")),  # `rusted` tells no number
        (5, FINITE.replace("Person=3", "Person=1")),
        (5, "VerbForm=Fin"),
    ],
)
def test_verbs_that_are_not_asked_about(word, features):
    tree = keys_rust()
    changed = tuple(features if index == word else old for index, old in enumerate(tree.features))

    assert contests(replace(tree, features=changed)) == []


def test_the_first_auxiliary_agrees_and_was_tells_its_number():
    were = "Mood=Ind|Number=Plur|Person=3|Tense=Past|VerbForm=Fin"
    tree = sentence(
        "keys of cabinets that shop were being old",
        [8, 3, 1, 5, 3, 8, 8, 0],
        "nsubj case nmod mark acl aux cop root",
        upos="NOUN ADP NOUN SCONJ NOUN AUX AUX ADJ",
        features=[PLURAL, "_", PLURAL, "_", SINGULAR, were, "VerbForm=Ger", "_"],
    )

    assert contests(tree) == [((5,), ((0,), (4,)), (0,))]


def test_of_several_nouns_the_last_one_competes():
    tree = sentence(
        "keys of cabinet of shop rust",
        [6, 3, 1, 5, 3, 0],
        "nsubj case nmod case nmod root",
        upos="NOUN ADP NOUN ADP NOUN VERB",
        features=[PLURAL, "_", SINGULAR, "_", SINGULAR, FINITE],
    )

    assert contests(tree) == [((5,), ((0,), (4,)), (0,))]


def test_a_head_that_finds_the_subject_scores_one_and_one_that_takes_the_nearest_noun_zero():
    subject, nearest = (pointing([0, 0, 0, 0, 0, target], 0.4) for target in (1, 3))

    cell = tally_of(keys_rust(), np.concatenate([subject, nearest, uniform(6)])).cells[WORD]

    assert (cell.hits[0] / UNIT).tolist() == [1, 0, 0.5]
    assert cell.chance.tolist() == [UNIT // 2]
    assert (cell.mass[0] / UNIT)[0] == pytest.approx(0.5)  # 0.4 and a sixth of the rest
    assert (cell.rival_mass[0] / UNIT)[0] == pytest.approx(0.1)
    rules = dict(zip(rule_names(PROBE), cell.rules[0] / UNIT, strict=True))
    assert {name for name, hit in rules.items() if hit == 1} == {"offset -4", "second NOUN left"}
    assert {name for name, hit in rules.items() if hit == 0} == {"offset -2", "nearest NOUN left"}


def test_a_rule_that_names_neither_noun_scores_as_a_head_that_follows_it():
    """Its weight is nowhere among the options, so they tie: chance, and not a wrong answer."""
    head = pointing([0, 0, 0, 0, 0, 4])  # the nearest adverb to the left, at offset -1

    cell = tally_of(keys_rust(), head).cells[WORD]

    rules = dict(zip(rule_names(PROBE), cell.rules[0] / UNIT, strict=True))
    assert cell.hits[0, 0] / UNIT == rules["nearest ADV left"] == rules["offset -1"] == 0.5
    assert rules["second PRON right"] == 0.5  # there is no such word


def test_in_a_text_without_parts_of_speech_rules_about_them_choose_nothing():
    marked = replace(sentence(WORDS), choices=(Choice("agreement", (5,), ((1,), (3,)), (0,)),))

    rules = dict(zip(rule_names(PROBE), tally_of(marked, uniform(6)).cells[WORD].rules[0] / UNIT, strict=True))

    assert {rules[name] for name in rules if "offset" not in name} == {0}
    assert (rules["offset -4"], rules["offset -3"], rules["offset -2"]) == (1, 0.5, 0)


def test_a_causal_model_is_also_asked_at_the_word_before_the_verb():
    """`here` (4) looks at the subject, the verb at the other noun."""
    attention = np.tri(6)[None] * pointing([0, 0, 0, 0, 1, 3], 0.4)

    tally = tally_of(keys_rust(), attention, causal=True)

    assert (tally.cells[WORD].hits[0, 0], tally.cells[PRED].hits[0, 0]) == (0, UNIT)
    rules = dict(zip(rule_names(PROBE), tally.cells[PRED].rules[0] / UNIT, strict=True))
    assert {name for name, hit in rules.items() if hit == 1} == {"offset -3", "second NOUN left"}


def test_a_noun_right_before_the_verb_competes_at_its_own_place():
    """In "keys to cabinet rust" the verb is predicted at the attractor itself."""
    tree = sentence(
        "keys to cabinet rust",
        [4, 3, 1, 0],
        "nsubj case nmod root",
        upos="NOUN ADP NOUN VERB",
        features=[PLURAL, "_", SINGULAR, FINITE],
    )
    at_subject, at_itself = (np.tri(4)[None] * pointing([0, 0, target, 0], 0.4) for target in (0, 2))

    cell = tally_of(tree, np.concatenate([at_subject, at_itself]), causal=True).cells[PRED]

    assert (cell.hits[0] / UNIT).tolist() == [1, 0]


def test_a_masked_text_asks_about_its_mask_only():
    verb = tally_of(keys_rust(), pointing([0, 0, 0, 0, 0, 1], 0.4), kind="masked", masked=5)
    other = tally_of(keys_rust(), pointing([0, 0, 0, 0, 0, 1], 0.4), kind="masked", masked=3)

    assert verb.cells[PRED].hits.tolist() == [[UNIT]]
    assert PRED not in other.cells
    assert {key.at for key in verb.cells} == {"pred"}


def test_words_without_a_token_leave_the_contest_out():
    attention = uniform(5)

    tally = tally_of(keys_rust(), attention, word_of_token=[0, 1, 2, 4, 5])

    assert WORD not in tally.cells


def test_a_corpus_may_mark_the_choice_itself():
    choice = Choice("agreement", (3,), ((0,), (2,)), (0,))
    tree = replace(sentence("keys to cabinet rust"), choices=(choice,))
    corpus = Corpus.of("pairs", (Document("d", (tree,)),))

    tally = tally_of(tree, pointing([0, 0, 0, 0], 0.4))

    assert PROBE.refusal(corpus) is None
    assert tally.cells[WORD].hits.tolist() == [[UNIT]]


def test_blimp_distractors_are_asked_about(shared_data):
    corpus = open_corpus(shared_data("blimp/distractor_agreement_relational_noun.jsonl"))
    sentences = [each for document in corpus.documents() for each in document.sentences]

    asked = [contest for each in sentences for contest in contests(each)]

    assert len(asked) == len(sentences) == 1000
    assert all(subject < attractor < verb for (verb, *_), ((subject,), (attractor,)), _ in asked)


def test_the_verb_of_a_contest_is_masked_and_one_word_by_hash():
    masked = list(PROBE.masks([keys_rust()]))

    assert isinstance(PROBE, Masking)
    assert masked[0] == 5
    assert len(masked) == 2
    assert len({list(SyntaxProbe(seed=seed).masks([keys_rust()]))[1] for seed in range(20)}) > 2


def test_only_the_prediction_position_gives_the_label_and_it_needs_more_than_chance():
    assert isinstance(PROBE, Judging)
    assert PROBE.wording(WORD) is None
    assert PROBE.wording(PRED).label == "agreement"
    conditions = PROBE.conditions(PRED)
    assert (conditions.low, conditions.selectivity) == (0.6, None)
    assert PROBE.conditions(Key("nsubj", "d2h")).selectivity == 0.15


def test_the_pointer_shows_the_contest():
    pointer = PROBE.pointer(WORD, seen(keys_rust(), uniform(6)))

    assert (pointer.query, pointer.targets, pointer.candidates) == (5, (1,), (1, 3))
