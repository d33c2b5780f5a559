"""GAP against a scorer written from its definition, on random attention and on the rows of the real file."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from probe_arrays import seen, sentence

from probes.coreference import CoreferenceProbe
from probes.coreference.gap import BOTH_BEFORE, GAP, GRID, gap_result, of_gender, predicted_key
from probes.corpora.data import Choice
from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.plain import observe
from probes.split import split_units
from probes.statistics import Resampling
from probes.tally import UNIT, Tally

PROBE = CoreferenceProbe()
N_HEADS = 3
N_ROWS = 60
SPLIT = split_units("sentence", [f"r{i}" for i in range(N_ROWS)])


@dataclass(frozen=True)
class Row:
    """One row as a scorer sees it: weights on both names per head, what is right, and where things stand."""

    weights: np.ndarray  # [head, 2]
    gold: tuple[bool, bool]
    gender: str
    confirm: bool
    both_before: bool


def random_row(rng, number, *, causal=False):
    """A text of 8 words with 1 to 3 pieces each; the pronoun and two names are anywhere, a name has 1 or 2 words."""
    n_pieces = rng.integers(1, 4, 8)
    word_of_token = [None, *np.repeat(np.arange(8), n_pieces).tolist(), None]
    n = len(word_of_token)
    raw = rng.gamma(0.2, size=(N_HEADS, n, n)) * (np.tri(n) if causal else 1)
    attention = (raw / np.maximum(raw.sum(-1, keepdims=True), 1e-30)).astype(np.float32)
    pronoun, first, second = sorted(rng.choice([0, 2, 4, 6], 3, replace=False).tolist(), key=lambda _: rng.random())
    options = tuple((at, at + 1) if rng.random() < 0.5 else (at,) for at in (first, second))
    kind = rng.integers(3)
    gold = (kind == 0, kind == 1)
    gender = str(rng.choice(["masculine", "feminine"]))
    choice = Choice("gap", (pronoun,), options, tuple(np.flatnonzero(gold).tolist()), (gender,))
    text = replace(sentence("a b c d e f g h", name=f"r{number}"), choices=(choice,))
    cluster = SPLIT.cluster("", f"r{number}")
    observation = seen(
        text,
        attention,
        specials=(0, n - 1),
        word_of_token=word_of_token,
        aggregation="last" if causal else "mean",
        causal=causal,
        cluster=cluster,
        confirm=bool(SPLIT.confirm[cluster]),
        key=f"r{number}",
        kind="window",
    )
    queries = [token for token, word in enumerate(word_of_token) if word == pronoun]
    queries = queries[-1:] if causal else queries
    weights = np.zeros((N_HEADS, 2))
    for head in range(N_HEADS):
        for option, words in enumerate(options):
            for query in queries:
                for token, word in enumerate(word_of_token):
                    if word in words:
                        weights[head, option] += float(attention[head, query, token]) / len(queries)
    before = max(map(max, options)) < pronoun
    return observation, Row(weights, gold, gender, observation.confirm, before)


def tally_of(observations):
    tally = Tally(N_ROWS, N_HEADS, rule_names(PROBE))
    for observation in observations:
        observe(PROBE, tally, observation)
    return tally


def rows_of(seed, causal):
    rng = np.random.default_rng(seed)
    pairs = [random_row(rng, number, causal=causal) for number in range(N_ROWS)]
    rows = [row for _, row in pairs]
    return tally_of([observation for observation, _ in pairs]), [row for row in rows if row.both_before or not causal]


def f1_of(rows, head, least):
    """As GAP's scorer counts: true and false positives and false negatives over both names of every row."""
    tp = fp = fn = 0
    for row in rows:
        best = int(row.weights[head].argmax())
        for name in range(2):
            said = name == best and row.weights[head, name] >= least
            tp += said and row.gold[name]
            fp += said and not row.gold[name]
            fn += not said and row.gold[name]
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else float("nan")


@pytest.mark.parametrize("causal", [False, True])
def test_two_way_accuracy_counts_rows_with_a_right_name(causal):
    tally, rows = rows_of(3, causal)

    for key, chosen in (
        (GAP, rows),
        (BOTH_BEFORE, [row for row in rows if row.both_before]),
        (of_gender("feminine"), [row for row in rows if row.gender == "feminine"]),
    ):
        asked = [row for row in chosen if any(row.gold)]
        expected = [sum(row.gold[int(row.weights[head].argmax())] for row in asked) for head in range(N_HEADS)]
        cell = tally.cells[key]
        assert cell.trials.sum() == len(asked) > 0
        assert (cell.hits.sum(axis=0) / UNIT).tolist() == expected


