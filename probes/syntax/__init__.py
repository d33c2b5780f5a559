"""The syntax family: relations in both directions, where words stand and where they are predicted, and agreement."""

from probes.syntax.probe import SyntaxProbe
from probes.syntax.relations import relation_labels
from probes.syntax.rules import OFFSETS

__all__ = ["OFFSETS", "SyntaxProbe", "relation_labels"]
