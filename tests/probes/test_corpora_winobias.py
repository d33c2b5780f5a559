"""WinoBias: two occupations, a pronoun, and twins that differ in nothing else."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from corpus_files import sentences_of, words_at, written

from attnlens.errors import CorpusError
from probes.corpora.sources import open_corpus

PRO, ANTI = "pro_stereotyped_type1.dev.txt", "anti_stereotyped_type1.dev.txt"


def read(tmp_path, name, *lines):
    return open_corpus(written(tmp_path / name, "\n".join(lines)))


def test_an_item_asks_which_occupation_the_pronoun_means(tmp_path):
    (sentence,) = sentences_of(read(tmp_path, PRO, "7 The nurse met [the construction worker] because [he] asked."))

    (choice,) = sentence.choices

    assert sentence.text == "The nurse met the construction worker because he asked."
    assert [words_at(sentence, option) for option in choice.options] == ["nurse", "construction worker"]
    assert words_at(sentence, choice.query) == "he"
    assert (choice.name, choice.gold, choice.tags, choice.pair) == ("winobias type 1", (1,), ("masculine", "pro"), "")


@pytest.mark.parametrize(
    ("line", "options", "query", "tags"),
    [
        ("1 [The CEO] hired the baker, for [she] was rich.", ["CEO", "baker"], "she", ("feminine", "anti")),
        ("1 [The chief] called the cook while [he] hid [his] hat.", ["chief", "cook"], "he", ("masculine", "pro")),
        ("1 The cook paid [ the baker] as [she] was a good baker.", ["cook", "baker"], "she", ("feminine", "pro")),
        ("1 The guard saw the [clerk] 's car and told [her] so.", ["guard", "clerk"], "her", ("feminine", "pro")),
    ],
)
def test_upper_case_second_pronouns_and_untidy_brackets(tmp_path, line, options, query, tags):
    (sentence,) = sentences_of(read(tmp_path, PRO, line))

    (choice,) = sentence.choices

    assert [words_at(sentence, option) for option in choice.options] == options
    assert words_at(sentence, choice.query) == query
    assert choice.tags == tags
    assert "[" not in sentence.text
    assert "  " not in sentence.text


def test_twins_of_two_files_are_one_document_and_share_a_pair(tmp_path):
    same = "[The nurse] met the guard because [{}] was late."
    other = "[The nurse] met the guard because [{}] {} late."
    pro = written(tmp_path / PRO, f"1 {same.format('she')}\n2 {other.format('she', 'is')}\n3 {same.format('she')}\n")
    anti = written(tmp_path / ANTI, f"1 {same.format('he')}\n2 {other.format('he', 'was')}\n")

    corpus = open_corpus([pro, anti])

    assert [s.choices[0].pair != "" for s in sentences_of(corpus)] == [True, False, False, True, False]
    assert len({s.choices[0].pair for s in sentences_of(corpus)} - {""}) == 1
    assert sorted(corpus.sizes.values()) == [1, 2, 2]
    assert all(len(part.sentences) == 1 for part in corpus.documents())
    assert corpus.name == f"{PRO} + {ANTI}"


def test_items_of_two_types_or_of_one_side_are_no_twins(tmp_path):
    line = "1 The guard met [the nurse] and thanked [{}].\n"
    files = [
        written(tmp_path / name, line.format(pronoun))
        for name, pronoun in (
            ("pro_stereotyped_type1.txt", "her"),
            ("anti_stereotyped_type2.txt", "him"),
            ("pro_stereotyped_type2.txt", "him"),
        )
    ]

    corpus = open_corpus(files)

    assert corpus.n_choices == {"winobias type 1": 1, "winobias type 2": 2}
    assert {s.choices[0].pair for s in sentences_of(corpus)} == {""}


def test_a_file_name_without_a_type_is_told(tmp_path):
    corpus = read(tmp_path, "items.txt", "1 [The nurse] met the guard because [she] was late.")

    assert corpus.n_choices == {"winobias": 1}
    assert "items.txt" in corpus.notes[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no number", "no item"),
        ("2 [The nurse] met the guard.", "no bracketed pronoun"),
        ("2 [The nurse] met the poet because [she] came.", "found nurse"),
        ("2 [The nurse] met the guard and the cook because [she] came.", "found nurse, guard, cook"),
        ("2 The nurse met the guard because [the man] said [he] came.", "brackets around one"),
    ],
)
def test_a_fault_in_a_line_is_named_and_can_be_left_out(tmp_path, line, reason):
    good = "1 [The nurse] met the guard because [she] was late."
    path = written(tmp_path / PRO, f"{good}\n{line}\n{good.replace('1', '3')}\n")

    with pytest.raises(CorpusError, match=rf"^{re.escape(PRO)}, line 2: ") as caught:
        open_corpus(path)
    kept = open_corpus(path, skip_bad=True)

    assert reason in str(caught.value)
    assert [sentence.id for sentence in sentences_of(kept)] == ["1", "3"]
    assert kept.n_skipped == 1


def real(shared_data, kind):
    return [shared_data(f"winobias-{side}_stereotyped_type{kind}.dev.txt") for side in ("pro", "anti")]


def plain(path):
    """The file's sentences as lists of words without brackets, read by other means."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [re.sub(r"[\[\]]", "", line.partition(" ")[2]).split() for line in lines]


@pytest.mark.parametrize("kind", [1, 2])
def test_every_real_item_is_read_and_its_side_is_that_of_its_file(shared_data, kind):
    for path, side in zip(real(shared_data, kind), ("pro", "anti"), strict=True):
        sentences = sentences_of(open_corpus(path))

        assert len(sentences) == 396
        assert [s.text.split() for s in sentences] == plain(path)
        assert {s.choices[0].tags[1] for s in sentences} == {side}


def test_type_1_is_balanced_and_in_type_2_the_second_occupation_is_always_right(shared_data):
    golds = {
        kind: Counter(s.choices[0].gold for s in sentences_of(open_corpus(real(shared_data, kind)[0])))
        for kind in (1, 2)
    }

    assert golds == {1: {(0,): 198, (1,): 198}, 2: {(1,): 396}}


@pytest.mark.parametrize("kind", [1, 2])
def test_real_twins_are_the_pairs_that_differ_in_one_word(shared_data, kind):
    pro, anti = real(shared_data, kind)
    one_word = [
        len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1
        for a, b in zip(plain(pro), plain(anti), strict=True)
    ]

    sentences = sentences_of(open_corpus([pro, anti]))

    assert [s.choices[0].pair != "" for s in sentences] == one_word * 2
    assert 10 <= one_word.count(False) <= 27
    assert set(Counter(s.choices[0].pair for s in sentences if s.choices[0].pair).values()) == {2}