@pytest.mark.parametrize("causal", [False, True])
def test_f1_and_bias_are_those_of_the_official_scorer_at_the_threshold_chosen_on_select(causal):
    tally, rows = rows_of(4, causal)

    result = gap_result(tally.cells, SPLIT, Resampling.draw(int(SPLIT.confirm.sum()), bootstrap=50, permutations=50))

    assert result is not None
    select, confirm = ([row for row in rows if row.confirm == half] for half in (False, True))
    for head in range(N_HEADS):
        best = max(GRID, key=lambda least: f1_of(select, head, least))
        assert result.least[head] == best
        assert result.f1["all"][head] == pytest.approx(f1_of(confirm, head, best))
        by_gender = {
            gender: f1_of([row for row in confirm if row.gender == gender], head, best)
            for gender in ("masculine", "feminine")
        }
        for gender, f1 in by_gender.items():
            assert result.f1[gender][head] == pytest.approx(f1)
        if by_gender["masculine"]:
            assert result.bias[head] == pytest.approx(by_gender["feminine"] / by_gender["masculine"])
            assert result.bias_ci[0, head] <= result.bias[head] <= result.bias_ci[1, head]  # for these draws
        else:
            assert np.isnan(result.bias[head])


def test_a_higher_threshold_never_answers_more_and_a_head_on_the_right_name_has_f1_1():
    tally, _ = rows_of(5, False)
    words = "he saw Ann and Bea there today now".split()
    choice = Choice("gap", (0,), ((2,), (4,)), (1,), ("masculine",))
    attention = np.full((N_HEADS, 8, 8), 0.01)
    attention[:, 0, 4] = 0.93
    text = replace(sentence(" ".join(words)), choices=(choice,))
    right = tally_of([seen(text, attention, kind="window", cluster=N_ROWS - 1, confirm=True)])

    answered = [tally.cells[predicted_key("masculine", least)].hits.sum(axis=0) for least in GRID]
    result = gap_result(right.cells, SPLIT, Resampling.draw(N_ROWS // 2, bootstrap=9))

    assert all((later <= earlier).all() for earlier, later in pairwise(answered))
    assert result is not None
    assert result.f1["all"].tolist() == [1.0] * N_HEADS
    assert np.isnan(result.bias).all()  # nothing feminine was asked


def test_rules_answer_the_nearest_and_the_second_name():
    """words 0-7: B = 1, A = 5, pronoun = 7: A is nearest; B is the second of the annotation."""
    choice = Choice("gap", (7,), ((5,), (1,)), (0,), ("feminine",))
    text = replace(sentence("a b c d e f g h"), choices=(choice,))

    cell = tally_of([seen(text, np.full((N_HEADS, 8, 8), 1 / 8), kind="window")]).cells[GAP]

    rules = dict(zip(rule_names(PROBE), cell.rules.sum(axis=0) / UNIT, strict=True))
    assert {name for name, hits in rules.items() if hits} == {"nearest mention"}
    assert (cell.hits[0] == UNIT // 2).all()  # a tie


def test_the_baselines_of_the_real_file_are_the_published_ones(shared_data):
    """Published two-way baselines of the development file: nearest 52.2 %, always B 51.4 %; both before: 50.4 %."""
    path = shared_data("gap-development.tsv")
    n_trials, hits = Counter(), Counter()

    for document in open_corpus(path).documents():
        for text in document.sentences:
            even = np.full((1, len(text), len(text)), 1 / len(text))  # rules do not look at attention
            for trials in PROBE.ask(seen(text, even, kind="window")):
                for question, key in enumerate(trials.keys):
                    n_trials[key] += int((trials.question == question).sum())
                    own = (trials.question[trials.option_trial] == question) & trials.right
                    for name, answers in zip(rule_names(PROBE), trials.points.T, strict=True):
                        hits[key, name] += int((own & answers).sum())

    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    true = [row for row in table if "TRUE" in (row["A-coref"], row["B-coref"])]
    assert n_trials[GAP] == len(true) == 1799
    assert hits[GAP, "second option"] == sum(row["B-coref"] == "TRUE" for row in true)
    assert hits[GAP, "second option"] / 1799 == pytest.approx(0.514, abs=0.0005)
    assert hits[GAP, "nearest mention"] / 1799 == pytest.approx(0.522, abs=0.001)  # one tie
    assert hits[BOTH_BEFORE, "nearest mention"] / n_trials[BOTH_BEFORE] == pytest.approx(0.504, abs=0.0005)
