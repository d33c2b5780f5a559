"""The trained tiny models: nobody wrote their heads, but what they can do needs some heads that the rule should find.

Which head it is differs from training run to training run, so a label counts wherever it stands. Nothing is said about
the other labels of these models, whose truth is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from probes.calibration.cases import Case
from probes.calibration.truth import Claim, Expected

__all__ = ["TRAINED", "trained_cases"]

TRAINED: dict[str, tuple[Claim, ...]] = {
    "attnlens/tiny-bert": (Claim("syntax", ("det",)), Claim("syntax", ("amod",))),
    "attnlens/tiny-gpt2": (Claim("syntax", ("obj",)), Claim("positional", ("offset -1", "word offset -1"))),
    "attnlens/tiny-llama": (Claim("induction", ("induction",)), Claim("induction", ("previous",))),
}


def trained_cases() -> Iterator[Case]:
    """One model after another."""
    for name, somewhere in TRAINED.items():
        expected = (Expected("trained", "trained"),) * 12
        yield Case(name, "trained", expected, _opener(name), tuple(range(12)), somewhere)


def _opener(name: str) -> Any:
    def opened(_order: Sequence[int]) -> Any:
        import attnlens

        return attnlens.load(name)

    return opened
