"""Antecedent accuracy against oracles, chance and rules worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from probe_arrays import pointing, seen, sentence, uniform

from probes.coreference import ALL, NON_IDENTICAL, RULES, CoreferenceProbe, anaphors_in
from probes.corpora.data import Mention
from probes.family import rule_names
from probes.plain import observe
from probes.tally import UNIT, Key, Tally

PROBE = CoreferenceProbe()


def mention(entity, start, end=None, head=None, link="coref", split=False):
    end = start + 1 if end is None else end
    return Mention(entity, 0, start, end, end - 1 if head is None else head, link=link, split=split)


# Anna saw the king . She likes Anna .
FIRST = sentence(
    "Anna saw the king .",
    mentions=[mention("1", 0), mention("2", 2, 4)],
    upos="PROPN VERB DET NOUN PUNCT",
    features=["Gender=Fem|Number=Sing", "_", "_", "Gender=Masc|Number=Sing", "_"],
)
SECOND = sentence(
    "She likes Anna .",
    mentions=[mention("1", 0, link="ana"), mention("1", 2)],
    upos="PRON VERB PROPN PUNCT",
    features=["Gender=Fem|Number=Sing|Person=3", "_", "Gender=Fem|Number=Sing", "_"],
)
WINDOW = (FIRST, SECOND)  # words 0-4 and 5-8


def tally_of(observation):
    tally = Tally(1, len(observation.attention), rule_names(PROBE))
    observe(PROBE, tally, observation)
    return tally


def test_anaphors_have_candidates_targets_and_guesses():
    she, anna = anaphors_in(WINDOW)

    assert (she.head, she.candidates, she.targets, she.kind, she.identical) == (5, (0, 3), (0,), "pronoun", False)
    assert dict(zip(RULES, she.guesses, strict=True)) == {
        "nearest mention": 3,
        "same word": 3,
        "same type": 3,
        "compatible mention": 0,
        "sieve": 0,
    }
    assert (anna.head, anna.candidates, anna.targets, anna.kind) == (7, (0, 3, 5), (0, 5), "proper")
    assert anna.identical
    assert anna.guesses == (5, 0, 5, 5, 0)


def test_mentions_that_contain_the_anaphor_or_lie_in_it_are_no_candidates():
    """[the king of [his] land] ... : `his` cannot point at the mention around it."""
    own = sentence("the king of his land", mentions=[mention("1", 0, 5, head=1), mention("1", 3, link="ana")])

    assert list(anaphors_in([own])) == []


@pytest.mark.parametrize("change", [{"link": "appos"}, {"link": "pred"}, {"split": True}])
def test_appositions_predicates_and_split_antecedents_are_no_anaphors(change):
    text = sentence("Anna sleeps she", mentions=[mention("1", 0), mention("1", 2, **{"link": "ana"} | change)])

    assert list(anaphors_in([text])) == []


def test_a_head_that_follows_the_chains_scores_exactly_one_and_the_rest_of_the_words_do_not_matter():
    """Among mentions the antecedent wins, though most of the attention goes to a word that is no mention."""
    attention = np.full((1, 9, 9), 0.01)
    attention[0, 5, [1, 0]] = 0.7, 0.2
    attention[0, 7, [1, 5]] = 0.7, 0.2

    tally = tally_of(seen(WINDOW, attention))

    closed = {str(key): cell for key, cell in tally.cells.items() if "open" not in key.relation}
    assert {name: cell.trials[0] for name, cell in closed.items()} == {
        "antecedent": 2,
        "antecedent (pronoun)": 1,
        "antecedent (proper)": 1,
        "antecedent (third person)": 1,
        "antecedent (other form)": 1,
        "antecedent (other form, pronoun)": 1,
        "antecedent (other form, third person)": 1,
    }
    assert all(cell.hits[0, 0] == cell.trials[0] * UNIT for cell in closed.values())
    assert all(tally.cells[key].hits[0, 0] == 0 for key in tally.cells if "open" in key.relation)
    assert tally.cells[ALL].mass[0, 0] / UNIT == pytest.approx(0.2 + 0.2 + 0.01, abs=1e-6)


def test_uniform_attention_scores_exactly_chance():
    tally = tally_of(seen(WINDOW, uniform(9)))

    for cell in tally.cells.values():
        assert cell.hits[0, 0] == cell.chance[0]
    assert tally.cells[NON_IDENTICAL].chance[0] == UNIT // 2


def test_rules_are_scored_on_the_same_anaphors():
    tally = tally_of(seen(WINDOW, uniform(9)))

    hits = dict(zip(rule_names(PROBE), tally.cells[ALL].rules[0] / UNIT, strict=True))

    assert {name: hits[name] for name in RULES} == {
        "nearest mention": 1,
        "same word": 1,
        "same type": 1,
        "compatible mention": 2,
        "sieve": 2,
    }
    assert {name for name, hit in hits.items() if hit and name not in RULES} == {"offset -5", "offset -7", "offset -2"}


def test_anaphors_whose_head_was_dropped_are_left_out():
    attention = pointing([0] * 8)

    tally = tally_of(seen(WINDOW, attention, word_of_token=[0, 1, 2, 3, 4, 6, 7, 8]))

    assert tally.cells[ALL].asked.tolist() == [1]
    assert Key("antecedent (pronoun)") not in tally.cells


def test_causal_models_see_all_antecedents():
    attention = np.tri(9)[None] / np.arange(1, 10)[None, :, None]

    tally = tally_of(seen(WINDOW, attention, causal=True, aggregation="last"))

    assert tally.cells[ALL].trials.tolist() == tally.cells[ALL].asked.tolist() == [2]
    assert tally.cells[ALL].hits[0, 0] == tally.cells[ALL].chance[0]


def test_examples_show_the_choice_that_the_head_had():
    pointer = PROBE.pointer(NON_IDENTICAL, seen(WINDOW, uniform(9)))

    assert pointer is not None
    assert (pointer.query, pointer.targets, pointer.candidates) == (5, (0,), (0, 3))
