"""Relation accuracy against oracles, chance, and counts made another way on a real treebank."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_arrays import pointing, seen, sentence, uniform

from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.plain import observe
from probes.syntax import OFFSETS, SyntaxProbe, relation_labels
from probes.syntax.alignment import ALIGNMENT
from probes.tally import UNIT, Key, Tally

PROBE = SyntaxProbe()
#        0    1   2     3    4    5     6    7
WORDS = "the old keys of the boats rust ."
TREE = sentence(WORDS, [3, 3, 7, 6, 6, 3, 0, 7], "det amod nsubj case det nmod:of root punct")


def tally_of(*observations):
    tally = Tally(1, len(observations[0].attention), rule_names(PROBE))
    for observation in observations:
        observe(PROBE, tally, observation)
    return tally


def score(tally, relation, direction):
    cell = tally.cells[Key(relation, direction)]
    return cell.hits[0] / UNIT / cell.trials[0]


def dependents_to_heads(tree):
    return [head if head >= 0 else word for word, head in enumerate(tree.heads)]


def test_labels_count_in_full_and_as_base_except_those_kept_apart():
    assert relation_labels("nmod:of") == ("nmod:of", "nmod")
    assert relation_labels("nsubj:pass") == ("nsubj:pass",)
    assert relation_labels("obj") == ("obj",)
    assert relation_labels("root") == relation_labels("punct") == relation_labels("punct:x") == ()


def test_a_head_that_follows_the_gold_arcs_scores_exactly_one_from_dependent_to_head():
    tally = tally_of(seen(TREE, pointing(dependents_to_heads(TREE), 0.4)))

    relations = {key.relation for key in tally} - {ALIGNMENT.relation}
    assert relations == {"det", "amod", "nsubj", "case", "nmod:of", "nmod"}
    assert all(score(tally, relation, "d2h").tolist() == [1.0] for relation in relations)


def test_a_head_that_looks_at_any_dependent_hits_the_set():
    """`keys` (2) has a det and an amod, `boats` (5) a case and a det: one trial per head word and relation."""
    targets = [7, 7, 0, 7, 7, 4, 2, 7]

    tally = tally_of(seen(TREE, pointing(targets, 0.4)))

    assert tally.cells[Key("det", "h2d")].trials.tolist() == [2]
    assert score(tally, "det", "h2d").tolist() == [1.0]
    assert score(tally, "amod", "h2d").tolist() == [0.0]
    assert score(tally, "nsubj", "h2d").tolist() == [1.0]


def test_several_dependents_of_one_relation_are_one_trial():
    tree = sentence("old rusty keys", [3, 3, 0], "amod amod root")

    tally = tally_of(seen(tree, pointing([2, 2, 1], 0.4)))

    assert tally.cells[Key("amod", "d2h")].trials.tolist() == [2]
    assert tally.cells[Key("amod", "h2d")].trials.tolist() == [1]
    assert score(tally, "amod", "h2d").tolist() == [1.0]
    assert tally.cells[Key("amod", "h2d")].chance.tolist() == [UNIT]  # both candidates are dependents


def test_transposing_attention_swaps_the_directions():
    """With the mirror image of a pattern, heads look where their dependents looked from."""
    pattern = pointing(dependents_to_heads(TREE), 1.0)

    straight, mirrored = tally_of(seen(TREE, pattern)), tally_of(seen(TREE, pattern.transpose(0, 2, 1)))

    assert score(straight, "case", "d2h").tolist() == [1.0]
    assert score(straight, "case", "h2d").tolist() == [0.0]
    assert score(mirrored, "nsubj", "h2d").tolist() == [0.5]  # `rust` is looked at by `keys` and by the full stop
    assert score(mirrored, "case", "h2d").tolist() == [0.5]  # `boats` is looked at by `of` and `the` alike


def test_uniform_attention_scores_exactly_chance():
    tally = tally_of(seen(TREE, uniform(8)))

    for key, cell in tally.cells.items():
        assert cell.hits[0, 0] == cell.chance[0], key
    assert score(tally, "det", "d2h")[0] == pytest.approx(1 / 7)


def test_words_without_a_token_leave_numerator_and_denominator():
    """`old` has no token: its arc is gone, the others count as before."""
    attention = pointing([1, 5, 4, 4, 1, 5, 6], 0.4)

    tally = tally_of(seen(TREE, attention, word_of_token=[0, 2, 3, 4, 5, 6, 7]))

    assert Key("amod", "d2h") not in tally.cells
    assert score(tally, "det", "d2h").tolist() == [1.0]
    assert tally.cells[Key("det", "d2h")].chance[0] == pytest.approx(2 * UNIT / 6, abs=2)


def test_causal_models_are_scored_on_arcs_that_look_back_and_the_rest_lowers_reach():
    tally = tally_of(seen(TREE, np.tri(8)[None] / np.arange(1, 9)[None, :, None], causal=True))

    nmod, det, det_back = (tally.cells[Key(*key)] for key in (("nmod", "d2h"), ("det", "d2h"), ("det", "h2d")))

    assert (nmod.trials[0], nmod.asked[0]) == (1, 1)
    assert (det.trials[0], det.asked[0]) == (0, 2)
    assert (det_back.trials[0], det_back.asked[0]) == (2, 2)
    assert det_back.chance[0] == pytest.approx(UNIT * (1 / 2 + 1 / 5), abs=2)
    assert det_back.hits[0, 0] == det_back.chance[0]


def test_offset_baselines_are_counted_on_the_same_arcs():
    tally = tally_of(seen(TREE, uniform(8)))

    cell = tally.cells[Key("det", "d2h")]

    hits = {name: hit / UNIT for name, hit in zip(rule_names(PROBE), cell.rules[0], strict=True) if hit}
    offsets = {name: hit for name, hit in hits.items() if name.startswith("offset")}
    assert offsets == {"offset +1": 1, "offset +2": 1}


def test_a_rule_that_finds_no_such_word_gets_chance_and_an_offset_beyond_the_sentence_nothing():
    """Nouns at 1 and 4, and subjects at 0 and 3 of the verbs 2 and 5: six words, five of them candidates."""
    tree = sentence(
        "a b c d e f", [3, 3, 0, 6, 6, 3], "nsubj obj root nsubj obj conj", upos="PRON NOUN VERB PRON NOUN VERB"
    )

    cell = tally_of(seen(tree, uniform(6))).cells[Key("obj", "d2h")]

    hits = dict(zip(rule_names(PROBE), (cell.rules[0] / UNIT).round(6).tolist(), strict=True))
    assert hits["nearest NOUN right"] == 0.2  # from b there is one, which is wrong; from e none
    assert hits["nearest NOUN left"] == 0.2  # from e there is one, which is wrong; from b none
    assert hits["second VERB right"] == 0.2  # from b it is f, which is wrong; from e there is none
    assert hits["nearest VERB right"] == 2
    assert hits["nearest DET left"] == 0.4
    assert hits["offset +1"] == 2
    assert hits["offset +5"] == 0


def selectivity(tally, relation, direction):
    """Of the first head: (hits on trials with controls - hits at their controls) per such trial; and the controls."""
    cell = tally.cells[Key(relation, direction)]
    n = cell.control_trials.sum()
    return (cell.paired_hits - cell.control_hits)[:, 0].sum() / UNIT / n, cell.control_hits[:, 0].sum() / UNIT / n


def always_at(offset, n):
    """A head that looks at one offset, around the corner where the sentence ends."""
    return pointing([(word + offset) % n for word in range(n)], 0.4)


def test_a_positional_head_is_as_good_at_control_words():
    """Every word looks at the next one; so do the control words of the one arc, which are one trial together."""
    tree = sentence("a b c d e f", [2, 0, 2, 2, 2, 2], "det root obj obj obj obj")
    tally = tally_of(seen(tree, pointing([1, 2, 3, 4, 5, 4], 0.4)))

    cell = tally.cells[Key("det", "d2h")]

    assert cell.control_trials.tolist() == [1]  # at b, c, d and e; f has no next word
    assert cell.control_hits.tolist() == cell.paired_hits.tolist() == [[UNIT]]


def test_all_dependents_of_a_head_word_are_scored_together_at_its_control_words():
    """Dependents at -1 and -2, and a head that always looks at -1: it hits the pair wherever there is one."""
    tree = sentence("a b c d e f", [3, 3, 0, 3, 4, 5], "amod amod root dep dep dep")

    found = selectivity(tally_of(seen(tree, always_at(-1, 6))), "amod", "h2d")

    assert found == (0.0, 1.0)


def test_arcs_with_many_control_words_count_no_more_than_arcs_with_few():
    """One obj arc at +10, which fits at one other word, and one at +1, which fits at many."""
    tree = sentence("a b c d e f g h i j k l", [11, 3, 11, *[11] * 7, 0, 11], "obj obj" + " dep" * 8 + " root dep")

    found = selectivity(tally_of(seen(tree, always_at(10, 12))), "obj", "d2h")

    assert found == (0.0, 0.5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 13))
def test_position_alone_is_never_selective(seed, offset):
    """Exact for each trial: it is hit where the offset is one of its own, and then at each of its control words."""
    rng = np.random.default_rng(seed)
    n = 14
    heads = [0, *(int(rng.integers(1, word + 1)) for word in range(1, n))]
    tree = sentence("x " * n, heads, " ".join(["root", *rng.choice(["nsubj", "obj", "det"], n - 1)]))

    tally = tally_of(seen(tree, always_at(offset, n), key=str(seed)))

    for key, cell in tally.cells.items():
        np.testing.assert_array_equal(cell.paired_hits, cell.control_hits, err_msg=str(key))
        assert cell.control_trials[0] <= cell.trials[0]


def test_a_head_that_knows_the_relation_keeps_its_selectivity():
    tally = tally_of(seen(TREE, pointing(dependents_to_heads(TREE), 0.4)))

    assert selectivity(tally, "amod", "d2h")[0] >= 0.5


def test_controls_are_never_arcs_of_the_relation_and_one_trial_per_arc():
    n = 12
    tree = sentence(" ".join("abcdefghijkl"), [2, *[1] * (n - 1)], "root " + "obj " * (n - 1))
    chain = sentence(" ".join("abcdefghijkl"), [*range(2, n + 1), 0], "obj " * (n - 1) + "root")

    star, all_arcs = tally_of(seen(tree, uniform(n))), tally_of(seen(chain, uniform(n)))

    assert 0 < star.cells[Key("obj", "d2h")].control_trials[0] <= n - 1
    assert all_arcs.cells[Key("obj", "d2h")].control_trials[0] == 0


def test_control_words_depend_on_the_seed_and_the_text_alone():
    pattern = np.random.default_rng(0).dirichlet(np.ones(30), size=(1, 30))
    tree = sentence(" ".join("x" * 30), [0, *[1] * 29], "root " + "obj " * 29)

    def controls(seed, key):
        tally = Tally(1, 1, rule_names(PROBE))
        observe(SyntaxProbe(seed=seed), tally, seen(tree, pattern, key=key))
        return tally.cells[Key("obj", "h2d")].control_hits[0, 0], tally.cells[Key("obj", "d2h")].control_hits[0, 0]

    assert controls(0, "a") == controls(0, "a")
    assert len({controls(seed, key) for seed in range(4) for key in "ab"}) > 1


@given(st.integers(0, 2**32 - 1))
def test_permuting_heads_permutes_results(seed):
    rng = np.random.default_rng(seed)
    attention, order = rng.dirichlet(np.ones(8), size=(5, 8)), rng.permutation(5)

    straight, permuted = tally_of(seen(TREE, attention)), tally_of(seen(TREE, attention[order]))

    for key, cell in straight.cells.items():
        for name in ("hits", "mass", "control_hits", "paired_hits"):
            np.testing.assert_array_equal(getattr(cell, name)[:, order], getattr(permuted.cells[key], name))


# Fixed offsets on a real treebank, counted a second time below without any of our code.


def independent_offsets(path):
    """relation -> Counter of head position minus dependent position, from the raw rows."""
    apart = ("nsubj:pass", "aux:pass", "nmod:poss", "acl:relcl", "compound:prt")
    counts = defaultdict(Counter)
    for line in path.read_text(encoding="utf-8").split("\n"):
        columns = line.split("\t")
        if len(columns) != 10 or not columns[0].isdigit() or columns[6] == "0":
            continue
        distance, relation = int(columns[6]) - int(columns[0]), columns[7]
        for name in {relation, relation if relation in apart else relation.split(":")[0]}:
            counts[name][distance] += 1
    return counts


@pytest.fixture(scope="module")
def offset_counts(shared_data):
    """Of a treebank file: (ours: (relation, direction) -> cell, theirs: relation -> Counter)."""

    @functools.cache
    def count(name):
        path = shared_data(name)
        tally = Tally(1, 1, rule_names(PROBE))
        for document in open_corpus(path).documents():
            for index, each in enumerate(document.sentences):
                n = len(each)
                observe(PROBE, tally, seen(each, uniform(n), key=document.key(index)))
        return tally, independent_offsets(path)

    return count


def test_fixed_offsets_of_ewt_dev_agree_with_an_independent_count(offset_counts):
    tally, counts = offset_counts("en_ewt-ud-dev.conllu")

    scored = {key.relation for key in tally if key.direction}
    assert scored == {name for name in counts if name.split(":")[0] != "punct"}
    for relation in scored:
        cell = tally.cells[Key(relation, "d2h")]
        assert cell.trials[0] == counts[relation].total(), relation
        for offset, hits in zip(OFFSETS, cell.rules[0][: len(OFFSETS)], strict=True):
            assert hits == counts[relation][offset] * UNIT, (relation, offset)


# Relation -> best offset fitted on EWT dev, on GUM dev (where it differs, the second), as published with the method.
BEST_OFFSETS = {
    "nsubj": (1, 1),
    "obj": (-2, -2),
    "det": (1, 1),
    "case": (1, 2),
    "amod": (1, 1),
    "nmod": (-2, -2),
    "nmod:poss": (1, 1),
    "advmod": (1, 1),
    "aux": (1, 1),
    "aux:pass": (1, 1),
    "cop": (1, 1),
    "mark": (1, 1),
    "cc": (1, 1),
    "conj": (-2, -2),
    "compound": (1, 1),
    "xcomp": (-2, -2),
    "ccomp": (-3, -4),
    "advcl": (-4, -2),
    "acl:relcl": (-2, -2),
    "obl": (-2, -3),
    "compound:prt": (-1, -1),
    "nsubj:pass": (2, 2),
}


@pytest.mark.parametrize(("name", "column"), [("en_ewt-ud-dev.conllu", 0), ("en_gum-ud-dev.conllu", 1)])
def test_best_fixed_offsets_are_the_published_ones(offset_counts, name, column):
    tally, _ = offset_counts(name)

    best = {
        relation: OFFSETS[int(tally.cells[Key(relation, "d2h")].rules[0][: len(OFFSETS)].argmax())]
        for relation in BEST_OFFSETS
    }

    assert best == {relation: offsets[column] for relation, offsets in BEST_OFFSETS.items()}
