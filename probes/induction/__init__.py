"""Induction: heads that look for repeated tokens, asked on random tokens that repeat (measures I1 to I5)."""

from probes.induction.family import InductionProbe
from probes.induction.keys import COPYING, DUPLICATE, INDUCTION, PREVIOUS

__all__ = ["COPYING", "DUPLICATE", "INDUCTION", "PREVIOUS", "InductionProbe"]
