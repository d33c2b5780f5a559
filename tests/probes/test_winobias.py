"""The bias report against pairs counted by hand from the raw lines, and against attention with a known bias."""

from __future__ import annotations

import re

import numpy as np
import pytest
from probe_arrays import seen

from probes.coreference import CoreferenceProbe
from probes.coreference.winobias import bias_results, side_key
from probes.corpora.sources import open_corpus
from probes.family import rule_names
from probes.plain import observe
from probes.split import split_corpus
from probes.statistics import Resampling
from probes.tally import UNIT, Key, Tally

PROBE = CoreferenceProbe()
N_HEADS = 2

LINES = (
    "[The developer] argued with the designer because [he] did not like the design.",
    "The mechanic called to inform [the nurse] that [she] was late.",
    "[The lawyer] yelled at the hairdresser because [he] was mad.",
)
PRO = "".join(f"{number + 1} {LINES[number % 3]}\n" for number in range(30))
ANTI = PRO.replace("[he]", "[she]").replace("that [she]", "that [he]").replace("was mad", "was very mad")


@pytest.fixture
def files(tmp_path):
    """Twins in 20 lines; each third line differs in more than the pronoun."""
    paths = [tmp_path / f"{side}_stereotyped_type1.txt" for side in ("pro", "anti")]
    for path, text in zip(paths, (PRO, ANTI), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def read(corpus, attend):
    """The tally of a corpus under `attend(text, number) -> [head n n]`."""
    split = split_corpus(corpus)
    tally = Tally(len(split.confirm), N_HEADS, rule_names(PROBE))
    for document in corpus.documents():
        for index, text in enumerate(document.sentences):
            cluster = split.cluster(document.id, document.key(index))
            confirm = bool(split.confirm[cluster])
            observe(PROBE, tally, seen(text, attend(text), kind="window", cluster=cluster, confirm=confirm))
    return split, tally


def usual(text):
    """Head 0 looks at the occupation that the pronoun's gender is usual for; head 1 always at the first one."""
    (choice,) = text.choices
    (query,) = choice.query
    (right,) = choice.gold
    tempting = right if "pro" in choice.tags else 1 - right
    attention = np.full((N_HEADS, len(text), len(text)), 0.01)
    attention[0, query, choice.options[tempting][0]] = 0.9
    attention[1, query, choice.options[0][0]] = 0.9
    return attention


def test_only_twins_that_differ_in_the_pronoun_alone_count_for_the_gap(files):
    _, tally = read(open_corpus(files), usual)

    assert tally.cells[Key("winobias type 1")].trials.sum() == 60
    for side, hits in (("pro", [20, 10]), ("anti", [0, 10])):
        cell = tally.cells[side_key("winobias type 1", side)]
        assert cell.trials.sum() == 20
        assert (cell.hits.sum(axis=0) / UNIT).tolist() == hits


def test_a_head_that_follows_the_stereotype_has_a_gap_of_one_and_one_that_ignores_gender_none(files):
    corpus = open_corpus(files)
    split, tally = read(corpus, usual)

    results = bias_results(tally.cells, split, Resampling.draw(int(split.confirm.sum()), bootstrap=50))

    (bias,) = results
    assert bias.gap.tolist() == [1.0, 0.0]
    assert bias.ci.T.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert bias.preference["pro"][0] == pytest.approx(0.89, abs=1e-6)
    assert bias.preference["anti"][0] == pytest.approx(-0.89, abs=1e-6)
    assert bias.chosen == 0
    assert "a gap of +100.0 points [+100.0, +100.0]" in bias.sentence("L0H0")
    assert "not evidence that a head resolves coreference" in bias.sentence("L0H0")


def raw_items(path):
    """Words and the place of the first bracketed pronoun of each line, without the readers of the package."""
    pronouns = {"he", "him", "his", "himself", "she", "her", "hers", "herself"}
    items = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split(" ", 1)[1]
        words, at, inside = [], None, False
        for part in re.findall(r"\[|\]|[\w']+|[^\w\s\[\]]", text):
            if part in "[]":
                inside = part == "["
            else:
                if inside and at is None and part.lower() in pronouns:
                    at = len(words)
                words.append(part)
        items.append((words, at))
    return items


@pytest.mark.parametrize("kind", [1, 2])
def test_the_real_pairs_are_those_that_differ_in_one_word(shared_data, kind):
    paths = [shared_data(f"winobias-{side}_stereotyped_type{kind}.dev.txt") for side in ("pro", "anti")]
    twins = 0
    for (one, at), (other, place) in zip(*map(raw_items, paths), strict=True):
        twins += at == place and len(one) == len(other) and one[:at] + one[at + 1 :] == other[:at] + other[at + 1 :]

    split, tally = read(open_corpus(paths), usual)

    pro, anti = (tally.cells[side_key(f"winobias type {kind}", side)] for side in ("pro", "anti"))
    assert pro.trials.sum() == anti.trials.sum() == twins > 300
    assert (pro.trials == anti.trials).all()  # twins share a cluster
    (bias,) = bias_results(tally.cells, split, Resampling.draw(int(split.confirm.sum()), bootstrap=50))
    assert bias.gap.tolist() == [1.0, 0.0]
    assert bias.n_pairs == pro.trials[split.confirm].sum()
    nearest = pro.rules.sum(axis=0)[rule_names(PROBE).index("nearest mention")] / UNIT
    second = pro.rules.sum(axis=0)[rule_names(PROBE).index("second option")] / UNIT
    if kind == 2:
        assert nearest == second == twins  # the right occupation is always the second
    else:
        assert 0.4 < nearest / twins < 0.6


def test_the_gap_is_the_mean_difference_within_pairs(shared_data):
    """On random attention, from loops over the pairs of the corpus."""
    rng = np.random.default_rng(0)
    corpus = open_corpus([shared_data(f"winobias-{side}_stereotyped_type1.dev.txt") for side in ("pro", "anti")])
    drawn = {}
    pairs = {}

    def attend(text):
        (choice,) = text.choices
        attention = rng.random((N_HEADS, len(text), len(text))).astype(np.float32)
        drawn[text.text] = attention
        weights = [
            [sum(float(attention[head, choice.query[0], word]) for word in words) for words in choice.options]
            for head in range(N_HEADS)
        ]
        if choice.pair:
            side = "pro" if "pro" in choice.tags else "anti"
            pairs.setdefault(choice.pair, {})[side] = [int(np.argmax(each)) in choice.gold for each in weights]
        return attention

    split, tally = read(corpus, attend)
    (bias,) = bias_results(tally.cells, split, Resampling.draw(int(split.confirm.sum()), bootstrap=50))

    confirmed = [pair for name, pair in pairs.items() if split.confirm[split.cluster(name, "")]]
    expected = np.mean([np.subtract(pair["pro"], pair["anti"], dtype=float) for pair in confirmed], axis=0)
    assert bias.n_pairs == len(confirmed)
    assert bias.gap == pytest.approx(expected)
