"""Each kind of figure, from what was asked to a picture and to what a terminal prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.cli import console
from attnlens.cli.options import load_lens, read_text, text_or_pair
from attnlens.cli.paths import existing_path, holds_results
from attnlens.errors import ResultsError, UsageError
from attnlens.heads import Head

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens
    from attnlens.report.maps import Maps, Window
    from attnlens.report.results import HeadResults
    from attnlens.report.still import Picture
    from attnlens.report.tables import Table

__all__ = ["KINDS", "Asked", "Drawn"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The call."""

    sources: tuple[str, ...]
    model: str | None
    head: Head | None
    words: bool
    hide_special: bool
    window: Window | None
    metric: str
    measure: str
    task: str | None
    labels: Path | None
    width: str
    target: str | None
    options: Mapping[str, Any]

    def one_source(self) -> str:
        """The only source."""
        if len(self.sources) != 1:
            raise UsageError(f"expected one text, run or folder, found {len(self.sources)}; quote a sentence.")
        return self.sources[0]

    def one_head(self) -> Head:
        """The head that was named."""
        if self.head is None:
            raise UsageError("this figure is of one head; name it: --head L3H1.")
        return self.head

    def lens(self) -> Lens | None:
        """The model that was named."""
        return None if self.model is None else load_lens(self.model, **self.options)

    def run(self, source: str, lens: Lens | None, points: Sequence[str] = ()) -> Capture:
        """A text run by the model, or a file opened."""
        if lens is not None:
            return lens.capture(**text_or_pair(lens, read_text(source), self.target), points=points)
        if self.target is not None:
            raise UsageError("--target belongs to a text that a model runs: -m MODEL TEXT --target TEXT.")
        from attnlens.capture.bundle import open_run

        return open_run(existing_path(source))

    def results(self) -> HeadResults | None:
        """The labels that were named."""
        if self.labels is None:
            return None
        from attnlens.report.results import load_results

        return load_results(self.labels)


@dataclass(frozen=True)
class Drawn:
    """A figure both ways: as a picture, made when it is asked for, and as what a terminal prints."""

    picture: Callable[[], Picture]
    text: tuple[Any, ...]


def _head(asked: Asked) -> Drawn:
    return _pattern(asked, "token_picture")


def _matrix(asked: Asked) -> Drawn:
    return _pattern(asked, "matrix_picture")


def _pattern(asked: Asked, how: str) -> Drawn:
    head, source = asked.one_head(), asked.one_source()
    from attnlens.report import still
    from attnlens.report.views import pattern_view, strongest

    run = asked.run(source, asked.lens())
    view = pattern_view(run, head, words=asked.words, hide_special=asked.hide_special, window=asked.window)
    from attnlens.cli.heads_table import draw_links

    grid = _grid_text(view.weights, view.visible, view.row_labels, view.column_labels)
    text = (view.caption, *grid, draw_links(strongest(view)))
    return Drawn(lambda: getattr(still, how)(view, width=asked.width or "column"), text)


def _map(asked: Asked) -> Drawn:
    source = asked.one_source()
    from attnlens.report import still
    from attnlens.report.results import load_results
    from attnlens.report.views import head_map_view, results_map_view

    if asked.model is None and holds_results(existing_path(source)):
        view = results_map_view(load_results(source))
    else:
        letter = asked.head.stack if asked.head is not None else ""
        view = head_map_view(asked.run(source, asked.lens()), asked.metric, asked.results(), letter)
    return Drawn(lambda: still.map_picture(view, width=asked.width or "column"), (_table_text(view.table()),))


def _mixing(asked: Asked) -> Drawn:
    source = asked.one_source()
    from attnlens.measures.registry import find_measure
    from attnlens.report import still
    from attnlens.report.maps import Choice
    from attnlens.report.mixing_maps import MIXINGS, mixing_map
    from attnlens.report.views import head_of

    if asked.measure not in MIXINGS:
        raise UsageError(f"{asked.measure[:40]!r} is no map of mixing; choose one of {', '.join(MIXINGS)}.")
    lens = asked.lens()
    run = asked.run(source, lens, points=find_measure(asked.measure).needs.points)
    head = head_of(run, asked.head or Head(run.n_layers - 1, 0))
    choice = Choice(words=asked.words, hide_special=asked.hide_special)
    maps = mixing_map(asked.measure, run, head, choice, lens=lens)
    grid = _mixing_text(maps)
    return Drawn(lambda: still.mixing_picture(maps, width=asked.width or "column"), (maps.captions[0], *grid))


