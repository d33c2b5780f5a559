"""What a run report shows beside attention: measures that were asked for, and the run without some heads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from attnlens.capture.run import Capture
from attnlens.errors import UsageError
from attnlens.heads import Head, in_words
from attnlens.measures.registry import Measure, Measured, find_measure, measure_run
from attnlens.report.maps import Choice, arranged, tokens_of
from attnlens.report.outcome_view import ChangeView, StatesView, change_view, states_view
from attnlens.report.packed import codes_of
from attnlens.report.tables import Cell, Table

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["Extras", "HeadNumbers", "Without", "measured_extras", "points_of", "without_heads"]

# Tokens beyond which a page holds no maps of measures.
LONGEST = 512
# Divergence, in nats, below which two patterns are the same but for rounding.
SAME = 1e-6


@dataclass(frozen=True)
class HeadNumbers:
    """A number for each head of a stack, with what a reader has to know of it; `values` is NaN where undefined."""

    name: str
    unit: str
    description: str
    low: float
    high: float
    values: Float[np.ndarray, "layer head"]

    def to_json(self) -> dict[str, Any]:
        """JSON values; None where undefined, six decimals."""
        rows = [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in self.values]
        about = {name: getattr(self, name) for name in ("name", "unit", "description", "low", "high")}
        return about | {"values": rows}


@dataclass(frozen=True)
class Extras:
    """Measures by what they are of.

    Attributes:
        heads: (letter of the stack, name) -> a number for each head.
        maps: of JSON values, for the page's script: numbers between tokens.
        tables: name -> numbers of tokens or layers, or classes of heads.
    """

    heads: dict[tuple[str, str], HeadNumbers] = field(default_factory=dict)
    maps: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Without:
    """A run and the same text without some heads.

    Attributes:
        heads: that were switched off, in words.
        view: the prediction before and after, or the last states where nothing is predicted.
        numbers: how far every head's attention is from what it was.
        letter: of the stack whose heads these are.
    """

    heads: str
    view: ChangeView | StatesView
    numbers: HeadNumbers
    letter: str

    @property
    def moves_attention(self) -> bool:
        """Whether any head looks elsewhere now; behind the last layer there is none that could."""
        return bool((self.numbers.values > SAME).any())


def points_of(names: Sequence[str]) -> tuple[str, ...]:
    """The points that a run has to keep for these measures.

    Raises:
        UsageError: no such measure.
    """
    return tuple(dict.fromkeys(point for name in names for point in find_measure(name).needs.points))


def measured_extras(run: Capture, names: Sequence[str], heads: Sequence[Head], lens: Lens | None = None) -> Extras:
    """Take measures of a run, and put each where a report shows it.

    Args:
        run: with the points that they need.
        names: of measures.
        heads: of whose maps a measure is taken that has one map per head.
        lens: the model, for measures that need it.

    Raises:
        UsageError: no such measure, or one of axes that a report has no place for.
        MeasureError: the run or its model does not have what a measure needs.
    """
    found = Extras()
    for name in dict.fromkeys(find_measure(name).name for name in names):
        measure = find_measure(name)
        if measure.axes == ("layer", "head", "query", "key"):
            found.maps.append(_head_maps(measure, run, heads, lens))
            continue
        measured = measure_run(measure, run, lens=lens)
        letter = measured.stack
        values = measured.values.detach().double().cpu().numpy()
        if measure.axes == ("layer", "head") and not measure.classes:
            found.heads[letter, name] = _numbers(measure, values)
        elif measure.axes[-2:] == ("query", "key") and len(measure.axes) <= 3:
            found.maps.append(_maps(measured, run, letter))
        elif len(measure.axes) <= 2:
            found.tables[name] = _table(measure, values, run, letter)
        else:
            raise UsageError(
                f"{name!r} has the axes {' '.join(measure.axes)}; a report shows measures of heads, of tokens and of "
                "pairs of tokens. Take it by attnlens measure --json."
            )
    return found


def without_heads(lens: Lens, run: Capture, again: dict[str, Any], heads: Sequence[object]) -> Without:
    """The run's text once more, with heads writing nothing.

    Args:
        lens: the model that made the run.
        run: the run.
        again: what `lens.capture` was called with: "text", or "source" and "target".
        heads: to switch off together.

    Raises:
        HeadAddressError: the model has no such head.
        UsageError: the text is cut into other tokens than the run's.
    """
    from attnlens.compare import compare_runs
    from attnlens.interventions.edits import ablation
    from attnlens.interventions.outcomes import compare_predictions, compare_states
    from attnlens.models.running import has_head

    edit = ablation(lens, heads)
    with lens.intervene(edit):
        changed = lens.capture(**again, points=())
    if [token.id for token in changed.tokens] != [token.id for token in run.tokens]:
        raise UsageError("the text is not the run's any more; report on it by -m MODEL TEXT.")
    view: ChangeView | StatesView
    if has_head(lens.model):
        view = change_view(compare_predictions(lens, run, edit), masked=False, causal=run.anatomy.causal)
    else:
        view = states_view(compare_states(lens, run, edit))
    comparison = compare_runs(run, changed, words=False)
    off = in_words(map(Head.parse, heads))
    numbers = HeadNumbers(
        name=f"change without {off}",
        unit="nats",
        description=f"Jensen-Shannon divergence between the head's rows before and after {off} wrote nothing.",
        low=0.0,
        high=max(float(np.nanmax(comparison.divergence().numpy(), initial=0.0)), SAME),
        values=comparison.divergence().numpy(),
    )
    return Without(off, view, numbers, run.anatomy.main_stack)


def _numbers(measure: Measure, values: Float[np.ndarray, "layer head"]) -> HeadNumbers:
    low = measure.low if measure.low is not None else float(np.nanmin(values, initial=0.0))
    high = measure.high if measure.high is not None else float(np.nanmax(values, initial=low))
    return HeadNumbers(measure.title, measure.unit, measure.description, low, max(high, low + 1e-9), values)


def _maps(measured: Measured, run: Capture, letter: str) -> dict[str, Any]:
    """Numbers between tokens, of all layers together or of each layer."""
    values = measured.values
    if values.ndim == 2:
        return _map_document(measured.measure, run, {"": (Head(0, 0, letter), values, "all layers")}, letter, "all")
    layers = {str(at): (Head(at, 0, letter), own, f"layer {at}") for at, own in enumerate(values)}
    return _map_document(measured.measure, run, layers, letter, "layer")


def _head_maps(measure: Measure, run: Capture, heads: Sequence[Head], lens: Lens | None) -> dict[str, Any]:
    """Numbers between tokens of some heads, one by one."""
    letter = heads[0].stack
    options = {"stack": letter} if letter else {}
    known = {option.name for option in measure.options}
    given = {name: value for name, value in options.items() if name in known}
    maps = {
        str(head): (head, measure_run(measure, run, head, given, lens=lens).values, str(head))
        for head in heads
        if head.stack == letter
    }
    return _map_document(measure, run, maps, letter, "head")


def _map_document(
    measure: Measure, run: Capture, maps: dict[str, tuple[Head, Any, str]], letter: str, per: str
) -> dict[str, Any]:
    if (n_tokens := max(map(len, tokens_of(run, letter)))) > LONGEST:
        raise UsageError(
            f"the text has {n_tokens:,} tokens; a report holds maps of measures of up to {LONGEST}. Leave out "
            f"--measure {measure.name}, or take it by attnlens measure."
        )
    unit = "" if measure.high == 1 else measure.unit or "parts"
    held = {}
    for key, (head, values, of) in maps.items():
        title = f"{measure.title[:1].upper()}{measure.title[1:]}, {of}"
        shown = arranged(run, head, values, Choice(), name=title, caption=f"{title}: {measure.description}", unit=unit)
        weights = shown.weights[0]
        raw = codes_of(weights) if not unit else weights.astype("<f4")
        held[key] = {
            "title": title,
            "caption": shown.captions[0],
            "high": float(np.nanmax(weights, initial=0.0)) or 1.0,
            "kind": "f4" if unit else "u2",
            "wide": base64.b64encode(raw.tobytes()).decode("ascii"),
        }
    return {"name": measure.name, "title": measure.title, "unit": unit, "stack": letter, "per": per, "maps": held}


def _table(measure: Measure, values: Float[np.ndarray, ...], run: Capture, letter: str) -> Table:
    """Rows for tokens, layers or heads, whichever the measure is of."""
    unit = f", in {measure.unit}" if measure.unit else ""
    caption = f"{measure.title}{unit}: {measure.description}"
    if measure.axes == ("layer", "head"):
        rows: list[tuple[Cell, ...]] = [
            (str(Head(layer, head, letter)), _class(measure, float(values[layer, head])))
            for layer, head in np.ndindex(*values.shape)
        ]
        return Table(caption, ("head", measure.title), tuple(rows))
    grid = np.atleast_2d(values)
    labels = [_label(run, measure.axes[-1], at) for at in range(grid.shape[1])]
    of_layers = measure.axes[0] == "layer" and len(measure.axes) == 2
    columns = tuple(f"L{layer}" for layer in range(len(grid))) if of_layers else (measure.title,)
    if not of_layers and len(grid) > 1:
        columns = tuple(str(at) for at in range(len(grid)))
    return Table(
        caption,
        (measure.axes[-1] if measure.axes else "", *columns),
        tuple((label, *(_cell(value) for value in grid[:, at])) for at, label in enumerate(labels)),
    )


def _label(run: Capture, axis: str, at: int) -> str:
    if axis in ("query", "key", "position", "token") and at < len(run.tokens):
        return f"{at} {run.tokens[at].label}"
    return f"L{at}" if axis == "layer" else str(at)


def _class(measure: Measure, value: float) -> Cell:
    return None if np.isnan(value) else measure.classes[int(value)]


def _cell(value: float) -> Cell:
    return None if np.isnan(value) else float(value)
