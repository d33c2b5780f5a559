"""Frozen dataclasses as JSON and back, strictly: a file says what its types are, and nothing else is taken from it."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ["as_json", "read_as"]

_LONGEST_SHOWN = 60
# JSON has no numbers for these, and a figure of a self-check can be one.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def as_json(value: Any) -> Any:
    """`value` as `json.dumps(..., allow_nan=False)` takes it: dataclasses and mappings as objects, tuples as arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(part) for name, part in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [as_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def read_as(hint: Any, value: Any, place: str) -> Any:
    """The inverse of `as_json` for a type of plain data: a dataclass, str, int, float, bool, tuple, Mapping, Any, None.

    Args:
        hint: the type to read.
        value: what `json.loads` gave.
        place: where it stands in the document, for the message.

    Raises:
        ValueError: `value` is of another type, or lacks a field; the message says where.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else read_as(next(part for part in parts if part is not type(None)), value, place)
    if origin is tuple:
        return _tuple(parts, value, place)
    if origin is not None and issubclass(origin, Mapping):
        named = _expect(dict, value, "an object", place)
        return {name: read_as(parts[1], part, f"{place}.{name}") for name, part in named.items()}
    if is_dataclass(hint):
        return _dataclass(hint, _expect(dict, value, "an object", place), place)
    if hint is float:
        return _float(value, place)
    return _expect(hint, value, {str: "a text", int: "a whole number", bool: "true or false"}[hint], place)


def _dataclass(hint: Any, value: Mapping[str, Any], place: str) -> Any:
    """Fields that the document lacks take their default; those that it has beyond the class are left out."""
    read = {}
    for name, part, required in _fields_of(hint):
        if name in value:
            read[name] = read_as(part, value[name], f"{place}.{name}")
        elif required:
            raise ValueError(f"{place}.{name} is missing")
    return hint(**read)


@cache
def _fields_of(hint: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type, and whether the field has no default."""
    hints = get_type_hints(hint)
    return tuple(
        (field.name, hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(hint)
    )


def _tuple(parts: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    listed = _expect(list, value, "an array", place)
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(read_as(parts[0], part, f"{place}[{i}]") for i, part in enumerate(listed))
    if len(listed) != len(parts):
        raise ValueError(f"{place} has {len(listed)} entries, expected {len(parts)}")
    return tuple(read_as(hint, part, f"{place}[{i}]") for i, (hint, part) in enumerate(zip(parts, listed, strict=True)))


def _float(value: Any, place: str) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if type(value) not in (int, float):
        raise ValueError(f"{place} is {_shown(value)}, expected a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{place} is {_shown(value)}, which is no number of 64 bits") from error


def _expect(kind: type, value: Any, expected: str, place: str) -> Any:
    """`value`, if its type is exactly `kind`; True is no number here."""
    if type(value) is not kind:
        raise ValueError(f"{place} is {_shown(value)}, expected {expected}")
    return value


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number with too many digits to print
        return "a number too long to print"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
