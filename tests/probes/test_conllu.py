"""Reading CoNLL-U: what a word is, where it stands in the text, and what is refused with the line."""

from __future__ import annotations

import pytest
from probe_arrays import write_conllu

from attnlens.errors import CorpusError
from probes.corpora.conllu import read_documents

TREE = """
# newdoc id = first
# sent_id = a
# text = I don't know.
1    I     I  PRON  _ _ 4 nsubj
2-3  don't _ _     _ _ _ _
2    do    _ AUX   _ _ 4 aux
3    n't   _ PART  _ _ 4 advmod
4    know  _ VERB  _ _ 0 root _ SpaceAfter=No
4.1  it    _ PRON  _ _ _ _
5    .     _ PUNCT _ _ 4 punct

# sent_id = b
1    Yes   _ INTJ  _ _ 0 root _ SpaceAfter=No
2    !     _ PUNCT _ _ 1 punct

# newdoc id = second
# text = No
1    No    _ INTJ  _ _ 0 root
"""


def read(path):
    return list(read_documents(path, path.name))


def test_words_leave_out_multiword_and_empty_rows_and_heads_count_from_zero(tmp_path):
    documents = read(write_conllu(tmp_path / "c.conllu", TREE))

    first = documents[0].sentences[0]

    assert [document.id for document in documents] == ["first", "second"]
    assert first.forms == ("I", "do", "n't", "know", ".")
    assert first.heads == (3, 3, 3, -1, 3)
    assert first.relations == ("nsubj", "aux", "advmod", "root", "punct")
    assert first.upos == ("PRON", "AUX", "PART", "VERB", "PUNCT")


def test_spans_cut_the_words_out_of_the_raw_text_multiword_tokens_by_characters(tmp_path):
    sentence = read(write_conllu(tmp_path / "c.conllu", TREE))[0].sentences[0]

    assert [sentence.text[start:end] for start, end in sentence.spans] == ["I", "do", "n't", "know", "."]


def test_text_is_spelt_from_the_rows_where_the_comment_is_missing(tmp_path):
    sentence = read(write_conllu(tmp_path / "c.conllu", TREE))[0].sentences[1]

    assert sentence.text == "Yes!"
    assert sentence.id == "b"


def test_words_that_do_not_spell_their_multiword_token_get_no_characters(tmp_path):
    path = write_conllu(tmp_path / "c.conllu", "1-2 du _\n1 de _ ADP _ _ 2 case\n2 le _ DET _ _ 0 root\n")

    sentence = read(path)[0].sentences[0]

    assert sentence.spans == ((0, 2), (2, 2))


@pytest.mark.parametrize("change", [lambda data: b"\xef\xbb\xbf" + data, lambda data: data.replace(b"\n", b"\r\n")])
def test_byte_order_mark_and_windows_line_ends_make_no_difference(tmp_path, change):
    plain = write_conllu(tmp_path / "c.conllu", TREE)
    changed = tmp_path / "changed.conllu"
    changed.write_bytes(change(plain.read_bytes()))

    assert read(changed) == read(plain)


def test_sentences_without_trees_have_no_heads(tmp_path):
    path = write_conllu(tmp_path / "c.conllu", "1 plain\n2 text\n")

    sentence = read(path)[0].sentences[0]

    assert sentence.heads == ()
    assert sentence.relations == ()


def test_a_long_document_comes_in_parts_that_keep_its_name_and_count_on(tmp_path):
    path = write_conllu(tmp_path / "c.conllu", "\n\n".join("1 word _ X _ _ 0 root" for _ in range(2500)))

    parts = read(path)

    assert [(part.id, part.first, len(part.sentences)) for part in parts] == [
        ("document", 0, 1000),
        ("document", 1000, 1000),
        ("document", 2000, 500),
    ]
    assert len({part.key(i) for part in parts for i in range(len(part.sentences))}) == 2500


