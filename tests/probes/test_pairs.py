"""Relations from a user's file: trials by hand, against loops, and what a label asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from probe_arrays import pointing, seen, sentence, uniform

from probes.corpora.data import Link
from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.pairs import PairsProbe
from probes.plain import observe
from probes.tally import UNIT, Key, Tally

PROBE = PairsProbe()
FORTH, BACK = (Key("agent", direction) for direction in ("s2t", "t2s"))


def cells_of(observation):
    tally = Tally(1, len(observation.attention), rule_names(PROBE))
    observe(PROBE, tally, observation)
    return tally.cells


def linked(words, *links):
    return replace(sentence(words), links=tuple(Link("agent", *link) for link in links))


def test_each_word_of_a_source_asks_for_any_word_of_its_target():
    """`sold` (1) -> `the boy` (3, 4), and back."""
    text = linked("she sold to the boy", ((1,), (3, 4)))

    cells = cells_of(seen(text, pointing([0, 4, 0, 1, 0])))

    assert cells[FORTH].trials[0] == 1
    assert cells[BACK].trials[0] == 2
    assert cells[FORTH].hits[0, 0] / UNIT == 1
    assert cells[BACK].hits[0, 0] / UNIT == 1  # of `the` and `boy`, one looks at `sold`
    assert cells[FORTH].chance[0] / UNIT == pytest.approx(2 / 4)
    assert cells[BACK].chance[0] / UNIT == pytest.approx(2 / 4)
    rules = dict(zip(rule_names(PROBE), cells[FORTH].rules[0] / UNIT, strict=True))
    assert {name for name, hits in rules.items() if hits} == {"offset +2", "offset +3"}


def test_a_causal_model_is_asked_where_the_answer_comes_first():
    text = linked("she sold to the boy", ((1,), (3, 4)))
    attention = np.tri(5)[None] / np.arange(1, 6)[None, :, None]

    cells = cells_of(seen(text, attention, causal=True, aggregation="last"))

    assert (cells[FORTH].trials[0], cells[FORTH].asked[0]) == (0, 1)
    assert (cells[BACK].trials[0], cells[BACK].asked[0]) == (2, 2)


def test_several_links_of_one_word_are_one_trial_and_dropped_words_none():
    text = linked("a b c d e f", ((0,), (2,)), ((0,), (4,)), ((5,), (3,)))

    cells = cells_of(seen(text, uniform(5), word_of_token=[0, 1, 2, 4, 5]))

    assert cells[FORTH].trials[0] == 1  # the target of f was dropped
    assert cells[FORTH].hits[0, 0] / UNIT == pytest.approx(2 / 4)


def test_a_fixed_offset_has_no_selectivity_and_a_head_that_follows_the_links_has():
    """Eight words, links 1 -> 3 and 4 -> 6; head 0 looks two to the right everywhere, head 1 only there."""
    text = linked("a b c d e f g h", ((1,), (3,)), ((4,), (6,)))
    everywhere = pointing([2, 3, 4, 5, 6, 7, 5, 5])
    there = pointing([7, 3, 7, 7, 6, 7, 7, 0])

    cell = cells_of(seen(text, np.concatenate([everywhere, there])))[FORTH]

    assert cell.control_trials[0] == 2
    assert (cell.paired_hits[0] / UNIT).tolist() == [2, 2]
    selectivity = (cell.paired_hits[0] - cell.control_hits[0]) / UNIT / 2
    assert selectivity[0] == 0
    assert selectivity[1] > 0.5


def test_random_attention_gives_the_counts_of_a_plain_implementation():
    rng = np.random.default_rng(0)
    links = [((0, 1), (4,)), ((3,), (6, 7)), ((8,), (2,))]
    text = linked("a b c d e f g h i", *links)
    attention = rng.random((3, 9, 9))

    cells = cells_of(seen(text, attention))

    for key, pairs in ((FORTH, links), (BACK, [(target, source) for source, target in links])):
        for head in range(3):
            hits = 0
            for asking, answers in pairs:
                for query in asking:
                    row = attention[head, query].astype(np.float32)
                    hits += max((k for k in range(9) if k != query), key=lambda k, row=row: row[k]) in answers
            assert cells[key].hits[0, head] / UNIT == hits


def test_a_file_of_pairs_is_asked_and_a_corpus_without_any_refused(tmp_path):
    rows = [
        {"text": "She sold it to him", "relation": "agent", "source": [4, 8], "target": [0, 3]},
        {"text": "She sold it to him", "relation": "theme", "source": [4, 8], "target": [9, 11]},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    corpus = open_corpus(path)
    ((text,),) = [document.sentences for document in corpus.documents()]
    cells = cells_of(seen(text, uniform(len(text))))

    assert PROBE.refusal(corpus) is None
    assert "no marked pairs" in (PROBE.refusal(open_corpus()) or "")
    assert set(cells) == {Key(name, direction) for name in ("agent", "theme") for direction in ("s2t", "t2s")}
    assert cells.keys() == PROBE.asks([text])
    pointer = PROBE.pointer(Key("agent", "s2t"), seen(text, uniform(len(text))))
    assert pointer is not None
    assert (pointer.query, pointer.targets) == (1, (0,))


def test_no_label_says_strong_where_no_part_of_speech_is_known():
    assert PROBE.conditions(FORTH).strong is None
    assert PROBE.conditions(FORTH).selectivity == 0.15
    assert "as marked in the pairs" in PROBE.wording(BACK).text
