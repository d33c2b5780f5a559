"""A model taken apart and checked: how it attends, how its layers are wired, and the figures that prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.recorders import (
    DenseRecorder,
    ExactRecorder,
    Extents,
    LazyEagerRecorder,
    LazyRecorder,
    PatternRecorder,
)
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY, Site
from attnlens.capture.tap import Tap, needs_eager, recording
from attnlens.errors import UnsupportedModelError
from attnlens.models.anatomy import Anatomy, Check, SelfCheck, Stack
from attnlens.models.attention import AttentionSizes, Found, find_attention
from attnlens.models.families import Family, family_of, refuse_by_name
from attnlens.models.layers import AttentionKind, LayerStack, find_stacks
from attnlens.models.loading import LoadedModel
from attnlens.models.made_up import MadeUp, made_up
from attnlens.models.points import recording_points
from attnlens.models.positions import longest_text, position_scheme
from attnlens.models.search import HeadOutputs, find_wiring
from attnlens.models.selfcheck import Proof, check_attention, tolerance_of
from attnlens.models.wiring import Wiring

__all__ = ["Opened", "open_model"]

_STREAM = ("resid_pre", "attn_out", "resid_mid", "cross_out", "resid_cross", "mlp_out", "resid_post")


@dataclass(frozen=True)
class Opened:
    """What is known of a model once it is open.

    Attributes:
        tap: where its attention is listened to.
        stacks, wirings: its layers and how they are wired, by the letter of the stack.
        recorders: mode -> what records it.
        anatomy: the same for people and files.
        batch_axis: which axis of the model's arguments, and of its output, counts the texts.
    """

    tap: Tap
    stacks: Mapping[str, LayerStack]
    wirings: Mapping[str, Wiring]
    recorders: Mapping[str, type[PatternRecorder]]
    anatomy: Anatomy
    batch_axis: int = 0


def open_model(loaded: LoadedModel, family: Family | None = None, example: Any = None) -> Opened:
    """Take `loaded` apart and check it.

    Args:
        loaded: the model, in evaluation mode.
        family: an adapter; None takes the installed one that claims the model, if any.
        example: what to call the model with, where that cannot be guessed.

    Raises:
        UnsupportedModelError: its attention cannot be reached, or is no map from queries to keys.
        SelfCheckError: the capture does not reproduce its output.
    """
    model = loaded.model
    refuse_by_name(model)
    _refuse_unfit(model)
    family = family_of(model) if family is None else family
    stacks = _stacks(model, family)
    if example is None and family is not None and family.example is not None:
        example = family.example(model)
    batch = made_up(model, example)
    with torch.no_grad():
        found = find_attention(model, stacks, batch, family)
        if found.batch_axis:
            batch = replace(batch, extents=Extents.everything(batch.sizes[1]))
        recorders = _recorders(model, found)
        proof = check_attention(
            found.tap, batch, lambda: recorders["lazy" if "lazy" in recorders else "exact"](batch.extents)
        )
        lettered = _lettered(stacks, found)
        attending = None if family is None else _attending(found)
        wirings = {letter: _wiring(found, letter, stack, batch, attending) for letter, stack in lettered.items()}
        measured = {
            letter: _measure(model, letter, stack, wirings[letter], batch) for letter, stack in lettered.items()
        }
    anatomy = _anatomy(loaded, family, found, proof, lettered, wirings, measured)
    return Opened(found.tap, lettered, wirings, recorders, anatomy, found.batch_axis)


def _refuse_unfit(model: nn.Module) -> None:
    """Refuse what no forward pass can be made of, before one is tried."""
    if model.training:
        model.eval()
    devices = {parameter.device.type for parameter in model.parameters()}
    if "meta" in devices:
        raise UnsupportedModelError(
            f"{type(model).__name__} has weights on the meta device, that is, none at all; load it with its weights."
        )
    if len(devices) > 1 and getattr(model, "hf_device_map", None) is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} has weights on {' and '.join(sorted(devices))}; move it to one device with "
            "model.to(...), or let accelerate place it (device_map)."
        )


def _stacks(model: nn.Module, family: Family | None) -> tuple[LayerStack, ...]:
    blocks = None if family is None else family.blocks(model)
    if blocks is not None:
        assert family is not None
        return (LayerStack(family.layers, "encoder", blocks, has_cross=False, owner=model),)
    stacks = find_stacks(model)
    if len(stacks) > 2 or (len(stacks) == 2 and {stack.kind for stack in stacks} != {"encoder", "decoder"}):
        names = ", ".join(stack.name for stack in stacks)
        raise UnsupportedModelError(
            f"{type(model).__name__} has {len(stacks)} stacks of layers ({names}) that are no encoder and decoder; "
            "open one of its parts (model.text_model, say) by attnlens.load(model=...)."
        )
    return stacks


def _recorders(model: nn.Module, found: Found) -> dict[str, type[PatternRecorder]]:
    """The modes in which this model can be recorded."""
    if found.route == "softmax":
        return {"exact": ExactRecorder}
    lazy = LazyEagerRecorder if needs_eager(model) else LazyRecorder
    return {"lazy": lazy, "exact": ExactRecorder, "dense": DenseRecorder}


def _lettered(stacks: tuple[LayerStack, ...], found: Found) -> dict[str, LayerStack]:
    if len(stacks) == 1:
        return {ONLY if ONLY in found.tap.sites.stacks else DECODER: stacks[0]}
    return {(ENCODER if stack.kind == "encoder" else DECODER): stack for stack in stacks}


def _attending(found: Found) -> dict[nn.Module, AttentionKind]:
    """The modules that were seen to attend, whose class names need not say so in a model with an adapter."""
    return {
        module: "cross" if sites[0].stack == CROSS else "self" for module, sites in found.tap.sites.of_module.items()
    }


def _wiring(
    found: Found, letter: str, stack: LayerStack, batch: MadeUp, attending: Mapping[nn.Module, AttentionKind] | None
) -> Wiring:
    """How the layers are wired, proven in one more forward, in which the heads' outputs are noted."""
    listener = _HeadOutputs(needs_eager(found.tap.model))

    def run() -> None:
        with recording(found.tap, listener):
            batch.call(found.tap.model)

    def outputs() -> HeadOutputs:
        kinds = {"self": letter, "cross": CROSS}
        given = {
            kind: [z if stack.batch_first else z.transpose(0, 1) for site, z in listener.outputs if site.stack == own]
            for kind, own in kinds.items()
        }
        return {kind: values for kind, values in given.items() if values}  # type: ignore[misc]

    return find_wiring(stack, run, outputs, attending)


