"""Read CoNLL-U: raw text, words with character spans, trees, documents, mentions; faults named by line.

The rows are parsed by the `conllu` package; the checks here come first, because it accepts rows with too few
columns and separators of two spaces. Rows of multiword tokens (`3-4`) and empty nodes (`5.1`) are not words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnlens.errors import CorpusError
from probes.corpora import entities
from probes.corpora.blocks import Block, blocks_of
from probes.corpora.data import Document, Mention, Sentence, Span
from probes.corpora.faults import Faults
from probes.corpora.files import Head, Source
from probes.corpora.gather import LONGEST_DOCUMENT
from probes.corpora.trees import foreign_relations, read_tree

__all__ = ["read", "read_documents", "recognise"]

N_COLUMNS = 10
EXTENSIONS = frozenset({".conllu", ".conll", ".conllup"})
FOREIGN = "relations that are not of Universal Dependencies, scored as they are written"
_ROW = re.compile(r"\d+(?:[-.]\d+)?\t")
_COMMENT = re.compile(r"#\s*(?:sent_id|newdoc|newpar|text|global\.\w+)\b")


def recognise(head: Head) -> bool:
    """The extension says so, or the first lines are comments of a treebank or numbered rows with tabs."""
    first = next((line for line in head.lines if not line.startswith("#")), "")
    comments = any(_COMMENT.match(line) for line in head.lines[:20])
    return head.extension in EXTENSIONS or bool(_ROW.match(first)) or (comments and "\t" in first)


def read(sources: Sequence[Source], faults: Faults) -> Iterator[Document]:
    """The file's documents with everything that is annotated; see `read_documents`."""
    (source,) = sources
    return read_documents(source.path, source.name, faults=faults)


def read_documents(path: Path, name: str, *, mentions: bool = True, faults: Faults | None = None) -> Iterator[Document]:
    """Yield the file's documents in order, at most 1,000 sentences of one document at a time.

    A file without `# newdoc` is one document. With `mentions=False` the `Entity` annotation is not read. A sentence
    with a fault is handed to `faults`, which raises or leaves it out.

    Raises:
        CorpusError: the file cannot be read, or breaks a rule of the format; the message names the line.
    """
    faults = faults or Faults()
    names: dict[str, int] = {}
    entities_so_far: set[str] = set()
    held: list[Sentence] = []
    current, first, fields = "document", 0, None
    for block in blocks_of(Source(path, name)):
        metadata = block.metadata
        starts = next((key for key in metadata if key in ("newdoc", "newdoc id")), None)
        if starts or len(held) == LONGEST_DOCUMENT:
            if held:
                yield Document(current, tuple(held), first)
            first = 0 if starts else first + len(held)
            held = []
        if starts:
            current = _unique(metadata[starts] or "document", names)
            entities_so_far.clear()
        fields = metadata.get(entities.HEADER, fields)
        number = str(first + len(held) + 1)
        try:
            sentence = _sentence(block, metadata, number, len(held), fields, mentions)
        except CorpusError as error:
            faults.leave_out(error)
            continue
        for relation in foreign_relations(sentence.relations):
            faults.remark(FOREIGN, relation, f"{name}, line {block.line}")
        held.append(_told_again(sentence, entities_so_far))
    if held:
        yield Document(current, tuple(held), first)


def _told_again(sentence: Sentence, so_far: set[str]) -> Sentence:
    """The sentence with each mention's `again`; `so_far` holds the entities of the document up to here, and grows."""
    found: list[Mention] = []
    for mention in sentence.mentions:
        found.append(replace(mention, again=mention.entity in so_far))
        so_far.add(mention.entity)
    return replace(sentence, mentions=tuple(found)) if found else sentence


def _unique(name: str, seen: dict[str, int]) -> str:
    """Two documents of the same name are told apart by a number: entity names hold within one only."""
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"


