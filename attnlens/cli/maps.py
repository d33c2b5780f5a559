"""Attention in a terminal: a layer x head map and a token x token map, as characters that also carry colour.

Every drawing reads without colour: a letter or a number says what the shade says. Colours are dropped by the
console where stdout is no terminal. Labels must be printable text already (`attnlens.capture.tokens.printable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.cells import cell_len, set_cell_size
from rich.text import Text

__all__ = ["Kind", "fit_label", "head_grid", "token_matrix"]

# Red, green, blue of a weight of 1; white text stands on it.
_WEIGHT = (38, 110, 180)
_PLAIN_BELOW = 0.1
_SHADES = "·░▒▓█"
_MAX_LABEL = 14
_NUMBER_LEGEND = "percent of {}; · below half a percent; blank: not visible"
_SHADE_LEGEND = "░ from 20 percent of {}, ▒ 40, ▓ 60, █ 80; blank: not visible"


@dataclass(frozen=True)
class Kind:
    """One thing that a head may mostly do, as the map shows it: a letter, a name and a colour."""

    letter: str
    name: str
    rgb: tuple[int, int, int]


def fit_label(label: str, width: int) -> str:
    """`label` in exactly `width` terminal columns: padded, or cut with an ellipsis; wide characters count twice."""
    if cell_len(label) > width:
        return set_cell_size(label, width - 1) + "…"
    return set_cell_size(label, width)


def _to_the_right(label: str, width: int) -> str:
    fitted = fit_label(label, width).rstrip()
    return " " * (width - cell_len(fitted)) + fitted


def head_grid(
    values: Float[np.ndarray, "layer head"],
    kinds: Int[np.ndarray, "layer head"],
    names: Sequence[Kind],
    *,
    floor: float,
    width: int,
) -> Text:
    """The layer x head map: each cell has its kind's letter and its value in percent, `·` below `floor`.

    Args:
        values: 0 to 1; NaN where nothing was measured.
        kinds: index into `names` of what each value is about.
        names: the kinds.
        floor: values below it are not named.
        width: columns to stay within. The more heads, the fewer digits: percent, tenths, the letter alone.
    """
    n_heads = values.shape[1]
    cell = next((size for size in (5, 4, 3, 2, 1) if 5 + size * n_heads <= width), 1)
    lines = [_head_numbers(n_heads, cell)]
    for layer, row in enumerate(values):
        line = Text(f"{'L' + str(layer):>4} ")
        for value, kind in zip(row, kinds[layer], strict=True):
            line.append_text(_head_cell(float(value), names[kind], floor, cell))
        lines.append(line)
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _head_numbers(n_heads: int, cell: int) -> Text:
    """The header; where a number does not fit its cell, every fifth is written."""
    if cell >= 4:
        numbers = "".join(f"{'H' + str(head):>{cell - 1}} " for head in range(n_heads))
    else:
        numbers = "".join(f"{'H' + str(head):<{5 * cell}}" for head in range(0, n_heads, 5))
    return Text(f"     {numbers}".rstrip(), style="dim")


def _head_cell(value: float, kind: Kind, floor: float, cell: int) -> Text:
    """A letter and as much of the number as fits: 5 columns `p100 `, 4 `p99 `, 3 tenths `p9 `, 2 and 1 the letter."""
    body, blank = max(cell - 1, 1), " " * min(cell - 1, 1)
    if np.isnan(value) or value < floor:
        return Text(f"{'·':>{body}}{blank}", style="dim")
    percent = round(100 * value)
    digits = {5: str(percent), 4: str(min(percent, 99)), 3: str(min(percent // 10, 9))}.get(cell, "")
    return (
        Text(" " * (body - 1 - len(digits)))
        .append(f"{kind.letter}{digits}", _background(kind.rgb, value))
        .append(blank)
    )


def token_matrix(
    weights: Float[np.ndarray, "query key"],
    visible: Bool[np.ndarray, "query key"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    width: int,
    whole: str = "the row's attention",
) -> Text | None:
    """The token x token map of one head: percent of each row's attention, rows from, columns to.

    `·` stands for less than half a percent, blank for a key that the query does not see. With many tokens the
    numbers give way to shades; the last line says which it is, and that they are parts of `whole`. None when even
    shades do not fit into `width` columns.
    """
    label = min(max(map(cell_len, rows), default=1), _MAX_LABEL)
    margin = label + 5
    cell = next((size for size in (5, 4, 1) if margin + size * len(columns) <= width), None)
    if cell is None:
        return None
    lines = _token_header(columns, margin, cell)
    for index, (name, row, seen) in enumerate(zip(rows, weights, visible, strict=True)):
        line = Text(f"{index:>3} {fit_label(name, label)} ")
        for weight, is_seen in zip(row, seen, strict=True):
            line.append_text(_token_cell(float(weight), bool(is_seen), cell))
        lines.append(line)
    lines.append(Text((_SHADE_LEGEND if cell == 1 else _NUMBER_LEGEND).format(whole), style="dim"))
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _token_header(columns: Sequence[str], margin: int, cell: int) -> list[Text]:
    """Column numbers, and under them as much of the labels as fits."""
    blank = " " * margin
    if cell == 1:
        ticks = "".join(f"{index:<5}" for index in range(0, len(columns), 5))[: len(columns) + 4]
        return [Text(blank + ticks, style="dim")]
    numbers = "".join(f"{index:>{cell - 1}} " for index in range(len(columns)))
    labels = "".join(f"{_to_the_right(name, cell - 1)} " for name in columns)
    return [Text(blank + numbers, style="dim"), Text(blank + labels)]


def _token_cell(weight: float, seen: bool, cell: int) -> Text:
    if not seen:
        return Text(" " * cell)
    if cell == 1:
        level = min(int(weight * len(_SHADES)), len(_SHADES) - 1)
        return Text(_SHADES[level], style="" if level else "dim")
    percent = round(100 * weight)
    if percent == 0:
        return Text(f"{'·':>{cell - 1}} ", style="dim")
    return Text(f"{percent:>{cell - 1}}", style=_background(_WEIGHT, weight)).append(" ")


def _background(rgb: tuple[int, int, int], strength: float) -> str:
    """A style whose background grows from dim to the full colour; none for what is weak, on any terminal's own."""
    if strength < _PLAIN_BELOW:
        return ""
    share = 0.45 + 0.55 * min(strength, 1.0)
    red, green, blue = (round(share * part) for part in rgb)
    return f"rgb(255,255,255) on rgb({red},{green},{blue})"
