"""The memory that training takes: weights, gradients, the optimizer's state, and what the backward pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnlens.capture.sites import CROSS
from attnlens.models.anatomy import Stack
from attnlens.sizes.computing import blocks, score_bytes
from attnlens.sizes.parameters import Counted

__all__ = ["Activations", "Training", "activations_of", "training_of"]

_FLOAT32 = 4


@dataclass(frozen=True)
class Training:
    """Bytes that do not depend on the text.

    Attributes:
        gradients: one per weight, in its precision.
        optimizer: Adam's two means in float32, and the weights in float32 where they are kept in less (Rajbhandari et
            al. 2020, ZeRO, arXiv:1910.02054, section 3.1).
    """

    gradients: int
    optimizer: int


@dataclass(frozen=True)
class Activations:
    """Bytes kept for the backward pass of one text.

    Attributes:
        body: what grows with the length: inputs of norms and matrices, queries, keys, values, inner activations.
        weights: attention weights, which grow with its square, as eager attention keeps them.
        fused_weights: what a fused kernel keeps in their place.
        logits: scores of the vocabulary in float32, for the loss.
    """

    body: int
    weights: int
    fused_weights: int
    logits: int

    @property
    def eager(self) -> int:
        """All of it with eager attention."""
        return self.body + self.weights + self.logits

    @property
    def fused(self) -> int:
        """All of it with fused attention."""
        return self.body + self.fused_weights + self.logits


def training_of(n_parameters: int, itemsize: int) -> Training:
    """Gradients and the state of Adam.

    >>> training_of(10, 4), training_of(10, 2)
    (Training(gradients=40, optimizer=80), Training(gradients=20, optimizer=120))
    """
    copy = _FLOAT32 if itemsize < _FLOAT32 else 0
    return Training(n_parameters * itemsize, n_parameters * (2 * _FLOAT32 + copy))


def activations_of(
    stacks: Sequence[Stack], counted: Counted, *, d_model: int, vocabulary: int, n_tokens: int, itemsize: int
) -> Activations:
    """What one text leaves for the backward pass; as Korthikanti et al. 2022 count (arXiv:2205.05198, section 4.1).

    Departures: no dropout, key-value heads that are shared, gated feed-forward layers, and experts as far as they run.
    A norm or an activation that is written out in small operations keeps more than this.

    Args:
        stacks: of the model.
        counted: its parameters.
        d_model: width of the stream.
        vocabulary: numbers of a row of logits.
        n_tokens: of the text; of an encoder-decoder of source and target each.
        itemsize: bytes of one number.
    """
    per_token: float = sum(stack.n_layers * _attention_numbers(stack, d_model) for stack in stacks)
    per_token += sum(stack.n_layers * 2 * d_model for stack in blocks(stacks)) + _inner_numbers(counted, d_model)
    return Activations(
        body=int(per_token * n_tokens * itemsize),
        weights=score_bytes(stacks, n_tokens, itemsize),
        fused_weights=score_bytes(stacks, n_tokens, itemsize, fused=True),
        logits=vocabulary * n_tokens * _FLOAT32,
    )


def _attention_numbers(stack: Stack, d_model: int) -> int:
    """Inputs of norm and projections, queries, keys, values, and the heads' outputs; cross-attention reads a source."""
    inputs = (3 if stack.letter == CROSS else 2) * d_model
    return inputs + (2 * stack.n_heads + 2 * stack.n_kv_heads) * stack.d_head


def _inner_numbers(counted: Counted, d_model: int) -> float:
    """Of the width of a feed-forward layer: before and after its activation, and where gated both factors as well."""
    width = counted.mlp_matrices / d_model / (3 if counted.gated else 2)
    return width * (4 if counted.gated else 2)
