"""One layer's attention of a run with everything that goes into it, from queries and keys to what W_O gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.recorders import PatternRecorder, Wanted, seen_by_scores
from attnlens.capture.run import Capture
from attnlens.capture.scores import Scores
from attnlens.capture.sites import CROSS, DECODER, Site
from attnlens.capture.tap import recording
from attnlens.capture.terms import Terms, own_memory
from attnlens.errors import CaptureError, HeadAddressError, UnsupportedModelError
from attnlens.measures.positions import rope_angles, rotate
from attnlens.models.head_weights import LayerWeights, head_weights
from attnlens.models.lens import Lens
from attnlens.models.position_data import rotation_frequencies
from attnlens.models.readouts import head_projection
from attnlens.models.reruns import batch_of_run
from attnlens.steps.rotation import Rotation, find_rotations
from attnlens.steps.watching import WatchedLayer, relative_gap, tolerance, watch_layer

__all__ = ["AttendingLayer", "attending_layer"]


@dataclass(frozen=True, eq=False)
class AttendingLayer:
    """What one layer's attention did in one run; the model's own tensors, in float64 on the CPU.

    Attributes:
        layer, letter: which layer of which stack ("X": from the target to the source).
        n_heads: query heads.
        dtype: in which the model computed.
        position: the stack's scheme of positions.
        visible: True where the query sees the key.
        scaling: factor on the products.
        query, key, value: as attention received them, after any rotation; keys and values once per key-value head.
        softcap: scores become `softcap * tanh(score / softcap)`; None without.
        added: what is added to the scaled products; None where nothing is.
        added_is_rest: `added` is what the model's scores hold beyond the scaled products, and was not seen by itself.
        sinks: logit per head whose weight goes to no key; None without.
        recorded: weights that the model built itself; None where they follow from the above.
        z: what each head put out.
        output: W_O cut into heads; `bias` is added once.
        written: what W_O gave; the sum of the heads' writes and the bias.
        rotation: how queries and keys were turned by their position; None where they were not.
        kv_heads: for each query head the number of the key-value head that it reads.
        absent: which of `query key value output written rotation` is not known, and why.
    """

    layer: int
    letter: str
    n_heads: int
    dtype: torch.dtype
    position: str
    visible: Bool[Tensor, "head query key"]
    scaling: float
    z: Float64[Tensor, "head query d_value"]
    kv_heads: tuple[int, ...]
    query: Float64[Tensor, "head query d_head"] | None = None
    key: Float64[Tensor, "kv_head key d_head"] | None = None
    value: Float64[Tensor, "kv_head key d_value"] | None = None
    softcap: float | None = None
    added: Float64[Tensor, "head query key"] | None = None
    added_is_rest: bool = False
    sinks: Float64[Tensor, " head"] | None = None
    recorded: Float64[Tensor, "head query key"] | None = None
    output: Float64[Tensor, "head d_value d_model"] | None = None
    bias: Float64[Tensor, " d_model"] | None = None
    written: Float64[Tensor, "query d_model"] | None = None
    rotation: Rotation | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """How far a step may be from what the model computed, relative to its largest number."""
        return tolerance(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return int(self.visible.shape[1]), int(self.visible.shape[2])


def attending_layer(
    lens: Lens, run: Capture, layer: int, stack: str | None = None, *, inputs: Any = None
) -> AttendingLayer:
    """Run the tokens of a run again and keep everything that one layer's attention is made of.

    Args:
        lens: the model that made `run`.
        run: of a text.
        layer: one that has attention.
        stack: "E" or "X" in an encoder-decoder; None for the only stack, or the decoder.
        inputs: the tensors that `run` was made of, where it was not made of text.

    Raises:
        HeadAddressError: the model has no such attention.
        CaptureError: the run cannot be made again (an edited model, tensors without `inputs`).
    """
    opened = lens.opened
    letter = opened.anatomy.main_stack if not stack else stack.upper()
    described = next((part for part in opened.anatomy.stacks if part.letter == letter), None)
    if described is None or layer not in described.attention_layers:
        raise HeadAddressError(f"{opened.anatomy.model} has no attention at layer {layer} of stack {letter or 'one'}.")
    batch = batch_of_run(opened, run) if inputs is None else lens.reader.tensors(inputs)
    given = batch.arguments if inputs is None else inputs
    mode = "lazy" if "lazy" in opened.recorders else "exact"
    site = Site(letter, layer)
    heard = _Heard(opened.recorders[mode](batch.extents, Wanted({site: None})), site)
    with recording(opened.tap, heard):
        seen = watch_layer(lens, run, layer, DECODER if letter == CROSS else stack, inputs=given)
    parts = _from_call(heard, seen) if heard.call is not None else _from_weights(lens, heard, seen, letter, layer)
    absent = dict(parts.pop("absent", {}))
    written, why = _written(seen, letter)
    if why:
        absent["written"] = why
    output: Tensor | None = None
    bias: Tensor | None = None
    try:
        output, bias = head_projection(opened, letter, layer)
    except (CaptureError, UnsupportedModelError) as error:
        absent["output"] = str(error)
    if "rotation" not in parts and described.position == "rope":
        parts["rotation"], reason = _rotation(lens, letter, layer)
        absent |= {"rotation": reason} if reason else {}
    return AttendingLayer(
        layer=layer,
        letter=letter,
        n_heads=described.n_heads,
        dtype=seen.dtype,
        position=described.position,
        output=None if output is None else output.double(),
        bias=None if bias is None else bias.double(),
        written=written,
        absent=absent,
        **parts,
    )


class _Heard:
    """Lets the model's attention run as a recorder would, and keeps the call of one site."""

    def __init__(self, inner: PatternRecorder, site: Site) -> None:
        self.eager, self._inner, self._site = inner.eager, inner, site
        self.call: AttentionCall | None = None
        self.z: Tensor | None = None
        self.scores: Tensor | None = None
        self.weights: Tensor | None = None

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        output, weights = self._inner.record(call)
        if call.site == self._site:
            self.call, self.z = call, own_memory(output)[0].transpose(0, 1).double()
        return output, weights

    def on_weights(self, call: WeightsCall) -> Tensor:
        if call.site == self._site:
            self.scores, self.weights = (part[0].detach().cpu().double() for part in (call.scores, call.weights))
        return call.weights


