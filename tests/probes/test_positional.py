"""Position scores against patterns whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from probe_arrays import pointing, seen, sentence, uniform

from probes.family import rule_names
from probes.plain import observe
from probes.positional import OFFSETS, PositionalProbe, offset_key
from probes.tally import UNIT, Key, Tally

PROBE = PositionalProbe()
SIX = sentence("a b c d e f")


def scores(observation):
    """Question -> (argmax score, mass) of every head, and chance."""
    tally = Tally(1, len(observation.attention), rule_names(PROBE))
    observe(PROBE, tally, observation)
    return {
        key: (
            cell.hits[0] / UNIT / cell.trials[0],
            cell.mass[0] / UNIT / cell.trials[0],
            cell.chance[0] / UNIT / cell.trials[0],
        )
        for key, cell in tally.cells.items()
    }


@pytest.mark.parametrize("offset", [-3, -1, 0, 1, 2])
def test_a_head_at_one_offset_scores_one_there_and_zero_elsewhere(offset):
    targets = [query + offset if 0 <= query + offset < 6 else query for query in range(6)]

    found = scores(seen(SIX, pointing(targets, 0.7)))

    assert found[offset_key(offset)][0] == pytest.approx([1.0])
    assert found[offset_key(offset)][1] == pytest.approx([0.7 + 0.3 / 6])
    others = [found[offset_key(other)][0][0] for other in OFFSETS if other not in (offset, 0)]
    assert max(others) == 0


def test_uniform_attention_scores_chance():
    found = scores(seen(SIX, uniform(6)))

    for offset in OFFSETS:
        argmax, mass, chance = found[offset_key(offset)]
        assert argmax[0] == chance == pytest.approx(1 / 6, abs=1e-8)
        assert mass[0] == pytest.approx(1 / 6, abs=1e-7)


def test_uniform_attention_shares_its_mass_with_special_tokens():
    tally = Tally(1, 1, rule_names(PROBE))

    observe(PROBE, tally, seen(SIX, uniform(8), specials=[0, 7]))

    cell = tally.cells[offset_key(-1)]
    assert cell.mass_chance[0] == cell.mass[0, 0] == 5 * UNIT // 8
    assert cell.chance[0] == cell.hits[0, 0] == pytest.approx(5 * UNIT / 6, abs=1)


def test_uniform_causal_attention_scores_the_chance_of_what_is_visible():
    attention = np.tri(6)[None] / np.arange(1, 7)[None, :, None]

    argmax, mass, chance = scores(seen(SIX, attention, causal=True))[offset_key(-1)]

    assert argmax[0] == pytest.approx(np.mean(1 / np.arange(2, 7)))
    assert mass[0] == pytest.approx(argmax[0])
    assert chance == pytest.approx(argmax[0])


def test_special_tokens_neither_ask_nor_win():
    """The head gives .9 to the first special token; among the words the previous one wins."""
    attention = pointing([0, 0, 1, 2, 0], 0.1)
    attention[:, :, 0] += 5
    attention /= attention.sum(axis=-1, keepdims=True)

    found = scores(seen(sentence("a b c"), attention, specials=[0, 4]))

    assert found[offset_key(-1)][0].tolist() == [1.0]
    assert found[Key("first-token")][1][0] > 0.8


def test_sinks_and_delimiters_are_columns():
    attention = np.zeros((1, 5, 5))
    attention[0, :] = [0.4, 0.1, 0.1, 0.15, 0.25]

    found = scores(seen(sentence("a b ."), attention, specials=[0, 4], stops=[3]))

    expected = {"first-token": 0.4, "second-token": 0.1, "separator": 0.25, "punctuation": 0.15, "delimiter": 0.4}
    assert {name: round(float(found[Key(name)][1][0]), 6) for name in expected} == expected


def test_texts_without_delimiters_do_not_ask_for_them():
    found = scores(seen(SIX, uniform(6)))

    assert Key("punctuation") not in found
    assert Key("separator") not in found


def test_breadth_of_uniform_attention_is_one_and_of_one_key_zero():
    both = np.concatenate([uniform(6), np.eye(6)[None]])

    found = scores(seen(SIX, both))

    assert found[Key("breadth")][0] == pytest.approx([1, 0], abs=1e-7)
    assert found[Key("entropy")][0] == pytest.approx([np.log(6), 0], abs=1e-7)


def test_causal_breadth_is_asked_from_the_fifth_token_on():
    attention = np.tri(6)[None] / np.arange(1, 7)[None, :, None]
    tally = Tally(1, 1, ())

    observe(PROBE, tally, seen(SIX, attention, causal=True))

    assert tally.cells[Key("breadth")].trials.tolist() == [2]


def test_permuting_heads_permutes_results():
    attention = np.random.default_rng(0).dirichlet(np.ones(6), size=(4, 6))
    order = [2, 0, 3, 1]

    straight, permuted = scores(seen(SIX, attention)), scores(seen(SIX, attention[order]))

    for key, (hits, mass, _) in straight.items():
        np.testing.assert_array_equal(hits[order], permuted[key][0])
        np.testing.assert_array_equal(mass[order], permuted[key][1])


def test_reversing_the_sentence_flips_the_sign_of_offsets():
    attention = np.random.default_rng(0).dirichlet(np.ones(6), size=(3, 6))

    straight, mirrored = scores(seen(SIX, attention)), scores(seen(SIX, attention[:, ::-1, ::-1]))

    for offset in OFFSETS:
        np.testing.assert_allclose(straight[offset_key(offset)][0], mirrored[offset_key(-offset)][0])


def test_examples_take_the_middle_token_that_sees_its_target():
    pointer = PROBE.pointer(offset_key(-1), seen(sentence("a b c"), uniform(5), specials=[0, 4]))

    assert pointer is not None
    assert (pointer.query, pointer.targets, pointer.candidates) == (2, (1,), (1, 2, 3))
