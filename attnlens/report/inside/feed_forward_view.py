"""What a reader sees of a feed-forward layer, or of mixed experts, at one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from attnlens.report.tables import Cell, Table, count
from attnlens.steps.experts import Experts
from attnlens.steps.feed_forward import FeedForward
from attnlens.steps.neurons import Neuron, Strongest

__all__ = ["ExpertsView", "FeedForwardView", "experts_view", "feed_forward_view"]

_CURVE = 161  # points of the curve
_SENTENCES = {
    False: "Each token goes through it by itself: a first map gives every neuron a number, the activation bends it, "
    "and each neuron adds its row of the last map, as strongly as it is active.",
    True: "Each token goes through it by itself: a gate, bent by the activation, is multiplied with a second map, and "
    "each neuron adds its row of the last map, as strongly as the product.",
}


@dataclass(frozen=True)
class FeedForwardView:
    """The neurons at one token.

    Attributes:
        name: of the layer ("GELU", "SwiGLU"); `activation` of the function that is drawn.
        sentence, formula: plain text.
        curve: the function, `x` and `y`.
        reads: what goes into the activation, per neuron; `bent` what comes out.
        up: what a gate is multiplied with; None where there is none.
        neurons: the strongest ones.
        n_silent: neurons whose value is nothing.
        promoted: whether neurons have tokens; else `absent` says why not.
    """

    name: str
    activation: str
    sentence: str
    formula: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    reads: Float[np.ndarray, " neuron"]
    bent: Float[np.ndarray, " neuron"]
    up: Float[np.ndarray, " neuron"] | None
    neurons: tuple[Neuron, ...]
    n_silent: int
    absent: str

    @property
    def promoted(self) -> bool:
        """Whether the neurons have tokens."""
        return not self.absent

    @property
    def summary(self) -> str:
        """How many neurons there are, and how many do nothing here."""
        above = int((self.reads > 0).sum())
        silent = f"; {count(self.n_silent, 'writes', 'write')} nothing" if self.n_silent else ""
        return f"{count(len(self.reads), 'neuron')}; {above:,} read a number above 0 at this token{silent}."

    def table(self) -> Table:
        """One row per strong neuron."""
        columns = ("neuron", "reads", "value", "length of its write", "speaks for")
        rows = tuple(
            (f"#{neuron.number}", neuron.reads, neuron.value, neuron.length, _tokens(neuron) or None)
            for neuron in self.neurons
        )
        return Table("The neurons that write most at this token.", columns, rows)


@dataclass(frozen=True)
class ExpertsView:
    """Where tokens are sent.

    Attributes:
        sentence, formula: plain text.
        probability: of every expert at every token.
        chosen: the experts that are asked, at every token.
        weights: of the chosen ones, at the token that is looked at.
        lengths: of what each of them adds there.
        rest: length of what is written beside them there (shared experts); None where nothing is.
        position: the token that is looked at.
        labels: of all tokens.
    """

    sentence: str
    formula: str
    probability: Float[np.ndarray, "position expert"]
    chosen: Int[np.ndarray, "position choice"]
    weights: tuple[float, ...]
    lengths: tuple[float, ...]
    rest: float | None
    position: int
    labels: tuple[str, ...]

    def table(self) -> Table:
        """One row per expert, at the token that is looked at."""
        asked = self.chosen[self.position].tolist()
        rows = tuple(
            (
                f"expert {number}",
                float(share),
                self.weights[asked.index(number)] if number in asked else None,
                self.lengths[asked.index(number)] if number in asked else None,
            )
            for number, share in enumerate(self.probability[self.position])
        )
        columns = ("expert", "router's probability", "weight", "length of what it adds")
        return Table(f"Routing of {self.labels[self.position]}.", columns, rows)

    def routing_table(self) -> Table:
        """One row per token: whom it is sent to."""
        n_choices = self.chosen.shape[1]
        asked = [[f"expert {expert}" for expert in row] for row in self.chosen.tolist()]
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (place, label, *asked[place]) for place, label in enumerate(self.labels)
        )
        return Table("Whom each token is sent to.", ("position", "token", *map(_nth, range(n_choices))), rows)


def feed_forward_view(dense: FeedForward, position: int, strongest: Strongest | None) -> FeedForwardView:
    """The neurons of a dense layer at one token."""
    reads = dense.gate.values[position]
    reach = max(3.0, min(12.0, float(reads.abs().max()) * 1.05))
    x = torch.linspace(-reach, reach, _CURVE, dtype=torch.float64)
    function = "f" if dense.activation == "no function" else dense.activation
    gated = dense.up is not None
    inner = f"{function}(x W_gate) · (x W_up)" if gated else f"{function}(x W₁{_plus(dense.gate.bias, 'b₁')})"
    return FeedForwardView(
        name=dense.name,
        activation=dense.activation,
        sentence=_SENTENCES[gated],
        formula=f"write = ({inner}) W_down{_plus(dense.bias, 'b')}"
        if gated
        else f"write = {inner} W₂{_plus(dense.bias, 'b₂')}",
        x=x.numpy(),
        y=dense.function(x).numpy(),
        reads=reads.numpy(),
        bent=dense.function(reads).numpy(),
        up=None if dense.up is None else dense.up.values[position].numpy(),
        neurons=() if strongest is None else strongest.neurons,
        n_silent=0 if strongest is None else strongest.n_silent,
        absent="" if strongest is None else strongest.absent,
    )


def experts_view(experts: Experts, labels: Sequence[str], position: int) -> ExpertsView:
    """Routing of all tokens, and what the chosen experts add at one."""
    n_experts, n_choices = experts.logits.shape[1], experts.chosen.shape[1]
    shared = "" if experts.rest is None else " A shared expert, which reads every token, is added."
    return ExpertsView(
        sentence=(
            f"A router gives each of {n_experts} feed-forward layers, the experts, a number for this token. The "
            f"{n_choices} with the largest are run, and their outputs are added by weight.{shared}"
        ),
        formula="write = Σ weight · expert(x), over the chosen experts",
        probability=experts.probability.numpy(),
        chosen=experts.chosen.numpy(),
        weights=tuple(experts.weights[position].tolist()),
        lengths=tuple(experts.outputs[position].norm(dim=-1).tolist()),
        rest=None if experts.rest is None else float(experts.rest[position].norm()),
        position=position,
        labels=tuple(labels),
    )


def _tokens(neuron: Neuron) -> str:
    return "  ".join(token.token for token in neuron.promotes)


def _plus(bias: object, name: str) -> str:
    return "" if bias is None else f" + {name}"


def _nth(choice: int) -> str:
    return f"{choice + 1}. choice"
