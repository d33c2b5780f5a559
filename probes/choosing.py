"""Which questions a run is about, where its caller asks for some of them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnlens.errors import UsageError
from probes.family import Probe
from probes.findings import Question
from probes.own_results import is_question
from probes.tally import Key, Tally

__all__ = ["chosen_questions"]


def chosen_questions(probes: Sequence[Probe], tallies: Mapping[str, Tally], names: Sequence[str]) -> set[Question]:
    """The questions to test and report: of the families that compare with rules only those that were named.

    Fewer questions are fewer tests to correct for. Families that compare with no rule, such as `positional`, label by
    limits and test nothing; theirs all stay.

    Args:
        probes: the families of the run.
        tallies: what each of them counted.
        names: relations, such as `nsubj` (in every direction and place), or labels.

    Raises:
        UsageError: no name at all, or one that none of these families has a question for on this corpus.
    """
    if not names:
        raise UsageError("no relation was named; write some, such as nsubj,obj, or leave the choice out for all.")
    every = [(probe, key) for probe in probes for key in tallies[probe.name] if is_question(probe, key)]
    named = {(probe.name, key): _names(probe, key) for probe, key in every if probe.contrast}
    known = set().union(*named.values())
    if unknown := sorted(set(names) - known):
        listed = ", ".join(sorted(known)) or "nothing that could be chosen"
        raise UsageError(f"there is no question {unknown[0]!r} here; the corpus has {listed}.")
    kept = {question for question, own in named.items() if own & set(names)}
    return kept | {(probe.name, key) for probe, key in every if not probe.contrast}


def _names(probe: Probe, key: Key) -> set[str]:
    """What a user may call a question."""
    wording = probe.wording(key)
    return {key.relation} if wording is None else {key.relation, wording.label}
