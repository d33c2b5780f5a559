"""One forward with every linear map of a stack watched, and the search for those that make queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.recorders import Extents
from attnlens.capture.sites import CROSS, DECODER, Site
from attnlens.capture.tap import needs_eager, recording
from attnlens.errors import UnsupportedModelError
from attnlens.models.columns import Followed, match_columns, relative_gap, scores_follow
from attnlens.models.hooks import Listener, listening
from attnlens.models.made_up import MadeUp, made_up
from attnlens.models.opening import Opened
from attnlens.models.projections import projection_bias, projection_weight
from attnlens.models.readouts import layer_of
from attnlens.models.snapshots import is_linear, is_norm, same_numbers

__all__ = ["Found", "Offered", "Pair", "Watched", "find_pair", "find_values", "find_vectors", "watch_maps"]

_LENGTH = 6  # tokens of each text; the first one is what rotary embeddings leave as it is
_ROWS = 32


@dataclass(frozen=True)
class Offered:
    """A linear map that ran before attention.

    Attributes:
        path: within the layer.
        module: the map.
        given, output: what it was given and gave, `[row position width]`.
        norm, norm_input: the norm whose output it was given, and what that was given.
    """

    path: str
    module: nn.Module
    given: Float[Tensor, "row position d_in"]
    output: Float[Tensor, "row position width"]
    norm: nn.Module | None = None
    norm_input: Tensor = field(default_factory=lambda: torch.empty(0))

    def weight(self) -> Float[Tensor, "d_in width"]:
        """Its matrix, on the CPU in float32.

        Raises:
            UnsupportedModelError: it is stored in another form (quantised).
        """
        return projection_weight(self.module).float().cpu()

    def bias(self) -> Float[Tensor, " width"] | None:
        """Its bias."""
        bias = projection_bias(self.module)
        return None if bias is None else bias.float().cpu()


@dataclass
class Watched:
    """What one layer's attention was given, and what ran before it.

    Attributes:
        maps: linear maps of the layer.
        norms: outputs and inputs of its norms, for norms of each head.
        vectors: "query" `[row head position d_head]`, "key" and "value"; None where the family hands over none.
        weights, scores: `[row head position position]`, where it hands over these instead.
        scaling: of the scores, where vectors are known.
        heads_out: input of W_O, `[row position head*d_head]`.
        n_heads, tolerance: sizes of what is compared, and how closely it must agree.
    """

    n_heads: int
    tolerance: float
    maps: tuple[Offered, ...] = ()
    norms: tuple[tuple[Tensor, Tensor], ...] = ()
    vectors: Mapping[str, Tensor] | None = None
    weights: Tensor | None = None
    scores: Tensor | None = None
    scaling: float | None = None
    heads_out: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """A map that was found.

    Attributes:
        map: the linear map.
        columns: which of its columns are which head's.
        factor: heads' vectors are these columns times it.
        gain: of the norm that follows, for each channel; None where none does.
        rotated: the vectors are rotated by position before attention sees them.
        gap: largest difference to what was looked for, relative to its largest number.
    """

    map: Offered
    columns: Int[Tensor, "kv_head d_head"]
    factor: float = 1.0
    gain: Float[Tensor, " d_head"] | None = None
    rotated: bool = False
    gap: float = 0.0


@dataclass(frozen=True)
class Pair:
    """Queries and keys that scores are made of, and the factor in `scores = scaling * query @ key`."""

    query: Found
    key: Found
    scaling: float


def watch_maps(opened: Opened, letter: str) -> dict[int, Watched]:
    """Run the model once and keep, of every layer of a stack, what the search needs; on the CPU."""
    home = DECODER if letter == CROSS else letter
    stack, described = opened.stacks[home], opened.anatomy.stack(letter)
    layers = {layer: layer_of(opened, letter, layer) for layer in described.attention_layers}
    tolerance = max(1e-5, 8 * torch.finfo(getattr(torch, opened.anatomy.dtype)).eps)
    watcher = _Watcher(opened, letter, layers, described.n_heads, tolerance)
    batch = _batch(opened, described.d_head)
    with torch.no_grad(), listening(stack.layers) as listener, recording(opened.tap, watcher):
        watcher.listen(listener)
        batch.call(opened.tap.model)
    return watcher.seen


def find_vectors(seen: Watched, name: str) -> Found | None:
    """The map whose columns are the heads' vectors; `name`: "query", "key" or "value"."""
    assert seen.vectors is not None
    wanted = seen.vectors[name].transpose(1, 2)  # [row position head d_head]
    straight = _match(seen, wanted)
    if straight is not None or name == "value":
        return straight
    first = _match(seen, wanted[:, :1])
    if first is not None and _equally_long(first, wanted, seen.tolerance):
        return replace(first, rotated=True)
    return _before_norm(seen, wanted)