def _forest(asked: Asked) -> Drawn:
    source, head = asked.one_source(), asked.one_head()
    from attnlens.report import still
    from attnlens.report.results import load_results
    from attnlens.report.tables import Table, number

    results = load_results(existing_path(source))
    found = results.of(head)
    rows = tuple(
        (label.name, number(label.score), _interval(label.ci), number(label.baseline), label.failed or "")
        for label in (*found.labels, *found.weak)
    )
    table = Table(f"Labels of {head}.", ("label", "score", "95 % interval", "baseline", "missed"), rows)
    return Drawn(lambda: still.forest_picture(results, head, width=asked.width or "column"), (_table_text(table),))


def _evidence(asked: Asked) -> Drawn:
    source, head = asked.one_source(), asked.one_head()
    from attnlens.report import still
    from attnlens.report.evidence_view import evidence_view
    from attnlens.report.results import load_results

    found = load_results(existing_path(source)).of(head)
    labels = [*found.labels, *found.weak]
    if not labels:
        raise ResultsError(f"{head} has no label, nor nearly one, in these results; choose a labelled head.")
    view = evidence_view(found.primary_label or labels[0])
    return Drawn(lambda: still.evidence_picture(view, width=asked.width or "page"), (_table_text(view.table()),))


def _layers(asked: Asked) -> Drawn:
    source = asked.one_source()
    from attnlens.report import still
    from attnlens.report.layers import layer_panels
    from attnlens.report.results import load_results

    panels = {panel.task: panel for panel in layer_panels(load_results(existing_path(source)).layers)}
    if not panels:
        raise ResultsError("these results read nothing off the residual stream; probe linear, or all --with-stream.")
    task = next(iter(panels)) if asked.task is None else asked.task
    if task not in panels:
        raise UsageError(f"{task[:40]!r} is no task of these results; choose one of {', '.join(panels)}.")
    panel = panels[task]
    text = (panel.caption, _table_text(panel.table()))
    return Drawn(lambda: still.layers_picture(panel, width=asked.width or "column"), text)


def _compare(asked: Asked) -> Drawn:
    if len(asked.sources) != 2:
        raise UsageError(f"a comparison is of two texts or runs, found {len(asked.sources)}; quote each sentence.")
    from attnlens.compare import compare_runs
    from attnlens.report import still
    from attnlens.report.comparison_view import difference_view, divergence_view
    from attnlens.report.views import head_of

    lens = asked.lens()
    first, second = (asked.run(source, lens) for source in asked.sources)
    letter = asked.head.stack if asked.head is not None else ""
    comparison = compare_runs(first, second, words=asked.words, stack=letter or None)
    if asked.head is None:
        divergence = divergence_view(comparison)
        drawn = (_table_text(divergence.table()),)
        return Drawn(lambda: still.map_picture(divergence, width=asked.width or "column"), drawn)
    head = head_of(first, asked.head)
    view = difference_view(comparison, head, head)
    drawn = (_table_text(view.table()),)
    return Drawn(lambda: still.difference_picture(view, width=asked.width or "page"), (view.caption, *drawn))


KINDS: Mapping[str, Callable[[Asked], Drawn]] = {
    "head": _head,
    "matrix": _matrix,
    "map": _map,
    "mixing": _mixing,
    "forest": _forest,
    "evidence": _evidence,
    "layers": _layers,
    "compare": _compare,
}


def _mixing_text(maps: Maps) -> tuple[Any, ...]:
    """Numbers with a unit are printed as parts of the largest."""
    import numpy as np

    values, whole = maps.weights[0], "the row's mixture"
    if maps.unit:
        high = max(float(np.nanmax(values, initial=0)), 1e-9)
        values, whole = values / high, f"the largest, {high:.3g} {maps.unit}"
    return _grid_text(np.nan_to_num(values), ~np.isnan(values), maps.rows.labels, maps.columns.labels, whole)


def _grid_text(
    weights: Any, visible: Any, rows: Sequence[str], columns: Sequence[str], whole: str = "the row's attention"
) -> tuple[Any, ...]:
    from attnlens.cli.maps import token_matrix

    drawn = token_matrix(weights, visible, rows, columns, width=console.stdout_width(), whole=whole)
    return (f"({len(rows)} rows are too many for this terminal)",) if drawn is None else (drawn,)


def _table_text(table: Table) -> Any:
    from attnlens.cli.tables import draw_table

    return draw_table(table)


def _interval(ci: tuple[float, float] | None) -> str:
    from attnlens.report.tables import number

    return "–" if ci is None else f"{number(ci[0])} to {number(ci[1])}"
