"""The address of one attention head: layer and head, 0-based, printed `L5H1`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from operator import index
from typing import Any, SupportsIndex

from attnlens.errors import HeadAddressError

__all__ = ["Head", "in_words"]

_PRINTED = re.compile(r"(?P<stack>[EDX]?)L(?P<layer>\d+)H(?P<head>\d+)", re.IGNORECASE)
_PAIR = re.compile(r"(?P<layer>\d+)[.:](?P<head>\d+)")


@dataclass(frozen=True, order=True)
class Head:
    """A head's layer and index within the layer, both 0-based.

    `stack` is empty for models of one stack, else `E` (encoder), `D` (decoder) or `X` (cross-attention).
    Papers often count from 1: "head 8-10" of Clark et al. 2019 is `L7H9` here.

    >>> str(Head.parse("5.1")), Head.parse((5, 1)) == Head.parse("L5H1")
    ('L5H1', True)
    """

    layer: int
    head: int
    stack: str = ""

    def __str__(self) -> str:
        return f"{self.stack}L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, address: object) -> Head:
        """Read `L5H1` (any case, with `E`, `D` or `X` in front), `5.1`, `5:1`, `(5, 1)` or a `Head`.

        Raises:
            HeadAddressError: for anything else.
        """
        if isinstance(address, Head):
            return address
        if isinstance(address, tuple) and len(address) == 2 and all(_counts(part) for part in address):
            return cls(index(address[0]), index(address[1]))
        if isinstance(address, str):
            text = address.strip()
            if match := _PRINTED.fullmatch(text):
                return cls(int(match["layer"]), int(match["head"]), match["stack"].upper())
            if match := _PAIR.fullmatch(text):
                return cls(int(match["layer"]), int(match["head"]))
        raise HeadAddressError(f"{address!r} is not a head; write L5H1, 5.1, 5:1 or (5, 1), counted from 0.")

    def within(self, n_layers: int, n_heads: int) -> Head:
        """This head, if a model of `n_layers` x `n_heads` has it.

        Raises:
            HeadAddressError: it has not.
        """
        if self.layer < n_layers and self.head < n_heads:
            return self
        raise HeadAddressError(
            f"{self} does not exist: the model has {n_layers} layers of {n_heads} heads, "
            f"{self.stack}L0H0 to {self.stack}L{n_layers - 1}H{n_heads - 1}."
        )


def in_words(heads: Iterable[Head]) -> str:
    """Heads as one says them, stretches within a layer by their ends.

    >>> in_words([Head(1, 0), Head(1, 1), Head(1, 2), Head(2, 3), Head(2, 5)])
    'L1H0 to L1H2, L2H3, L2H5'
    """
    runs: list[list[Head]] = []
    for head in sorted(set(heads), key=lambda each: (each.stack, each.layer, each.head)):
        if runs and replace(runs[-1][-1], head=runs[-1][-1].head + 1) == head:
            runs[-1].append(head)
        else:
            runs.append([head])
    said = ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run) for run in runs)
    return ", ".join(chain.from_iterable(said))


def _counts(part: Any) -> bool:
    """Whether `part` is a whole number from 0 on; numpy's integers are, True is not."""
    return isinstance(part, SupportsIndex) and not isinstance(part, bool) and index(part) >= 0
