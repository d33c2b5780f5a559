"""Which format a file has is told by what stands in it."""

from __future__ import annotations

import gzip

import pytest
from corpus_files import TREES, blimp_row, gap_file, gap_row, link_row, sentences_of, words_at, written

from attnlens.errors import CorpusError
from probes.corpora.files import Source
from probes.corpora.formats import FORMATS, format_of
from probes.corpora.sources import open_corpus

FILES = {
    "CoNLL-U": "\n\n".join(TREES) + "\n",
    "GAP": gap_file(gap_row()),
    "BLiMP": blimp_row("A niece of guests sleeps.", "A niece of guests sleep.") + "\n",
    "pairs": link_row("The king sleeps", "subject", "sleeps", "king") + "\n",
    "WinoBias": "1 [The nurse] met the baker because [she] was late.\n",
    "plain text": "The keys rust.\nYes!\n\nNo.\n",
}


def test_every_format_has_a_file_here():
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("extension", ["", ".txt"])
@pytest.mark.parametrize("name", FILES)
def test_the_content_tells_the_format_whatever_the_file_is_called(tmp_path, name, extension):
    path = written(tmp_path / f"file{extension}", FILES[name])

    assert format_of(Source(path, path.name)).name == name
    assert open_corpus(path).n_sentences > 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.removesuffix(b"\n"),
        gzip.compress,
    ],
    ids=["byte order mark", "CRLF", "CR", "no end", "gzip"],
)
def test_marks_line_ends_and_packing_make_no_difference(tmp_path, name, change):
    plain = written(tmp_path / "plain.txt", FILES[name])
    changed = written(tmp_path / "changed.txt", change(FILES[name].encode()))

    assert sentences_of(open_corpus(changed)) == sentences_of(open_corpus(plain))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.tsv", "a\tb\tc\n1\t2\t3\n"),
        ("table.txt", "a\tb\tc\nx\ty\tz\n"),
        ("other.jsonl", '{"sentence": "a"}\n'),
        ("page.html", "<p>text</p>\n"),
        ("broken.json", "{\n"),
    ],
)
def test_other_files_are_refused_with_the_list_of_formats(tmp_path, name, content):
    path = written(tmp_path / name, content)

    with pytest.raises(CorpusError, match="no format that attnlens reads") as caught:
        open_corpus(path)

    assert all(each in str(caught.value) for each in FORMATS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty.conllu", "empty.tsv", "empty.txt", "empty.jsonl", "empty"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_holds_no_sentence(tmp_path, name, content):
    with pytest.raises(CorpusError, match=rf"^{name} holds no sentence"):
        open_corpus(written(tmp_path / name, content))


@pytest.mark.parametrize("cut", [5, 30])
def test_a_damaged_gzip_file_is_refused_in_one_line(tmp_path, cut):
    path = written(tmp_path / "cut.conllu.gz", gzip.compress(FILES["CoNLL-U"].encode())[:-cut])

    with pytest.raises(CorpusError, match=r"cut\.conllu\.gz is a damaged gzip file"):
        open_corpus(path)


def test_utf16_is_named_as_such(tmp_path):
    with pytest.raises(CorpusError, match=r"w\.txt is UTF-16"):
        open_corpus(written(tmp_path / "w.txt", "Text from Notepad.".encode("utf-16")))


def test_minimal_pairs_of_agreement_ask_for_the_subject(tmp_path):
    rows = [
        blimp_row("A newspaper article about the Borgias has won.", "A newspaper article about the Borgias have won."),
        blimp_row("Boys that aren't disturbing Natalie suffer.", "Boys that aren't disturbing Natalie suffers."),
    ]

    sentences = sentences_of(open_corpus(written(tmp_path / "p.jsonl", "\n".join(rows))))

    assert [[words_at(s, option) for option in s.choices[0].options] for s in sentences] == [
        ["article", "Borgias"],
        ["Boys", "Natalie"],
    ]
    assert [words_at(s, s.choices[0].query) for s in sentences] == ["has", "suffer"]
    assert all((s.choices[0].name, s.choices[0].gold) == ("agreement", (0,)) for s in sentences)


def test_other_minimal_pairs_are_texts_without_a_question(tmp_path):
    path = written(tmp_path / "p.jsonl", blimp_row("Susan hurt herself.", "Susan hurt himself.", "anaphor_gender"))

    (sentence,) = sentences_of(open_corpus(path))

    assert (sentence.text, sentence.choices) == ("Susan hurt herself.", ())


def test_blimp_is_read_as_the_interventions_read_it(shared_data):
    """The verb is where the file says, the attractor the word before it; all subjects are nouns of relations."""
    import json

    from attnlens.interventions.pairs import read_blimp

    path = shared_data("blimp/distractor_agreement_relational_noun.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    sentences = sentences_of(open_corpus(path))

    assert [sentence.text for sentence in sentences] == [pair.good for pair in read_blimp(path)]
    for row, sentence in zip(rows, sentences, strict=True):
        (choice,) = sentence.choices
        subject, attractor = (words_at(sentence, option) for option in choice.options)
        assert words_at(sentence, choice.query) == row["one_prefix_word_good"].split()[0]
        assert sentence.spans[choice.query[0]][0] == len(row["one_prefix_prefix"]) + 1
        assert attractor == row["one_prefix_prefix"].split()[-1]
        assert row["one_prefix_prefix"].split()[1:3] in ([subject, "of"], [subject, "about"], ["newspaper", subject])


@pytest.mark.parametrize("paradigm", ["anaphor_gender_agreement", "regular_plural_subject_verb_agreement_1"])
def test_real_minimal_pairs_without_a_distractor_ask_nothing(shared_data, paradigm):
    corpus = open_corpus(shared_data(f"blimp/{paradigm}.jsonl"))

    assert (corpus.n_sentences, corpus.n_choices) == (1000, {})


def test_plain_text_is_lines_and_blank_lines(tmp_path):
    path = written(tmp_path / "t.txt", "  One line.\nTwo lines. Both.\n\n \nNew document.\n")

    documents = list(open_corpus(path).documents())

    assert [[s.text for s in document.sentences] for document in documents] == [
        ["One line.", "Two lines. Both."],
        ["New document."],
    ]
    assert [s.line for document in documents for s in document.sentences] == [1, 2, 5]


def test_a_long_line_is_cut_at_sentence_ends_and_nothing_is_lost(tmp_path):
    line = "Dr. No said: “Go!” " + "word " * 60 + "end. And (what?) then… 終わり。次。"
    path = written(tmp_path / "t.txt", line)

    texts = [s.text for s in sentences_of(open_corpus(path))]

    assert texts[-3:] == ["then…", "終わり。", "次。"]
    assert "".join(texts).replace(" ", "") == line.replace(" ", "")


def test_a_treebank_of_the_published_size(shared_data):
    ewt, gum = (open_corpus(shared_data(f"en_{name}-ud-dev.conllu")) for name in ("ewt", "gum"))

    assert (ewt.n_sentences, ewt.n_trees) == (2001, 2001)
    assert (gum.n_sentences, gum.n_trees, gum.n_documents, gum.n_mentions) == (1575, 1575, 30, 7897)
    assert ewt.notes == gum.notes == ()


def test_named_mentions_are_those_with_an_identity(shared_data):
    """Counted by hand: the eighth field, which may hold hyphens, is there and not empty."""
    import re

    path = shared_data("en_gum-ud-dev.conllu")
    opened = re.findall(r"\((\d+(?:-[^()|]*)?)", "\n".join(re.findall(r"Entity=(\S+)", path.read_text("utf-8"))))

    mentions = [mention for sentence in sentences_of(open_corpus(path)) for mention in sentence.mentions]

    assert len(opened) == len(mentions)
    assert sum(mention.named for mention in mentions) == sum(len(each.split("-", 7)) == 8 for each in opened) > 500
