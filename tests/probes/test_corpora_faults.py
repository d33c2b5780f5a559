"""Faults in treebanks and texts: named by line, or left out, counted and told; memory that does not grow."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from corpus_files import TREES, gap_file, gap_row, sentences_of, written

from attnlens.errors import CorpusError
from probes.corpora.sources import open_corpus, told

ROW = "{}\t{}\t_\tX\t_\t_\t{}\t{}\t_\t{}"


def rows(*words, misc="_"):
    """A sentence of words (form, head), heads counted from 1."""
    return "\n".join(
        ROW.format(number, form, head, "root" if head == 0 else "dep", misc if number == 1 else "_")
        for number, (form, head) in enumerate(words, 1)
    )


BAD = {
    "cycle": (rows(("x", 2), ("y", 1)), 0, "a cycle of heads: 1 -> 2 -> 1"),
    "two roots": (rows(("x", 0), ("y", 0)), 0, "2 words with HEAD 0"),
    "head outside": (rows(("x", 0), ("y", 3)), 1, "HEAD 3 in a sentence of 2 words"),
    "head missing": (rows(("x", 0), ("y", "_")), 1, "no HEAD"),
    "no heads at all": (rows(("x", "_"), ("y", "_")), 0, "a sentence without heads"),
    "columns": ("1\tx\t_", 0, "3 columns, not 10"),
    "no words": ("# sent_id = e", 0, "a sentence without words"),
    "empty document": ("# newdoc id = e", 0, "an empty document without words"),
    "text": ("# text = other\n" + rows(("x", 0)), 0, "does not spell the word 'x'"),
    "brackets": ("# global.Entity = GRP-etype\n" + rows(("x", 0), misc="Entity=(1-person"), 0, "opened and not closed"),
    "no fields": (rows(("x", 0), misc="Entity=(1-person)"), 0, "without a `# global.Entity` line"),
    "NUL": (rows(("x\0", 0)), 0, "a NUL character"),
    "NUL in a comment": ("# note = \0\n" + rows(("x", 0)), 0, "a NUL character"),
    "not UTF-8": (rows(("x\udce9", 0)), 0, "not UTF-8"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_sentence_with_a_fault_is_named_and_can_be_left_out(tmp_path, fault):
    bad, line, reason = BAD[fault]
    whole = written(tmp_path / "good.conllu", "\n\n".join(TREES))
    text = "\n\n".join([*TREES[:2], bad, TREES[2]])
    path = written(tmp_path / "bad.conllu", text.encode(errors="surrogateescape"))
    first = sum(part.count("\n") + 2 for part in TREES[:2]) + 1

    with pytest.raises(CorpusError, match=rf"^bad\.conllu, line {first + line}: ") as caught:
        open_corpus(path)
    kept = open_corpus(path, skip_bad=True)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [s.forms for s in sentences_of(kept)] == [s.forms for s in sentences_of(open_corpus(whole))]
    assert (kept.n_sentences, kept.n_trees, kept.n_skipped) == (3, 3, 1)
    assert reason in kept.skipped[0]


def test_mentions_after_a_sentence_that_was_left_out_lie_in_their_own_sentence(tmp_path):
    header = "# global.Entity = GRP-etype\n"
    one = rows(("x", 0), misc="Entity=(1-person)")
    for bad in (rows(("x", 0), ("y", 0)), rows(("x", "_"))):
        path = written(tmp_path / "e.conllu", "\n\n".join([header + one, bad, one]))

        (document,) = open_corpus(path, skip_bad=True).documents()

        assert [m.sentence for sentence in document.sentences for m in sentence.mentions] == [0, 1]


def test_only_the_first_ten_faults_are_kept_and_all_are_counted(tmp_path):
    path = written(tmp_path / "g.tsv", gap_file(gap_row(), *[gap_row(A_offset=1)] * 25))

    corpus = open_corpus(path, skip_bad=True)

    assert corpus.n_skipped == 25
    assert [fault.split(":")[0] for fault in corpus.skipped] == [f"g.tsv, line {line}" for line in range(3, 13)]
    assert told(corpus)[0] == "left out of g.tsv, sentences or rows with a fault: 25, the first 10:"


def test_a_file_of_nothing_but_faults_holds_no_sentence_and_says_why(tmp_path):
    path = written(tmp_path / "g.tsv", gap_file(gap_row(A_offset=1)))

    with pytest.raises(CorpusError, match=r"g\.tsv holds no sentence: all 1 were left out, the first: g\.tsv, line 2"):
        open_corpus(path, skip_bad=True)


def test_skipping_changes_nothing_where_there_is_no_fault(tmp_path):
    path = written(tmp_path / "good.conllu", "\n\n".join(TREES))

    assert open_corpus(path, skip_bad=True) == open_corpus(path)


def test_relations_of_other_schemes_are_accepted_and_told(tmp_path):
    text = TREES[0].replace("nsubj", "SBJ") + "\n\n" + TREES[0].replace("nsubj", "nsubj:own")
    path = written(tmp_path / "ptb.conllu", text)

    corpus = open_corpus(path)

    assert sentences_of(corpus)[0].relations == ("SBJ", "root")
    assert [note.partition(":")[2] for note in corpus.notes] == [" SBJ (ptb.conllu, line 1)."]
    assert "not of Universal Dependencies" in corpus.notes[0]


def test_a_sentence_of_thousands_of_words_is_read(tmp_path):
    n_words = 5000
    chain = rows(*[(f"w{number}", number + 1 if number < n_words else 0) for number in range(1, n_words + 1)])

    (sentence,) = sentences_of(open_corpus(written(tmp_path / "long.conllu", chain)))

    assert len(sentence) == n_words
    assert sentence.heads[:2] == (1, 2)


@pytest.mark.parametrize("bad", [b"caf\xe9 au lait", b"nul \0 here"])
def test_a_line_of_text_that_cannot_be_decoded_is_named_and_can_be_left_out(tmp_path, bad):
    path = written(tmp_path / "t.txt", b"One.\n" + bad + b"\nThree.\n")

    with pytest.raises(CorpusError, match=r"^t\.txt, line 2: "):
        open_corpus(path)
    kept = open_corpus(path, skip_bad=True)

    assert [s.text for s in sentences_of(kept)] == ["One.", "Three."]
    assert kept.n_skipped == 1


def test_reading_is_lazy_a_fault_at_the_end_is_met_at_the_end(tmp_path):
    from probes.corpora.conllu import read_documents

    text = "\n\n".join(f"# newdoc id = {number}\n{TREES[0]}" for number in range(3)) + "\n\n1\tx\n"
    documents = read_documents(written(tmp_path / "c.conllu", text), "c.conllu")

    assert [next(documents).id, next(documents).id] == ["0", "1"]
    with pytest.raises(CorpusError, match="2 columns"):
        list(documents)


def peak_of_walking(path: Path) -> int:
    """The most bytes that Python holds at once while a corpus is walked through, beyond what it held before."""
    corpus = open_corpus(path)
    gc.collect()
    gc.freeze()  # how often garbage is collected depends on how many objects stay, here on those of the walk alone
    tracemalloc.start()
    try:
        assert sum(1 for _ in corpus.documents()) > 1
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


@pytest.mark.parametrize("kind", ["conllu", "tsv", "txt"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, kind):
    """Ten times the documents: but for their names, the peak of what Python allocates stays within a tenth."""
    parts = {
        "conllu": lambda number: f"# newdoc id = {number}\n{TREES[0]}\n\n" * 3,
        "tsv": lambda number: gap_row(str(number), page=str(number % 5)) + "\n",
        "txt": lambda number: "some words of a line\n" * 3 + "\n",
    }
    head = gap_file() if kind == "tsv" else ""
    peaks = []
    for n_documents in (50, 50, 500):  # the first round fills caches
        content = head + "".join(map(parts[kind], range(n_documents)))
        peaks.append(peak_of_walking(written(tmp_path / f"{n_documents}.{kind}", content)))

    assert peaks[2] < 1.1 * peaks[1] + 450 * 600  # names of documents are kept to tell them apart