def find_values(seen: Watched) -> Found | None:
    """The map whose columns, mixed by the weights, are what the heads put out."""
    if seen.weights is None or seen.heads_out is None:
        return None
    by_head = seen.heads_out.unflatten(-1, (seen.n_heads, -1))  # type: ignore[no-untyped-call]
    for offered in reversed(seen.maps):
        if offered.output.shape[1] != seen.weights.shape[-1]:
            continue
        columns, gaps = [], []
        for head in range(seen.n_heads):
            mixed = seen.weights[:, head].double() @ offered.output.double()
            wanted = by_head[:, :, head].flatten(0, 1)
            matched = match_columns(wanted, mixed.flatten(0, 1), 1e2 * seen.tolerance)
            if matched is None or matched.factor != 1.0:
                break
            columns.append(matched.columns)
            gaps.append(relative_gap(mixed.flatten(0, 1)[:, matched.columns], wanted.double()))
        if len(columns) == seen.n_heads:
            return Found(offered, torch.stack(columns), gap=max(gaps))
    return None


def find_pair(seen: Watched, value: Found) -> Pair | None:
    """Queries and keys of a family that hands over only scores: the layouts that exist, tried on the numbers."""
    assert seen.scores is not None
    for query, key in _layouts(seen, value):
        followed = _follow_heads(seen, query, key)
        factors = [how.factor for how in followed]
        if len(factors) < seen.n_heads or max(factors) - min(factors) > 1e-3 * max(factors):
            continue
        rotated, gap = any(how.rotated for how in followed), max(how.gap for how in followed)
        query, key = (replace(found, rotated=rotated, gap=gap) for found in (query, key))
        return Pair(query, key, sum(factors) / len(factors))
    return None


def _follow_heads(seen: Watched, query: Found, key: Found) -> list[Followed]:
    """How each head's scores follow; up to the first head whose scores do not."""
    followed: list[Followed] = []
    for head in range(seen.n_heads):
        how = _follow(seen, query, key, head)
        if how is None:
            break
        followed.append(how)
    return followed


def _follow(seen: Watched, query: Found, key: Found, head: int) -> Followed | None:
    assert seen.scores is not None
    scores = seen.scores[:, head].double()
    return scores_follow(
        scores.diagonal(dim1=-2, dim2=-1),
        scores.diagonal(-1, dim1=-2, dim2=-1) if head == 0 else None,  # heads of a map are laid out alike
        query.map.output[..., query.columns[head]].double(),
        key.map.output[..., key.columns[head]].double(),
        1e2 * seen.tolerance,
    )


def _layouts(seen: Watched, value: Found) -> Iterator[tuple[Found, Found]]:
    """Where queries and keys stand in the families that exist: beside the values in one map, or in their own maps."""
    n_heads, d_head = seen.n_heads, value.columns.shape[1]
    first = value.columns[:, 0]
    kv_heads = len(set(first.tolist()))
    group = n_heads // kv_heads
    heads, kv = torch.arange(n_heads), torch.arange(n_heads) // group
    channel = torch.arange(d_head)

    def at(offered: Offered, starts: Tensor) -> Found:
        return Found(offered, starts[:, None] + channel)

    fused = value.map
    if fused.output.shape[-1] == (n_heads + 2 * kv_heads) * d_head:
        key_first = first - d_head  # [queries of the group | key | value], group by group
        yield at(fused, key_first - (group - heads % group) * d_head), at(fused, key_first)
        yield at(fused, heads * d_head), at(fused, (n_heads + kv) * d_head)  # [queries | keys | values]
    others = [offered for offered in seen.maps if offered is not fused and offered.output.shape[1] == _LENGTH]
    for one, other in permutations(others, 2):
        if one.output.shape[-1] == n_heads * d_head and other.output.shape[-1] == kv_heads * d_head:
            yield at(one, heads * d_head), at(other, kv * d_head)


