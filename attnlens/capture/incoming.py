"""Attention weights in whatever form somebody has them, as one tensor per layer, found to be weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.errors import UsageError

__all__ = ["Incoming", "incoming", "maps_of_layers"]

Layers = tuple[Tensor | None, ...]

_NOTHING = (
    "there is no attention in {name}: transformers gives an empty tuple under SDPA. Load the model with "
    "attn_implementation='eager' and pass output_attentions=True, or use attnlens.load(...).capture(text)."
)
# How far from 1 a row of weights may sum: bfloat16 rounds each weight by up to 0.4 %, and many have been made float32.
_TOLERANCE = 1e-2
# More weight than this on a key that the mask hides contradicts the mask.
_HIDDEN = 1e-6
# Names of one stack's weights, and of two stacks', in the outputs of transformers.
_OF_ONE = "attentions"
_OF_TWO = {ENCODER: "encoder_attentions", DECODER: "decoder_attentions", CROSS: "cross_attentions"}


@dataclass(frozen=True)
class Incoming:
    """Weights by stack.

    Attributes:
        layers: letter -> one tensor `[head query key]` per layer.
        steps: they were stitched from the steps of a generation.
        n_prompt: how many tokens were given; None where nothing was generated.
    """

    layers: Mapping[str, Layers]
    steps: bool
    n_prompt: int | None

    @property
    def two_sides(self) -> bool:
        """Whether there is a source beside the text."""
        return len(self.layers) > 1

    @property
    def n_own(self) -> int:
        """Positions of the text (the target's, where there are two sides)."""
        for letter in (ONLY, DECODER, CROSS):
            if letter in self.layers:
                return int(_first(self.layers[letter]).shape[1])
        raise UsageError("an encoder and nothing else is a model of one stack; give it as `attentions`.")

    @property
    def n_source(self) -> int:
        """Positions of the source; 0 where there is none."""
        found = self.layers.get(ENCODER, self.layers.get(CROSS))
        return 0 if found is None else int(_first(found).shape[2])

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return str(_first(next(iter(self.layers.values()))).dtype).removeprefix("torch.")

    def n_heads(self, letter: str) -> int:
        """Heads per layer of a stack."""
        return int(_first(self.layers[letter]).shape[0])

    def check(self, n_own: int, n_source: int, *, sinks: bool, mask: Tensor | None) -> None:
        """Find out whether these are weights over these positions.

        Raises:
            UsageError: shapes that disagree, or numbers that are no weights; the message says where.
        """
        sizes = {ENCODER: (n_source, n_source), CROSS: (n_own, n_source)}
        for letter, layers in self.layers.items():
            expected = (self.n_heads(letter), *sizes.get(letter, (n_own, n_own)))
            for layer, weights in enumerate(layers):
                if weights is not None:
                    own = mask if letter in (ONLY, DECODER) else None
                    _check_weights(f"{letter}L{layer}", weights, expected, sinks, own)


def incoming(attentions: Any, encoder: Any = None, cross: Any = None, sequence: int | None = None) -> Incoming:
    """Sort what was given by stack; see `attnlens.capture.exchange.from_attentions`.

    Raises:
        UsageError: nothing in it, an unknown form, or several texts.
    """
    named = _named(attentions)
    if named is not None:
        if encoder is not None or cross is not None:
            raise UsageError("this output brings its own attention; leave encoder= and cross= out.")
        given, names = named
    else:
        names = {ONLY: "attentions"} if encoder is None and cross is None else {DECODER: "attentions"}
        given = {next(iter(names)): attentions, ENCODER: encoder, CROSS: cross}
        names |= {ENCODER: "encoder", CROSS: "cross"}
        given = {letter: value for letter, value in given.items() if value is not None}
    if not given:
        raise UsageError(_NOTHING.format(name="this output" if named is not None else "attentions=None"))
    beams = _beams(attentions, sequence)
    n_prompt, layers, stepped = None, {}, False
    for letter, value in given.items():
        if _is_stepped(value):
            layers[letter] = _stitched(value, names[letter], letter == CROSS, beams, sequence)
            stepped = True
            if letter != CROSS:
                n_prompt = int(_tensor(value[0][0], names[letter]).shape[-2])
        else:
            layers[letter] = maps_of_layers(value, names[letter], sequence if beams is None else None)
    return Incoming(layers, stepped, n_prompt)


def maps_of_layers(value: Any, name: str = "attentions", row: int | None = None) -> Layers:
    """One tensor `[head query key]` per layer, of a tuple, a list, or one array for all layers.

    Args:
        value: what was given.
        name: what it is called, for messages.
        row: which text of the batch; None where there has to be just one.

    Raises:
        UsageError: nothing in it, an unknown form, or several texts.
    """
    if isinstance(value, Tensor | np.ndarray):
        whole = _tensor(value, name)
        if whole.ndim == 5 and whole.shape[1] == 1:
            whole = whole[:, 0]
        if whole.ndim not in (3, 4):
            raise UsageError(f"{name} has shape {list(whole.shape)}; expected [layer, head, query, key].")
        value = list(whole) if whole.ndim == 4 else [whole]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(
            f"{name} is {type(value).__name__}; expected an output of transformers, one tensor per layer, or an array "
            "[layer, head, query, key]."
        )
    layers = tuple(None if layer is None else _one_text(layer, f"{name}[{i}]", row) for i, layer in enumerate(value))
    if all(layer is None for layer in layers):
        raise UsageError(_NOTHING.format(name=name))
    return layers


def _named(output: Any) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The attention in an output of transformers, and what it is called there; None for anything else."""
    if not isinstance(output, Mapping) and not hasattr(output, _OF_ONE) and not hasattr(output, _OF_TWO[DECODER]):
        return None

    def field(name: str) -> Any:
        return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)

    two = {letter: field(name) for letter, name in _OF_TWO.items()}
    if _some(field(_OF_ONE)):
        # A decoder that can read a source names its cross-attention too; it is empty where there was no source.
        found = {DECODER: field(_OF_ONE), CROSS: two[CROSS]} if _some(two[CROSS]) else {ONLY: field(_OF_ONE)}
        return found, {ONLY: _OF_ONE, DECODER: _OF_ONE, CROSS: _OF_TWO[CROSS]}
    return {letter: value for letter, value in two.items() if _some(value)}, dict(_OF_TWO)


def _some(value: Any) -> bool:
    return value is not None and len(value) > 0


def _is_stepped(value: Any) -> bool:
    """Whether these are the steps of a generation: a tuple of tuples."""
    return isinstance(value, tuple | list) and bool(value) and isinstance(value[0], tuple | list)


def _beams(output: Any, sequence: int | None) -> list[int] | None:
    """In which row each step of a beam search's sequence ran; None where no beams were searched."""
    indices = output.get("beam_indices") if isinstance(output, Mapping) else getattr(output, "beam_indices", None)
    if not isinstance(indices, Tensor):
        return None
    chosen = 0 if sequence is None else sequence
    if not 0 <= chosen < len(indices):
        raise UsageError(f"sequence={sequence} does not exist: {len(indices)} texts were generated.")
    return [int(row) for row in indices[chosen] if row >= 0]


def _stitched(steps: Sequence[Any], name: str, crossing: bool, beams: list[int] | None, sequence: int | None) -> Layers:
    """One map per layer over the prompt and everything that was generated.

    Each step has the rows of its new queries. A cache with a window has the newest keys only, one of a fixed size has
    room for keys to come: both are moved to where the keys stand in the text.
    """
    if beams is not None:
        steps = steps[: len(beams)]
    n_layers = len(steps[0])
    if any(len(step) != n_layers for step in steps):
        raise UsageError(f"the steps of {name} have different numbers of layers; expected {n_layers} in each.")
    return tuple(_stitched_layer([step[layer] for step in steps], f"{name}[step][{layer}]", crossing, beams, sequence)
                 for layer in range(n_layers))  # fmt: skip


def _stitched_layer(
    parts: Sequence[Any], name: str, crossing: bool, beams: list[int] | None, sequence: int | None
) -> Float[Tensor, "head query key"]:
    rows = beams if beams is not None else [sequence] * len(parts)
    blocks: list[Tensor] = []
    done = 0
    for part, row in zip(parts, rows, strict=True):
        block = _one_text(part, name, row)
        # Without a cache every step has all rows again, of which the last is new.
        block = block[:, -1:] if done and block.shape[1] == done + 1 else block
        blocks.append(block)
        done += block.shape[1]
    if crossing:
        return torch.cat(blocks, 1)
    whole = blocks[0].new_zeros(blocks[0].shape[0], done, done)
    start = 0
    for block in blocks:
        stop, held = start + block.shape[1], block.shape[2]
        if bool((block[:, :, stop:] != 0).any()):
            raise UsageError(f"{name} attends to keys that do not exist yet: {held} keys after {stop} tokens.")
        first = max(0, stop - held)
        whole[:, start:stop, first:stop] = block[:, :, : stop - first]
        start = stop
    return whole


def _one_text(layer: Any, name: str, row: int | None) -> Float[Tensor, "head query key"]:
    tensor = _tensor(layer, name)
    if tensor.ndim == 4 and row is not None and tensor.shape[0] > 1:
        if not 0 <= row < tensor.shape[0]:
            raise UsageError(f"{name} has {tensor.shape[0]} texts, and number {row} was asked for.")
        return tensor[row]
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        return tensor[0]
    if tensor.ndim == 4:
        raise UsageError(
            f"{name} has shape {list(tensor.shape)}, {tensor.shape[0]} texts; say which by sequence=0, or give one, as "
            "in [layer[:1] for layer in outputs.attentions]."
        )
    if tensor.ndim != 3:
        raise UsageError(
            f"{name} has shape {list(tensor.shape)}; expected [1, head, query, key] or [head, query, key]."
        )
    return tensor


def _tensor(value: Any, name: str) -> Tensor:
    """On the CPU, detached, floating point; an array is copied only where it has to be."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f":
            raise UsageError(f"{name} is an array of {value.dtype}; expected floating-point weights.")
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    if not isinstance(value, Tensor):
        raise UsageError(f"{name} is {type(value).__name__}; expected a tensor or an array.")
    if not value.is_floating_point():
        raise UsageError(f"{name} is a tensor of {str(value.dtype).removeprefix('torch.')}; expected weights.")
    return value.detach().cpu()


def _first(layers: Layers) -> Tensor:
    return next(layer for layer in layers if layer is not None)


def _check_weights(
    name: str, weights: Tensor, expected: tuple[int, int, int], sinks: bool, mask: Tensor | None
) -> None:
    if tuple(weights.shape) != expected:
        raise UsageError(
            f"{name} has shape {list(weights.shape)} [head, query, key], expected {list(expected)} by the number of "
            "tokens and the heads of the other layers."
        )
    wide = weights.double()
    if not bool(wide.isfinite().all()):
        raise UsageError(f"{_worst(name, ~wide.isfinite())} is not finite; expected weights from 0 to 1.")
    if bool((wide < 0).any()):
        raise UsageError(f"{_worst(name, wide < 0)} is negative: these look like scores; take softmax over keys first.")
    if mask is not None and bool((wide[:, ~mask] > _HIDDEN).any()):
        raise UsageError(f"{_worst(name, (wide > _HIDDEN) & ~mask)} has weight, and the mask says it is not visible.")
    sums = wide.sum(-1)
    off = sums > 1 + _TOLERANCE if sinks else (sums - 1).abs() > _TOLERANCE
    if mask is not None:
        off &= mask.any(-1)
    if bool(off.any()):
        head, query = (int(i) for i in off.nonzero()[0])
        hint = "" if sinks else " (less if the model has attention sinks: pass sinks=True)"
        raise UsageError(
            f"{name}H{head}: the row of query {query} sums to {float(sums[head, query]):.4g}, expected 1{hint}. "
            "Weights that were cut, went through dropout or are scores do not sum to 1."
        )


def _worst(name: str, wrong: Tensor) -> str:
    head, query, key = (int(i) for i in wrong.nonzero()[0])
    return f"{name}H{head}, query {query}, key {key}"
