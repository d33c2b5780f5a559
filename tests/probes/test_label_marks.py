"""What stands beside a label about its use: nothing more than an intervention has shown."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from rich.console import Console

import attnlens
from attnlens.heads import Head, in_words
from attnlens.interventions.verdicts import NOT_SUPPORTED, SUPPORTED, VOID
from attnlens.report.html import heads_report
from attnlens.report.results import parse_results
from probes.causal.badges import TOGETHER, UNTESTED
from probes.engine import run
from probes.labels import NOT_SHOWN, caveat
from probes.tables import UNPROVEN, draw


@pytest.fixture(scope="module")
def report():
    lens = attnlens.load("attnlens/tiny-llama")
    return run(lens, "positional", limit=60, bootstrap=50, random_models=0, close_reading=False, examples=0)


@pytest.fixture
def document(report):
    """Labels of three heads or more, none of them tested."""
    return copy.deepcopy(report.to_json())


def labels_of(document):
    return [label for head in document["heads"] for label in head["labels"]]


def shown(document, width=100):
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(*draw(document, width), sep="\n")
    return captured.get()


def test_a_label_without_an_intervention_says_so_in_every_form(report, document):
    frame = report.to_frame()
    text = shown(document)

    assert {label["caveat"] for label in labels_of(document)} == {NOT_SHOWN}
    assert {label["caveat"] for head in document["heads"] for label in head["weak"]} <= {None}
    assert set(frame.loc[frame["label"].notna(), "causal"]) == {"not tested"}
    assert frame.loc[frame["label"].isna(), "causal"].isna().all()
    assert text.count(UNPROVEN) == len(labels_of(document)) + 1  # and the legend
    assert " ".join(text.split()).count(document["scope"]["caveat"]) == 1
    assert f"{UNPROVEN} {NOT_SHOWN}. {document['scope']['caveat']}" in " ".join(text.split())
    page = report.to_html()
    assert page.count("Consistent with this, not shown to be used.") == len(labels_of(document))
    assert "No label here has been checked by removing the head." in page


@pytest.mark.parametrize(
    ("verdict", "missing"),
    [(SUPPORTED, None), (TOGETHER, None), (NOT_SUPPORTED, NOT_SHOWN), (VOID, NOT_SHOWN), (UNTESTED, NOT_SHOWN)],
)
def test_only_an_intervention_that_showed_use_takes_the_caveat_away(verdict, missing, judgement):
    assert caveat(replace(judgement, causal={"verdict": verdict})) == missing


@pytest.fixture
def judgement():
    from probes.family import Wording
    from probes.labels import Judgement
    from probes.scores import Scores

    scores = object.__new__(Scores)  # no number of it is asked for
    return Judgement(0, scores, Wording("x", "x"), 0.9, (0.8, 1.0), 0.1, "rule")


def test_a_near_miss_needs_no_caveat(judgement):
    assert caveat(judgement) == NOT_SHOWN
    assert caveat(replace(judgement, failed="margin 0.07 < 0.10")) is None


def test_a_head_that_others_stand_in_for_is_shown_with_them(document):
    first = labels_of(document)[0]
    first |= {
        "caveat": None,
        "causal": {"verdict": TOGETHER, "method": "edge knock-out", "together_with": ["L1H2", "L1H0", "L1H1"]},
    }
    rest = len(labels_of(document)) - 1

    text, page = shown(document), heads_report(parse_results(document))

    header = next(line for line in text.splitlines() if line.startswith("head "))
    column = " ".join(line[header.index("label") : header.index("score")].strip() for line in text.splitlines())
    assert "(causal: supported together with L1H0 to L1H2, not alone)" in " ".join(column.split())
    assert text.count(UNPROVEN) == rest + 1
    assert "with L1H0 to L1H2, not alone" in page
    assert page.count("Consistent with this, not shown to be used.") == rest
    assert "No label here has been checked" not in page


def test_heads_in_words_keep_stretches_within_one_layer_and_stack():
    heads = [Head(0, 2), Head(0, 3), Head(1, 0), Head(1, 1), Head(1, 2), Head(1, 2, "E")]

    assert in_words(heads[::-1]) == "L0H2, L0H3, L1H0 to L1H2, EL1H2"
    assert in_words([]) == ""
