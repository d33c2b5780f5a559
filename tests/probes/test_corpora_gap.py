"""GAP: rows, offsets, and the baselines that are published for its development file."""

from __future__ import annotations

import pytest
from corpus_files import GAP_TEXT, gap_file, gap_row, sentences_of, words_at, written

from attnlens.errors import CorpusError
from probes.corpora.sources import open_corpus


def test_a_row_asks_which_name_the_pronoun_means(tmp_path):
    (sentence,) = sentences_of(open_corpus(written(tmp_path / "g.tsv", gap_file(gap_row()))))

    (choice,) = sentence.choices

    assert sentence.text == GAP_TEXT
    assert [words_at(sentence, option) for option in choice.options] == ["Ada", "Grace Hopper"]
    assert words_at(sentence, choice.query) == "she"
    assert (choice.name, choice.gold, choice.tags) == ("gap", (1,), ("feminine",))


@pytest.mark.parametrize(
    ("a", "b", "gold"), [("TRUE", "FALSE", (0,)), ("FALSE", "FALSE", ()), ("true", "true", (0, 1))]
)
def test_none_one_or_both_names_may_be_right(tmp_path, a, b, gold):
    path = written(tmp_path / "g.tsv", gap_file(gap_row(A_coref=a, B_coref=b)))

    assert sentences_of(open_corpus(path))[0].choices[0].gold == gold


def test_a_name_inside_a_run_of_letters_is_a_word_of_its_own(tmp_path):
    text = "阿达见了格蕾丝后她走了"
    path = written(tmp_path / "g.tsv", gap_file(gap_row(text=text, Pronoun="她", A="阿达", B="格蕾丝")))

    (sentence,) = sentences_of(open_corpus(path))

    assert sentence.forms == ("阿达", "见了", "格蕾丝", "后", "她", "走了")


def test_rows_of_one_page_are_one_document_and_never_one_window(tmp_path):
    rows = [gap_row("g-1"), gap_row("g-2"), gap_row("g-3", page="http://example.org/q"), gap_row("g-4")]
    corpus = open_corpus(written(tmp_path / "g.tsv", gap_file(*rows)))

    parts = list(corpus.documents())

    assert [len(part.sentences) for part in parts] == [1, 1, 1, 1]
    assert corpus.sizes == {"http://example.org/p": 3, "http://example.org/q": 1}
    assert len({part.key(0) for part in parts}) == 4
    assert [part.first for part in parts] == [0, 1, 0, 2]


def test_columns_are_found_by_name(tmp_path):
    table = [line.split("\t") for line in gap_file(gap_row()).splitlines()]
    turned = "\n".join("\t".join(reversed(cells)) for cells in table)
    straight = written(tmp_path / "a.tsv", gap_file(gap_row()))

    assert sentences_of(open_corpus(written(tmp_path / "b.tsv", turned))) == sentences_of(open_corpus(straight))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (gap_row(A_offset=1), "A-offset 1 points at 'da ', not at 'Ada', which stands at 0"),
        (gap_row(B_offset=GAP_TEXT.index("Grace") - 1), "points at ' Grace Hoppe'"),
        (gap_row(Pronoun="it", Pronoun_offset=0), "nowhere in the text"),
        (gap_row(A_offset=-1), "A-offset is '-1'"),
        (gap_row(A_offset="9" * 5000), "A-offset is '999"),
        (gap_row(A_offset=""), "A-offset is ''"),
        (gap_row(A="", A_offset=0), "the column A is empty"),
        (gap_row(B_coref="maybe"), "B-coref is 'maybe'; expected TRUE or FALSE"),
        (gap_row(A="Grace", A_offset=GAP_TEXT.index("Grace")), "A and B overlap"),
        ("g-1\tonly three\tcells", "3 columns, not 11"),
        (gap_row() + "\tmore", "12 columns, not 11"),
    ],
)
def test_a_fault_in_a_row_is_named_by_line_and_can_be_left_out(tmp_path, row, reason):
    path = written(tmp_path / "g.tsv", gap_file(gap_row("g-0"), row, gap_row("g-2")))

    with pytest.raises(CorpusError, match=r"^g\.tsv, line 3: ") as caught:
        open_corpus(path)
    kept = open_corpus(path, skip_bad=True)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [sentence.id for sentence in sentences_of(kept)] == ["g-0", "g-2"]
    assert (kept.n_skipped, kept.skipped) == (1, (str(caught.value),))


def test_a_table_without_a_column_is_refused_whatever_may_be_skipped(tmp_path):
    path = written(tmp_path / "g.tsv", gap_file(gap_row()).replace("A-coref", "A-guess"))

    with pytest.raises(CorpusError, match=r"g\.tsv, line 1: the header lacks A-coref"):
        open_corpus(path, skip_bad=True)


@pytest.fixture(scope="module")
def gap(shared_data):
    return sentences_of(open_corpus(shared_data("gap-development.tsv")))


def starts(sentence):
    """Where the pronoun and the two names begin, in characters."""
    (choice,) = sentence.choices
    return [sentence.spans[words[0]][0] for words in (choice.query, *choice.options)]


def share(hits):
    hits = list(hits)
    return sum(hits) / len(hits)


def nearest_is_right(sentence):
    pronoun, a, b = starts(sentence)
    return (0 if abs(a - pronoun) < abs(b - pronoun) else 1) in sentence.choices[0].gold


def test_real_rows_and_baselines_are_the_published_ones(gap):
    """2,000 rows, 1,799 with a name that is right; nearest 52.2 %, always B 51.4 %; half are feminine."""
    usable = [sentence for sentence in gap if sentence.choices[0].gold]

    assert (len(gap), len(usable)) == (2000, 1799)
    assert share(map(nearest_is_right, usable)) == pytest.approx(0.522, abs=0.0005)
    assert share(1 in s.choices[0].gold for s in usable) == pytest.approx(0.514, abs=0.0005)
    assert sum(s.choices[0].tags == ("feminine",) for s in gap) == 1000


def test_in_353_real_rows_the_name_follows_the_pronoun(gap):
    """Which leaves 1,504 rows with both names before it, where the nearest is right in 50.4 % of those with a gold."""
    follows = [any(starts(s)[1 + index] > starts(s)[0] for index in s.choices[0].gold) for s in gap]
    before = [s for s in gap if max(starts(s)[1:]) < starts(s)[0]]

    assert sum(follows) == 353
    assert len(before) == 1504
    assert share(map(nearest_is_right, [s for s in before if s.choices[0].gold])) == pytest.approx(0.504, abs=0.0005)


def test_real_words_spell_their_texts(gap):
    for sentence in gap:
        assert tuple(sentence.text[start:end] for start, end in sentence.spans) == sentence.forms
