"""The sentences behind a label: where the head looked, where the label says it should look, best and worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnlens.report.results import Example, Label
from attnlens.report.tables import Table, count, number

__all__ = ["Arc", "EvidenceView", "Sentence", "evidence_view", "sentence_of"]


@dataclass(frozen=True)
class Arc:
    """From the word that attends to one that it attends to.

    Attributes:
        query, key: positions in the sentence's tokens.
        kind: "target" is what the label expects; "instead" is what a miss looked at most.
    """

    query: int
    key: int
    kind: Literal["target", "instead"]


@dataclass(frozen=True)
class Sentence:
    """One sentence of the corpus and what the head did there; plain text, escaped by whoever draws it.

    Attributes:
        tokens: its words.
        query: position of the word that attends.
        arcs: to the target; on a miss also to what got the largest weight.
        weight: on the target, 0 to 1.
        hit: the target got the largest weight.
    """

    tokens: tuple[str, ...]
    query: int
    arcs: tuple[Arc, ...]
    weight: float
    hit: bool

    @property
    def caption(self) -> str:
        """The arcs in words."""
        target, *instead = (self.tokens[arc.key] for arc in self.arcs)
        missed = f"; the strongest was {instead[0]}: a miss" if instead else ": a hit" if self.hit else ": a miss"
        return f"{self.tokens[self.query]} → {target}, weight {number(self.weight)}{missed}"


@dataclass(frozen=True)
class EvidenceView:
    """The sentences of one label of one head.

    Attributes:
        name: of the label.
        category: key of `palette.CATEGORIES`.
        best, worst: sentences with the most attention on the target, and with the least; each from its extreme on.
        caption: where they come from.
    """

    name: str
    category: str
    best: tuple[Sentence, ...]
    worst: tuple[Sentence, ...]
    caption: str

    def table(self) -> Table:
        """One row per sentence."""
        rows = tuple(
            (side, each.tokens[each.query], each.tokens[each.arcs[0].key], each.weight, _strongest(each), _text(each))
            for side, sentences in (("best", self.best), ("worst", self.worst))
            for each in sentences
        )
        return Table(self.caption, ("side", "from", "to", "weight", "strongest", "sentence"), rows)


def evidence_view(label: Label) -> EvidenceView:
    """The sentences that a probe result holds for a label."""
    best, worst = (
        tuple(sentence_of(example) for example in label.examples if example.side == side) for side in ("best", "worst")
    )
    caption = (
        f"{count(len(best), 'sentence')} with the most attention on the target and {len(worst)} with the least, from a "
        "sample of the half of the corpus that did not choose the label; drawn by chance, not by hand."
        if best or worst
        else "No sentences were kept for this label."
    )
    return EvidenceView(label.name, label.category, best, worst, caption)


def sentence_of(example: Example) -> Sentence:
    """One example as words under arcs."""
    arcs = [Arc(example.query, example.target, "target")]
    if not example.hit and example.argmax != example.target:
        arcs.append(Arc(example.query, example.argmax, "instead"))
    return Sentence(example.tokens, example.query, tuple(arcs), example.weight, example.hit)


def _strongest(sentence: Sentence) -> str:
    return sentence.tokens[sentence.arcs[-1].key]


def _text(sentence: Sentence) -> str:
    return " ".join(sentence.tokens)
