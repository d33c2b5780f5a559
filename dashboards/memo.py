"""Results of callbacks that take a while, kept as long as they fit; nothing here belongs to one visitor."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Memo"]

T = TypeVar("T")


class Memo:
    """Keeps the results that were used last, by what they are made of. Safe to use from several threads.

    Args:
        size: results kept; or, with `weigh`, what they may weigh together. The latest is kept in any case.
        weigh: what a result weighs.
    """

    def __init__(self, size: int = 64, weigh: Callable[[Any], int] = lambda _: 1) -> None:
        self._size, self._weigh, self._total = size, weigh, 0
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """What the kept results are made of, the one used longest ago first."""
        with self._lock:
            return tuple(self._kept)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result under `key`, made now if it is not kept; what `make` raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]
        found = make()
        with self._lock:
            if key not in self._kept:
                self._total += self._weigh(found)
            self._kept[key] = found
            while self._total > self._size and len(self._kept) > 1:
                self._total -= self._weigh(self._kept.popitem(last=False)[1])
        return found