def _sentence(
    block: Block, metadata: dict[str, str], number: str, index: int, fields: str | None, mentions: bool
) -> Sentence:
    if block.unusable is not None:
        raise block.fail(block.unusable.fault, block.unusable.number)
    rows, lines = _rows(block)
    words = [(row, line) for row, line in zip(rows, lines, strict=True) if isinstance(row["id"], int)]
    if not words:
        what = "an empty document" if any(key.startswith("newdoc") for key in metadata) else "a sentence"
        raise block.fail(f"{what} without words; remove it or add its rows.")
    for expected, (row, line) in enumerate(words, 1):
        if row["id"] != expected:
            raise block.fail(f"word {row['id']} where {expected} should stand; number words from 1.", line)
    _check_multiword(block, rows, lines)
    heads, relations = read_tree(block, words)
    text, spans = _text_and_spans(block, metadata.get("text"), rows)
    found: tuple[Mention, ...] = ()
    if mentions:
        misc = [(row["misc"], line) for row, line in words]
        found = entities.read_mentions(block, misc, index, heads, fields)
    return Sentence(
        id=metadata.get("sent_id") or number,
        text=text,
        line=block.line,
        forms=tuple(row["form"] for row, _ in words),
        spans=spans,
        upos=tuple(row["upos"] or "_" for row, _ in words),
        features=tuple(row["feats"] for row, _ in words),
        heads=heads,
        relations=relations,
        mentions=found,
    )


def _check_multiword(block: Block, rows: list[dict[str, Any]], lines: list[int]) -> None:
    """A row `2-3` stands right before word 2, and words 2 and 3 exist; ranges do not overlap."""
    n_words, before = sum(isinstance(row["id"], int) for row in rows), 0
    reached = 0
    for row, line in zip(rows, lines, strict=True):
        match row["id"]:
            case int():
                before += 1
            case (int(first), "-", int(last)):
                if not (first == before + 1 and reached < first < last <= n_words):
                    what = f"a broken row: {first}-{last} is not followed by these words"
                    raise block.fail(f"{what} (of {n_words} in the sentence).", line)
                reached = last


def _rows(block: Block) -> tuple[list[dict[str, Any]], list[int]]:
    """The block's rows, parsed, with their line numbers; DEPS is not read, FEATS and MISC stay text."""
    import conllu

    rows, numbers = [], []
    for number, line in enumerate(block.lines, block.line):
        if line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != N_COLUMNS:
            raise block.fail(f"{len(columns)} columns, not {N_COLUMNS} separated by tabs.", number)
        if not columns[0].strip() or not columns[1].strip():
            raise block.fail("a row without ID or FORM.", number)
        try:
            token = conllu.parser.parse_line(line, conllu.parser.DEFAULT_FIELDS, _PARSERS)
        except (conllu.exceptions.ParseException, ValueError) as error:
            raise block.fail(f"a broken row: {str(error)[:200]}", number) from error
        rows.append(dict(token))
        numbers.append(number)
    return rows, numbers


def _as_text(columns: list[str], index: int) -> str:
    return columns[index]


def _make_parsers() -> dict[str, Any]:
    from conllu.parser import DEFAULT_FIELD_PARSERS

    text = dict.fromkeys(("form", "feats", "deps", "misc"), _as_text)
    return {**DEFAULT_FIELD_PARSERS, **text}


_PARSERS = _make_parsers()


def _text_and_spans(block: Block, text: str | None, rows: list[dict[str, Any]]) -> tuple[str, tuple[Span, ...]]:
    """The raw text and each word's characters in it; without `# text` it is spelt from the rows."""
    units = _surface_units(rows)
    if text is None:
        text = "".join(surface + (" " if space else "") for surface, _, space in units).rstrip()
    spans: list[Span] = []
    at = 0
    for surface, words, _ in units:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(surface, at):
            raise block.fail(f"`# text` does not spell the word {surface!r} at character {at}.")
        spans.extend(_split(surface, words, at))
        at += len(surface)
    return text, tuple(spans)


def _surface_units(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], bool]]:
    """What is written, in order: (surface form, its words, whether a space follows)."""
    units: list[tuple[str, list[str], bool]] = []
    inside = 0
    for row in rows:
        space = "SpaceAfter=No" not in row["misc"].split("|")
        match row["id"]:
            case (int(first), "-", int(last)):
                units.append((row["form"], [], space))
                inside = last - first + 1
            case int() if inside:
                units[-1][1].append(row["form"])
                inside -= 1
            case int():
                units.append((row["form"], [row["form"]], space))
    return units


def _split(surface: str, words: list[str], at: int) -> list[Span]:
    """Share a surface form out to its words: by characters where they spell it, else all to the first one."""
    if "".join(words) != surface:
        return [(at, at + len(surface))] + [(at + len(surface), at + len(surface))] * (len(words) - 1)
    spans = []
    for word in words:
        spans.append((at, at + len(word)))
        at += len(word)
    return spans
