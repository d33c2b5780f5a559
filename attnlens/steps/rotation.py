"""Rotary positions of an opened model: which turn each layer makes, proven on the model, and a pair that is turned.

Source: Su et al. 2021, arXiv:2104.09864, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.errors import CaptureError
from attnlens.heads import Head
from attnlens.measures.positions import rope_angles, rotate
from attnlens.models.position_data import rotation_frequencies

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["RotatedPair", "Rotation", "find_rotations", "rotated_pair", "usual_pair"]

_N_PROBE = 9  # positions of the text that proves a rotation: the fastest pair makes more than a turn
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE = 5e-2  # bfloat16 and float16


@dataclass(frozen=True)
class Rotation:
    """How one layer turns its queries and keys.

    Attributes:
        name: of the rotation, in models that have several ("full_attention"); else "rotation".
        frequencies: radians per position of each pair of coordinates.
        halves: pairs are (i, i + pairs) (LLaMA); False: (2i, 2i + 1) (GPT-J, the paper).
        error: what is left, of the longest query, when turning back should leave nothing; NaN where that cannot be
            measured in this layer and its kind follows from the config.
    """

    name: str
    frequencies: Float64[Tensor, " pair"]
    halves: bool
    error: float

    @property
    def wavelengths(self) -> Float64[Tensor, " pair"]:
        """Positions until each pair is back where it was."""
        return 2 * torch.pi / self.frequencies


def find_rotations(lens: Lens) -> tuple[Rotation | None, ...]:
    """The rotation of each layer; None for a layer that turns nothing.

    Proven by one token, written many times: every position then holds the same states, so queries differ by their turn
    alone, and turned back they must be equal. That tells the layout of the pairs and the kind of each layer. A layer
    behind attention that gives weight away (sinks) sees other states, and takes what the config says of it.

    Raises:
        CaptureError: the model rotates nothing, hands over no queries, or turns them in a way that is not known.
    """
    anatomy = lens.anatomy
    letter = anatomy.main_stack
    found = rotation_frequencies(lens.opened, letter)
    if anatomy.is_encoder_decoder or "lazy" not in lens.opened.recorders:
        raise CaptureError(
            f"{anatomy.architecture} rotates by code of its own and hands over no queries, so a pair cannot be shown."
        )
    n = min(_N_PROBE, anatomy.max_length or _N_PROBE)
    ids = torch.full((1, n), max(1, anatomy.vocab_size // 2))
    run = lens.capture(inputs={"input_ids": ids}, points=(), logits=False, mode="lazy")
    rotations = [_rotation_of(pattern, found) for pattern in run.patterns]
    proven = [one for one in rotations if one is not None]
    if not proven:
        raise CaptureError(f"{anatomy.architecture} turns queries in a way that is not known here.")
    kinds = getattr(getattr(lens.model, "config", None), "layer_types", None)
    return tuple(
        one if one is not None or _still(pattern) else _by_config(found, proven[0], kinds, layer)
        for layer, (one, pattern) in enumerate(zip(rotations, run.patterns, strict=True))
    )


def _rotation_of(pattern: object, found: Mapping[str, Tensor]) -> Rotation | None:
    """The rotation that turns the queries of one repeated token back to one vector."""
    if not isinstance(pattern, LazyPattern):
        return None
    query = pattern.scores.query[0]
    best: Rotation | None = None
    for name, frequencies in found.items():
        back = rope_angles(-frequencies, query.shape[1])
        for halves in (True, False):
            turned = rotate(query.float(), back, halves=halves)
            error = float((turned - turned[:, :1]).abs().max() / query.abs().max())
            if best is None or error < best.error:
                best = Rotation(name, frequencies, halves, error)
    return best if best is not None and best.error < _TOLERANCE.get(query.dtype, _COARSE) else None


def _still(pattern: object) -> bool:
    """Whether the queries of one repeated token are equal as they are: the layer turns nothing."""
    if not isinstance(pattern, LazyPattern):
        return True
    query = pattern.scores.query[0].float()
    return bool((query - query[:, :1]).abs().max() < _TOLERANCE[torch.float32] * query.abs().max())


def _by_config(found: Mapping[str, Tensor], like: Rotation, kinds: object, layer: int) -> Rotation:
    name = kinds[layer] if isinstance(kinds, list | tuple) and layer < len(kinds) else like.name
    name = name if name in found else like.name
    return Rotation(name, found[name], like.halves, float("nan"))


@dataclass(frozen=True)
class RotatedPair:
    """A query and a key of one head, as they are before the turn, and the score that every two positions give them.

    Attributes:
        query, key: by pair of coordinates.
        frequencies: radians per position of each pair.
        rest: product of the coordinates that are not turned.
        scaling: factor on the product.
        positions: of the query and of the key in the text.
        recorded: the score that the model computed, before softcap and bias; in logits.
    """

    query: Float64[Tensor, "pair 2"]
    key: Float64[Tensor, "pair 2"]
    frequencies: Float64[Tensor, " pair"]
    rest: float
    scaling: float
    positions: tuple[int, int]
    recorded: float

    def parts(self, apart: Int64[Tensor, " place"]) -> Float64[Tensor, "place pair"]:
        """What each pair adds to the score at each distance (key minus query), in logits: it needs nothing else."""
        (qx, qy), (kx, ky) = self.query.unbind(-1), self.key.unbind(-1)
        angles = apart.double()[:, None] * self.frequencies
        return self.scaling * ((qx * kx + qy * ky) * angles.cos() + (qy * kx - qx * ky) * angles.sin())

    def scores(self, apart: Int64[Tensor, " place"]) -> Float64[Tensor, " place"]:
        """The score at each distance (key minus query), in logits."""
        return self.parts(apart).sum(-1) + self.scaling * self.rest

    @property
    def difference(self) -> float:
        """By how much the score at the text's own distance differs from what the model computed, in logits."""
        query, key = self.positions
        return abs(float(self.scores(torch.tensor([key - query]))[0]) - self.recorded)


