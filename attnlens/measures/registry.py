"""Measures of heads under one roof: what each is, where it comes from, what it needs, and how to take it of a run.

A package adds one by an entry point in the group `attnlens.measures` that names a `Measure`; the built-in ones are
registered the same way. What computes the numbers are pure functions on arrays in the modules beside this one: a
`Measure` says how a run is turned into those arrays, and describes the result for everyone who shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from attnlens.errors import MeasureError, PluginError, UsageError
from attnlens.heads import Head
from attnlens.plugins import installed, load_plugin

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.anatomy import Anatomy
    from attnlens.models.lens import Lens

__all__ = [
    "AXES",
    "GROUP",
    "STACK",
    "Measure",
    "MeasureInput",
    "Measured",
    "Needs",
    "Option",
    "address_of",
    "broken_measures",
    "check_model",
    "find_measure",
    "measure_run",
    "measures",
    "settings_of",
]

GROUP = "attnlens.measures"
AXES = ("layer", "head", "query", "key", "position", "token", "vocab", "d_model")
"""Names of axes that a measure may use, and others where none of these fits."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a measure needs beside the attention of a run.

    Attributes:
        points: points of the stream or of the heads.
        logits: the logits.
        gradient: the gradient of the model's output.
        model: the opened model, not a run alone.
        causal: True for models whose tokens see no later one, False for the others only, None for both.
        one_text: queries and keys of one text, so that cross-attention has no such thing.
    """

    points: tuple[str, ...] = ()
    logits: bool = False
    gradient: bool = False
    model: bool = False
    causal: bool | None = None
    one_text: bool = False


@dataclass(frozen=True)
class Option:
    """A setting of a measure: its name, what it is when nobody says, and one line about it."""

    name: str
    default: Any
    description: str


STACK = Option("stack", None, "E, D or X: whose heads, in an encoder-decoder (D where nothing is said)")
"""The option of every measure of attention patterns."""


@dataclass(frozen=True)
class MeasureInput:
    """What a measure computes from.

    Attributes:
        run: one text's run, with what the measure's `needs` ask for.
        lens: the opened model; None for a run that was loaded from a file.
        head: the head asked for, proven to exist; None for all.
        options: a value for every option that the measure has.
    """

    run: Capture
    lens: Lens | None = None
    head: Head | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stack(self) -> str:
        """Letter of the stack that is asked about: the head's, that of the option `stack`, or the main one."""
        if self.head is not None:
            return self.head.stack
        return str(self.options.get(STACK.name) or self.run.anatomy.main_stack).upper()


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure.

    Attributes:
        name: as users type it, kebab-case.
        title: the same for a reader.
        description: one line: what is measured.
        unit: of the values; empty for a share.
        low, high: the range of possible values; None where there is no end to it.
        more: what a larger value means.
        source: author, year and identifier of the method, or "attnlens" for what is ours.
        axes: names of the result's axes.
        needs: what it needs beside attention.
        compute: takes the measure. With a `head` it may give that head's values alone, without the axes `layer head`.
        options: its settings.
        aliases: names that other tools give it.
        classes: where values are numbers of classes, their names in order.
        instead: name of the measure to take where this one does not exist.
    """

    name: str
    title: str
    description: str
    low: float | None
    high: float | None
    more: str
    source: str
    axes: tuple[str, ...]
    compute: Callable[[MeasureInput], Float[Tensor, ...]]
    unit: str = ""
    needs: Needs = field(default_factory=Needs)
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    instead: str = ""

    @property
    def of_heads(self) -> bool:
        """Whether each head has a value of its own."""
        return self.axes[:2] == ("layer", "head")

    def refusal(self, reason: str) -> MeasureError:
        """The error that says why this measure does not exist here, and which one to take instead."""
        instead = f" Take {self.instead!r} instead." if self.instead else ""
        return MeasureError(f"{self.name!r} cannot be measured: {reason.rstrip('.')}.{instead}")


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of a measure.

    Attributes:
        values: in `measure.unit`; NaN where nothing is defined.
        axes: names of the axes of `values`.
        measure: what was measured.
        run: of what.
        head: of which head; None for all.
        options: the settings that were used.
    """

    values: Float[Tensor, ...]
    axes: tuple[str, ...]
    measure: Measure
    run: Capture
    head: Head | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = " ".join(f"{axis}={n}" for axis, n in zip(self.axes, self.values.shape, strict=True))
        return f"Measured({self.measure.name!r}{f', {self.head}' if self.head else ''}: {size or self.values.item()})"

    @property
    def stack(self) -> str:
        """Letter of the stack whose heads these are."""
        return MeasureInput(self.run, None, self.head, self.options).stack


def measures() -> dict[str, Measure]:
    """Every measure that is installed and can be loaded, by name; `broken_measures` has the others."""
    return _loaded()[0]


def broken_measures() -> dict[str, str]:
    """Why measures that are installed cannot be loaded, by name."""
    return _loaded()[1]