class _HeadOutputs:
    """Notes what the heads of every site give, side by side."""

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.outputs: list[tuple[Site, Tensor]] = []

    def on_attention(self, call: Any) -> tuple[Tensor, Tensor | None]:
        output = call.run_eager()[0] if self.eager else call.run_fused()
        self.outputs.append((call.site, output.flatten(2).clone()))
        return output, None

    def on_weights(self, call: Any) -> Tensor:
        weights: Tensor = call.weights
        return weights


def _anatomy(
    loaded: LoadedModel,
    family: Family | None,
    found: Found,
    proof: Proof,
    stacks: Mapping[str, LayerStack],
    wirings: Mapping[str, Wiring],
    measured: Mapping[str, tuple[int, tuple[Check, ...]]],
) -> Anatomy:
    model = loaded.model
    config = getattr(model, "config", None)
    widths = {letter: width for letter, (width, _) in measured.items()}
    widths = {letter: width or _width_by_heads(found, letter) for letter, width in widths.items()}
    described = tuple(_stack(letter, found, proof, stacks, wirings, widths) for letter in found.tap.sites.stacks)
    main = next(stack for stack in reversed(described) if stack.letter in (ONLY, DECODER))
    table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else _first_embedding(model)
    vocabulary = getattr(table, "weight", None)
    sums = tuple(check for _, checks in measured.values() for check in checks)
    return Anatomy(
        model=loaded.name,
        family=family.name if family is not None else str(getattr(config, "model_type", "") or type(model).__name__),
        architecture=type(model).__name__,
        causal=main.causal,
        n_layers=main.n_layers,
        n_heads=main.n_heads,
        n_kv_heads=main.n_kv_heads,
        d_model=widths[main.letter],
        d_head=main.d_head,
        vocab_size=int(vocabulary.shape[0]) if isinstance(vocabulary, Tensor) and vocabulary.ndim == 2 else 0,
        max_length=main.max_length,
        position=main.position,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=_dtype(model),
        weights_sha256=loaded.weights_sha256,
        revision=loaded.revision,
        backend=str(getattr(config, "_attn_implementation", None) or "own"),
        residual_points=main.residual_points,
        absent=main.absent,
        self_check=SelfCheck((*proof.checks, *sums)),
        route=found.route,
        stacks=described,
    )


