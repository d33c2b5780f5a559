"""The result of a measure in a terminal: a table of heads, of tokens, a map, or the strongest of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from textwrap import wrap

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text

from attnlens.capture.tokens import printable
from attnlens.cli.maps import fit_label, token_matrix
from attnlens.errors import UsageError
from attnlens.heads import Head
from attnlens.measures.registry import Measure, Measured

__all__ = ["draw", "draw_list"]

Drawing = str | Text | Table
Vocabulary = Callable[[list[int]], list[str]]
_TOKENS = ("query", "key", "position", "token")
_OTHER_HEADS = ("layer_to", "head_to")
_N_LISTED = 10
_LABEL_WIDTH = 24
_NUMBER = 4  # columns of the number in front of a token's label


def draw(found: Measured, width: int, vocabulary: Vocabulary | None = None) -> list[Drawing]:
    """A title, the values as fits their axes, and what a larger value means.

    Args:
        found: the result.
        width: columns to stay within.
        vocabulary: ids -> tokens, to name what stands on an axis `vocab`.

    Raises:
        UsageError: more axes than can be printed.
    """
    values, axes = found.values.double().numpy(), found.axes
    drawn = _drawn(found, values, axes, width, vocabulary)
    return [_title(found), "", *drawn, "", Text(_legend(found.measure), style="dim")]


def draw_list(measures: Sequence[Measure], width: int) -> Text:
    """Each measure's name, what it has a value for, its unit, and under them its description."""
    lines = []
    for measure in measures:
        unit = f", in {measure.unit}" if measure.unit else ""
        lines.append(Text(measure.name, style="bold").append(f"  per {' '.join(measure.axes)}{unit}", style="not bold"))
        lines += [Text(f"    {part}", style="dim") for part in wrap(measure.description, max(width - 4, 20))]
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _drawn(
    found: Measured,
    values: Float[np.ndarray, ...],
    axes: tuple[str, ...],
    width: int,
    vocabulary: Vocabulary | None,
) -> list[Drawing]:
    measure = found.measure
    if not axes:
        return [Text(_number(float(values), measure), style="bold")]
    if axes in (("layer", "head"), _OTHER_HEADS):
        return _heads(found, values, width, nearest=axes == _OTHER_HEADS)
    if axes[-1] == "vocab" and len(axes) == 1:
        return [_vocabulary(values, vocabulary)]
    if len(axes) == 1:
        labels = _labels(found, axes[0], len(values))
        return [_list(list(zip(labels, values.tolist(), strict=True)), measure)]
    if axes[0] == "layer" and len(axes) == 2 and axes[1] in _TOKENS:
        layers = [f"L{layer}" for layer in range(len(values))]
        return [_table(layers, _labels(found, axes[1], values.shape[1]), values.T, width)]
    if axes == ("query", "key"):
        return _map(found, values, width)
    if axes == ("layer", "query", "key"):
        note = Text(f"after layer {len(values) - 1}; --json has every layer", style="dim")
        return [note, *_map(found, values[-1], width)]
    if axes[:2] == ("layer", "head") and len(axes) == 3 and values.shape[2] <= 3:
        rows = [str(Head(layer, head, found.stack)) for layer, head in np.ndindex(*values.shape[:2])]
        return [_table(["xyz"[place] for place in range(values.shape[2])], rows, values.reshape(len(rows), -1), width)]
    one = " name one head by --head, or" if measure.of_heads and found.head is None else ""
    raise UsageError(f"{measure.name!r} has the axes {' '.join(axes)}, too many to print;{one} take --json.")


def _title(found: Measured) -> Text:
    measure = found.measure
    whose = f" of {found.head}" if found.head is not None else ""
    settings = ", ".join(f"{name}={value}" for name, value in found.options.items() if value is not None)
    title = Text(f"{measure.title}{whose}", style="bold")
    unit = f"in {measure.unit}" if measure.unit else ""
    model = printable(found.run.anatomy.model)
    return title.append(f"  {'; '.join(filter(None, (unit, settings, model)))}", style="not bold")


def _legend(measure: Measure) -> str:
    classes = "; ".join(f"{number} {name}" for number, name in enumerate(measure.classes))
    more = f"Classes: {classes}" if classes else f"More: {measure.more}"
    return f"{measure.description}\n{more}.\nSource: {measure.source}."


