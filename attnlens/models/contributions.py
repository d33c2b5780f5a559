"""The contribution of every head to one logit of a running model."""

from __future__ import annotations

import torch
from torch import Tensor

from attnlens.capture.replacements import GateRecorder
from attnlens.capture.tap import recording, runs_eagerly
from attnlens.errors import UsageError
from attnlens.measures.attribution import METHODS, HeadAttribution, attribute_to_gates
from attnlens.models.attributing import Question

__all__ = ["explain_heads"]


def explain_heads(
    question: Question,
    stack: str | None = None,
    method: str = METHODS[0],
    steps: int | None = None,
    seed: int = 0,
) -> HeadAttribution:
    """Contributions of the heads of a stack, by gates on their outputs.

    `Lens.attribute_heads` tells what the arguments mean.

    Raises:
        UsageError: an unknown stack or method.
    """
    opened = question.opened
    letters = [part.letter for part in opened.anatomy.stacks]
    letter = opened.anatomy.main_stack if stack is None else stack.upper()
    if letter not in letters:
        listed = ", ".join(letters) if any(letters) else "none to be named, since this model has one"
        raise UsageError(f"stack {stack!r} does not exist; expected {listed}.")
    part = opened.anatomy.stack(letter)
    eager = runs_eagerly(opened.tap)

    def score(gates: Tensor) -> Tensor:
        with recording(opened.tap, GateRecorder(gates, eager, letter)):
            return question.scores(len(gates)).cpu()

    found = attribute_to_gates(
        score, part.n_layers, part.n_heads,
        name=question.target.name, method=method, steps=steps, stack=letter, seed=seed,
    )  # fmt: skip
    absent = [layer for layer in range(part.n_layers) if layer not in part.attention_layers]
    found.values[absent] = torch.nan
    return found
