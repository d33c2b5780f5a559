"""Position: offsets, sinks, delimiters, breadth and the patterns they make (measures P1 to P8 and P10)."""

from probes.positional.family import PositionalProbe
from probes.positional.keys import (
    BREADTH,
    COLUMNS,
    FIRST,
    NEAREST,
    OFFSETS,
    PATTERNS,
    PUNCTUATION,
    SECOND,
    SEPARATOR,
    UPOS,
    WORD_OFFSETS,
    nearest_key,
    offset_key,
    word_offset_key,
)

__all__ = [
    "BREADTH",
    "COLUMNS",
    "FIRST",
    "NEAREST",
    "OFFSETS",
    "PATTERNS",
    "PUNCTUATION",
    "SECOND",
    "SEPARATOR",
    "UPOS",
    "WORD_OFFSETS",
    "PositionalProbe",
    "nearest_key",
    "offset_key",
    "word_offset_key",
]