def usual_pair(run: Capture, head: Head, query: int | None = None) -> tuple[int, int]:
    """A query worth a look, the last token of the text proper, and the other token that it attends to most."""
    if query is None:
        query = max((at for at, token in enumerate(run.tokens) if not token.special), default=len(run.tokens) - 1)
    weights = run.attention(head=head, queries=slice(query, query + 1))[0].clone()
    if len(weights) > 1:
        weights[query] = -1
    return query, int(weights.argmax())


def rotated_pair(run: Capture, head: Head, query: int, key: int, rotation: Rotation) -> RotatedPair:
    """The query and the key of two positions, turned back to where they are before the rotation.

    Args:
        run: in lazy mode.
        head: whose vectors.
        query: position of the query in the text.
        key: position of the key.
        rotation: of the head's layer (see `find_rotations`).

    Raises:
        CaptureError: the run holds no queries and keys of that head.
    """
    pattern = run.patterns_of(stack=head.stack or None)[head.layer]
    if not isinstance(pattern, LazyPattern):
        raise CaptureError(f"this run holds weights of {head} and no queries and keys; capture with mode='lazy'.")
    given, place = pattern.scores, pattern.heads.index(head.head) if pattern.heads else head.head
    kv_head = place // (given.query.shape[1] // given.key.shape[1])
    turned = given.query[0, place, query].double(), given.key[0, kv_head, key].double()
    pairs = [_turned_back(vector, at, rotation) for vector, at in zip(turned, (query, key), strict=True)]
    (query_pairs, query_rest), (key_pairs, key_rest) = pairs
    return RotatedPair(
        query=query_pairs,
        key=key_pairs,
        frequencies=rotation.frequencies,
        rest=float(query_rest @ key_rest),
        scaling=given.scaling,
        positions=(query, key),
        recorded=float(turned[0] @ turned[1]) * given.scaling,
    )


def _turned_back(
    vector: Float64[Tensor, " d_head"], position: int, rotation: Rotation
) -> tuple[Float64[Tensor, "pair 2"], Float[Tensor, " rest"]]:
    """The pairs of a vector before the rotation, and the coordinates that it leaves alone."""
    angles = -position * rotation.frequencies[None]
    back = rotate(vector[None], angles, halves=rotation.halves)[0]
    n_pairs = len(rotation.frequencies)
    turned, rest = back[: 2 * n_pairs], back[2 * n_pairs :]
    one, other = turned.chunk(2) if rotation.halves else (turned[::2], turned[1::2])
    return torch.stack([one, other], -1), rest
