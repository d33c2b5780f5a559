"""Probes of the stream in the terminal: per task one row per layer, with the controls beside the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attnlens.capture.tokens import printable
from attnlens.report.layers import READABLE, LayerPanel, layer_panels, parse_layers
from attnlens.report.tables import number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["draw_layers"]


def draw_layers(document: Mapping[str, Any], width: int = 80) -> Iterator[str | RenderableType]:
    """What the terminal shows of `layers` in a `heads.json`: nothing where there are none.

    Args:
        document: of `heads.json`.
        width: columns of the terminal.
    """
    panels = layer_panels(parse_layers(document.get("layers", ())))
    if panels:
        yield from _title(document)
    for panel in panels:
        yield from ("", panel.title, panel.caption, _table(panel, width))
    if panels:
        yield from ("", "→ marks the layer chosen on the other half. " + READABLE)


def _title(document: Mapping[str, Any]) -> Iterator[str]:
    corpus, unit = document["corpus"], document["scope"]["unit"]
    yield f"Residual stream of {printable(document['model']['model'])} on {printable(corpus['name'])}"
    for family, about in document["scope"]["stream"].items():
        words = about["words"]
        yield (
            f"{printable(family)}: fitted on {words['fit']:,} words, scored on {words['confirm']:,} of other {unit}s"
        )
        if about.get("random_weights"):
            yield f"{printable(family)}: no control with random weights: {printable(about['random_weights'])}"


def _table(panel: LayerPanel, width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    first, *others = panel.metrics
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), width=min(width, 100))
    table.add_column("layer", no_wrap=True)
    table.add_column(first, justify="right", no_wrap=True)
    table.add_column("95 %", no_wrap=True)
    for name in (*panel.controls, *others):
        table.add_column(name, justify="right", overflow="fold")
    for index, score in enumerate(panel.main):
        interval = "–" if score.ci is None else f"{number(score.ci[0])}–{number(score.ci[1])}"
        table.add_row(
            ("→ " if score.chosen else "  ") + score.place,
            number(score.score),
            interval,
            *(number(score.controls.get(name)) for name in panel.controls),
            *(number(panel.scores[metric][index].score) for metric in others),
        )
    return table
