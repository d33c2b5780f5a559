"""The questions of the positional family, by name."""

from __future__ import annotations

from typing import Literal

from probes.tally import Key

__all__ = [
    "BREADTH",
    "COLUMNS",
    "COMMA",
    "DELIMITER",
    "DISTANCE",
    "ENTROPY",
    "FIRST",
    "FROM_SEPARATOR",
    "FULL_STOP",
    "NEAREST",
    "OFFSETS",
    "PATTERNS",
    "PUNCTUATION",
    "SECOND",
    "SEPARATOR",
    "START",
    "UPOS",
    "WORD_OFFSETS",
    "Side",
    "nearest_key",
    "offset_key",
    "word_offset_key",
]

Side = Literal["left", "right"]

OFFSETS = tuple(range(-5, 6))
WORD_OFFSETS = tuple(offset for offset in OFFSETS if offset)
UPOS = ("NOUN", "VERB", "PROPN", "PUNCT", "AUX", "ADP", "ADJ", "PRON")

COLUMNS = tuple(Key(f"{place}-token") for place in ("first", "second", "third", "fourth", "fifth"))
FIRST, SECOND = COLUMNS[:2]
START, SEPARATOR, FROM_SEPARATOR = Key("start"), Key("separator"), Key("separator from separator")
FULL_STOP, COMMA, PUNCTUATION = Key("full stop"), Key("comma"), Key("punctuation")
DELIMITER = Key("delimiter")
BREADTH, ENTROPY, DISTANCE = Key("breadth"), Key("entropy"), Key("distance")
PATTERNS = tuple(Key(f"pattern {kind}") for kind in ("vertical", "diagonal", "vertical+diagonal", "heterogeneous"))


def offset_key(offset: int) -> Key:
    """The question whether the strongest key is `offset` tokens away."""
    return Key(_at(offset))


def word_offset_key(offset: int) -> Key:
    """The question whether the strongest other word is `offset` words away."""
    return Key(f"word {_at(offset)}")


def nearest_key(upos: str, side: Side) -> Key:
    """The question whether the strongest other word is the nearest one of a part of speech on one side."""
    return Key(f"nearest {upos} {side}")


NEAREST = {nearest_key(upos, side): (upos, side) for side in ("left", "right") for upos in UPOS}


def _at(offset: int) -> str:
    return f"offset {offset:+d}" if offset else "offset 0"
