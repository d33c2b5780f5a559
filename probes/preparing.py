"""What a family may settle before a run, from the corpus that it will be asked about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar, cast, runtime_checkable

from probes.corpora.data import Corpus
from probes.family import Probe

__all__ = ["Preparing", "omissions", "prepared"]

Family = TypeVar("Family")


@runtime_checkable
class Preparing(Protocol):
    """A family that looks at the corpus before it is run: a list of words that fits it, how much of it is enough."""

    def prepared(self, corpus: Corpus) -> Probe:
        """The family as it will be run, with everything settled; it can be sent to other processes."""
        ...

    def omissions(self, corpus: Corpus) -> Mapping[str, str]:
        """Parts of the family that cannot be asked here, by name, with the reason."""
        ...


def prepared(family: Family, corpus: Corpus) -> Family:
    """The family as it will be run on this corpus."""
    return cast("Family", family.prepared(corpus)) if isinstance(family, Preparing) else family


def omissions(families: Iterable[object], corpus: Corpus) -> dict[str, str]:
    """What all families leave out of themselves on this corpus."""
    found: dict[str, str] = {}
    for family in families:
        if isinstance(family, Preparing):
            found |= family.omissions(corpus)
    return found
