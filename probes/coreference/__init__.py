"""The coreference family: antecedents in running text, ambiguous pronouns (GAP), and a report on bias (WinoBias)."""

from probes.coreference.anaphors import RULES, Anaphor, anaphors_in
from probes.coreference.antecedents import ALL, NON_IDENTICAL
from probes.coreference.probe import CoreferenceProbe

__all__ = ["ALL", "NON_IDENTICAL", "RULES", "Anaphor", "CoreferenceProbe", "anaphors_in"]