def _loaded() -> tuple[dict[str, Measure], dict[str, str]]:
    found: dict[str, Measure] = {}
    broken: dict[str, str] = {}
    for name in installed(GROUP):
        try:
            found[name] = _load(name)
        except PluginError as error:
            broken[name] = str(error)
    return found, broken


def find_measure(name: str) -> Measure:
    """The measure with this name, or with this name as an alias; underscores count as hyphens.

    Raises:
        UsageError: there is none; the message names the nearest and lists what is installed.
        PluginError: it is installed and cannot be loaded.
    """
    wanted = name.strip().lower().replace("_", "-")
    if wanted in installed(GROUP):
        return _load(wanted)
    known = measures()
    aliases = {alias.lower().replace("_", "-"): found for found in known.values() for alias in found.aliases}
    if wanted in aliases:
        return aliases[wanted]
    near = get_close_matches(wanted, [*known, *aliases], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"there is no measure {name!r}.{hint} Installed: {', '.join(known) or 'none'}.")


def measure_run(
    measure: Measure,
    run: Capture,
    head: object = None,
    options: Mapping[str, Any] | None = None,
    *,
    lens: Lens | None = None,
) -> Measured:
    """Take a measure of a run that exists.

    Args:
        measure: which.
        run: of what.
        head: one head; None for all.
        options: settings that differ from the measure's own.
        lens: the opened model that made the run, for measures that need it.

    Raises:
        MeasureError: the run, or its model, does not have what the measure needs.
        HeadAddressError: the model has no such head.
        UsageError: an option that the measure does not have, or a head of a measure that is not of heads.
    """
    settings = settings_of(measure, options)
    check_model(measure, run.anatomy)
    _check_run(measure, run, lens)
    one = None if head is None else address_of(measure, run.anatomy, head)
    given = MeasureInput(run, lens, one, settings)
    if measure.needs.one_text and given.stack == "X":
        raise measure.refusal("it compares positions within one text, and cross-attention (X) looks into another one")
    values = measure.compute(given)
    axes = measure.axes
    if one is not None and measure.of_heads:
        axes = axes[2:]
        values = values[one.layer, one.head] if values.ndim == len(measure.axes) else values
    if values.ndim != len(axes):
        raise PluginError(f"the measure {measure.name!r} gave {values.ndim} axes; it says that they are {axes}.")
    return Measured(values, axes, measure, run, one, settings)


def settings_of(measure: Measure, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A value for every option of a measure.

    Raises:
        UsageError: one that it does not have.
    """
    known = {option.name: option.default for option in measure.options}
    if unknown := [name for name in given or {} if name not in known]:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UsageError(f"{measure.name!r} has no option {unknown[0]!r}; {has}.")
    for name, value in (given or {}).items():
        if (default := known[name]) is not None and not _fits(value, default):
            raise UsageError(
                f"{name}={value!r} of {measure.name!r} is no {type(default).__name__}, such as {default!r}."
            )
    return known | dict(given or {})


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the default's kind; a whole number is a fraction too."""
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)


def check_model(measure: Measure, anatomy: Anatomy) -> None:
    """Refuse a measure that does not exist for a model.

    Raises:
        MeasureError: why.
    """
    causal = measure.needs.causal
    if causal is not None and causal != anatomy.causal:
        kind = "see no later token" if causal else "see later tokens too"
        raise measure.refusal(f"it is for models whose tokens {kind}, and {anatomy.model} is none")


def _check_run(measure: Measure, run: Capture, lens: Lens | None) -> None:
    needs, name = measure.needs, run.anatomy.model
    if (needs.model or needs.gradient) and lens is None:
        raise measure.refusal("it needs the model, and there is only a run; open the model too")
    if needs.logits and run.logits is None:
        raise measure.refusal(f"this run holds no logits; {name} has no language-model head, or they were not kept")
    held = {point.rpartition(".")[2] for point in run.stream}
    if missing := [point for point in needs.points if point not in held and not _follows(point, held)]:
        raise measure.refusal(f"it needs {', '.join(missing)} of the run; capture with points={tuple(needs.points)}")


def _follows(point: str, held: set[str]) -> bool:
    """Whether `run.residual` can make a point out of others."""
    return point == "resid_pre" and {"embed", "resid_post"} <= held


def address_of(measure: Measure, anatomy: Anatomy, given: object) -> Head:
    """The head asked for, with its stack's letter.

    Raises:
        UsageError: the measure has no value per head.
        HeadAddressError: the model has no such head.
    """
    if not measure.of_heads:
        raise UsageError(f"{measure.name!r} has no value per head (its axes: {' '.join(measure.axes)}); leave it out.")
    head = Head.parse(given)
    letter = head.stack or anatomy.main_stack
    stack = anatomy.stack(letter)
    return Head(head.layer, head.head, letter).within(stack.n_layers, stack.n_heads)


def _load(name: str) -> Measure:
    found = load_plugin(GROUP, name)
    if not isinstance(found, Measure) or found.name != name:
        where = installed(GROUP)[name].value
        raise PluginError(f"{where} is registered as the measure {name!r} and is {found!r}; let it be that Measure.")
    return found