def _match(seen: Watched, wanted: Float[Tensor, "row position head d_head"]) -> Found | None:
    """The last of the maps in which every wanted column stands."""
    rows = wanted.flatten(2).flatten(0, 1)
    for offered in reversed(seen.maps):
        if offered.output.shape[0] != wanted.shape[0] or offered.output.shape[1] < wanted.shape[1]:
            continue
        given = offered.output[:, : wanted.shape[1]].flatten(0, 1)
        matched = match_columns(rows, given, seen.tolerance)
        if matched is not None:
            gap = relative_gap(given[:, matched.columns].double() * matched.factor, rows.double())
            return Found(offered, matched.columns.view(wanted.shape[2:]), matched.factor, gap=gap)
    return None


def _equally_long(found: Found, wanted: Float[Tensor, "row position head d_head"], tolerance: float) -> bool:
    """Whether the vectors are as long at every position as the map's: a rotation keeps lengths."""
    given = found.map.output[..., found.columns].double() * found.factor
    return relative_gap(given.norm(dim=-1), wanted.double().norm(dim=-1)) <= 10 * tolerance


def _before_norm(seen: Watched, wanted: Float[Tensor, "row position head d_head"]) -> Found | None:
    """The map in front of a norm of each head, whose output attention sees (at position 0, where it is rotated)."""
    first = wanted[:, 0].double()
    for given, output in reversed(seen.norms):
        for turned in (False, output.ndim == 4):
            normed, before = (t.transpose(1, 2) if turned else t for t in (output, given))
            if normed.shape != wanted.shape or relative_gap(normed[:, 0].double(), first) > seen.tolerance:
                continue
            gain = _root_mean_square_gain(before, normed, 1e2 * seen.tolerance)
            found = _match(seen, before)
            if gain is not None and found is not None:
                straight = relative_gap(normed.double(), wanted.double()) <= seen.tolerance
                return replace(found, gain=gain, rotated=not straight)
    return None


def _root_mean_square_gain(given: Tensor, output: Tensor, tolerance: float) -> Tensor | None:
    """The weight of an RMS norm over the last axis; None where the norm is another."""
    given, output = given.double().flatten(0, -2), output.double().flatten(0, -2)
    unit = given / given.square().mean(-1, keepdim=True).sqrt()
    gain = (unit * output).sum(0) / unit.square().sum(0)
    return gain.float() if relative_gap(unit * gain, output) <= tolerance else None


