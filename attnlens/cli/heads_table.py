"""What each head mostly does on one sentence, by a plain criterion, drawn for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.table import Table
from rich.text import Text

from attnlens.capture.run import Capture
from attnlens.cli.maps import Kind, fit_label, head_grid
from attnlens.heads import Head
from attnlens.report.metrics import METRICS, metric_values_of
from attnlens.report.views import Link

__all__ = ["FLOOR", "HabitTable", "draw_habits", "draw_links"]

# What a head may mostly look at: metric -> letter and colour (Okabe & Ito's, darkened under white text).
HABITS = {
    "previous": Kind("p", "previous token", (0, 114, 178)),
    "next": Kind("n", "next token", (0, 125, 95)),
    "self": Kind("s", "same token", (150, 90, 140)),
    "first": Kind("f", "first token", (190, 85, 0)),
    "special": Kind("x", "other specials", (110, 110, 110)),
}
FLOOR = 0.3
_N_PER_KIND = 3
_LABEL_WIDTH = 24


@dataclass(frozen=True)
class HabitTable:
    """Per head: its largest habit, the share of attention that goes there, and its entropy.

    Attributes:
        kinds: index into `HABITS` of each head's largest habit, `[layer head]`.
        shares: the mean weight that it takes, 0 to 1.
        entropy: nats.
        values: every metric, for JSON.
        stack: letter in front of the heads' addresses.
    """

    kinds: Int[np.ndarray, "layer head"]
    shares: Float[np.ndarray, "layer head"]
    entropy: Float[np.ndarray, "layer head"]
    values: dict[str, Float[np.ndarray, "layer head"]]
    stack: str = ""

    @classmethod
    def of(cls, run: Capture) -> HabitTable:
        """Measure a run; of an encoder-decoder, the decoder."""
        values = metric_values_of(run, tuple(METRICS))
        shares = {key: values[key] for key in HABITS}
        if run.tokens[0].special:  # [CLS] or <s>: counted as the first position, so not again as a special token
            shares["special"] = (values["special"] - values["first"]).clip(min=0)
        habits = np.stack([np.nan_to_num(shares[key], nan=-1.0) for key in HABITS])
        kinds = habits.argmax(0)
        best = habits.max(0)
        return cls(kinds, np.where(best < 0, np.nan, best), values["entropy"], values, run.anatomy.main_stack)

    def ranked(self, kind: int) -> list[tuple[int, int]]:
        """(layer, head) of the heads of one kind, from the largest share down to `FLOOR`."""
        order = np.argsort(-self.shares, axis=None, kind="stable")
        pairs = (tuple(map(int, np.unravel_index(flat, self.shares.shape))) for flat in order)
        return [(layer, head) for layer, head in pairs if self._is(kind, layer, head)]

    def _is(self, kind: int, layer: int, head: int) -> bool:
        return bool(self.kinds[layer, head] == kind and self.shares[layer, head] >= FLOOR)

    def to_json(self) -> list[dict[str, Any]]:
        """One object per head, layer by layer."""
        names = list(HABITS)
        return [
            {
                "head": str(Head(layer, head, self.stack)),
                "layer": layer,
                "index": head,
                "mostly": names[self.kinds[layer, head]],
                "share": _or_null(self.shares[layer, head]),
                "metrics": {key: _or_null(values[layer, head]) for key, values in self.values.items()},
            }
            for layer, head in np.ndindex(*self.shares.shape)
        ]


def draw_habits(table: HabitTable, width: int) -> tuple[Text | Table, ...]:
    """The map, its legend, and the strongest heads."""
    kinds = list(HABITS.values())
    grid = head_grid(table.shares, table.kinds, kinds, floor=FLOOR, width=width)
    return grid, _legend(kinds), _strongest_heads(table, kinds)


def _legend(kinds: Sequence[Kind]) -> Text:
    names = "  ".join(f"{kind.letter} {kind.name}" for kind in kinds)
    rule = f"Each head's largest share of attention, in percent; · where it is below {100 * FLOOR:.0f}."
    return Text(f"{rule}\n{names}", style="dim")


def _strongest_heads(table: HabitTable, kinds: Sequence[Kind]) -> Table:
    """Up to three heads of each kind, so that the many heads that rest on the first token do not crowd out the rest."""
    drawn = _plain_table(("head", "left"), ("mostly attends to", "left"), ("share", "right"), ("entropy", "right"))
    for index, kind in enumerate(kinds):
        for layer, head in table.ranked(index)[:_N_PER_KIND]:
            share, entropy = table.shares[layer, head], table.entropy[layer, head]
            drawn.add_row(str(Head(layer, head, table.stack)), kind.name, f"{share:.1%}", f"{entropy:.2f} nats")
    return drawn


def draw_links(links: Sequence[Link]) -> Table:
    """A head's strongest edges as a table."""
    drawn = _plain_table(("from", "left"), ("to", "left"), ("weight", "right"))
    for link in links:
        source, target = (
            f"{index:>3} {fit_label(label, _LABEL_WIDTH)}"
            for index, label in ((link.query, link.source), (link.key, link.target))
        )
        drawn.add_row(Text(source), Text(target), f"{link.weight:.3f}")
    return drawn


def _plain_table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def _or_null(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
