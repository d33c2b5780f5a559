"""The questions of the induction family, by name."""

from __future__ import annotations

from probes.tally import Key

__all__ = ["COPYING", "DUPLICATE", "INDUCTION", "OV_COPYING", "OWN_TOKEN", "PARITY", "PREVIOUS", "RULE_OF"]

PREVIOUS, DUPLICATE, INDUCTION = Key("previous"), Key("duplicate"), Key("induction")
COPYING = Key("copying")
OV_COPYING, OWN_TOKEN = Key("copying by weights"), Key("own token on top")

RULE_OF = {PREVIOUS: "previous", DUPLICATE: "duplicate", INDUCTION: "induction"}
"""Question -> its name in `attnlens.measures.induction.RULES`."""

PARITY = {(rule, score): Key(f"{rule} ({score})") for rule in RULE_OF.values() for score in ("mul", "abs")}
"""(rule, score) -> the question that repeats what TransformerLens' head detector computes."""