class _Watcher:
    """Notes the maps and norms of each layer of one stack, and what its attention was given."""

    def __init__(
        self, opened: Opened, letter: str, layers: Mapping[int, nn.Module], n_heads: int, tolerance: float
    ) -> None:
        self.eager = needs_eager(opened.tap.model)
        self.seen: dict[int, Watched] = {}
        self._letter, self._layers = letter, layers
        self._n_heads, self._tolerance = n_heads, tolerance
        home = DECODER if letter == CROSS else letter
        self._home, self._batch_first = home, opened.stacks[home].batch_first
        self._projection = opened.wirings[home].projections.get("cross" if letter == CROSS else "self")
        self._formed = frozenset(opened.wirings[home].norms.values())  # norms that make the stream (post-LN)
        self._latest: dict[nn.Module, list[tuple[str, Tensor, Tensor]]] = {}
        self._inputs: dict[tuple[nn.Module, str], Tensor] = {}
        self._waiting: dict[nn.Module, int] = {}

    def listen(self, listener: Listener) -> None:
        """Hook every linear map and norm of the layers."""
        for layer in dict.fromkeys(self._layers.values()):
            self._latest[layer] = []
            for path, module in layer.named_modules():
                if path and (is_linear(module) or is_norm(module)):
                    listener.on_input(module, self._note(layer, path))
                    listener.on_output(module, self._give(layer, path))

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """Keep the vectors and run the attention as it is."""
        if call.site.stack == self._letter:
            seen = self._start(call.site)
            vectors = {"query": call.query, "key": call.key, "value": call.value}
            seen.vectors = {name: vector.clone().cpu() for name, vector in vectors.items()}
            seen.scaling = call.scaling
        return call.run_eager() if self.eager or not call.fits_fused else (call.run_fused(), None)

    def on_weights(self, call: WeightsCall) -> Tensor:
        """Keep scores and weights."""
        if call.site.stack == self._letter:
            seen = self._start(call.site)
            seen.weights, seen.scores = call.weights.clone().cpu(), call.scores.clone().cpu()
            self._waiting[self._layers[call.site.layer]] = call.site.layer
        return call.weights

    def _start(self, site: Site) -> Watched:
        layer = self._layers[site.layer]
        norms, maps = [], []
        for path, given, output in self._latest[layer]:
            module = layer.get_submodule(path)
            if is_norm(module):
                norms.append((given, output))
            elif output.ndim == 3 and given.ndim == 3:
                maps.append(self._offered(layer, path, module, given, output))
        seen = self.seen[site.layer] = Watched(self._n_heads, self._tolerance, tuple(maps), tuple(norms))
        self._latest[layer].clear()
        return seen

    def _offered(self, layer: nn.Module, path: str, module: nn.Module, given: Tensor, output: Tensor) -> Offered:
        for name, before, normed in self._latest[layer]:
            front = name not in self._formed and is_norm(layer.get_submodule(name))
            if front and same_numbers(normed, given):
                return Offered(path, module, given, output, layer.get_submodule(name), before)
        return Offered(path, module, given, output)

    def _note(self, layer: nn.Module, path: str) -> Callable[[Tensor | None], None]:
        def receive(tensor: Tensor | None) -> None:
            if tensor is None:
                return
            self._inputs[layer, path] = self._kept(tensor)
            if path == self._projection and layer in self._waiting:
                self.seen[self._waiting.pop(layer)].heads_out = self._inputs[layer, path]

        return receive

    def _give(self, layer: nn.Module, path: str) -> Callable[[Tensor | None], None]:
        def receive(tensor: Tensor | None) -> None:
            given = self._inputs.pop((layer, path), None)
            if tensor is not None and given is not None:
                self._latest[layer].append((path, given, self._kept(tensor)))

        return receive

    def _kept(self, tensor: Tensor) -> Tensor:
        kept = tensor.detach().clone().cpu()
        return kept if self._batch_first or kept.ndim != 3 else kept.transpose(0, 1)


def _batch(opened: Opened, d_head: int) -> MadeUp:
    """Short random texts without padding, enough of them for every fit; what the model was checked with otherwise."""
    model = opened.tap.model
    try:
        example = made_up(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"the weights of heads are found by running the model, and {error}") from error
    arguments: dict[str, Any] = dict(example.arguments)
    if "input_ids" not in arguments:
        return example
    rows = max(_ROWS, 2 * d_head)
    generator = torch.Generator().manual_seed(1)
    for name in ("input_ids", "decoder_input_ids"):
        if name in arguments:
            ids = arguments[name]
            limit = _vocabulary(model, name)
            drawn = torch.randint(limit, (rows, _LENGTH), generator=generator)
            arguments[name] = drawn.to(ids.device)
    arguments.pop("attention_mask", None)
    return MadeUp(arguments, Extents.everything(rows))


def _vocabulary(model: Any, name: str) -> int:
    if name == "decoder_input_ids":
        return int(model.config.get_text_config(decoder=True).vocab_size)
    return int(model.get_input_embeddings().weight.shape[0])
