"""What a family may settle before a run, from the corpus that it will be asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from probes.corpora.data import Corpus
from probes.family import Probe

__all__ = ["Preparing", "prepared"]


@runtime_checkable
class Preparing(Protocol):
    """A family that looks at the corpus before it is run: a list of words that fits it, how much of it is enough."""

    def prepared(self, corpus: Corpus) -> Probe:
        """The family as it will be run, with everything settled; it can be sent to other processes."""
        ...

    def omissions(self, corpus: Corpus) -> Mapping[str, str]:
        """Parts of the family that cannot be asked here, by name, with the reason."""
        ...


def prepared(probe: Probe, corpus: Corpus) -> Probe:
    """The family as it will be run on this corpus."""
    return probe.prepared(corpus) if isinstance(probe, Preparing) else probe
