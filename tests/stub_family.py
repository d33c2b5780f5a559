"""A family that asks nothing, for tests in which the counting is done elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.family import Rule, Wording


@dataclass(frozen=True)
class StubFamily:
    """Keeps the contract of `probes.family.Probe`; tests say the rest."""

    name: str = "stub"
    rules: tuple[Rule, ...] = ()
    contrast: bool = True
    controlled: bool = True
    reads: ClassVar[tuple[str, ...]] = ("sentence",)

    def refusal(self, corpus):
        return None

    def ask(self, reading):
        return ()

    def asks(self, sentences):
        return set()

    def wording(self, key):
        return Wording(key.relation, f"consistent with {key.relation}")

    def pointer(self, key, reading):
        return None
