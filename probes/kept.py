"""What does not change from layer to layer: plans of a batch, kept while layer after layer asks for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TypeVar

from probes.words import Reading

__all__ = ["kept_plans"]

Plan = TypeVar("Plan")
Settings = TypeVar("Settings", bound=Hashable)

_BATCHES = 8  # threads work on one batch each, and come back to it layer after layer


class _Same:
    """Readings, equal only to themselves: they hold arrays, which do not compare."""

    def __init__(self, readings: tuple[Reading, ...], settings: Hashable) -> None:
        self.readings, self.settings = readings, settings
        self._hash = hash((settings, *map(id, readings)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same)
            and self.settings == other.settings
            and len(self.readings) == len(other.readings)
            and all(one is two for one, two in zip(self.readings, other.readings, strict=True))
        )


def kept_plans(
    make: Callable[[tuple[Reading, ...], Settings], Plan],
) -> Callable[[tuple[Reading, ...], Settings], Plan]:
    """`make(readings, settings)`, whose last results are kept for the same texts and equal settings."""

    @lru_cache(maxsize=_BATCHES)
    def kept(same: _Same) -> Plan:
        return make(same.readings, same.settings)  # type: ignore[arg-type]

    def plan(readings: tuple[Reading, ...], settings: Settings) -> Plan:
        return kept(_Same(readings, settings))

    return plan
