"""Reports: one offline HTML file each, drawn by the page's own scripts from the numbers inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.capture.run import Capture
from attnlens.errors import OutputError, UsageError
from attnlens.heads import Head
from attnlens.report.file.document import document_of
from attnlens.report.file.heads_page import heads_part
from attnlens.report.file.pair_page import results_pair, runs_pair
from attnlens.report.file.run_page import run_part
from attnlens.report.file.scope_part import scope_part
from attnlens.report.file.weights import LIMIT
from attnlens.report.page import render
from attnlens.report.results import HeadResults
from attnlens.report.sections import sections_for

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["comparison_report", "heads_report", "run_report"]

_RUN = ("report_run.js",)


def run_report(
    run: Capture,
    results: HeadResults | None = None,
    heads: Sequence[Head | str | tuple[int, int]] | None = None,
    *,
    precision: int | None = None,
    measures: Sequence[str] = (),
    ablate: Sequence[Head | str | tuple[int, int]] = (),
    lens: Lens | None = None,
    again: Mapping[str, Any] | None = None,
) -> str:
    """A report on one run: head map with small pictures, every head as token view and matrix, measures, scope.

    The same run gives the same bytes. A text so long that the weights of all heads would not fit keeps the heads
    that lead a metric or carry a label, and says so.

    Args:
        run: the run.
        results: probe results of the same model, for labels.
        heads: heads that are inside whatever the length of the text; the first is shown first.
        precision: bits of each weight, 8 or 16; None chooses by size. The page says how far they are from the run's.
        measures: names of measures to show beside attention; those of heads as colours of the map, those between tokens
            as maps (of `heads`, where each head has one), others as tables.
        ablate: heads to switch off together, for the prediction before and after; needs `lens`.
        lens: the model that made the run, for measures that need it, and for `ablate`.
        again: what `lens.capture` was called with; None for a plain text.

    Raises:
        HeadAddressError: the model has no such head.
        ResultsError: the labels are of another model.
        UsageError: no such measure or precision; `ablate` without `lens`.
        MeasureError: the run does not have what a measure needs.
        OutputError: the file would be larger than 50 MB; the message says what to leave out.
    """
    without = None
    if ablate:
        from attnlens.report.file.extras import without_heads

        if lens is None:
            raise UsageError("switching heads off needs the model: give lens=..., or -m MODEL TEXT instead of a file.")
        without = without_heads(lens, run, dict(again or {"text": run.text}), ablate)
    part = run_part(run, results, heads or (), precision=precision, measures=measures, without=without, lens=lens)
    document = document_of("run", [part.document], [], {"view": part.view, "tables": part.tables})
    return _checked(
        render(
            "run.html.j2",
            document,
            scripts=_RUN,
            **part.context,
            results=None,
            sections=sections_for(run),
            scope=scope_part(run, None),
        )
    )


def heads_report(results: HeadResults, run: Capture | None = None) -> str:
    """A report on a model's heads: labels with their evidence, what nearly passed, every relation, scope.

    Args:
        results: what `attnlens probe` found.
        run: a run of the same model to look at beside it.

    Raises:
        ResultsError: the run is of another model.
        OutputError: as of `run_report`.
    """
    part = run_part(run, results) if run is not None else None
    heads = heads_part(results, run)
    page = {"tables": {**heads.tables, **(part.tables if part else {})}} | ({"view": part.view} if part else {})
    document = document_of("heads", [part.document] if part else [], [results.document], page)
    context = {**(part.context if part else {"run": None}), **heads.context, "sections": sections_for(run, results)}
    html = render(
        "heads.html.j2",
        document,
        scripts=_RUN if part else (),
        **context,
        results=results,
        scope=scope_part(run, results),
    )
    return _checked(html)


def comparison_report(
    first: Capture | HeadResults, second: Capture | HeadResults, *, precision: int | None = None
) -> str:
    """A report on two runs (two texts, or one text in two models or checkpoints), or on two probe results.

    Args:
        first: a run, or probe results.
        second: the same kind.
        precision: as of `run_report`.

    Raises:
        TextError: the texts have nothing in common.
        UsageError: a run and probe results.
        OutputError: as of `run_report`.
    """
    if isinstance(first, Capture) and isinstance(second, Capture):
        part = runs_pair(first, second, precision)
        names = tuple(f"“{run.text}”" if first.text != second.text else run.anatomy.model for run in (first, second))
        scopes = [scope_part(run, None) for run in (first, second)]
        context: dict[str, Any] = {}
        results: list[Any] = []
    elif isinstance(first, HeadResults) and isinstance(second, HeadResults):
        part = results_pair(first, second)
        names = (first.anatomy.model, second.anatomy.model)
        scopes = [scope_part(None, each) for each in (first, second)]
        context = {"runs": None}
        results = [first.document, second.document]
    else:
        raise UsageError("a run is compared with a run, probe results with probe results; give two of a kind.")
    page = {"tables": part.tables} | ({"pair": part.view} if part.view is not None else {})
    document = document_of("comparison", part.documents, results, page)
    scripts = ("report_pair.js",) if part.view is not None else ()
    html = render(
        "comparison.html.j2",
        document,
        scripts=scripts,
        **{**context, **part.context},
        names=names,
        scopes=scopes,
        sections=(),
    )
    return _checked(html)


def _checked(html: str) -> str:
    """The page, unless it is too large to send.

    Raises:
        OutputError: it is.
    """
    if (size := len(html.encode())) > LIMIT:
        raise OutputError(
            f"the report would be {size / 1e6:.0f} MB, and a report holds {LIMIT // 10**6} MB: leave out --measure or "
            "take --precision 8, capture fewer heads (attnlens capture --layers, --heads), or report on a shorter text."
        )
    return html
