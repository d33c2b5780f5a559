"""Views of interventions: which heads are off and what each does, and what the model says before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from attnlens.heads import Head, in_words
from attnlens.report.tables import Table, count, number

if TYPE_CHECKING:
    from attnlens.interventions.outcomes import PredictionChange, StateChange

__all__ = ["MAIN", "AblationView", "ChangeView", "StatesView", "ablation_view", "change_view", "states_view"]

MAIN = ("", "D")
"""Letters of the main stack: the only one, or the decoder."""

_STACKS = {"E": "Encoder", "D": "Decoder", "X": "Cross-attention, from what is written to what is read"}
_CLICK = "Click a head, or move to it by the arrow keys and press space, to switch it off and on."


@dataclass(frozen=True)
class AblationView:
    """Every head of a stack: whether it is switched off, and what switching it off alone does.

    Attributes:
        stack: letter of the stack; empty for the only one.
        n_layers, n_heads: size of the map.
        off: the heads that are off.
        values: effect of each head by itself, NaN where it was not measured.
        name, unit: of the effect.
        title, caption: plain text.
    """

    stack: str
    n_layers: int
    n_heads: int
    off: frozenset[Head]
    values: Float[np.ndarray, "layer head"]
    name: str
    unit: str
    title: str
    caption: str

    @property
    def measured(self) -> bool:
        """Whether there is the effect of any head."""
        return bool(np.isfinite(self.values).any())

    def table(self) -> Table:
        """One row per head, the largest effect first where effects were measured."""
        heads = [Head(layer, head, self.stack) for layer in range(self.n_layers) for head in range(self.n_heads)]
        value = {head: float(self.values[head.layer, head.head]) for head in heads}
        heads.sort(key=lambda head: 0.0 if np.isnan(value[head]) else -value[head])
        rows = tuple(
            (str(h), None if np.isnan(value[h]) else value[h], "off" if h in self.off else "on") for h in heads
        )
        return Table(
            f"{self.title}.", ("head", f"{self.name} ({self.unit})" if self.unit else self.name, "switched"), rows
        )


@dataclass(frozen=True)
class ChangeView:
    """A prediction before and after.

    Attributes:
        tokens: printable spellings, the likeliest before first.
        before, after: probabilities, 0 to 1.
        divergence: of the whole prediction, in nats.
        done: what was done; empty for nothing.
        title, caption: plain text.
    """

    tokens: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    divergence: float
    done: str
    title: str
    caption: str

    def table(self) -> Table:
        """One row per token."""
        rows = tuple(
            (token, before, after, after - before)
            for token, before, after in zip(self.tokens, self.before, self.after, strict=True)
        )
        return Table(f"{self.title}.", ("token", "before", "after", "difference"), rows)


@dataclass(frozen=True)
class StatesView:
    """The last state at each position, before and after.

    Attributes:
        labels: printable text of the tokens.
        turn: 1 - cosine, 0 to 2.
        length: after, as a share of before.
        done: what was done; empty for nothing.
        title, caption: plain text.
    """

    labels: tuple[str, ...]
    turn: tuple[float, ...]
    length: tuple[float, ...]
    done: str
    title: str
    caption: str

    def table(self) -> Table:
        """One row per position."""
        rows = tuple(
            (place, *values) for place, values in enumerate(zip(self.labels, self.turn, self.length, strict=True))
        )
        return Table(f"{self.title}.", ("position", "token", "1 - cosine", "length, after / before"), rows)


def ablation_view(
    n_layers: int,
    n_heads: int,
    off: Collection[Head],
    effects: Mapping[Head, float],
    name: str,
    unit: str,
    stack: str = "",
) -> AblationView:
    """A map of heads that can be switched off.

    Args:
        n_layers: of the stack.
        n_heads: per layer.
        off: the heads that are off; those that the stack lacks are left out, those of others are named.
        effects: what switching a head off alone does, of the heads that were measured.
        name: of the effect.
        unit: of the effect.
        stack: letter of the stack in an encoder-decoder; a head without a letter is the decoder's.
    """
    values = np.full((n_layers, n_heads), np.nan)
    for head, effect in effects.items():
        values[head.layer, head.head] = effect
    letters = MAIN if stack in MAIN else (stack,)
    own = (Head(head.layer, head.head, stack) for head in off if head.stack in letters)
    known = frozenset(head for head in own if head.layer < n_layers and head.head < n_heads)
    state = f"{count(len(known), 'head')} of {n_layers * n_heads} switched off." if known else "Every head is on."
    if stack:
        others = in_words(head for head in off if head.stack not in letters)
        state = f"{_STACKS[stack]}. {state}" + (f" Off in another stack: {others}." if others else "")
    told = ""
    if effects:
        most = max(effects, key=lambda head: effects[head])
        blank = f" {unit}" if unit else ""
        told = f" Colour is the {name} when a head alone is off: most for {most}, {number(effects[most], 3)}{blank}."
    caption = f"{state} {_CLICK}{told}"
    return AblationView(stack, n_layers, n_heads, known, values, name, unit, "Heads switched off", caption)


def change_view(found: PredictionChange, *, masked: bool, causal: bool) -> ChangeView:
    """A prediction before and after.

    Args:
        found: the two.
        masked: whether the token there was masked for the question.
        causal: whether the prediction is of the next token.
    """
    if causal:
        what = f"what comes after {found.label!r} ({found.position})"
    else:
        what = f"position {found.position}" + (", which is masked" if masked else f", where {found.label!r} stands")
    if found.intervention:
        said = f"The prediction moves by {number(found.divergence, 4)} nats (KL divergence)."
    else:
        said = "Nothing is changed yet."
    return ChangeView(
        tokens=found.tokens,
        before=tuple(found.before.tolist()),
        after=tuple(found.after.tolist()),
        divergence=found.divergence,
        done=found.intervention,
        title=f"Prediction of {what}",
        caption=f"Probabilities of {what}. {said}",
    )


def states_view(found: StateChange) -> StatesView:
    """Last states before and after."""
    turns, mean = found.turn.tolist(), float(found.turn.mean())
    said = f"They turn by {number(mean, 4)} on average." if found.intervention else "Nothing is changed yet."
    return StatesView(
        labels=found.labels,
        turn=tuple(turns),
        length=tuple(found.length.tolist()),
        done=found.intervention,
        title="Change of the last state",
        caption=(
            "This model predicts no tokens, so this is how far its last state at each token turns: 1 - cosine, 0 is "
            f"the same way. {said}"
        ),
    )
