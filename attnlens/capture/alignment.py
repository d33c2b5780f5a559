"""Which words or tokens of two texts stand for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from attnlens.capture.tokens import Unit

__all__ = ["Alignment", "align"]


@dataclass(frozen=True)
class Alignment:
    """Which entries of two lists stand for the same.

    Attributes:
        pairs: indices into the first and the second list, ascending in both.
        labels: of the pairs.
        only_first, only_second: labels that the other list does not have at that place.
    """

    pairs: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def first(self) -> list[int]:
        """Indices into the first list."""
        return [one for one, _ in self.pairs]

    @property
    def second(self) -> list[int]:
        """Indices into the second list."""
        return [other for _, other in self.pairs]


def align(first: Sequence[Unit], second: Sequence[Unit]) -> Alignment:
    """Match units with the same label, in order, as a comparison of two files matches lines; case does not count.

    Source: Ratcliff & Obershelp 1988, by difflib.
    """
    here, there = ([unit.label.casefold() for unit in units] for units in (first, second))
    blocks = SequenceMatcher(None, here, there, autojunk=False).get_matching_blocks()
    pairs = tuple((block.a + step, block.b + step) for block in blocks for step in range(block.size))
    matched = [{pair[side] for pair in pairs} for side in (0, 1)]
    alone = [
        tuple(unit.label for index, unit in enumerate(units) if index not in matched[side])
        for side, units in enumerate((first, second))
    ]
    return Alignment(pairs, tuple(first[one].label for one, _ in pairs), *alone)
