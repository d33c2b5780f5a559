"""Attention along arcs, and on targets against control words, held to loops over small arrays written here."""

from __future__ import annotations

import numpy as np
import pytest
from probe_arrays import pointing, seen, sentence, uniform

from probes.family import rule_names
from probes.plain import observe
from probes.scores import Setting, score_cell
from probes.split import Split
from probes.statistics import Resampling
from probes.syntax import SyntaxProbe
from probes.syntax.alignment import ALIGNMENT
from probes.tally import UNIT, Key, Tally

PROBE = SyntaxProbe()


def tree(n, seed):
    """A random tree over n words: each hangs on an earlier one in a random order, or on the root."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(n)
    heads = [0] * n
    for place in range(1, n):
        heads[order[place]] = int(order[draw.integers(place)]) + 1
    relations = " ".join("root" if head == 0 else draw.choice(["nsubj", "obj", "punct"]) for head in heads)
    return sentence(" ".join("w" * n), heads, relations)


def weights(n, seed, causal):
    rows = np.random.default_rng(seed).random((2, n, n)).astype(np.float32)
    rows = np.tril(rows) if causal else rows
    return rows / rows.sum(-1, keepdims=True)


def tally_of(one, attention, **how):
    tally = Tally(1, len(attention), rule_names(PROBE))
    observe(PROBE, tally, seen(one, attention, **how))
    return tally


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("front", [True, False])
def test_alignment_is_the_share_of_attention_between_words_that_an_arc_joins(causal, front):
    """Punctuation's arcs count; the first token is left out, be it special or a word."""
    one, n = tree(6, seed=3), 6
    attention = weights(n + front, 4, causal)

    cell = tally_of(one, attention, specials=[0] if front else [], causal=causal).cells[ALIGNMENT]

    for head, rows in enumerate(attention):
        along = everything = 0.0
        for query in range(n):
            for key in range(n):
                if not front and key == 0:
                    continue
                weight = float(rows[query + front, key + front])
                everything += weight
                if one.heads[query] == key or one.heads[key] == query:
                    along += weight
        assert cell.hits[0, head] / UNIT == pytest.approx(along, abs=1e-6)
        assert cell.mass[0, head] / UNIT == pytest.approx(everything, abs=1e-6)
    assert cell.trials.tolist() == [n - (causal and not front)]  # the first word sees none but itself


def test_uniform_attention_is_chance_and_a_head_that_follows_arcs_is_above_it():
    one = sentence("the keys rust here", [2, 3, 0, 3], "det nsubj root advmod")
    follows = pointing([1, 2, 1, 2])

    cell = tally_of(one, np.concatenate([uniform(4), follows]), word_of_token=[0, 1, 2, 3]).cells[ALIGNMENT]

    arcs = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    kept = [(query, key) for query, key in arcs if key != 0]  # the first word is where heads rest
    assert cell.hits[0, 0] / UNIT == pytest.approx(len(kept) / 4)
    assert cell.chance[0] == cell.hits[0, 0]
    assert cell.hits[0, 1] / cell.mass[0, 1] == 1


def test_a_masked_text_and_one_without_a_tree_ask_nothing():
    one = tree(4, seed=1)

    masked = tally_of(one, uniform(4), kind="masked", masked=1)

    assert ALIGNMENT not in masked.cells
    assert ALIGNMENT not in tally_of(sentence("a b c"), uniform(3)).cells


def test_lift_is_the_weight_on_targets_over_that_on_words_at_the_same_offset():
    """One arc (1 -> 0): its control words are those with a word at offset -1 that is no object, here 2 and 3."""
    one = sentence("b a c d", [0, 1, 0, 0], "root obj _ _")
    attention = weights(4, 7, causal=False)

    tally = tally_of(one, attention)

    cell = tally.cells[Key("obj", "d2h")]
    controls = (attention[:, 2, 1] + attention[:, 3, 2]) / 2
    np.testing.assert_allclose(cell.paired_mass[0] / UNIT, attention[:, 1, 0], atol=1e-6)
    np.testing.assert_allclose(cell.control_mass[0] / UNIT, controls, atol=1e-6)
    setting = Setting(Split("sentence", np.array([True]), 0, 1, "", {}), Resampling.draw(1, bootstrap=2))
    scores = score_cell("syntax", Key("obj", "d2h"), cell, PROBE.rules, setting, None)
    np.testing.assert_allclose(scores.lift, attention[:, 1, 0] / controls, rtol=1e-5)


def test_the_table_has_both_from_the_counts_beside_them():
    import attnlens
    from probes.engine import run

    report = run(
        attnlens.load("attnlens/tiny-bert"), "syntax", limit=40, bootstrap=10, random_models=0, close_reading=False,
        examples=0,
    )  # fmt: skip

    frame = report.to_frame()
    arcs = frame["relation"] == ALIGNMENT.relation
    aligned = frame[arcs]
    np.testing.assert_allclose(aligned["alignment"], aligned["hits_confirm"] / aligned["mass_confirm"])
    assert aligned["alignment"].between(0, 1).all()
    assert frame.loc[~arcs, "alignment"].isna().all()
    lifted = frame[frame["control_mass_confirm"] > 0]
    np.testing.assert_allclose(lifted["lift"], lifted["paired_mass_confirm"] / lifted["control_mass_confirm"])
    assert (lifted["paired_mass_confirm"] <= lifted["mass_confirm"] + 1e-6).all()
    assert ALIGNMENT.relation not in {label["relation"] for labels in report.labels.values() for label in labels}
