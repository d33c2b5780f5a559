"""Stacks of layers in any model, and the attention modules in each layer, found by what they hold and not by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from attnlens.errors import UnsupportedModelError

__all__ = [
    "AttentionKind",
    "AttentionPlace",
    "AttentionSite",
    "LayerStack",
    "StackKind",
    "attention_places",
    "attention_sites",
    "find_stacks",
    "stack_at",
]

AttentionKind = Literal["self", "cross"]
StackKind = Literal["encoder", "decoder"]

_CROSS_NAMES = ("encoder_attn", "encdecattention", "crossattention", "cross_attn", "cross_attention")


@dataclass(frozen=True)
class LayerStack:
    """Layers that run one after another.

    Attributes:
        name: path of the list that holds them ("transformer.h"), or of the block where there is no list.
        kind: "decoder" if it looks at another stack, is called so, or is causal; else "encoder".
        layers: each module once, in order; one that the model calls several times (ALBERT) stands here once.
        has_cross: some layer attends to another stack.
        owner: the largest module around this stack and no other: embeddings and last norm are in it.
        batch_first: hidden states are `[batch position d_model]`; False for `[position batch d_model]`.
    """

    name: str
    kind: StackKind
    layers: tuple[nn.Module, ...]
    has_cross: bool
    owner: nn.Module
    batch_first: bool = True


@dataclass(frozen=True)
class AttentionSite:
    """An attention module of a layer: `path` within the layer ("" if the layer is the attention itself)."""

    path: str
    kind: AttentionKind
    module: nn.Module


@dataclass(frozen=True)
class AttentionPlace:
    """Where in a model an attention module stands: number of the stack and of the layer in it, and its kind."""

    stack: int
    layer: int
    kind: AttentionKind


def find_stacks(model: nn.Module) -> tuple[LayerStack, ...]:
    """The model's stacks, in the order in which the model holds them.

    A stack is the outermost list (or sequence) of modules whose elements have an attention module inside; lists of
    such lists (ALBERT's groups) count as one. Without a list, the modules around each attention module are the layers.

    Raises:
        UnsupportedModelError: there is no attention module.
    """
    found = dict(_listed(model)) or _unlisted(model)
    if not found:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no layers with attention that attnlens can find: no module in it has "
            "'attention' or 'attn' in its class name."
        )
    return tuple(_stack(model, name, layers, tuple(found)) for name, layers in found.items())


def stack_at(model: nn.Module, path: str) -> LayerStack:
    """The stack whose layers are the children of the module at `path`, for a model whose author says so."""
    return _stack(model, path, tuple(dict.fromkeys(model.get_submodule(path).children())), (path,))


def attention_sites(layer: nn.Module) -> tuple[AttentionSite, ...]:
    """The innermost attention modules of a layer, in the order in which it holds them.

    A module is cross-attention if its path or class says so, if its attribute `is_cross_attention` does, or if it is
    the second attention of torch's decoder layer.
    """
    return tuple(
        AttentionSite(path, _kind(path, module, layer), module)
        for path, module in layer.named_modules()
        if _is_attention(module) and not _holds_attention(module)
    )


def attention_places(stacks: Sequence[LayerStack]) -> Mapping[nn.Module, AttentionPlace]:
    """Attention module -> where it stands; for finding out who is calling."""
    return {
        site.module: AttentionPlace(number, index, site.kind)
        for number, stack in enumerate(stacks)
        for index, layer in enumerate(stack.layers)
        for site in attention_sites(layer)
    }


def _is_attention(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "attention" in name or "attn" in name


def _holds_attention(module: nn.Module) -> bool:
    """True where an attention module is strictly inside."""
    return any(_is_attention(inner) for inner in module.modules() if inner is not module)


def _kind(path: str, module: nn.Module, layer: nn.Module) -> AttentionKind:
    parent, _, name = path.rpartition(".")
    second = name == "multihead_attn" and isinstance(layer.get_submodule(parent), nn.TransformerDecoderLayer)
    named = any(mark in path.lower() for mark in _CROSS_NAMES) or "crossattention" in type(module).__name__.lower()
    return "cross" if second or named or getattr(module, "is_cross_attention", False) is True else "self"


def _listed(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, ...]]]:
    """Outermost lists of layers, by path; a list of bare attention modules counts only where there is no other."""
    for wanted in (_holds_attention, _is_attention):
        taken: list[str] = []
        for name, module in model.named_modules():
            if any(name.startswith(f"{outer}.") or outer == "" for outer in taken):
                continue
            if not isinstance(module, nn.ModuleList | nn.Sequential) or not any(wanted(part) for part in module):
                continue
            whole_models = isinstance(module, nn.Sequential) and any(_inner_list(part) for part in module)
            if not whole_models:
                taken.append(name)
                yield name, _layers_of(module)
        if taken:
            return


def _layers_of(container: nn.ModuleList | nn.Sequential) -> tuple[nn.Module, ...]:
    layers: list[nn.Module] = []
    for element in container:
        inner = _inner_list(element)
        if inner is not None:
            layers.extend(_layers_of(inner))
        elif isinstance(container, nn.ModuleList) or _holds_attention(element):  # a sequence may begin with embeddings
            layers.append(element)
    return tuple(dict.fromkeys(layers))


def _inner_list(element: nn.Module) -> nn.ModuleList | nn.Sequential | None:
    """A list inside `element` of which every part is a layer; T5's lists of sublayers end in one without attention."""
    for module in element.modules():
        is_list = isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 0
        if is_list and all(_holds_attention(part) for part in module.children()):
            assert isinstance(module, nn.ModuleList | nn.Sequential)
            return module
    return None


def _unlisted(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """The innermost module around each attention module that is no attention itself; all in one stack."""
    around: dict[nn.Module, str] = {}
    for site in attention_sites(model):
        path = site.path
        while path and (_is_attention(model.get_submodule(path)) or _is_list(model.get_submodule(path))):
            path = path.rpartition(".")[0]
        around[model.get_submodule(path)] = path
    if not around:
        return {}
    return {next(iter(around.values())): tuple(around)}


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict | nn.Sequential)


def _stack(model: nn.Module, name: str, layers: tuple[nn.Module, ...], names: tuple[str, ...]) -> LayerStack:
    sites = [site for layer in layers for site in attention_sites(layer)]
    has_cross = any(site.kind == "cross" for site in sites)
    transposed = any(isinstance(site.module, nn.MultiheadAttention) and not site.module.batch_first for site in sites)
    owner = _owner(model, name, names)
    kind = _stack_kind(model, owner, name, sites, has_cross)
    return LayerStack(name, kind, layers, has_cross, owner, batch_first=not transposed)


def _owner(model: nn.Module, name: str, names: tuple[str, ...]) -> nn.Module:
    others = [other for other in names if other != name]
    parts = name.split(".")
    for depth in range(len(parts)):
        prefix = ".".join(parts[:depth])
        if not any(prefix == "" or other.startswith(f"{prefix}.") for other in others):
            return model.get_submodule(prefix)
    return model.get_submodule(name)


def _stack_kind(
    model: nn.Module, owner: nn.Module, name: str, sites: Sequence[AttentionSite], has_cross: bool
) -> StackKind:
    if has_cross:
        return "decoder"
    for word in ("decoder", "encoder"):
        if word in name.lower():
            return "decoder" if word == "decoder" else "encoder"
    config = getattr(owner, "config", None) or getattr(model, "config", None)
    causal = any(getattr(site.module, "is_causal", False) is True for site in sites)
    return "decoder" if causal or getattr(config, "is_decoder", False) is True or _only_generates(config) else "encoder"


def _only_generates(config: object) -> bool:
    """True for families that transformers has as causal language models and never as masked ones (BLOOM, GPT-J)."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    family = getattr(config, "model_type", None)
    return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
