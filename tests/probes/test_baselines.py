"""What a score is held against, on sums made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probes.baselines import RandomBest, baselines_of
from probes.family import Rule
from probes.tally import UNIT, Cell

RULES = (
    Rule("offset -1", "offset"),
    Rule("offset +1", "offset"),
    Rule("nearest mention"),
    Rule("nearest VERB left", "pos"),
)
CONFIRM = np.array([False, False, True, True])
TRIALS = np.full(4, 10)


def cell(**sums):
    """Four clusters of ten trials, three heads; amounts in hits."""
    parts = {name: np.asarray(amount) * UNIT for name, amount in sums.items()}
    return replace(Cell.empty(4, 3, len(RULES)), trials=TRIALS, **parts)


def test_of_each_kind_the_rule_with_most_hits_on_select_is_held_to_its_score_on_confirm():
    rules = np.zeros((4, 4), dtype=int)
    rules[:2, 0], rules[2:, 0] = 6, 1
    rules[:2, 1], rules[2:, 1] = 5, 9
    rules[:, 2], rules[:, 3] = 2, 7

    found = {each.kind: each for each in baselines_of(cell(rules=rules, chance=[1] * 4), RULES, CONFIRM, "hits")}

    assert {kind: each.name for kind, each in found.items() if kind in ("offset", "other", "pos")} == {
        "offset": "offset -1",
        "other": "nearest mention",
        "pos": "nearest VERB left",
    }
    assert [found[kind].score(TRIALS, CONFIRM)[0] for kind in ("chance", "offset", "other", "pos")] == [
        0.1,
        0.1,
        0.2,
        0.7,
    ]
    assert found["offset"].score(TRIALS, ~CONFIRM)[0] == 0.6


def test_a_rule_asked_for_by_name_stands_beside_the_best_of_its_kind():
    rules = np.tile([6, 5, 2, 0], (4, 1))

    found = {
        each.kind: each
        for each in baselines_of(cell(rules=rules), RULES, CONFIRM, "hits", named=("chance", "offset +1"))
    }

    assert found["offset"].name == "offset -1"
    assert (found["offset +1"].name, found["offset +1"].rule) == ("offset +1", 1)


def test_rules_by_part_of_speech_that_hit_nothing_were_not_measured():
    rules = np.tile([6, 5, 2, 0], (4, 1))

    kinds = {each.kind for each in baselines_of(cell(rules=rules), RULES, CONFIRM, "hits")}

    assert kinds == {"chance", "offset", "other"}


def test_random_weights_score_the_same_in_every_cluster():
    (random,) = (
        each
        for each in baselines_of(cell(), RULES, CONFIRM, "hits", random=RandomBest(hits=0.3, mass=0.2, n=80))
        if each.kind == "random"
    )

    np.testing.assert_allclose(random.sums[:, 0] / UNIT, 3.0)
    assert random.score(TRIALS, CONFIRM)[0] == pytest.approx(0.3)


def test_the_first_layer_is_held_against_its_own_heads_without_themselves():
    hits = np.tile([8, 5, 9], (4, 1))

    (first,) = (
        each
        for each in baselines_of(cell(hits=hits), RULES, CONFIRM, "hits", layers=np.array([0, 0, 1]))
        if each.kind == "layer 0"
    )

    assert first.score(TRIALS, CONFIRM).tolist() == [0.5, 0.8, 0.8]


def test_a_lone_head_of_the_first_layer_has_nothing_to_beat_there():
    hits = np.tile([8, 5, 9], (4, 1))

    (first,) = (
        each
        for each in baselines_of(cell(hits=hits), RULES, CONFIRM, "hits", layers=np.array([0, 1, 1]))
        if each.kind == "layer 0"
    )

    assert first.score(TRIALS, CONFIRM).tolist() == [0.0, 0.8, 0.8]


def test_shuffled_gold_is_a_baseline_of_each_head_and_only_where_something_was_shuffled():
    shuffled = np.tile([1, 2, 3], (4, 1))

    with_it = {each.kind: each for each in baselines_of(cell(shuffled_hits=shuffled), RULES, CONFIRM, "hits")}
    without = {each.kind for each in baselines_of(cell(), RULES, CONFIRM, "hits")}

    assert with_it["shuffled"].score(TRIALS, CONFIRM).tolist() == [0.1, 0.2, 0.3]
    assert "shuffled" not in without


def test_mass_is_held_against_mass():
    found = {
        each.kind: each
        for each in baselines_of(
            cell(chance=[5] * 4, mass_chance=[2] * 4), RULES, CONFIRM, "mass", random=RandomBest(0.9, 0.4, 80)
        )
    }

    assert set(found) == {"chance", "random"}
    assert found["chance"].score(TRIALS, CONFIRM)[0] == 0.2
    assert found["random"].score(TRIALS, CONFIRM)[0] == pytest.approx(0.4)
