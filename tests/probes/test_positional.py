"""Position scores against patterns whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probe_arrays import pointing, seen, sentence, uniform

from probes.family import rule_names
from probes.plain import observe
from probes.positional import (
    COLUMNS,
    NEAREST,
    OFFSETS,
    PATTERNS,
    WORD_OFFSETS,
    PositionalProbe,
    measures,
    nearest_key,
    offset_key,
    word_offset_key,
)
from probes.tally import UNIT, Key, Tally, in_units
from probes.view import LayerView, padded

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

    assert found[Key("breadth")][0] == pytest.approx([1, 0], abs=1e-6)
    assert found[Key("entropy")][0] == pytest.approx([np.log(6), 0], abs=1e-6)


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


TAGGED = sentence("the old cat saw Ann , and", upos="DET ADJ NOUN VERB PROPN PUNCT CCONJ")


def by_hand(observation):
    """Every question again, query by query, in plain Python: question -> (trials, hits, mass) of each head."""
    n, heads = len(observation.labels), range(len(observation.attention))
    found = {}

    def add(key, trials, hits, mass=None):
        old = found.get(key, (0, np.zeros(len(heads)), np.zeros(len(heads))))
        found[key] = (old[0] + trials, old[1] + hits, old[2] + (hits if mass is None else mass))

    def share(row, candidates, target):
        best = max(row[k] for k in candidates)
        return (row[target] == best) / sum(row[k] == best for k in candidates)

    text = [k for k in range(n) if not observation.special[k]]
    separators = [k for k in range(1, n) if observation.special[k]]
    marks = [k for k in range(n) if observation.delimiters[k] and not observation.special[k]]
    commas = [k for k in marks if observation.labels[k] == ","]
    sets = {"separator": separators, "punctuation": marks, "delimiter": separators + marks, "comma": commas}
    sets["full stop"] = [k for k in marks if k not in commas]
    sets["start"] = [0] if observation.special[0] else []
    for q in text:
        seen_keys = [k for k in range(n) if k <= q or not observation.causal]
        rows = [observation.attention[h, q].astype(float) for h in heads]
        for offset in OFFSETS:
            if q + offset in text and q + offset in seen_keys:
                candidates = [k for k in text if k in seen_keys]
                wins = np.array([share(row, candidates, q + offset) for row in rows])
                add(offset_key(offset), 1, wins, np.array([row[q + offset] for row in rows]))
        for p, column in enumerate(COLUMNS):
            if p in seen_keys and p <= q:
                add(column, 1, np.array([row[p] for row in rows]))
        for name, members in sets.items():
            if members := [k for k in members if k in seen_keys]:
                add(Key(name), 1, np.array([sum(row[k] for k in members) for row in rows]))
        entropy = np.array([-sum(w * np.log(w) for w in row if w > 0) for row in rows])
        add(Key("entropy"), 1, entropy)
        add(Key("distance"), 1, np.array([sum(row[k] * abs(q - k) for k in range(n)) for row in rows]))
        if len(seen_keys) > 1 and (q >= 4 or not observation.causal):
            add(Key("breadth"), 1, entropy / np.log(len(seen_keys)))
    for q in separators:
        members = [k for k in separators if k <= q or not observation.causal]
        add(Key("separator from separator"), 1, observation.attention[:, q][:, members].sum(-1, dtype=float))
    for q in range(len(observation.kept)):
        candidates = [k for k in range(len(observation.kept)) if observation.candidates[q, k]]
        rows = [observation.words[h, q] for h in heads]
        targets = {word_offset_key(offset): q + offset for offset in WORD_OFFSETS}
        for key, (upos, side) in NEAREST.items():
            places = [k for k in candidates if observation.upos[k] == upos and (k < q) == (side == "left")]
            targets[key] = min(places, key=lambda k: abs(k - q), default=-1)
        for key, target in targets.items():
            if target in candidates:
                wins = np.array([share(row, candidates, target) for row in rows])
                add(key, 1, wins, np.array([row[target] for row in rows]))
    return found


def mixed_batch(causal, n_heads=3):
    """Texts of different lengths, with pieces, a dropped word, marks, and ties in some rows."""
    rng = np.random.default_rng(4)
    texts = []
    for specials, n_tokens, words, stops in (
        ([0, 9], 10, [None, 0, 1, 2, 2, 3, 4, 5, 6, None], [7]),
        ([0], 5, [None, 0, 1, 3, 5], [4]),
        ([], 12, [0, 1, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6], [8, 9]),
    ):
        attention = rng.dirichlet(np.ones(n_tokens), size=(n_heads, n_tokens))
        attention[0] = np.round(attention[0], 1)
        if causal:
            attention = np.tril(attention) + np.eye(n_tokens) * 1e-3
        observation = seen(
            TAGGED, attention, specials=specials, word_of_token=words, stops=stops, causal=causal,
            aggregation="last" if causal else "mean",
        )  # fmt: skip
        labels = tuple("," if token in stops[:1] else label for token, label in enumerate(observation.labels))
        texts.append(replace(observation, labels=labels))
    return texts


@pytest.mark.parametrize("causal", [False, True])
def test_every_question_is_what_plain_loops_count(causal):
    for observation in mixed_batch(causal):
        tally, expected = Tally(1, 3, ()), by_hand(observation)

        observe(PROBE, tally, observation)

        assert set(expected) == set(tally.cells) - set(PATTERNS)
        for key, (trials, hits, mass) in expected.items():
            assert tally.cells[key].trials.tolist() == [trials], key
            np.testing.assert_allclose(tally.cells[key].hits[0] / UNIT, hits, atol=1e-5, err_msg=str(key))
            np.testing.assert_allclose(tally.cells[key].mass[0] / UNIT, mass, atol=1e-5, err_msg=str(key))


@pytest.mark.parametrize("at_once", [1, 500_000])
@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_gives_the_integers_of_its_texts_alone(causal, at_once, monkeypatch):
    monkeypatch.setattr(measures, "AT_ONCE", at_once)
    texts = mixed_batch(causal)
    n_tokens = max(len(text.labels) for text in texts)
    tokens = torch.zeros(len(texts), 3, n_tokens, n_tokens)
    for row, text in zip(tokens, texts, strict=True):
        row[:, : len(text.labels), : len(text.labels)] = torch.from_numpy(text.attention)
    words = torch.stack([torch.from_numpy(text.words) for text in texts])
    visible = padded([text.visible[0] for text in texts], n_tokens)

    together = list(PROBE.measure(LayerView(tuple(texts), tokens, visible, words)))

    for i, text in enumerate(texts):
        alone = Tally(1, 3, ())
        observe(PROBE, alone, text)
        for sums in together:
            for j, key in enumerate(sums.keys):
                if sums.trials[i, j]:
                    cell = alone.cells[key]
                    mass = sums.hits if sums.mass is None else sums.mass
                    assert cell.trials[0] == sums.trials[i, j]
                    np.testing.assert_array_equal(cell.hits[0], in_units(sums.hits[i, j].numpy()), err_msg=str(key))
                    np.testing.assert_array_equal(cell.mass[0], in_units(mass[i, j].numpy()), err_msg=str(key))
                else:
                    assert key not in alone.cells


def test_a_head_at_the_nearest_noun_scores_one_there():
    nouns = sentence("cat saw dog and bird", upos="NOUN VERB NOUN CCONJ NOUN")

    found = scores(seen(nouns, pointing([2, 0, 0, 2, 2], 0.9)))

    assert found[nearest_key("NOUN", "left")][0].tolist() == [1.0]
    assert found[nearest_key("NOUN", "right")][0][0] == pytest.approx(1 / 4)
    assert found[nearest_key("VERB", "right")][0].tolist() == [0.0]
    assert nearest_key("ADJ", "left") not in found


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("vertical", pointing([3] * 10, 0.7)),
        ("diagonal", pointing([0, *range(9)], 0.8)),
        ("vertical+diagonal", 0.35 * pointing([3] * 10) + 0.33 * pointing([0, *range(9)]) + 0.032),
        ("heterogeneous", uniform(10)),
    ],
)
def test_each_text_shows_one_pattern(kind, attention):
    found = scores(seen(sentence("a b c d e f g h i j"), attention))

    shown = {key.relation.removeprefix("pattern "): found[key][0][0] for key in PATTERNS}
    assert shown == {name: float(name == kind) for name in shown}


def test_short_texts_show_no_pattern():
    assert PATTERNS[0] not in scores(seen(SIX, uniform(6)))


def test_examples_of_the_nearest_word_are_words():
    pointer = PROBE.pointer(nearest_key("VERB", "right"), seen(TAGGED, uniform(7)))

    assert pointer is not None
    assert (pointer.query, pointer.targets, pointer.level) == (2, (3,), "word")
