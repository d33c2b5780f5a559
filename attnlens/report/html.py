"""Reports: one offline HTML file each. The figures are the ones of `figures`; a script redraws them per head."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.report import embed, figures, link_figure, views
from attnlens.report.layers import READABLE, layer_panels
from attnlens.report.metrics import METRICS, metric_values_of
from attnlens.report.page import render
from attnlens.report.palette import CATEGORIES, THEMES
from attnlens.report.results import HeadResult, HeadResults
from attnlens.report.scope import corpus_rows, model_rows, run_rows, scope_rows, version_rows
from attnlens.report.tables import Table, share
from attnlens.report.text import escaped

__all__ = ["heads_report", "run_report"]

METRIC = "max"
_NARROW = 10


def run_report(
    run: Capture, results: HeadResults | None = None, heads: Sequence[Head | str | tuple[int, int]] | None = None
) -> str:
    """A report on one run: tokens, head map by any metric, every head as token view and matrix, scope.

    The same run gives the same bytes. A text so long that the weights of all heads would not fit keeps the heads
    that lead a metric or carry a label, and says so.

    Args:
        run: the run.
        results: probe results of the same model, for labels.
        heads: heads that are inside whatever the length of the text; the first is shown first.

    Raises:
        HeadAddressError: the model has no such head.
        ResultsError: the labels are of another model.
    """
    context, data = _run_part(run, results, heads)
    return render("run.html.j2", data, **context, results=None, scope=_scope(run, None))


def heads_report(results: HeadResults, run: Capture | None = None) -> str:
    """A report on a model's heads: labels with their evidence, what nearly passed, every relation, scope.

    Args:
        results: what `attnlens probe` found.
        run: a run of the same model to look at beside it.

    Raises:
        ResultsError: the run is of another model.
    """
    context, data = _run_part(run, results, None) if run is not None else ({"run": None}, _empty_data())
    heads_read = not results.layers or bool(set(results.scope["families"]) - set(results.scope.get("stream", ())))
    if heads_read:
        data["labels_map"] = _themes(lambda theme: figures.head_map(views.results_map_view(results), theme=theme))
    data["forests"] = {
        str(result.head): _themes(lambda theme, head=result.head: figures.forest(results, head, theme=theme))
        for result in results.heads
        if result.labels
    }
    panels = layer_panels(results.layers)
    data["layers"] = [_themes(lambda theme, panel=panel: figures.layer_lines(panel, theme=theme)) for panel in panels]
    labels_map = views.results_map_view(results)
    return render(
        "heads.html.j2",
        data,
        **context,
        results=results,
        labels_map=labels_map,
        families=_families(results),
        relations=_by_family(results),
        heads_read=heads_read,
        panels=panels,
        readable=READABLE,
        weak=[result for result in results.heads if result.weak],
        tested=any(label.causal for result in results.heads for label in result.labels),
        map_width=_map_width(results.anatomy.n_heads),
        scope=_scope(run, results),
    )


def _run_part(
    run: Capture, results: HeadResults | None, wanted: Sequence[Head | str | tuple[int, int]] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the template and the script read about a run."""
    values = metric_values_of(run)
    maps = {key: views.map_of_values(run, METRICS[key], values[key], results) for key in METRICS}
    leaders = views.standouts(values)
    first = [Head.parse(head).within(run.n_layers, run.n_heads) for head in wanted or ()]
    labelled = [result.head for result in results.labelled] if results is not None else []
    ranked = dict.fromkeys([*first, *(leader.head for leader in leaders), *labelled, *run.anatomy.heads()])
    inside, bits = embed.fitting(run, list(ranked))
    opened = inside[0]
    packed = embed.pack_weights(run, sorted(inside), bits)
    view = views.pattern_view(run, opened, results=results)
    data = _empty_data() | {
        "opened": str(opened),
        "metric": METRIC,
        "maps": {key: _themes(lambda theme, key=key: figures.head_map(maps[key], theme=theme)) for key in METRICS},
        "captions": {key: maps[key].caption for key in METRICS},
        "tokens": _tokens(run),
        "weights": {"bits": packed.bits, "heads": packed.heads, "masks": packed.masks, "mask_of": packed.mask_of},
        "matrices": [_matrix_template(run, packed.mask_of.index(mask)) for mask in range(len(packed.masks))],
        "links": _themes(lambda theme: _emptied(figures.token_links(view, theme=theme))),
        "rules": _rules(),
        "labels": _label_texts(results),
    }
    context = {
        "run": run,
        "opened": opened,
        "inside": sorted(inside),
        "packed": packed,
        "rounding": f"{math.ceil(packed.error * 1e7) / 1e7:.7f}",
        "maps": maps,
        "metric": METRIC,
        "metrics_table": _metrics_table(run, maps),
        "standouts": leaders,
        "strongest": views.strongest(view),
        "view": view,
        "run_width": _map_width(run.n_heads),
    }
    return context, data