def _stack(
    letter: str,
    found: Found,
    proof: Proof,
    stacks: Mapping[str, LayerStack],
    wirings: Mapping[str, Wiring],
    widths: Mapping[str, int],
) -> Stack:
    home = DECODER if letter == CROSS else letter
    layers = found.tap.sites.layers(letter)
    sizes: AttentionSizes = found.sizes[Site(letter, layers[0])]
    wiring = wirings[home]
    config: Any = getattr(found.tap.model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    points, absent = _points(wiring, found)
    return Stack(
        letter=letter,
        causal=all(proof.causal[Site(letter, layer)] for layer in layers) and letter != CROSS,
        n_layers=max(len(wiring.order), max(layers) + 1),
        n_heads=sizes.n_heads,
        n_kv_heads=sizes.n_kv_heads or int(getattr(text, "num_kv_heads", None) or sizes.n_heads),
        d_head=sizes.d_head or widths[home] // sizes.n_heads,
        attention_layers=layers,
        layout=wiring.layout or "unknown",
        position=position_scheme(stacks[home].owner),
        max_length=longest_text(stacks[home].owner),
        residual_points=points,
        absent=absent,
    )


def _points(wiring: Wiring, found: Found) -> tuple[tuple[str, ...], dict[str, str]]:
    """Points of the stream and of the heads that can be given, and the reasons for the others."""
    absent = dict(wiring.absent)
    points = [point for point in wiring.points if point != "cross_z"]  # the `z` of the stack X
    if found.route == "softmax":
        reason = "the family builds its weights with code of its own, which hands over no queries, keys or values"
        absent |= dict.fromkeys(("q", "k", "v"), reason)
    else:
        points += [point for point in ("q", "k", "v", "z") if point not in points]
        absent.pop("z", None)
    if "self" in wiring.projections and "z" in points:
        points.append("write")
    else:
        absent["write"] = absent.get("z", "the output projection (W_O) was not found")
    return tuple(points), absent


def _measure(
    model: nn.Module, letter: str, stack: LayerStack, wiring: Wiring, batch: MadeUp
) -> tuple[int, tuple[Check, ...]]:
    """Width of the stream, and how far its points are from the sums that they should be, in the worst layer."""
    points = [point for point in _STREAM if point in wiring.readings]
    with recording_points(stack, wiring, points) as kept:
        batch.call(model)
    gaps: dict[str, float] = {}
    for call, layer in enumerate(wiring.order):
        found = wiring.gaps(stack.layers[layer], {point: kept[point][call] for point in points})
        gaps = {point: max(gap, gaps.get(point, 0.0)) for point, gap in found.items()}
    limit = tolerance_of(model)
    front = f"{letter}." if letter else ""
    checks = tuple(
        Check(
            f"{front}{point}",
            gap,
            limit,
            gap <= limit,
            f"largest relative difference between {point} and the sum of what was written into it (at most)",
        )
        for point, gap in gaps.items()
    )
    width = int(kept["resid_pre"][0].shape[-1]) if "resid_pre" in kept else 0
    return width, checks


def _width_by_heads(found: Found, letter: str) -> int:
    """Width of the heads side by side, or of the embedding: of layers that are never called no stream was seen."""
    sizes = next(size for site, size in found.sizes.items() if site.stack == letter)
    table = getattr(_first_embedding(found.tap.model), "weight", None)
    if sizes.d_head is not None:
        return sizes.n_heads * sizes.d_head
    return int(table.shape[-1]) if isinstance(table, Tensor) else sizes.n_heads


def _first_embedding(model: nn.Module) -> nn.Module | None:
    return next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)


def _dtype(model: nn.Module) -> str:
    """The weights' precision; the first floating-point one where they differ."""
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), torch.float32)
    return str(dtype).removeprefix("torch.")
