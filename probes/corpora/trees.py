"""Dependency trees, checked: one root, no cycle, every head in the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from probes.corpora.blocks import Block

__all__ = ["UD_RELATIONS", "foreign_relations", "read_tree"]

# The 37 of Universal Dependencies v2 (Nivre et al. 2020, arXiv:2004.10643); subtypes follow a colon.
UD_RELATIONS = frozenset(
    "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse dislocated expl fixed "
    "flat goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis punct reparandum root vocative "
    "xcomp".split()
)
LONGEST_CYCLE = 20  # words that a message names


def read_tree(block: Block, words: Sequence[tuple[dict[str, Any], int]]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Heads (from 0, -1 at the root) and relations of the words (row, line); empty where every HEAD is `_`.

    Raises:
        CorpusError: a head is missing or outside the sentence, several roots, or a cycle.
    """
    if all(row["head"] is None for row, _ in words):
        return (), ()
    for row, line in words:
        if row["head"] is None:
            raise block.fail("no HEAD, though other words of the sentence have one.", line)
        if not 0 <= row["head"] <= len(words):
            raise block.fail(f"HEAD {row['head']} in a sentence of {len(words)} words.", line)
    heads = tuple(row["head"] - 1 for row, _ in words)
    if (n_roots := heads.count(-1)) > 1:
        raise block.fail(f"{n_roots} words with HEAD 0; a sentence has one root.")
    _check_cycles(block, heads, [line for _, line in words])
    return heads, tuple(row["deprel"] or "_" for row, _ in words)


def foreign_relations(relations: Sequence[str]) -> list[str]:
    """Relations that are not of Universal Dependencies, each once, in order; `_` says nothing."""
    return [each for each in dict.fromkeys(relations) if each != "_" and each.partition(":")[0] not in UD_RELATIONS]


def _check_cycles(block: Block, heads: tuple[int, ...], lines: Sequence[int]) -> None:
    """Walk up from every word; a walk that returns to itself is a cycle."""
    safe: set[int] = {-1}
    for start in range(len(heads)):
        path: dict[int, None] = {}  # ordered, and quick to search in a sentence of thousands of words
        word = start
        while word not in safe:
            if word in path:
                walked = list(path)
                steps = [str(step + 1) for step in [*walked[walked.index(word) :], word]]
                cycle = " -> ".join(steps if len(steps) <= LONGEST_CYCLE else [*steps[:LONGEST_CYCLE], "..."])
                hint = "" if -1 in heads else " (no word has HEAD 0)"
                raise block.fail(f"a cycle of heads: {cycle}{hint}.", lines[word])
            path[word] = None
            word = heads[word]
        safe.update(path)
