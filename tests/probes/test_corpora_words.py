"""Texts without words: how they are cut, and that what is marked always consists of whole words."""

from __future__ import annotations

import json

import pytest
from corpus_files import link_row, sentences_of, words_at, written
from hypothesis import given
from hypothesis import strategies as st

from attnlens.errors import CorpusError
from probes.corpora.plain_words import split_words, words_in
from probes.corpora.sources import open_corpus

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_words_are_runs_of_letters_and_single_signs():
    text = "Don't pay $5.50, naïve_1 हिन्दी!"

    words = [text[start:end] for start, end in split_words(text)]

    assert words == ["Don", "'", "t", "pay", "$", "5", ".", "50", ",", "naïve_1", "हिन्दी", "!"]


@given(text=TEXTS, cuts=st.lists(st.integers(-3, 50), max_size=5))
def test_words_are_in_order_and_hold_every_character_but_blanks(text, cuts):
    spans = split_words(text, cuts)

    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(start < end for start, end in spans)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())


@given(text=TEXTS, data=st.data())
def test_what_is_marked_consists_of_whole_words(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    spans = split_words(text, (start, end))
    words = words_in(spans, start, end)

    assert "".join(text[slice(*spans[word])] for word in words) == "".join(text[start:end].split())


@given(data=st.data())
def test_a_link_survives_the_file(tmp_path_factory, data):
    text = data.draw(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
    )
    marked = {}
    for key in ("source", "target"):
        start = data.draw(st.integers(0, len(text) - 1))
        marked[key] = [start, data.draw(st.integers(start + 1, len(text)))]
    row = {"text": text, "relation": "r", **marked}
    path = written(tmp_path_factory.mktemp("links") / "p.jsonl", json.dumps(row))
    blank = any(not text[slice(*span)].strip() for span in marked.values())

    if blank:
        with pytest.raises(CorpusError, match="line 1"):
            open_corpus(path)
    else:
        (sentence,) = sentences_of(open_corpus(path))
        (link,) = sentence.links
        assert sentence.text == text
        assert words_at(sentence, link.source) == text[slice(*marked["source"])].strip()
        assert words_at(sentence, link.target) == text[slice(*marked["target"])].strip()


def test_lines_that_follow_each_other_with_one_text_are_one_sentence(tmp_path):
    rows = [
        link_row("The king sleeps", "subject", "sleeps", "king"),
        link_row("The king sleeps", "article", "king", "The"),
        link_row("So do I", "subject", "do", "I", document="d"),
        link_row("We too", "who", "too", "We", document="d"),
        link_row("The king sleeps", "subject", "sleeps", "king"),
    ]

    corpus = open_corpus(written(tmp_path / "p.jsonl", "\n".join(rows)))

    assert [(s.text, [link.relation for link in s.links]) for s in sentences_of(corpus)] == [
        ("The king sleeps", ["subject", "article"]),
        ("So do I", ["subject"]),
        ("We too", ["who"]),
        ("The king sleeps", ["subject"]),
    ]
    assert corpus.n_links == 5
    assert corpus.sizes == {"line 1": 1, "d": 2, "line 5": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": [0, 99]}, "'source' is [0, 99] in a text of 9 characters"),
        ({"source": [-1, 2]}, "'source' is [-1, 2]"),
        ({"target": [3, 3]}, "'target' is [3, 3]"),
        ({"target": [3, 4]}, "only blanks"),
        ({"target": "king"}, "expected the characters [start, end]"),
        ({"target": [True, 4]}, "expected the characters [start, end]"),
        ({"relation": ""}, "'relation' is missing or no text"),
        ({"relation": 5}, "'relation' is missing or no text"),
        ({"text": None}, "'text' is missing or no text"),
        ({"text": "\ud800 king he"}, "not UTF-8"),
        ({"document": ["d"]}, "'document' is missing or no text"),
    ],
)
def test_a_fault_in_a_line_is_named_and_can_be_left_out(tmp_path, change, reason):
    good = {"text": "The kings", "relation": "r", "source": [0, 3], "target": [4, 9]}
    lines = [json.dumps(each) for each in (good, good | change, good | {"text": "Two kings"})]
    path = written(tmp_path / "p.jsonl", "\n".join(lines))

    with pytest.raises(CorpusError, match=r"^p\.jsonl, line 2: ") as caught:
        open_corpus(path)
    kept = open_corpus(path, skip_bad=True)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [sentence.text for sentence in sentences_of(kept)] == ["The kings", "Two kings"]
    assert kept.n_skipped == 1


@pytest.mark.parametrize("line", ["{", "[1]", "null", "[" * 100_000])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    path = written(tmp_path / "p.jsonl", f"{link_row('The king', 'r', 'The', 'king')}\n{line}\n")

    with pytest.raises(CorpusError, match=r"^p\.jsonl, line 2: no JSON object"):
        open_corpus(path)
