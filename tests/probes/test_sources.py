"""Opening a corpus: counted, hashed, refused in one line."""

from __future__ import annotations

import hashlib

import pytest
from probe_arrays import write_conllu

from attnlens.errors import AttnlensError, CorpusError, UsageError
from probes.corpora.sources import EMBEDDED, open_corpus

TWO = """
# newdoc id = a
1 x _ X _ _ 0 root
2 y _ X _ _ 1 dep

1 z _ X _ _ 0 root

# newdoc id = b
1 z _ X _ _ 0 root
"""


def test_a_corpus_is_counted_and_hashed_and_its_folder_stays_private(tmp_path):
    path = write_conllu(tmp_path / "two.conllu", TWO)

    corpus = open_corpus(path)

    assert (corpus.n_documents, corpus.n_sentences, corpus.n_words, corpus.n_trees) == (2, 3, 4, 3)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.name == "two.conllu"
    assert str(tmp_path) not in repr(corpus)


def test_a_corpus_can_be_walked_through_again(tmp_path):
    corpus = open_corpus(write_conllu(tmp_path / "two.conllu", TWO))

    assert list(corpus.documents()) == list(corpus.documents())


def test_limit_keeps_the_first_sentences_and_recounts(tmp_path):
    path = write_conllu(tmp_path / "two.conllu", TWO)

    corpus = open_corpus(path, limit=2)

    assert [s.forms for document in corpus.documents() for s in document.sentences] == [("x", "y"), ("z",)]
    assert (corpus.n_documents, corpus.n_sentences, corpus.n_words, corpus.limit) == (1, 2, 3, 2)


def test_without_a_name_the_embedded_corpus_is_read_and_it_serves_every_family():
    corpus = open_corpus()

    assert corpus.name == EMBEDDED
    assert corpus == open_corpus(EMBEDDED)
    assert corpus.n_trees == corpus.n_sentences > 300
    assert corpus.n_documents >= 15
    assert corpus.n_mentions > 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "missing.conllu", "no corpus"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: write_conllu(folder / "empty.conllu", ""), "empty.conllu holds no sentence"),
        (
            lambda folder: write_conllu(folder / "mixed.conllu", "1 a _ X _ _ 0 root\n\n1 b"),
            "mixed.conllu, line 3: a sentence without heads",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, make, reason):
    with pytest.raises(CorpusError, match=reason) as caught:
        open_corpus(make(tmp_path))

    assert "\n" not in str(caught.value)


def test_a_limit_below_one_is_a_usage_error():
    with pytest.raises(UsageError, match="at least 1"):
        open_corpus(limit=0)


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000])
def test_odd_names_are_refused_without_a_traceback(source):
    with pytest.raises(AttnlensError):
        open_corpus(source)
