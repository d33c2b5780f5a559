"""W_Q, W_K, W_V and W_O of every head, whatever the family calls and fuses them: found by numbers, proven by numbers.

One forward shows which columns of which linear map the attention received as queries, keys and values. What is not
proven is absent, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from attnlens.errors import CaptureError, UnsupportedModelError
from attnlens.models.map_search import Found, Watched, find_pair, find_values, find_vectors, watch_maps
from attnlens.models.opening import Opened
from attnlens.models.readouts import freeze_norm, head_projection

__all__ = ["HeadMap", "InFront", "LayerWeights", "head_weights"]


@dataclass(frozen=True)
class InFront:
    """The norm that a map reads through; its division by the length differs from token to token and is left out.

    Attributes:
        gain: its weight, to be multiplied into the map's rows.
        centred: it takes the mean away first (LayerNorm).
    """

    gain: Float[Tensor, " d_in"]
    centred: bool

    def folded(self, weight: Float[Tensor, "head d_in d_head"]) -> Float[Tensor, "head d_in d_head"]:
        """The map from the stream itself, up to a positive factor per token, without the norm's bias."""
        scaled = weight * self.gain.to(weight)[:, None]
        return scaled - scaled.mean(-2, keepdim=True) if self.centred else scaled


@dataclass(frozen=True)
class HeadMap:
    """What makes one kind of vector for each query head: `vector = read @ weight + bias`, on the CPU in float32.

    Attributes:
        weight: one matrix per query head; heads that share a key-value head have equal ones.
        bias: None where there is none.
        kv_heads: for each query head, the number of the matrix that it uses; the identity for queries.
        norm: the norm in front of it; None where it reads the stream as it is (post-LN), or the encoder's output.
        source: paths of the linear maps within the layer.
        normed: a norm of each head follows (Qwen3, Gemma 3): its weight is in `weight`, and the vectors that attention
            sees are these up to a positive factor per token.
        rotated: attention sees these vectors rotated by their position (RoPE); compared at position 0, which is not
            rotated, and by length elsewhere; where only scores are seen, by the scores of tokens one apart.
        gap: largest difference to what attention received, relative to its largest number.
    """

    weight: Float[Tensor, "head d_in d_head"]
    bias: Float[Tensor, "head d_head"] | None
    kv_heads: tuple[int, ...]
    norm: InFront | None
    source: str
    normed: bool = False
    rotated: bool = False
    gap: float = 0.0

    @property
    def folded(self) -> Float[Tensor, "head d_in d_head"]:
        """With the weight of the norm in front multiplied in; as it is where there is no norm."""
        return self.weight if self.norm is None else self.norm.folded(self.weight)


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer's heads.

    Attributes:
        query, key, value: the maps; None where they are absent.
        output: W_O cut into heads; None where it is absent.
        output_bias: of W_O, added once.
        scaling: `scores = scaling * query @ key`, before any bias; None where queries and keys are absent.
        absent: which of `query key value output` is absent, and why.
    """

    query: HeadMap | None
    key: HeadMap | None
    value: HeadMap | None
    output: Float[Tensor, "head d_head d_model"] | None
    output_bias: Float[Tensor, " d_model"] | None
    scaling: float | None
    absent: Mapping[str, str]


def head_weights(opened: Opened, letter: str = "") -> dict[int, LayerWeights]:
    """The weights of every head of a stack, by layer.

    Runs the model once on random tokens. W_Q, W_K and W_V are proven against the vectors that attention received; where
    a family hands over none and builds its weights itself, W_V is proven by what the heads put out and W_Q and W_K by
    the scores.

    Args:
        opened: the model.
        letter: of the stack.

    Returns:
        Layers that have attention -> their weights.
    """
    seen = watch_maps(opened, letter)
    return {layer: _of_layer(opened, letter, layer, seen.get(layer)) for layer in _layers(opened, letter)}


def _layers(opened: Opened, letter: str) -> tuple[int, ...]:
    return opened.anatomy.stack(letter).attention_layers


def _of_layer(opened: Opened, letter: str, layer: int, seen: Watched | None) -> LayerWeights:
    absent: dict[str, str] = {}
    maps: dict[str, HeadMap | None] = dict.fromkeys(("query", "key", "value"))
    scaling = None
    if seen is None:
        absent |= dict.fromkeys(maps, "this layer's attention did not run")
    else:
        found, scaling = _search(seen)
        for name in maps:
            here = found.get(name)
            if here is None:
                absent[name] = _why(seen)
                continue
            try:
                maps[name] = _head_map(here, opened.anatomy.stack(letter).n_heads)
            except UnsupportedModelError as error:
                absent[name] = str(error)
    try:
        output, bias = head_projection(opened, letter, layer)
        output, bias = output.float(), None if bias is None else bias.float()
    except (CaptureError, UnsupportedModelError) as error:
        output, bias, absent["output"] = None, None, str(error)
    known = maps["query"] is not None and maps["key"] is not None
    return LayerWeights(**maps, output=output, output_bias=bias, scaling=scaling if known else None, absent=absent)


def _search(seen: Watched) -> tuple[dict[str, Found | None], float | None]:
    if seen.vectors is not None:
        return {name: find_vectors(seen, name) for name in ("query", "key", "value")}, seen.scaling
    value = find_values(seen)
    pair = None if value is None else find_pair(seen, value)
    if pair is None:
        return {"value": value}, None
    return {"query": pair.query, "key": pair.key, "value": value}, pair.scaling


def _why(seen: Watched) -> str:
    if not seen.maps:
        return "no linear map is called before attention; its weights are used without a call"
    return "no linear map's output holds these vectors, as far as the numbers of a forward pass show"


def _head_map(found: Found, n_heads: int) -> HeadMap:
    """A found map as one matrix per query head."""
    offered = found.map
    weight = offered.weight()[:, found.columns.flatten()] * found.factor
    by_head = weight.unflatten(1, found.columns.shape).transpose(0, 1)  # type: ignore[no-untyped-call]
    bias = offered.bias()
    bias = None if bias is None else bias[found.columns] * found.factor
    if found.gain is not None:
        by_head, bias = by_head * found.gain, None if bias is None else bias * found.gain
    group = n_heads // len(found.columns)
    shared = _numbered(found.columns)
    kv_heads = tuple(shared[head // group] for head in range(n_heads))
    norm = None
    if offered.norm is not None:
        frozen = freeze_norm(offered.norm, offered.norm_input[:1].reshape(-1, offered.norm_input.shape[-1]).cpu())
        norm = InFront(frozen.gain, frozen.centred)
    return HeadMap(
        weight=by_head.repeat_interleave(group, 0),
        bias=None if bias is None else bias.repeat_interleave(group, 0),
        kv_heads=kv_heads,
        norm=norm,
        source=offered.path,
        normed=found.gain is not None,
        rotated=found.rotated,
        gap=found.gap,
    )


def _numbered(columns: Tensor) -> list[int]:
    """The same number for heads that use the same columns."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(row), len(numbers)) for row in columns.tolist()]
