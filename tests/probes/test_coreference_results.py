"""From tallies to the result: the label on a head that follows chains, and what stands beside it and beside labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from probe_arrays import seen, sentence

import attnlens
from attnlens.errors import UsageError
from probes.coreference import NON_IDENTICAL, CoreferenceProbe
from probes.corpora.data import Choice, Mention
from probes.engine import run
from probes.family import rule_names
from probes.findings import Settings, find
from probes.plain import observe
from probes.split import split_units
from probes.tally import Key, Tally

PROBE = CoreferenceProbe()
N = 160
SPLIT = split_units("document", [f"d{i}" for i in range(N)])
GAP_TEXT = replace(
    sentence("Anna saw Bea . She ran"), choices=(Choice("gap", (4,), ((0,), (2,)), (0,), ("feminine",)),)
)


def chain(n_between, features):
    """`Anna`, some words with a king among them, `She`: the nearest mention is the king, the antecedent is Anna."""
    words = ["Anna", *("w" for _ in range(n_between)), "king", "w", "She"]
    she, king = len(words) - 1, len(words) - 3
    mentions = [
        Mention(entity, 0, at, at + 1, at, link="coref", again=at == she)
        for entity, at in (("1", 0), ("2", king), ("1", she))
    ]
    marked = ["_"] * len(words)
    marked[0], marked[king], marked[she] = features
    tags = ["PROPN", *(["ADV"] * n_between), "NOUN", "ADV", "PRON"]
    return sentence(" ".join(words), mentions=mentions, features=marked, upos=" ".join(tags))


def found_by(features, *, with_gap=True):
    """Head A follows the chain and is right on GAP, B follows the chain alone, C looks at the nearest mention."""
    rng = np.random.default_rng(0)
    tally = Tally(len(SPLIT.confirm), 3, rule_names(PROBE))
    for i in range(N):
        cluster = SPLIT.cluster(f"d{i}", "")
        place = {"cluster": cluster, "confirm": bool(SPLIT.confirm[cluster]), "kind": "window"}
        text = chain(int(rng.integers(0, 9)), features)
        attention = np.full((3, len(text), len(text)), 0.005)
        attention[:2, -1, 0] = 0.9
        attention[2, -1, -3] = 0.9
        observe(PROBE, tally, seen(text, attention, key=f"d{i}", **place))
        if with_gap:
            names = np.full((3, 6, 6), 0.01)
            names[0, 4, 0] = names[1, 4, 2] = names[2, 4, 2] = 0.9
            observe(PROBE, tally, seen(GAP_TEXT, names, key=f"g{i}", **place))
    settings = Settings(bootstrap=100, permutations=999)
    return find([PROBE], {PROBE.name: tally}, SPLIT, settings, heads=["A", "B", "C"])


UNMARKED = ("_", "_", "Person=3")
MARKED = ("Gender=Fem", "Gender=Masc", "Gender=Fem|Person=3")


def test_a_head_that_beats_agreement_earns_the_label_and_gap_stands_beside_it_without_deciding():
    found = found_by(UNMARKED)

    labels = {each.head: each for each in found.labels()}
    assert labels.keys() == {0, 1}
    assert all(each.scores.key == NON_IDENTICAL for each in labels.values())
    beside = {head: found.beside[PROBE.name, head] for head in labels}
    assert [row["name"] for row in beside[0]["breakdown"]] == ["pronoun", "third person"]
    assert all(row["score"] == 1.0 for row in beside[1]["breakdown"])
    assert beside[0]["support"]["gap"] == {"score": 1.0, "ci": [1.0, 1.0], "n": N // 2, "supports": True}
    assert beside[1]["support"]["gap"] == {"score": 0.0, "ci": [0.0, 0.0], "n": N // 2, "supports": False}


def test_without_gap_nothing_is_said_of_it():
    found = found_by(UNMARKED, with_gap=False)

    assert {each.head for each in found.labels()} == {0, 1}
    assert "support" not in found.beside[PROBE.name, 0]
    assert found.own == {}


def test_what_agreement_in_gender_finds_as_well_is_no_label():
    assert not found_by(MARKED).labels()


def test_what_f1_is_made_of_is_no_question():
    found = found_by(UNMARKED)

    assert not any("predicted from" in each.key.relation for each in found.scores)
    gap = found.own["gap"]
    assert [row["head"] for row in gap["heads"]] == ["A", "B", "C"]
    assert [row["f1_feminine"] for row in gap["heads"]] == [1.0, 0.0, 0.0]
    assert gap["heads"][0]["bias"] is None  # nothing masculine was asked


@pytest.mark.parametrize("side", ["pro", "anti", None])
def test_winobias_is_never_tested_and_never_labelled(side):
    key = Key("winobias type 2", side)

    assert PROBE.wording(key) is None
    assert not PROBE.conditions(key).significant
    assert "other" in PROBE.conditions(key).margins[0].over  # the nearest occupation is right throughout


ROWS = """ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL
"""


def test_a_run_over_gap_winobias_and_chains_writes_them_into_the_result(tmp_path):
    gap_file = tmp_path / "gap.tsv"
    text = "{one} thanked {two} when {pronoun} left."
    rows = []
    for i, (one, two, pronoun) in enumerate([("Ann", "Bea", "she"), ("Bob", "Carl", "he")] * 30):
        line = text.format(one=one, two=two, pronoun=pronoun)
        right = i % 3 == 0
        place = line.index(f" {pronoun} ") + 1
        cells = (f"t{i}", line, pronoun, place, one, 0, right, two, line.index(two), not right, f"http://page/{i}")
        rows.append("\t".join(map(str, cells)))
    gap_file.write_text(ROWS + "\n".join(rows) + "\n", encoding="utf-8")
    winobias = []
    for side, pronoun in (("pro", "he"), ("anti", "she")):
        path = tmp_path / f"{side}_stereotyped_type1.txt"
        items = [f"{i + 1} [The lawyer] called the nurse because [{pronoun}] was late." for i in range(40)]
        path.write_text("\n".join(items) + "\n", encoding="utf-8")
        winobias.append(path)

    report = run(
        attnlens.load("attnlens/tiny-bert"),
        "coreference",
        [gap_file, *winobias, "attnlens/grammar"],
        bootstrap=50,
        permutations=99,
        random_models=0,
    )
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))

    assert len(document["gap"]["heads"]) == 12
    assert sum(document["gap"]["n"].values()) > 0
    (bias,) = document["bias"]
    assert bias["question"] == "winobias type 1"
    assert 10 < bias["n_pairs"] < 30
    assert f"In {bias['n_pairs']} pairs" in bias["text"]
    relations = {row["relation"] for row in document["relations"]}
    assert {"gap", "gap (feminine)", "winobias type 1", "antecedent", "antecedent, open"} <= relations
    assert not any("predicted from" in name for name in relations)
    asked = next(row for row in document["relations"] if row["relation"] == "antecedent")
    assert 0 < asked["reach"] <= 1
    for head in document["heads"]:
        for label in [*head["labels"], *head["weak"]]:
            assert label["support"]["gap"]["n"] > 0
            assert {row["name"] for row in label["breakdown"]} <= {"pronoun", "proper", "nominal", "third person"}


def test_options_of_a_family_that_is_not_run_are_refused():
    with pytest.raises(UsageError, match="options of 'lexical'"):
        run(attnlens.load("attnlens/tiny-bert"), "syntax", options={"lexical": {"frequencies": "x.tsv"}})
    with pytest.raises(UsageError, match="cannot read nowhere"):
        run(attnlens.load("attnlens/tiny-bert"), "lexical", options={"lexical": {"frequencies": "nowhere.tsv"}})
    with pytest.raises(UsageError, match="the window is 0 words"):
        run(attnlens.load("attnlens/tiny-bert"), "syntax", window=0)


def test_longer_windows_reach_more_antecedents():
    lens = attnlens.load("attnlens/tiny-bert")

    reach = [
        next(
            row["reach"]
            for row in run(lens, "coreference", bootstrap=20, permutations=99, random_models=0, window=window).relations
            if row["relation"] == "antecedent"
        )
        for window in (8, 100)
    ]

    assert reach[0] < reach[1]
