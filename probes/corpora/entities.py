"""Coreference as GUM and CorefUD write it: `Entity=(1-person-new-...` in MISC, fields named per document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from probes.corpora.blocks import Block
from probes.corpora.data import Mention

__all__ = ["BACKWARD_LINKS", "HEADER", "read_mentions"]

HEADER = "global.Entity"
BACKWARD_LINKS = frozenset({"ana", "coref", ""})  # appositions, predicates and discourse deixis do not count
_PART = re.compile(r"(.*)\[(\d+)/(\d+)\]")
_BRACKET = re.compile(r"\(([^()]*)(\))?|([^()]+)\)")


def read_mentions(
    block: Block, misc: Sequence[tuple[str, int]], sentence: int, heads: tuple[int, ...], fields: str | None
) -> tuple[Mention, ...]:
    """The mentions of one sentence from its words' MISC columns (text, line).

    Brackets of one entity close the most recently opened first (mentions of one entity nest). The head of a
    mention is its word whose HEAD lies outside it; where there is not exactly one, the first word of
    `minspan`. Of a discontinuous mention (`e1[1/2]` ... `e1[2/2]` in CorefUD) one part stands for all, see `_whole`.

    Raises:
        CorpusError: `Entity` without a `# global.Entity` line, or brackets that do not parse or close.
    """
    names = fields.split("-") if fields else []
    opened: list[tuple[str, str, int]] = []
    found: list[Mention] = []
    split: set[tuple[str, int]] = set()
    for word, (text, line) in enumerate(misc):
        values = dict(part.partition("=")[::2] for part in text.split("|"))
        split |= {(entity, word) for entity in _split_antecedents(values.get("SplitAnte", ""))}
        value = values.get("Entity", "")
        if not value:
            continue
        if not names:
            raise block.fail("`Entity` without a `# global.Entity` line that names its fields.", line)
        matches = list(_BRACKET.finditer(value))
        if "".join(match[0] for match in matches) != value:
            raise block.fail(f"cannot read Entity={value}", line)
        for opening, single, closing in (match.groups() for match in matches):
            if opening is not None:
                opened.append((opening.split("-")[0], opening, word))
            if closing is not None or single:
                entity = closing or opened[-1][0]
                found.append(_close(block, line, entity, opened, word, sentence, heads, names))
    if opened:
        raise block.fail(f"Entity=({opened[-1][0]} is opened and not closed in its sentence.")
    found = _whole(found, heads)
    found = [replace(each, split=(each.entity, each.start) in split) for each in found]
    return tuple(sorted(found, key=lambda mention: (mention.start, -mention.end)))


def _whole(found: Sequence[Mention], heads: tuple[int, ...]) -> list[Mention]:
    """Discontinuous mentions as one mention of their entity: the part that holds the head, else the first part.

    Entities of parts are still written `e1[1/2]` here. A part holds the head where its head's HEAD lies in no part of
    the mention. Parts follow each other, so a first part begins a new mention.
    """
    whole: list[Mention] = []
    parts: dict[str, list[Mention]] = {}

    def finish(entity: str) -> None:
        group = parts.pop(entity, [])
        if group:
            words = {word for part in group for word in range(part.start, part.end)}
            tops = [part for part in group if heads and heads[part.head] not in words]
            whole.append(replace((tops if len(tops) == 1 else group)[0], entity=entity))

    for mention in sorted(found, key=lambda each: (each.start, -each.end)):
        match = _PART.fullmatch(mention.entity)
        if match is None:
            whole.append(mention)
            continue
        if match[2] == "1":
            finish(match[1])
        parts.setdefault(match[1], []).append(mention)
    for entity in list(parts):
        finish(entity)
    return whole


def _split_antecedents(value: str) -> frozenset[str]:
    """Entities on the right of `SplitAnte=1<192,97<192`: their antecedent is several entities together."""
    return frozenset(pair.partition("<")[2] for pair in value.split(",") if pair)


def _close(
    block: Block,
    line: int,
    entity: str,
    opened: list[tuple[str, str, int]],
    word: int,
    sentence: int,
    heads: tuple[int, ...],
    names: list[str],
) -> Mention:
    for index in range(len(opened) - 1, -1, -1):
        if opened[index][0] == entity:
            _, text, start = opened.pop(index)
            break
    else:
        raise block.fail(f"Entity={entity}) closes what was not opened in its sentence.", line)
    parts = dict(zip(names, text.split("-", max(len(names) - 1, 0)), strict=False))
    return Mention(
        entity=entity,
        sentence=sentence,
        start=start,
        end=word + 1,
        head=_head(heads, start, word + 1, parts.get("minspan", "")),
        kind=parts.get("etype", ""),
        link=parts.get("link", ""),
        named=bool(parts.get("identity")),
    )


def _head(heads: tuple[int, ...], start: int, end: int, minspan: str) -> int:
    if heads:
        tops = [word for word in range(start, end) if not start <= heads[word] < end]
        if len(tops) == 1:
            return tops[0]
    first = minspan.split(",")[0]
    if first.isdecimal() and 1 <= int(first) <= end - start:
        return start + int(first) - 1
    return end - 1
