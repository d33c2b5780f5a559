"""What a family says beside labels: figures of its own in the result, and what stands beside one of its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from probes.family import Probe
from probes.scores import Scores, Setting
from probes.tally import Key, Tally

__all__ = ["Reporting", "is_question", "own_results", "rounded"]


@runtime_checkable
class Reporting(Protocol):
    """A family whose tally holds more than questions that heads answer."""

    def is_count(self, key: Key) -> bool:
        """Whether a cell is only a part of such figures: no question to be scored, tested and listed."""
        ...

    def results(self, tally: Tally, setting: Setting, heads: Sequence[str]) -> Mapping[str, Any]:
        """Objects of `heads.json` by name; nothing where the corpus has nothing for them. `heads` are names."""
        ...

    def beside(self, scores: Mapping[Key, Scores], head: int) -> Mapping[str, Any]:
        """What stands beside a label of the family on this head; it never decides over the label."""
        ...


def is_question(probe: Probe, key: Key) -> bool:
    """Whether heads are scored on a key."""
    return not (isinstance(probe, Reporting) and probe.is_count(key))


def own_results(
    probes: Sequence[Probe], tallies: Mapping[str, Tally], setting: Setting, heads: Sequence[str]
) -> dict[str, Any]:
    """The figures of all families."""
    found: dict[str, Any] = {}
    for probe in probes:
        if isinstance(probe, Reporting):
            found |= rounded(probe.results(tallies[probe.name], setting, heads))
    return found


def rounded(value: Any) -> Any:
    """As JSON has it: numbers with six digits, and null where nothing was measured."""
    match value:
        case float():
            return None if value != value else float(f"{value:.6g}")
        case Mapping():
            return {name: rounded(each) for name, each in value.items()}
        case list() | tuple():
            return [rounded(each) for each in value]
    return value
