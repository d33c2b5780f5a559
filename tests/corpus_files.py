"""Small corpora in every format, for tests of reading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probes.corpora.data import Corpus, Sentence

GAP_HEADER = "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL"
GAP_TEXT = 'Ada met Grace Hopper, "the" admiral; then she left.'

TREES = (
    "# sent_id = a\n1\tkeys\t_\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\trust\t_\tVERB\t_\t_\t0\troot\t_\t_",
    "# sent_id = b\n1\tyes\t_\tINTJ\t_\t_\t0\troot\t_\t_",
    "# sent_id = c\n1\tno\t_\tINTJ\t_\t_\t0\troot\t_\t_",
)


def gap_row(name: str = "g-1", text: str = GAP_TEXT, page: str = "http://example.org/p", **changes: Any) -> str:
    """A row about "she", with Ada as A and Grace Hopper as B, who is meant; offsets are looked up."""
    row = {"Pronoun": "she", "A": "Ada", "B": "Grace Hopper", "A-coref": "FALSE", "B-coref": "TRUE"} | {
        key.replace("_", "-"): value for key, value in changes.items()
    }
    for column in ("Pronoun", "A", "B"):
        row.setdefault(f"{column}-offset", text.find(row[column]))
    columns = GAP_HEADER.split("\t")
    return "\t".join(str({"ID": name, "Text": text, "URL": page, **row}[column]) for column in columns)


def gap_file(*rows: str) -> str:
    """A table of these rows."""
    return "\n".join([GAP_HEADER, *rows]) + "\n"


def link_row(text: str, relation: str, source: str, target: str, **more: Any) -> str:
    """A line of `pairs.jsonl` that marks the first occurrence of two strings."""
    spans = {
        key: [text.index(part), text.index(part) + len(part)] for key, part in (("source", source), ("target", target))
    }
    return json.dumps({"text": text, "relation": relation, **spans, **more}, ensure_ascii=False)


def blimp_row(good: str, bad: str, paradigm: str = "distractor_agreement_relational_noun", name: str = "0") -> str:
    """A line of a BLiMP file, with what we read of it."""
    return json.dumps({"sentence_good": good, "sentence_bad": bad, "UID": paradigm, "pairID": name})


def written(path: Path, content: str | bytes) -> Path:
    """Write a file as it is given, line ends included."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sentences_of(corpus: Corpus) -> list[Sentence]:
    """All sentences in order."""
    return [sentence for document in corpus.documents() for sentence in document.sentences]


def words_at(sentence: Sentence, words: tuple[int, ...]) -> str:
    """The text from the first to the last of these words."""
    return sentence.text[sentence.spans[words[0]][0] : sentence.spans[words[-1]][1]]
