"""The position scheme of an opened model as numbers: its table, its frequencies, or what it adds to scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS
from attnlens.errors import CaptureError
from attnlens.measures.positions import alibi_bias, alibi_slopes, relative_buckets, rope_frequencies
from attnlens.models.opening import Opened
from attnlens.models.positions import position_table

__all__ = ["position_bias", "position_vectors", "rotation_frequencies"]

_FREQUENCIES = re.compile(r"(?P<kind>.*?)_?inv_freq")
_BIAS_TABLE = "relative_attention_bias"


def position_vectors(opened: Opened, letter: str = "") -> Float[Tensor, "position d_model"]:
    """The table of positions of a stack, sinusoidal or learned, from the first position on; on the CPU.

    Raises:
        CaptureError: the stack has none.
    """
    described = opened.anatomy.stack(letter)
    table = None
    if letter != CROSS and described.position not in ("rope", "alibi"):  # GPT-J keeps its angles in such a table
        table = position_table(opened.stacks[letter].owner)
    if table is None:
        raise CaptureError(f"{opened.anatomy.model} has no table of positions: its scheme is {described.position}")
    return table.float().cpu()


def rotation_frequencies(opened: Opened, letter: str = "") -> dict[str, Float64[Tensor, " pair"]]:
    """Radians per position of each pair of coordinates, by the name of the rotation; on the CPU.

    One rotation in most models; one for each kind of layer in some ("full_attention", "sliding_attention").

    Raises:
        CaptureError: the stack rotates nothing, or by code that shows no frequencies.
    """
    described = opened.anatomy.stack(letter)
    if described.position != "rope" or letter == CROSS:
        raise CaptureError(f"{opened.anatomy.model} rotates nothing: its scheme is {described.position}")
    owner = opened.stacks[letter].owner
    found: dict[str, Tensor] = {}
    for name, buffer in owner.named_buffers():
        matched = _FREQUENCIES.fullmatch(name.rpartition(".")[2])
        if matched is not None and "original" not in name and buffer.ndim == 1:
            found.setdefault(matched["kind"] or "rotation", buffer.detach().double().cpu())
    if found:
        return found
    width = getattr(getattr(owner, "config", None), "rotary_dim", None)  # GPT-J, CodeGen: base 10,000, in their code
    if width:
        return {"rotation": rope_frequencies(int(width))}
    raise CaptureError(f"{opened.anatomy.model} rotates by code of its own, which shows no frequencies")


def position_bias(opened: Opened, run: Capture, letter: str = "") -> dict[int, Float64[Tensor, "head query key"]]:
    """What position alone adds to the scores of one text, by layer; in logits.

    Read off the run where attention was handed the bias (T5, Falcon), so that it is what was added, a mask aside; else
    made of the model's own table of biases (MPNet) or of the slopes of ALiBi (BLOOM). Constants that a family adds to
    whole rows, which change no weight, are taken away.

    Args:
        opened: the model.
        run: of the text.
        letter: of the stack.

    Raises:
        CaptureError: the scheme adds nothing to scores, or in another form.
    """
    held = run.patterns_of(stack=letter or None)
    shown: dict[int, Tensor] = {}
    for layer, pattern in enumerate(held):
        if isinstance(pattern, LazyPattern) and pattern.scores.bias is not None:
            shape = pattern.scores.query.shape[1], *pattern.shape
            shown[layer] = _by_distance(pattern.scores.bias[0].double().expand(shape))
    described = opened.anatomy.stack(letter)
    if shown or letter == CROSS:
        if not shown:
            raise CaptureError("positions of two texts have no distance, and cross-attention has no bias for it")
        return shown
    made = _made(opened, letter, described.position, next(p.shape for p in held if p is not None))
    return {layer: made for layer, pattern in enumerate(held) if pattern is not None}


def _by_distance(bias: Float64[Tensor, "head query key"]) -> Float64[Tensor, "head query key"]:
    """A bias that depends on the key's place (Falcon's ALiBi) less its value at the query itself: the same weights."""
    if bias.shape[1] != bias.shape[2] or bool((bias[:, 1:, 1:] - bias[:, :-1, :-1]).abs().max() < 1e-5):
        return bias
    return bias - bias.diagonal(dim1=-2, dim2=-1)[..., None]


def _made(opened: Opened, letter: str, scheme: str, shape: tuple[int, int]) -> Float64[Tensor, "head query key"]:
    n_heads, owner = opened.anatomy.stack(letter).n_heads, opened.stacks[letter].owner
    table = next((part for name, part in owner.named_modules() if name.rpartition(".")[2] == _BIAS_TABLE), None)
    if isinstance(table, nn.Embedding) and table.embedding_dim == n_heads:
        apart = torch.arange(shape[1])[None, :] - torch.arange(shape[0])[:, None]
        config: Any = getattr(owner, "config", None)
        rows = relative_buckets(
            apart, table.num_embeddings, _furthest(config), both_ways=not opened.anatomy.stack(letter).causal
        )
        return table.weight.detach().double().cpu()[rows].permute(2, 0, 1)
    if scheme == "alibi":
        return alibi_bias(alibi_slopes(n_heads), *shape)
    raise CaptureError(f"the position scheme of {opened.anatomy.model} is {scheme}, which adds no number to each score")


def _furthest(config: Mapping[str, Any] | Any) -> int:
    """From where on distances share a row: T5's setting; 128, its default, which MPNet's code holds."""
    return int(getattr(config, "relative_attention_max_distance", None) or 128)
