"""Read CoNLL-U: raw text, words with character spans, trees, documents, mentions; faults named by line.

The rows are parsed by the `conllu` package; the checks here come first, because it accepts rows with too few
columns and separators of two spaces. Rows of multiword tokens (`3-4`) and empty nodes (`5.1`) are not words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from attnlens.errors import CorpusError
from probes.corpora import entities
from probes.corpora.data import Document, Mention, Sentence, Span

__all__ = ["read_documents"]

N_COLUMNS = 10
LONGEST_DOCUMENT = 1000  # sentences in memory at once; longer documents come in parts


@dataclass(frozen=True)
class Block:
    """The lines of one sentence as they stand in the file; `line` is the number of the first."""

    name: str
    line: int
    lines: tuple[str, ...]

    def fail(self, what: str, line: int | None = None) -> CorpusError:
        """An error that names the file and the line."""
        return CorpusError(f"{self.name}, line {self.line if line is None else line}: {what}")


def read_documents(path: Path, name: str, *, mentions: bool = True) -> Iterator[Document]:
    """Yield the file's documents in order, at most 1,000 sentences of one document at a time.

    A file without `# newdoc` is one document. With `mentions=False` the `Entity` annotation is not read.

    Raises:
        CorpusError: the file cannot be read, or breaks a rule of the format; the message names the line.
    """
    names: dict[str, int] = {}
    held: list[Sentence] = []
    current, first, fields = "document", 0, None
    for block, metadata in _blocks(path, name):
        starts = next((key for key in metadata if key in ("newdoc", "newdoc id")), None)
        if starts or len(held) == LONGEST_DOCUMENT:
            if held:
                yield Document(current, tuple(held), first)
            first = 0 if starts else first + len(held)
            held = []
        if starts:
            current = _unique(metadata[starts] or "document", names)
        fields = metadata.get(entities.HEADER, fields)
        number = str(first + len(held) + 1)
        held.append(_sentence(block, metadata, number, len(held), fields, mentions))
    if held:
        yield Document(current, tuple(held), first)


def _unique(name: str, seen: dict[str, int]) -> str:
    """Two documents of the same name are told apart by a number: entity names hold within one only."""
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"


def _blocks(path: Path, name: str) -> Iterator[tuple[Block, dict[str, str]]]:
    """Sentences as lines, with their comments as a dictionary."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for block in _paragraphs(file, name):
                yield block, _metadata(block)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}, line {_undecodable_line(path)}: not UTF-8 text; save it as UTF-8, or name a CoNLL-U file."
        ) from error
    except OSError as error:
        raise CorpusError(f"cannot read the corpus {name}: {error.strerror or error}; name a CoNLL-U file.") from error


def _undecodable_line(path: Path) -> int:
    """Number of the first line that is not UTF-8; the decoder itself counts from wherever it began to read."""
    with path.open("rb") as file:
        return next((number for number, line in enumerate(file, 1) if not _is_utf8(line)), 0)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _paragraphs(file: TextIO, name: str) -> Iterator[Block]:
    lines: list[str] = []
    first = 1
    for number, line in enumerate(file, 1):
        if line.strip():
            if not lines:
                first = number
            lines.append(line.rstrip("\n"))
        elif lines:
            yield Block(name, first, tuple(lines))
            lines = []
    if lines:
        yield Block(name, first, tuple(lines))


def _metadata(block: Block) -> dict[str, str]:
    pairs = (line[1:].partition("=") for line in block.lines if line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _sentence(
    block: Block, metadata: dict[str, str], number: str, index: int, fields: str | None, mentions: bool
) -> Sentence:
    rows, lines = _rows(block)
    words = [(row, line) for row, line in zip(rows, lines, strict=True) if isinstance(row["id"], int)]
    if not words:
        raise block.fail("a sentence without words; remove it or add its rows.")
    for expected, (row, line) in enumerate(words, 1):
        if row["id"] != expected:
            raise block.fail(f"word {row['id']} where {expected} should stand; number words from 1.", line)
    _check_multiword(block, rows, lines)
    heads, relations = _tree(block, [row for row, _ in words], [line for _, line in words])
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


def _tree(block: Block, words: list[dict[str, Any]], lines: list[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Heads (from 0, -1 at the root) and relations, checked to be a tree; empty where every HEAD is `_`."""
    if all(word["head"] is None for word in words):
        return (), ()
    for word, line in zip(words, lines, strict=True):
        if word["head"] is None:
            raise block.fail("no HEAD, though other words of the sentence have one.", line)
        if not 0 <= word["head"] <= len(words):
            raise block.fail(f"HEAD {word['head']} in a sentence of {len(words)} words.", line)
    heads = tuple(word["head"] - 1 for word in words)
    if (n_roots := heads.count(-1)) > 1:
        raise block.fail(f"{n_roots} words with HEAD 0; a sentence has one root.")
    _check_cycles(block, heads, lines)
    return heads, tuple(word["deprel"] or "_" for word in words)


def _check_cycles(block: Block, heads: tuple[int, ...], lines: list[int]) -> None:
    """Walk up from every word; a walk that returns to itself is a cycle."""
    safe: set[int] = {-1}
    for start in range(len(heads)):
        path: list[int] = []
        word = start
        while word not in safe:
            if word in path:
                cycle = " -> ".join(str(step + 1) for step in [*path[path.index(word) :], word])
                hint = "" if -1 in heads else " (no word has HEAD 0)"
                raise block.fail(f"a cycle of heads: {cycle}{hint}.", lines[word])
            path.append(word)
            word = heads[word]
        safe.update(path)


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
