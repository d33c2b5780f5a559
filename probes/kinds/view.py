"""What a page says of a head of a kind: its figures as a table, and its sentence under an arc."""

from __future__ import annotations

from collections.abc import Sequence

from attnlens.report.evidence_view import Sentence, sentence_of
from attnlens.report.palette import category_of
from attnlens.report.tables import Table, number
from probes.kinds.found import FoundHead

__all__ = ["arc_of", "category", "figures_of", "heads_table", "short_model"]

_EXPLAINED = {
    "explained-by-position": "a rule of position gives most of its hits",
    "explained-by-POS": "the nearest word of a part of speech gives most of its hits",
}


def arc_of(found: FoundHead) -> Sentence | None:
    """The sentence with the word that attends and its target; None where the probe keeps no examples."""
    return None if found.example is None else sentence_of(found.example)


def category(found: FoundHead) -> str:
    """Key of the colour of its label."""
    family = "syntax" if found.kind in ("determiner", "object") else "coreference" if found.kind == "antecedent" else (
        "induction" if found.kind == "induction" else "positional"
    )  # fmt: skip
    return category_of(found.label, family)


def figures_of(found: FoundHead) -> str:
    """The score beside the best rule, and the verdict, in one or two sentences."""
    places = {"h2d": "from a head to its dependent", "d2h": "from a dependent to its head"}
    which = ", ".join(
        part
        for part in (
            places.get(found.direction or "", ""),
            "asked where the word is predicted" if found.at == "pred" else "",
        )
        if part
    )
    what = f"{found.relation}{f' ({which})' if which else ''}"
    interval = "" if found.ci is None else f" (95 % interval {number(found.ci[0])} to {number(found.ci[1])})"
    rule = (
        ""
        if found.baseline is None
        else f"; the best rule beside it, {found.baseline_name}, reaches {number(found.baseline)}"
    )
    said = f"{what}: score {number(found.score)} over {found.n:,} cases{interval}{rule}."
    if not found.labelled:
        return f"{said} That is no label: {found.verdict}."
    return f"{said} Label: {found.label}{_because(found)}."


def _because(found: FoundHead) -> str:
    reason = _EXPLAINED.get(found.label)
    return f", {reason}" if reason else ""


def heads_table(heads: Sequence[FoundHead]) -> Table:
    """One row per model."""
    rows = tuple(
        (short_model(head.model), head.head, head.relation, head.score, head.baseline, head.n,
         head.label if head.labelled else f"none: {head.verdict}", head.command)
        for head in heads
    )  # fmt: skip
    columns = ("model", "head", "relation", "score", "best rule", "cases", "label", "measured by")
    return Table("The head that fits best, in each embedded model", columns, rows)


def short_model(name: str) -> str:
    """A model's name without its owner."""
    return name.rsplit("/", 1)[-1]
