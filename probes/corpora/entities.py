"""Coreference as GUM and CorefUD write it: `Entity=(1-person-new-...` in MISC, fields named per document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probes.corpora.data import Mention

if TYPE_CHECKING:
    from probes.corpora.conllu import Block

__all__ = ["HEADER", "anaphors", "read_mentions"]

HEADER = "global.Entity"
BACKWARD_LINKS = frozenset({"ana", "coref", ""})  # appositions, predicates and discourse deixis do not count
_BRACKET = re.compile(r"\(([^()]*)(\))?|([^()]+)\)")


def read_mentions(
    block: Block, misc: Sequence[tuple[str, int]], sentence: int, heads: tuple[int, ...], fields: str | None
) -> tuple[Mention, ...]:
    """The mentions of one sentence from its words' MISC columns (text, line).

    Brackets of one entity close the most recently opened first (mentions of one entity nest). The head of a
    mention is its word whose HEAD lies outside it; where there is not exactly one, the first word of
    `minspan`.

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
    found = [replace(each, split=(each.entity, each.start) in split) for each in found]
    return tuple(sorted(found, key=lambda mention: (mention.start, -mention.end)))


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


def anaphors(mentions: Sequence[Mention]) -> list[tuple[int, list[int]]]:
    """Which mentions of a document point back, and to what: (index, earlier mentions of its entity).

    `mentions` are in the order of the text (by sentence, then start, the longer first). A mention counts
    where its entity occurred before and its link is backward (`ana`, `coref`, or unknown); a split antecedent
    does not count.
    """
    earlier: dict[str, list[int]] = {}
    found = []
    for index, mention in enumerate(mentions):
        before = earlier.setdefault(mention.entity, [])
        if before and mention.link in BACKWARD_LINKS and not mention.split:
            found.append((index, list(before)))
        before.append(index)
    return found