def _heads(found: Measured, values: Float[np.ndarray, ...], width: int, *, nearest: bool) -> list[Drawing]:
    """The table of heads where it fits, and the strongest ones (the nearest, for distances)."""
    rows, columns = ([f"{front}{i}" for i in range(size)] for front, size in zip("LH", values.shape, strict=True))
    drawn: list[Drawing] = []
    if 6 + 8 * len(columns) <= width:
        drawn = [_table(columns, rows, values, width, whole=bool(found.measure.classes))]
    if found.measure.classes:
        return drawn or [_list(_by_head(found, values)[:_N_LISTED], found.measure)]
    ranked = [(name, value) for name, value in _by_head(found, values) if not math.isnan(value)]
    ranked.sort(key=lambda pair: pair[1] if nearest else -pair[1])
    if nearest and found.head is not None:
        ranked = [(name, value) for name, value in ranked if name != str(found.head)]
    word = "nearest" if nearest else "largest"
    return [*drawn, *([""] if drawn else []), Text(f"{word}:", style="dim"), _list(ranked[:_N_LISTED], found.measure)]


def _by_head(found: Measured, values: Float[np.ndarray, ...]) -> list[tuple[str, float]]:
    return [
        (str(Head(layer, head, found.stack)), float(values[layer, head])) for layer, head in np.ndindex(*values.shape)
    ]


def _map(found: Measured, values: Float[np.ndarray, ...], width: int) -> list[Drawing]:
    """The map where its values are shares and it fits, and its strongest edges."""
    rows, columns = _labels(found, "query", values.shape[0]), _labels(found, "key", values.shape[1])
    drawn: list[Drawing] = []
    if found.measure.high == 1.0 and found.measure.low == 0.0:
        labels = ([label[_NUMBER:] for label in side] for side in (rows, columns))
        shown = token_matrix(np.nan_to_num(values), ~np.isnan(values), *labels, width=width)
        drawn = [] if shown is None else [shown, ""]
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=None, kind="stable")[:_N_LISTED]
    longest = max(map(len, rows))
    edges = [(int(flat) // values.shape[1], int(flat) % values.shape[1]) for flat in order]
    pairs = [(f"{rows[query]:<{longest}} > {columns[key]}", float(values[query, key])) for query, key in edges]
    return [*drawn, Text("largest, from > to:", style="dim"), _list(pairs, found.measure)]


def _vocabulary(values: Float[np.ndarray, ...], vocabulary: Vocabulary | None) -> Table:
    """The tokens with the largest and with the smallest values."""
    order = np.argsort(-values, kind="stable")
    chosen = [int(token) for token in (*order[:_N_LISTED], *order[-_N_LISTED:])]
    names = [str(token) for token in chosen] if vocabulary is None else [printable(name) for name in vocabulary(chosen)]
    table = _plain("largest", "", "smallest", "")
    for place in range(min(_N_LISTED, len(values))):
        low = len(chosen) - 1 - place
        table.add_row(names[place], _figure(values[chosen[place]]), names[low], _figure(values[chosen[low]]))
    return table


def _list(pairs: Sequence[tuple[str, float]], measure: Measure) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for label, value in pairs:
        table.add_row(Text(label), Text(_number(float(value), measure)))
    return table


def _table(
    columns: Sequence[str], rows: Sequence[str], values: Float[np.ndarray, ...], width: int, *, whole: bool = False
) -> Table:
    """Numbers with labels, whole ones or with decimals; columns that do not fit are left out, and said to be."""
    label = min(max(map(len, rows), default=1), _LABEL_WIDTH)
    fits = max(1, (width - label - 3) // 8)
    table = _plain("", *columns[:fits], *(["..."] if fits < len(columns) else []))
    for name, row in zip(rows, values, strict=True):
        table.add_row(Text(fit_label(name, label).rstrip()), *(_figure(value, whole) for value in row[:fits]))
    return table


def _plain(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _labels(found: Measured, axis: str, n: int) -> list[str]:
    """What stands on an axis: tokens with their numbers where there are as many, else numbers."""
    own = found.run.tokens
    source = () if found.run.source is None else found.run.source.tokens
    reads = found.stack == "E" or (found.stack == "X" and axis == "key")
    for tokens in (source if reads else own, source, (*source, *own)):
        if axis in _TOKENS and len(tokens) == n:
            return [
                f"{place:>{_NUMBER - 1}} {fit_label(token.label, _LABEL_WIDTH).rstrip()}"
                for place, token in enumerate(tokens)
            ]
    return [f"{'L' if axis == 'layer' else ' ' * _NUMBER}{place}" for place in range(n)]


def _number(value: float, measure: Measure) -> str:
    if math.isnan(value):
        return "not defined"
    if measure.classes:
        return measure.classes[int(value)]
    return f"{_figure(value)} {measure.unit}".rstrip()


def _figure(value: float, whole: bool = False) -> str:
    """Four digits, and a dash for what is not defined."""
    if math.isnan(value):
        return "–"
    if whole:
        return str(int(value))
    return f"{value:.3f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.1e}"
