"""Evidence: the most and the least attention on the target, from a sample that hides nothing and does not change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import attnlens
from attnlens.errors import UsageError
from probes.corpora.sources import open_corpus
from probes.evidence import Example, ranked

PLAIN = Example(tokens=("a", "b"), query=1, target=0, argmax=0, weight=0.5, hit=True)


def named(weights) -> list[tuple[str, Example]]:
    return [(f"d#{i:02d}", replace(PLAIN, weight=weight)) for i, weight in enumerate(weights)]


@given(weights=st.lists(st.floats(0, 1), max_size=30), per_side=st.integers(0, 12))
def test_the_best_lie_above_the_worst_and_none_is_shown_twice(weights, per_side):
    examples = named(weights)

    shown = ranked(examples, per_side)

    best = [example.weight for example in shown if example.side == "best"]
    worst = [example.weight for example in shown if example.side == "worst"]
    assert best == sorted(weights, reverse=True)[: len(best)]
    assert worst == sorted(weights)[: len(worst)]
    assert len(best) + len(worst) == min(2 * per_side, len(weights))
    assert 0 <= len(best) - len(worst) <= 1


@given(weights=st.lists(st.sampled_from([0.25, 0.5]), max_size=12), order=st.randoms())
def test_the_order_of_the_texts_does_not_matter(weights, order):
    examples = [(name, replace(each, query=i)) for i, (name, each) in enumerate(named(weights))]
    shuffled = list(examples)
    order.shuffle(shuffled)

    assert ranked(shuffled, 3) == ranked(examples, 3)


@pytest.fixture(scope="module")
def lens():
    return attnlens.load("attnlens/tiny-gpt2")


def labels_of(report) -> list[dict]:
    return [label for head in report.to_json()["heads"] for label in head["labels"] if label["examples"]]


def test_examples_are_the_models_own_weights_on_their_target(lens):
    report = lens.probe("positional", limit=200, bootstrap=50, permutations=99, random_models=0)

    label = next(label for label in labels_of(report) if label["label"] == "first-token")
    head = next(head["head"] for head in report.to_json()["heads"] if label in head["labels"])
    texts = {sentence.text for document in open_corpus(None, limit=200).documents() for sentence in document.sentences}
    short = [text for text in sorted(texts) if len(text) < 60]
    runs = {tuple(token.label for token in run.tokens): run for run in lens.captures(short, bos=True)}
    checked = 0
    for example in label["examples"]:
        if (run := runs.get(tuple(example["tokens"]))) is not None:
            weights = run.attention(head=head)
            assert float(weights[example["query"], 0]) == pytest.approx(example["weight"], abs=1e-4)
            checked += 1
    assert checked >= 3


def test_the_number_of_examples_is_a_choice_and_none_leaves_text_out(lens):
    none, two = (
        lens.probe("positional", limit=60, bootstrap=20, permutations=99, random_models=0, examples=n) for n in (0, 2)
    )

    assert not labels_of(none)
    assert {len(label["examples"]) for label in labels_of(two)} == {4}
    with pytest.raises(UsageError, match="-1 examples were asked for"):
        lens.probe("positional", limit=60, examples=-1)
