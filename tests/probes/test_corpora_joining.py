"""Several files are one corpus: names, sums, order, and what the command line makes of them."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
from corpus_files import TREES, gap_file, gap_row, link_row, sentences_of, written

from attnlens.errors import CorpusError, UsageError
from probes.corpora.sources import EMBEDDED, open_corpus
from probes.split import split_corpus

TREEBANK = "\n\n".join(f"# newdoc id = d{number}\n{tree}" for number, tree in enumerate(TREES))


@pytest.fixture
def files(tmp_path):
    """A treebank, a GAP table, relations of one's own and plain text."""
    return [
        written(tmp_path / "a.conllu", TREEBANK),
        written(tmp_path / "g.tsv", gap_file(gap_row(), gap_row("g-2", page="other"))),
        written(tmp_path / "p.jsonl", link_row("The king", "article", "king", "The", document="d0")),
        written(tmp_path / "t.txt", "One.\n\nTwo.\n"),
    ]


def test_files_of_several_formats_become_one_corpus_in_their_order(files):
    corpus = open_corpus(files)
    alone = [open_corpus(path) for path in files]

    assert corpus.name == "a.conllu + g.tsv + p.jsonl + t.txt"
    assert sentences_of(corpus) == [sentence for each in alone for sentence in sentences_of(each)]
    for count in ("n_sentences", "n_documents", "n_words", "n_trees", "n_mentions", "n_links"):
        assert getattr(corpus, count) == sum(getattr(each, count) for each in alone)
    assert corpus.n_choices == {"gap": 2}
    digests = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    assert corpus.sha256 == hashlib.sha256(digests.encode()).hexdigest()


def test_only_ids_that_two_files_have_get_the_name_in_front(files):
    corpus = open_corpus(files)

    assert list(corpus.sizes)[:3] == ["a.conllu: d0", "d1", "d2"]
    assert list(corpus.sizes)[5] == "p.jsonl: d0"
    assert {document.id for document in corpus.documents()} == set(corpus.sizes)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    folders = [tmp_path / "x", tmp_path / "y"]
    for folder in folders:
        folder.mkdir()
    corpus = open_corpus([written(folder / "a.conllu", TREEBANK) for folder in folders])

    assert corpus.n_documents == 6
    assert list(corpus.sizes)[3] == "a.conllu (2): d0"
    assert str(tmp_path) not in repr(corpus)
    keys = [document.key(i) for document in corpus.documents() for i in range(len(document.sentences))]
    assert len(set(keys)) == 6


def test_one_file_in_a_list_is_that_file(files):
    assert open_corpus(files[:1]) == open_corpus(files[0])


def test_an_open_corpus_and_the_embedded_one_can_be_joined(files):
    corpus = open_corpus([open_corpus(files[0]), EMBEDDED])

    assert corpus.name == f"a.conllu + {EMBEDDED}"
    assert corpus.n_sentences == 3 + open_corpus().n_sentences


def test_the_limit_counts_over_all_files(files):
    corpus = open_corpus(files, limit=4)

    assert [len(s.choices) for s in sentences_of(corpus)] == [0, 0, 0, 1]
    assert (corpus.n_sentences, corpus.limit, corpus.n_choices) == (4, 4, {"gap": 1})


def test_what_was_left_out_of_each_file_adds_up(tmp_path):
    one = written(tmp_path / "one.tsv", gap_file(gap_row(), gap_row(A_offset=1)))
    two = written(tmp_path / "two.conllu", TREEBANK.replace("nsubj", "SBJ") + "\n\n1\tx\n")

    corpus = open_corpus([one, two], skip_bad=True)

    assert corpus.n_skipped == 2
    assert [fault.split(",")[0] for fault in corpus.skipped] == ["one.tsv", "two.conllu"]
    assert len(corpus.notes) == 1


def test_the_digest_is_over_the_files_in_their_order_also_where_some_are_read_together(tmp_path):
    line = "1 The guard met [the nurse] and thanked [{}].\n"
    files = [
        written(tmp_path / "pro_stereotyped_type2.txt", line.format("her")),
        written(tmp_path / "a.conllu", TREEBANK),
        written(tmp_path / "anti_stereotyped_type2.txt", line.format("him")),
    ]

    digests = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)

    assert open_corpus(files).sha256 == hashlib.sha256(digests.encode()).hexdigest()


def test_a_file_that_is_named_twice_is_refused(files, tmp_path):
    (tmp_path / "link.conllu").symlink_to(files[0])

    for again in (files[0], tmp_path / "link.conllu"):
        with pytest.raises(CorpusError, match=rf"{again.name} is named twice"):
            open_corpus([files[0], again])


def test_an_empty_list_is_a_usage_error():
    with pytest.raises(UsageError, match="no corpus in the list"):
        open_corpus([])


def test_a_fault_in_any_file_is_named(files, tmp_path):
    with pytest.raises(CorpusError, match=r"^bad\.conllu, line 1: "):
        open_corpus([*files, written(tmp_path / "bad.conllu", "1\tx\n")])


def test_a_joined_corpus_can_be_sent_to_another_process(files):
    corpus = open_corpus(files, limit=5)

    again = pickle.loads(pickle.dumps(corpus))

    assert again == corpus
    assert list(again.documents()) == list(corpus.documents())


def test_every_document_of_a_joined_corpus_has_its_cluster(files):
    corpus = open_corpus(files)
    split = split_corpus(corpus)

    clusters = [
        split.cluster(document.id, document.key(index))
        for document in corpus.documents()
        for index in range(len(document.sentences))
    ]

    assert sorted(clusters) == list(range(corpus.n_sentences))


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    from random_models import random_bert

    folder = tmp_path_factory.mktemp("models") / "bert"
    model, tokenizer = random_bert()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def probe(capsys, *arguments):
    from attnlens.cli import main

    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["probe", *map(str, arguments)])
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


@pytest.mark.parametrize("between", [["-c"], []], ids=["-c A -c B", "-c A B"])
def test_the_command_takes_several_files_and_the_result_names_them(capsys, files, bert_folder, between):
    arguments = ["-c", files[0], *between, files[1], "-m", bert_folder, "--json"]

    code, out, _ = probe(capsys, "syntax", *arguments)

    assert code == 0
    corpus = json.loads(out)["corpus"]
    assert (corpus["name"], corpus["n_sentences"], corpus["n_faults"]) == ("a.conllu + g.tsv", 5, 0)


def test_the_command_leaves_out_only_when_told_and_then_says_so(capsys, tmp_path, bert_folder):
    path = written(tmp_path / "bad.conllu", TREEBANK.replace("nsubj", "SBJ") + "\n\n1\tx\n")
    arguments = ["positional", "-c", path, "-m", bert_folder, "--json"]

    refused, _, refusal = probe(capsys, *arguments)
    code, out, err = probe(capsys, *arguments, "--skip-bad")

    fault = "bad.conllu, line 14: 2 columns, not 10 separated by tabs."
    assert (refused, code) == (1, 0)
    assert fault in refusal
    assert fault in err
    assert "SBJ (bad.conllu, line 1)" in err
    corpus = json.loads(out)["corpus"]
    assert (corpus["n_sentences"], corpus["n_faults"], corpus["faults"]) == (3, 1, [fault])
    assert "SBJ" in corpus["notes"][0]