def test_two_documents_of_one_name_are_told_apart(tmp_path):
    path = write_conllu(
        tmp_path / "c.conllu", "# newdoc id = x\n1 a _ X _ _ 0 root\n\n# newdoc id = x\n1 b _ X _ _ 0 root"
    )

    assert [document.id for document in read(path)] == ["x", "x (2)"]


FAULTS = {
    "cycle": ("1 a _ X _ _ 2 dep\n2 b _ X _ _ 1 dep\n3 c _ X _ _ 0 root", 1, "1 -> 2 -> 1"),
    "cycle without root": ("1 a _ X _ _ 2 dep\n2 b _ X _ _ 1 dep", 1, "no word has HEAD 0"),
    "own head": ("1 a _ X _ _ 0 root\n2 b _ X _ _ 2 dep", 2, "2 -> 2"),
    "two roots": ("1 a _ X _ _ 0 root\n2 b _ X _ _ 0 root", 1, "2 words with HEAD 0"),
    "head out of range": ("1 a _ X _ _ 0 root\n2 b _ X _ _ 9 dep", 2, "HEAD 9 in a sentence of 2 words"),
    "head missing": ("1 a _ X _ _ 0 root\n2 b _ X _ _ _ dep", 2, "no HEAD"),
    "head no number": ("1 a _ X _ _ 0 root\n2 b _ X _ _ one dep", 2, "broken row"),
    "head too long": (f"1 a _ X _ _ 0 root\n2 b _ X _ _ {'9' * 5000} dep", 2, "broken row"),
    "range too early": ("2-9 ab\n1 a _ X _ _ 0 root\n2 b _ X _ _ 1 dep\n3 c _ X _ _ 1 dep", 1, "broken row: 2-9"),
    "range too long": ("1 a _ X _ _ 0 root\n2-3 b\n2 b _ X _ _ 1 dep", 2, "broken row: 2-3"),
    "range of one": ("1-1 a\n1 a _ X _ _ 0 root", 1, "broken row: 1-1"),
    "ranges overlap": ("1-3 abc\n1 a _ X _ _ 0 root\n2-3 bc\n2 b _ X _ _ 1 x\n3 c _ X _ _ 1 x", 3, "broken row: 2-3"),
    "range at the end": ("1 a _ X _ _ 0 root\n2-3 b", 2, "broken row: 2-3"),
    "numbering": ("1 a _ X _ _ 0 root\n3 b _ X _ _ 1 dep", 2, "word 3 where 2 should stand"),
    "text": ("# text = other\n1 a _ X _ _ 0 root", 1, "does not spell"),
    "no words": ("# text = a\n1-2 ab", 1, "without words"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_file_and_line(tmp_path, fault):
    text, line, reason = FAULTS[fault]
    path = write_conllu(tmp_path / "bad.conllu", text)

    with pytest.raises(CorpusError) as caught:
        read(path)

    assert str(caught.value).startswith(f"bad.conllu, line {line}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1\ta\t_", "3 columns, not 10"),
        ("1  a  _  X  _  _  0  root  _  _", "1 columns"),
        ("\t".join("1" * 11), "11 columns"),
    ],
)
def test_rows_of_another_width_are_refused(tmp_path, row, reason):
    path = tmp_path / "bad.conllu"
    path.write_text(f"1\ta{chr(9)}_\tX\t_\t_\t0\troot\t_\t_\n\n{row}\n\n", encoding="utf-8")

    with pytest.raises(CorpusError, match=rf"bad\.conllu, line 3: {reason}"):
        read(path)


def test_files_that_are_not_utf8_are_refused(tmp_path):
    path = tmp_path / "latin.conllu"
    rows = "1\tplain\t_\tX\t_\t_\t0\troot\t_\t_\n\n" * 1000 + "1\tcafé\t_\tX\t_\t_\t0\troot\t_\t_\n\n"
    path.write_bytes(rows.encode("latin-1"))

    with pytest.raises(CorpusError, match=r"latin\.conllu, line 2001: not UTF-8"):
        read(path)