def _empty_data() -> dict[str, Any]:
    return {"config": dict(figures.CONFIG)}


def _themes(draw: Any) -> dict[str, Any]:
    """The figure in both themes, as plotly.js reads it."""
    return {theme: json.loads(draw(theme).to_json()) for theme in THEMES}


def _emptied(figure: go.Figure) -> go.Figure:
    """The figure without its lines and points, which the script computes for each head."""
    for trace in figure.data:
        trace.update(x=[], y=[])
        if trace.mode == "markers":
            trace.update(text=[])
    return figure


def _matrix_template(run: Capture, layer: int) -> dict[str, Any]:
    """The matrix of a layer's mask, without weights."""
    view = views.pattern_view(run, Head(layer, 0))

    def draw(theme: str) -> go.Figure:
        figure = figures.pattern_heatmap(view, theme=theme)
        figure.data[0].z = []
        return figure

    return _themes(draw)


def _tokens(run: Capture) -> dict[str, list[str]]:
    """Labels as text, and as plotly takes them for wide and narrow pages."""
    labels = [token.label for token in run.tokens]
    return {
        "text": labels,
        "short": [escaped(label) for label in labels],
        "narrow": [escaped(label, _NARROW) for label in labels],
    }


def _rules() -> dict[str, Any]:
    """What `link_figure` goes by; the script goes by the same."""
    return {
        "bins": link_figure.BINS,
        "threshold": link_figure.THRESHOLD,
        "many": link_figure.MANY,
        "few": link_figure.FEW,
        "points": link_figure.POINTS,
        "apart": link_figure.APART,
        "inks": {
            name: {"ink": theme.ink, "faint": theme.faint, "accent": theme.accent} for name, theme in THEMES.items()
        },
    }


def _label_texts(results: HeadResults | None) -> dict[str, list[dict[str, str]]]:
    if results is None:
        return {}
    return {
        str(result.head): [
            {"name": label.name, "category": label.category, "text": label.text} for label in result.labels
        ]
        for result in results.labelled
    }


def _metrics_table(run: Capture, maps: dict[str, views.HeadMapView]) -> Table:
    """Every metric of every head."""
    names = tuple(f"{m.name} ({m.unit})" if m.unit else m.name for m in METRICS.values())
    rows = tuple((str(head), *(maps[key].value(head) for key in METRICS)) for head in run.anatomy.heads())
    return Table("Every metric of every head on this text.", ("head", *names), rows)


def _families(results: HeadResults) -> list[tuple[str, list[HeadResult]]]:
    """Labelled heads by category, in the order of the legend."""
    groups: dict[str, list[HeadResult]] = {}
    for result in results.labelled:
        assert result.primary_label is not None
        groups.setdefault(result.primary_label.category, []).append(result)
    return sorted(groups.items(), key=lambda group: list(CATEGORIES).index(group[0]))


def _by_family(results: HeadResults) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for relation in results.relations:
        groups.setdefault(relation.family, []).append(relation)
    return groups


def _map_width(n_heads: int) -> int:
    """Pixels: cells stay about square."""
    return 130 + 58 * n_heads


def _scope(run: Capture | None, results: HeadResults | None) -> dict[str, Any]:
    anatomy = results.anatomy if results is not None else run.anatomy  # type: ignore[union-attr]
    versions = results.versions if results is not None else run.versions  # type: ignore[union-attr]
    unclassified = results.scope.get("unclassified_share") if results is not None else None
    return {
        "anatomy": anatomy,
        "model": model_rows(anatomy),
        "run": run_rows(run) if run is not None else [],
        "corpus": corpus_rows(results.corpus) if results is not None else [],
        "method": scope_rows(results.scope) if results is not None else [],
        "versions": version_rows(versions),
        "unclassified": share(unclassified),
        "caveat": results.scope.get("caveat") or views.CAVEAT if results is not None else views.CAVEAT,
    }
