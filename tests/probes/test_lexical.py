"""Rare words and named entities against loops written from their definitions, and against heads of known function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probe_arrays import documents_of, pointing, seen, sentence, uniform
from scipy.stats import spearmanr

from attnlens.errors import UsageError
from attnlens.zoo.frequencies import count_words, embedded_frequencies
from probes.corpora.data import Corpus, Mention
from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.lexical import LexicalProbe, entities, rare
from probes.lexical.frequencies import Frequencies, read_frequencies
from probes.plain import observe
from probes.preparing import prepared
from probes.tally import UNIT, Tally

COMMON = {f"c{chr(97 + i // 26)}{chr(97 + i % 26)}": 1000 + i for i in range(500)}
LIST = Frequencies("test", COMMON | {"rare": 3, "rarer": 2, "rarest": 1})
PROBE = LexicalProbe(words=LIST)
N_HEADS = 3


def tally_of(*observations, probe=PROBE):
    tally = Tally(1, len(observations[0].attention), rule_names(probe))
    for observation in observations:
        observe(probe, tally, observation)
    return tally


def mean(cell):
    return cell.hits[0] / UNIT / cell.trials[0]


def test_a_head_on_the_rarest_word_scores_one_and_a_uniform_one_chance():
    """5 words, `rarer` at 3: the four others ask."""
    text = sentence("caa cab rare rarer caz")
    attention = np.concatenate([pointing([3] * 5), uniform(5)])

    cells = tally_of(seen(text, attention)).cells

    for key in (rare.RARE, rare.RARE_PER_PIECE):
        assert cells[key].trials[0] == 4
        assert mean(cells[key]).tolist() == [1.0, pytest.approx(0.25)]
        assert cells[key].chance[0] / UNIT == pytest.approx(4 / 4)
    assert cells[rare.TOP_TWO].trials[0] == 5  # `rarer` itself can see `rare`
    assert mean(cells[rare.TOP_TWO])[1] == pytest.approx((3 * 2 / 4 + 2 * 1 / 4) / 5)


@pytest.mark.parametrize("words", ["caa cab cac cad", "rare rarer rarest", "caa cab cac r4re ' ."])
def test_texts_without_a_rare_word_are_not_asked(words):
    """Only common words; fewer than four; rare words that are no words of letters."""
    n = len(words.split())

    assert not tally_of(seen(sentence(words), uniform(n))).cells


def test_weight_that_only_many_pieces_collect_does_not_count_per_piece():
    """`rarest` has three pieces of .2 each, `caa` one of .3: the sum wins, the mean does not."""
    text = sentence("caa rarest cab cac")
    attention = np.zeros((1, 6, 6))
    attention[0, :, :] = [0.3, 0.2, 0.2, 0.2, 0.05, 0.05]

    cells = tally_of(seen(text, attention, word_of_token=[0, 1, 1, 1, 2, 3])).cells

    assert mean(cells[rare.RARE]).tolist() == [1.0]
    assert mean(cells[rare.RARE_PER_PIECE]).tolist() == [pytest.approx(1 / 3)]  # only where `caa` itself asks


def loops(observation, words):
    """Hits, trials and correlation per head, from the definitions; `words` is [head from to]."""
    forms, n = observation.forms, len(observation.forms)
    eligible = [i for i in range(n) if forms[i].isalpha()]
    target = min(eligible, key=lambda i: LIST.counts.get(forms[i], 0))
    hits, trials = np.zeros(N_HEADS), 0
    for query in range(n):
        seen_words = [k for k in range(n) if k != query and (not observation.causal or k < query)]
        if target in seen_words:
            trials += 1
            for head in range(N_HEADS):
                best = max(words[head, query, k] for k in seen_words)
                tied = [k for k in seen_words if words[head, query, k] == best]
                hits[head] += (target in tied) / len(tied)
    rho = []
    for head in range(N_HEADS):
        received = []
        for k in range(n):
            queries = [q for q in range(n) if q != k and (not observation.causal or q > k)]
            received.append(sum(words[head, q, k] for q in queries) / max(len(queries), 1))
        rho.append(spearmanr(received, [-LIST.counts.get(form, 0) for form in forms]).statistic)
    return hits, trials, rho


@pytest.mark.parametrize("causal", [False, True])
def test_random_attention_gives_the_counts_of_a_plain_implementation(causal):
    rng = np.random.default_rng(1)
    for _ in range(5):
        forms = [*rng.choice(sorted(COMMON), 6, replace=False).tolist(), "rarer", "rare"]
        rng.shuffle(forms)
        pieces = np.repeat(np.arange(8), rng.integers(1, 3, 8)).tolist()
        n = len(pieces)
        raw = rng.random((N_HEADS, n, n)) * (np.tri(n) if causal else 1)
        observation = seen(
            sentence(" ".join(forms)),
            raw / raw.sum(-1, keepdims=True),
            word_of_token=pieces,
            causal=causal,
            aggregation="last" if causal else "mean",
        )
        n_pieces = np.bincount(pieces)

        cells = tally_of(observation).cells

        for keys, words in (
            ((rare.RARE, rare.CORRELATION), observation.words),
            ((rare.RARE_PER_PIECE, rare.CORRELATION_PER_PIECE), observation.words / n_pieces),
        ):
            hits, trials, rho = loops(observation, words)
            assert cells[keys[0]].trials[0] == trials if trials else keys[0] not in cells
            if trials:
                assert cells[keys[0]].hits[0] / UNIT == pytest.approx(hits)
            assert cells[keys[1]].hits[0] / UNIT == pytest.approx(np.array(rho), abs=1e-6)


def named(start, end, head=None, kind="person", entity="1", is_named=True):
    return Mention(entity, 0, start, end, end - 1 if head is None else head, kind=kind, named=is_named)


def entity_text(n, start, end, **changes):
    return sentence(" ".join(f"w{i}" for i in range(n)), mentions=[named(start, end, **changes)])


def test_lift_is_attention_on_named_words_over_their_share_and_turning_the_labels_kills_it():
    """A head that puts .8 on word 2 of 6, which is named; and a uniform one."""
    attention = np.concatenate([pointing([2] * 6, 0.8), uniform(6)])

    cells = tally_of(seen(entity_text(6, 2, 3), attention)).cells

    share = 5 / 5 / 6  # five queries have it as one of five candidates, the sixth is the word itself
    assert cells[entities.LIFT].chance[0] / UNIT / cells[entities.LIFT].trials[0] == pytest.approx(share)
    assert mean(cells[entities.LIFT])[0] == pytest.approx((0.8 + 0.2 / 6) * 5 / 6, abs=1e-6)
    assert (mean(cells[entities.TWICE]) >= 0).tolist() == [True, False]
    assert mean(cells[entities.ENTITY]).tolist() == [pytest.approx((5 + 0.5) / 6), pytest.approx(0.5)]

    ranks = [mean(tally_of(seen(entity_text(6, at, at + 1), attention)).cells[entities.ENTITY])[0] for at in range(6)]
    assert np.mean(ranks) == pytest.approx(0.5)  # over all turns of the labels


@pytest.mark.parametrize("causal", [False, True])
def test_ranks_among_turns_are_those_of_a_plain_implementation(causal):
    rng = np.random.default_rng(2)
    n, labelled = 9, [2, 3, 7]
    text = sentence(
        " ".join(f"w{i}" for i in range(n)), mentions=[named(2, 4), named(7, 8), named(4, 6, is_named=False)]
    )
    raw = rng.random((N_HEADS, n, n)) * (np.tri(n) if causal else 1)
    observation = seen(text, raw / raw.sum(-1, keepdims=True), causal=causal, aggregation="last" if causal else "mean")

    cells = tally_of(observation).cells

    candidates = [[k for k in range(n) if k != q and (not causal or k < q)] for q in range(n)]
    for head in range(N_HEADS):
        masses = [
            sum(
                observation.words[head, q, k]
                for q in range(n)
                for k in candidates[q]
                if k in [(label + turn) % n for label in labelled]
            )
            for turn in range(n)
        ]
        rank = (sum(mass < masses[0] for mass in masses) + sum(mass == masses[0] for mass in masses) / 2) / n
        assert cells[entities.ENTITY].hits[0, head] / UNIT == pytest.approx(rank)
        assert cells[entities.LIFT].hits[0, head] / UNIT == pytest.approx(masses[0], abs=1e-6)
    asking = [allowed for allowed in candidates if allowed]
    assert cells[entities.LIFT].trials[0] == len(asking)
    share = sum(len(set(allowed) & set(labelled)) / len(allowed) for allowed in asking)
    assert cells[entities.LIFT].chance[0] / UNIT == pytest.approx(share)
    twice = cells[entities.TWICE].hits[0] / UNIT
    assert twice == pytest.approx(cells[entities.LIFT].hits[0] / UNIT - 2 * share, abs=1e-6)


def test_words_of_a_mention_ask_for_the_head_of_the_smallest_one_and_tree_arcs_are_counted_apart():
    """[the New York [mayor]] with `New` and `York` as compounds of `mayor`, `the` as det; inner mention [New York]."""
    text = sentence(
        "the New York mayor slept",
        [4, 3, 4, 5, 0],
        "det compound compound nsubj root",
        mentions=[named(0, 4, head=3), named(1, 3, head=2, entity="2")],
        upos="DET PROPN PROPN NOUN VERB",
    )

    cells = tally_of(seen(text, pointing([3, 2, 3, 0, 0]))).cells

    assert cells[entities.INSIDE].trials[0] == 3  # the -> mayor, New -> York, York -> mayor
    assert mean(cells[entities.INSIDE]).tolist() == [1.0]
    assert cells[entities.INSIDE_BEYOND_TREE].trials[0] == 1  # the -> mayor
    rules = dict(zip(rule_names(PROBE), cells[entities.INSIDE].rules[0] / UNIT, strict=True))
    assert (rules["offset +1"], rules["offset +3"], rules["nearest NOUN right"]) == (2, 1, 2)
    assert cells[entities.INSIDE].control_trials[0] == 3


def test_same_type_asks_among_mentions_of_other_entities():
    """Heads: Ann 0 (person), Bo 2 (person), Rome 4 (place), she 6 (Ann again)."""
    text = sentence(
        "Ann met Bo in Rome where she",
        mentions=[
            named(0, 1),
            named(2, 3, entity="2"),
            named(4, 5, entity="3", kind="place"),
            named(6, 7, is_named=False),
        ],
    )

    cell = tally_of(seen(text, pointing([2, 0, 0, 0, 0, 0, 4]))).cells[entities.SAME_TYPE]

    # Ann chooses among Bo, Rome; Bo among Ann, Rome, she; she among Bo, Rome; Rome has none of its type.
    assert cell.trials[0] == 3
    assert cell.chance[0] / UNIT == pytest.approx(1 / 2 + 2 / 3 + 1 / 2)
    assert cell.hits[0, 0] / UNIT == 2
    assert cell.rules[0, -1] / UNIT == 2  # the nearest mention: Bo, Ann (as near as Rome), Rome


def test_heads_in_another_order_score_the_same_in_another_order():
    rng = np.random.default_rng(3)
    text = replace(entity_text(7, 1, 3), forms=("caa", "rare", "rarer", "cab", "cac", "cad", "cae"))
    attention = rng.random((4, 7, 7))
    order = [2, 0, 3, 1]

    straight, permuted = (tally_of(seen(text, each)).cells for each in (attention, attention[order]))

    assert straight.keys() == permuted.keys() > {rare.RARE, entities.ENTITY}
    for key, cell in straight.items():
        assert (permuted[key].hits == cell.hits[:, order]).all()


def test_batches_give_what_single_texts_give():
    """Two texts of different length in one view, padded, against one at a time."""
    import torch

    from probes.view import LayerView

    rng = np.random.default_rng(4)
    observations = [
        seen(sentence("caa rare cab cac rarer"), rng.random((2, 5, 5)), key="a"),
        seen(entity_text(8, 2, 4), rng.random((2, 8, 8)), key="b"),
        seen(sentence("cab cac cad"), rng.random((2, 3, 3)), key="c"),
    ]
    padded = torch.zeros(3, 2, 8, 8, dtype=torch.float64)
    for page, each in zip(padded, observations, strict=True):
        n = each.words.shape[-1]
        page[:, :n, :n] = torch.from_numpy(each.words)
    view = LayerView(tuple(observations), padded.float(), padded.sum(1) > 0, padded)

    together = {}
    for sums in PROBE.measure(view):
        for i, key in enumerate(sums.keys):
            together[key] = (sums.trials[:, i].sum(), sums.hits[:, i].sum(0))

    cells = tally_of(*observations).cells
    assert together.keys() == cells.keys() - {entities.INSIDE, entities.INSIDE_BEYOND_TREE}  # these are asked in rows
    for key, (trials, hits) in together.items():
        assert trials == cells[key].trials[0] > 0
        assert hits.numpy() == pytest.approx(cells[key].hits[0] / UNIT, abs=1e-7)


def test_the_list_is_the_users_the_embedded_one_or_there_is_a_reason(tmp_path, monkeypatch):
    text = tuple(sentence(words, name=words) for words in ("the cat sleeps here", "der Hund bellt laut"))
    english, german = (Corpus.of(f"{i}.txt", documents_of([each])) for i, each in enumerate(text))
    path = tmp_path / "deutsch.tsv"
    path.write_text("Der\t9\nder\t1\nhund\t3\nbellt\t2\nlaut\t2\n", encoding="utf-8")

    own = prepared(LexicalProbe(frequencies=path), german)
    wrong = prepared(LexicalProbe(frequencies=path), english)
    embedded = prepared(LexicalProbe(), open_corpus())
    monkeypatch.setattr("probes.lexical.frequencies._english", lambda: None)
    nothing = prepared(LexicalProbe(), english)

    assert own.words is not None
    assert (own.words.name, own.words.of("DER")) == ("deutsch.tsv", 10)
    assert "only 0 % of the words of 0.txt" in (wrong.refusal(english) or "")
    assert embedded.refusal(open_corpus()) is None
    assert embedded.words is not None
    assert "training text" in embedded.words.name
    reason = nothing.refusal(english)
    assert reason is not None
    assert "--frequencies FILE" in reason
    assert "attnlens[frequencies]" in reason
    assert nothing.omissions(english) == {"lexical (rare words)": reason}


@pytest.mark.parametrize(
    ("content", "message"),
    [("the 12\n", "line 1"), ("the\t1.5\n", "line 1"), ("\n\n", "no word"), ("a\t1\n\tb\n", "line 2")],
)
def test_a_list_that_is_none_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "list.tsv"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError, match=message):
        read_frequencies(path)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read nowhere\.tsv"):
        read_frequencies(tmp_path / "nowhere.tsv")


def test_the_embedded_list_is_what_the_recipe_counts():
    """The recipe reads documents in order, so fewer of them give no larger counts of the same words."""
    listed = read_frequencies(embedded_frequencies()).counts

    counted = count_words(300)

    assert set(counted) <= set(listed)
    assert all(counted[word] <= listed[word] for word in counted)
    assert listed["the"] == max(listed.values())
    assert sum(counted.values()) / sum(listed.values()) == pytest.approx(300 / 4000, rel=0.1)


def test_wordfreq_knows_english():
    pytest.importorskip("wordfreq")
    from probes.lexical.frequencies import _english

    words = _english()

    assert words is not None
    assert words.of("the") > words.of("librarian") > words.of("librarianship") > 0
    assert "librarian" not in words.common
    assert "the" in words.common


def test_a_share_of_a_large_corpus_is_asked_by_hash_of_the_text():
    drawn = [rare.Asked(LIST, 0, 0.25).drawn(f"d#{i}") for i in range(2000)]

    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)
    assert all(rare.Asked(LIST, 0, 1.0).drawn(f"d#{i}") for i in range(50))
