"""What a head does at every word, in one simple rule, and how much of its hits on a relation this explains.

A head that always looks at the next word hits what stands next to its governor, one that looks for the nearest verb on
the left finds most objects. Where the rule that a head follows everywhere, chosen on SELECT, reproduces nearly all of
its hits on a relation, the relation says nothing about the head that the rule does not say. The same holds where no one
offset does, but a weight for each offset gives nearly the whole pattern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from probes.family import Rule
from probes.scores import Scores
from probes.tally import UNIT, Key

__all__ = ["BY_OFFSET", "Explanation", "SimpleRules", "everywhere"]

SimpleKind = Literal["offset", "pos"]
BY_OFFSET = "one weight per offset"
NAMES: Mapping[SimpleKind, str] = {"offset": "position", "pos": "POS"}


def everywhere(rule: Rule) -> Key:
    """The positional question how often a rule gives the head's strongest word, over all words."""
    return Key(f"word {rule.name}" if rule.kind == "offset" else rule.name)


@dataclass(frozen=True)
class Explanation:
    """One simple rule of a head, and the share of the head's hits on a relation at which the rule points as well.

    Where `rule` is `BY_OFFSET`, the share of the head's pattern that offsets reproduce (P3).
    """

    kind: SimpleKind
    rule: str
    share: float

    @property
    def by(self) -> str:
        """As a label says it."""
        return NAMES[self.kind]


@dataclass(frozen=True)
class SimpleRules:
    """Per family and kind of rule, the column of the rule that each head follows best; -1 where none is known.

    Attributes:
        determined: share of each head's pattern that one weight per offset reproduces; None where not measured.
    """

    columns: Mapping[tuple[str, SimpleKind], np.ndarray]
    rules: Mapping[str, Sequence[Rule]]
    determined: Float64[np.ndarray, " head"] | None = None

    @classmethod
    def of(
        cls,
        scores: Sequence[Scores],
        rules: Mapping[str, Sequence[Rule]],
        determined: Float64[np.ndarray, " head"] | None = None,
    ) -> SimpleRules:
        """From the scores of all families, on SELECT.

        A rule's score over all words is that of the positional family's question of the same name. Where that family
        did not run, the rule with the most hits in common with the head over all questions of its own family stands in.
        """
        positional = {each.key: each for each in scores if each.family == "positional" and each.n_select}
        columns: dict[tuple[str, SimpleKind], np.ndarray] = {}
        for family, own in rules.items():
            cells = [each.cell for each in scores if each.family == family and each.conditions is not None]
            for kind in NAMES:
                among = [column for column, rule in enumerate(own) if rule.kind == kind]
                if not among or not cells:
                    continue
                asked = {column: everywhere(own[column]) for column in among}
                known = [column for column in among if asked[column] in positional]
                if known:
                    follows = np.array([positional[asked[column]].score_select for column in known])
                else:
                    known = among
                    follows = np.sum([cell.rule_hits[0, among] for cell in cells], axis=0)
                columns[family, kind] = np.array(known)[follows.argmax(axis=0)]
        return cls(columns, rules, determined)

    def pattern(self, head: int) -> Explanation | None:
        """How much of a head's pattern offsets give; None where that was not measured, or where the head is uniform."""
        share = math.nan if self.determined is None else float(self.determined[head])
        return None if math.isnan(share) else Explanation("offset", BY_OFFSET, share)

    def explain(self, scores: Scores, head: int) -> Explanation | None:
        """The simple rule that reproduces most of what a head hits on CONFIRM; None where it hits nothing."""
        hits = float(scores.hits_confirm[head])
        found = []
        for kind in NAMES:
            columns = self.columns.get((scores.family, kind))
            if columns is not None and hits:
                column = int(columns[head])
                share = float(scores.cell.rule_hits[1, column, head]) / UNIT / hits
                found.append(Explanation(kind, self.rules[scores.family][column].name, share))
        return max(found, key=lambda each: each.share, default=None)