def _from_call(heard: _Heard, seen: WatchedLayer) -> dict[str, Any]:
    """What a call of an attention function holds."""
    call = heard.call
    assert call is not None
    scores: Scores = Terms().scores(call, None, own_memory)
    group = scores.query.shape[1] // scores.key.shape[1]
    shape = scores.shape[1:]
    bias = scores.bias[0].double().expand(shape) if scores.bias is not None and bool(scores.bias.any()) else None
    query, scaling = _unscaled(scores.query[0].double(), scores.scaling, call.module, seen)
    return {
        "visible": scores.visible()[0].expand(shape),
        "scaling": scaling,
        "z": heard.z,
        "kv_heads": tuple(head // group for head in range(shape[0])),
        "query": query,
        "key": scores.key[0].double(),
        "value": own_memory(call.value)[0].double(),
        "softcap": scores.softcap,
        "added": bias,
        "sinks": None if scores.sinks is None else scores.sinks.double(),
    }


def _unscaled(query: Tensor, scaling: float, module: nn.Module, seen: WatchedLayer) -> tuple[Tensor, float]:
    """Queries before their scaling, and the factor: some families (OPT, Whisper) scale what attention is then given.

    Taken for that where a submodule of the layer gave just these queries, but for the factor that the module names.
    """
    factor = getattr(module, "scaling", None)
    if scaling != 1 or not isinstance(factor, float) or factor in (0.0, 1.0):
        return query, scaling
    before = query / factor
    flat = before.transpose(0, 1).flatten(1)
    gave = (value for reading, value in seen.values.items() if reading.side == "output" and value.shape == flat.shape)
    return (
        (before, factor)
        if any(relative_gap(flat, value) < tolerance(seen.dtype) for value in gave)
        else (query, scaling)
    )


def _from_weights(lens: Lens, heard: _Heard, seen: WatchedLayer, letter: str, layer: int) -> dict[str, Any]:
    """Of a model with a softmax of its own: its scores, and vectors by its weights where those are found."""
    scores, weights = heard.scores, heard.weights
    z = seen.point("cross_z" if letter == CROSS else "z")
    if scores is None or weights is None or z is None:
        raise CaptureError(f"what the heads of layer {layer} put out was not found in {lens.anatomy.model}.")
    n_heads = weights.shape[0]
    visible = seen_by_scores(scores.float()[None])[0].expand(scores.shape)
    parts: dict[str, Any] = {
        "visible": visible,
        "scaling": 1.0,
        "z": z.unflatten(-1, (n_heads, -1)).transpose(0, 1),  # type: ignore[no-untyped-call]
        "kv_heads": tuple(range(n_heads)),
        "recorded": weights,
        "added": scores,
        "added_is_rest": True,
    }
    maps = head_weights(lens.opened, letter)[layer]
    absent = {name: maps.absent[name] for name in ("query", "key", "value") if name in maps.absent}
    vectors = {name: _vectors(maps, name, seen) for name in ("query", "key", "value")}
    if vectors["value"] is None:
        absent.setdefault("value", "what the map of values reads was not seen")
    else:
        parts["value"] = vectors["value"]
    query, key = vectors["query"], vectors["key"]
    if query is None or key is None or maps.scaling is None:
        absent.setdefault(
            "query", "the maps of queries and keys read more than the tokens, so no scores follow from them"
        )
        return parts | {"absent": absent}
    assert maps.query is not None
    for rotation in _candidates(lens, letter) if maps.query.rotated else iter([None]):
        q, k = (vector if rotation is None else _turned(vector, rotation) for vector in (query, key))
        rest = (scores - maps.scaling * q @ k.transpose(-1, -2)).masked_fill(~visible, 0.0)
        plain = float(rest.abs().max()) <= _close(seen) * float(scores[visible].abs().max())
        if rotation is None or plain:
            added = {"added": None, "added_is_rest": False} if plain else {"added": rest}
            known = {"query": q, "key": k, "scaling": maps.scaling, "rotation": rotation}
            return parts | known | added | {"absent": absent}
    absent["query"] = "queries and keys are turned by position in a way that is not known here"
    return parts | {"absent": absent}


def _close(seen: WatchedLayer) -> float:
    """Relative difference that the precision of the model leaves between scores and their recomputation."""
    return 10 * tolerance(seen.dtype)


def _vectors(maps: LayerWeights, name: str, seen: WatchedLayer) -> Tensor | None:
    """The vectors that a found map makes of what it was given."""
    found = getattr(maps, name)
    given = None if found is None else seen.given(found.source)
    if found is None or given is None or found.normed:
        return None
    made: Tensor = given @ found.weight.double()
    return made if found.bias is None else made + found.bias.double()[:, None]


def _candidates(lens: Lens, letter: str) -> Iterator[Rotation]:
    for name, frequencies in rotation_frequencies(lens.opened, letter).items():
        for halves in (False, True):
            yield Rotation(name, frequencies, halves, float("nan"))


def _turned(vectors: Tensor, rotation: Rotation) -> Tensor:
    return rotate(vectors, rope_angles(rotation.frequencies, vectors.shape[1]), halves=rotation.halves)


def _rotation(lens: Lens, letter: str, layer: int) -> tuple[Rotation | None, str]:
    if letter != lens.anatomy.main_stack:
        return None, "the rotation is looked for in the main stack only"
    try:
        return find_rotations(lens)[layer], ""
    except CaptureError as error:
        return None, str(error)


def _written(seen: WatchedLayer, letter: str) -> tuple[Tensor | None, str]:
    """What W_O gave at every query; by the point of the stream where its module is not called by itself."""
    path = seen.wiring.projections.get("cross" if letter == CROSS else "self")
    gave = None if path is None else seen.gave(path)
    if gave is None:
        gave = seen.point("cross_out" if letter == CROSS else "attn_out")
    return gave, "" if gave is not None else "what the output projection gave was not seen"
