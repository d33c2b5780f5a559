"""The part of a report that is about a model's heads: labels, evidence, relations, what to write about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from attnlens.capture.run import Capture
from attnlens.report.arc_figure import arcs_svg
from attnlens.report.causal_words import causal_badge, causal_sentence
from attnlens.report.evidence_view import Sentence, evidence_view
from attnlens.report.file.methods import bibtex, methods_paragraph
from attnlens.report.file.run_page import table_document
from attnlens.report.file.svg import forest_svg, labels_svg, lines_svg
from attnlens.report.layers import READABLE, layer_panels
from attnlens.report.palette import CATEGORIES
from attnlens.report.results import HeadResult, HeadResults, Label, Relation
from attnlens.report.similar_view import SimilarView, same_label_view, similar_view
from attnlens.report.views import results_map_view

__all__ = ["HeadCard", "HeadsPart", "heads_part"]

_N_BEST, _N_WORST = 3, 2


@dataclass(frozen=True)
class HeadCard:
    """One labelled head.

    Attributes:
        result: labels and numbers.
        forest: its scores as a chart.
        evidence: for each label, sides ("most", "least") with their sentences as pictures and in words.
        causal: for each label, the verdict of an intervention in a word and in a sentence.
        similar: heads of the same label, and on a text those that look alike.
    """

    result: HeadResult
    forest: Markup
    evidence: tuple[tuple[tuple[str, tuple[tuple[Markup, str], ...]], ...], ...]
    causal: tuple[tuple[str, str], ...]
    similar: tuple[SimilarView, ...]


@dataclass(frozen=True)
class HeadsPart:
    """What a page says about a model's heads: what the template reads, and tables that are built on demand."""

    context: Mapping[str, Any]
    tables: Mapping[str, Any]


def heads_part(results: HeadResults, run: Capture | None = None) -> HeadsPart:
    """Everything that a page shows of probe results; with a run also which heads look alike on it."""
    families = set(results.scope["families"]) - set(results.scope.get("stream", ()))
    panels = layer_panels(results.layers)
    labels_map = results_map_view(results)
    context = {
        "labels_map": labels_map,
        "labels_chart": labels_svg(labels_map, [result.head for result in results.labelled]),
        "groups": _groups(results, run),
        "relations": _by_family(results),
        "heads_read": not results.layers or bool(families),
        "panels": [(panel, lines_svg(panel)) for panel in panels],
        "readable": READABLE,
        "weak": [result for result in results.heads if result.weak],
        "tested": any(label.causal for result in results.heads for label in result.labels),
        "methods": methods_paragraph(results),
        "bibtex": bibtex(results),
    }
    tables = {"labels-table": table_document(labels_map.table())}
    tables |= {f"layers-table-{at}": table_document(panel.table()) for at, panel in enumerate(panels)}
    return HeadsPart(context, tables)


def _groups(results: HeadResults, run: Capture | None) -> list[tuple[str, list[HeadCard]]]:
    """Labelled heads by category, in the order of the legend."""
    groups: dict[str, list[HeadCard]] = {}
    for result in results.labelled:
        assert result.primary_label is not None
        groups.setdefault(result.primary_label.category, []).append(_card(results, result, run))
    return sorted(groups.items(), key=lambda group: list(CATEGORIES).index(group[0]))


def _card(results: HeadResults, result: HeadResult, run: Capture | None) -> HeadCard:
    similar = [same_label_view(results, result.head)]
    if run is not None and not run.anatomy.stacks:
        similar.append(similar_view(run, result.head, results))
    return HeadCard(
        result=result,
        forest=forest_svg(result),
        evidence=tuple(_sides(label) for label in result.labels),
        causal=tuple((causal_badge(label.causal), causal_sentence(label.causal)) for label in result.labels),
        similar=tuple(view for view in similar if view.heads),
    )


def _sides(label: Label) -> tuple[tuple[str, tuple[tuple[Markup, str], ...]], ...]:
    view = evidence_view(label)
    sides = (
        ("Most attention on the target", view.best[:_N_BEST]),
        ("Least attention on the target", view.worst[:_N_WORST]),
    )
    return tuple((name, tuple(_drawn(each, label.category) for each in own)) for name, own in sides if own)


def _drawn(sentence: Sentence, category: str) -> tuple[Markup, str]:
    return Markup(arcs_svg(sentence, category, theme="page")), sentence.caption  # noqa: S704 - it escapes its texts


def _by_family(results: HeadResults) -> dict[str, list[Relation]]:
    groups: dict[str, list[Relation]] = {}
    for relation in results.relations:
        groups.setdefault(relation.family, []).append(relation)
    return groups
