"""Finding a stack's wiring: one forward, with every submodule of every layer watched, and the sums searched for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnlens.models.chains import Chain, Step, find_chains, keep_chain
from attnlens.models.hooks import Listener, listening
from attnlens.models.layers import AttentionKind, AttentionSite, LayerStack, attention_sites
from attnlens.models.snapshots import Held, LayerCall, Reading, is_norm, same_numbers, watch_layers
from attnlens.models.wiring import ROUTER_POINTS, STREAM_WRITES, Layout, Wiring

__all__ = ["HeadOutputs", "find_wiring"]

# Per kind of attention, call by call: what the heads gave, side by side, [batch position n_heads*d_head].
HeadOutputs = Mapping[AttentionKind, Sequence[Tensor]]

_WRITE_POINTS: dict[str, tuple[str, str, str]] = {
    "self": ("attn_out", "resid_mid", "z"),
    "cross": ("cross_out", "resid_cross", "cross_z"),
    "mlp": ("mlp_out", "resid_post", "mlp_act"),
}


@dataclass
class _Watched:
    """What one forward showed of a stack.

    Attributes:
        sites: each layer's attention modules.
        order: which layer ran, call by call.
        chains: the sums that held in every call so far.
        failed: the first call in which none was left, as text.
        held: call by call, the model's own tensors.
        flat: readings with fewer axes than the layer's input.
        last: output of the layer that ran last.
        unlike_routers: routers that give something else than logits, weights and experts.
        final_norms: norms outside the layers that were given the last layer's output -> number of calls by then.
    """

    sites: list[tuple[AttentionSite, ...]]
    order: list[int] = field(default_factory=list)
    chains: tuple[Chain, ...] = ()
    failed: str | None = None
    held: list[dict[Reading, Held]] = field(default_factory=list)
    flat: set[Reading] = field(default_factory=set)
    last: Tensor | None = None
    unlike_routers: set[str] = field(default_factory=set)
    final_norms: dict[str, int] = field(default_factory=dict)


def find_wiring(
    stack: LayerStack,
    run_model: Callable[[], object],
    head_outputs: Callable[[], HeadOutputs] | None = None,
    attending: Mapping[nn.Module, AttentionKind] | None = None,
) -> Wiring:
    """Watch one forward and describe the stack's layers; what cannot be proven stands in `absent` with the reason.

    Every layer has to be wired as the first one; of several modules that hold the same numbers, the one without whom
    nothing would be written is named: modules with weights before dropout, outer ones before inner ones.

    Args:
        stack: the layers.
        run_model: calls the model once, in evaluation mode, without gradients; two texts with padding are best.
        head_outputs: called after the forward; the heads' outputs as the attention function gave them, which W_O's
            input must equal. Without it, W_O is the linear map whose output is what attention writes.
        attending: the modules that attend, where they are known better than by their class names.
    """
    watched = _Watched([_sites(layer, attending) for layer in stack.layers])
    with listening(stack.layers) as listener:
        watch_layers(listener, stack, lambda call: _compare(stack, watched, call))
        _watch_final_norm(listener, stack, watched)
        _watch_routers(listener, stack, watched)
        run_model()
    if not watched.held:
        return Wiring(None, absent={"resid_pre": f"the layers of {stack.name or 'this model'} are never called"})
    outputs = head_outputs() if head_outputs is not None else {}
    return _describe(stack, watched, outputs)


def _sites(layer: nn.Module, attending: Mapping[nn.Module, AttentionKind] | None) -> tuple[AttentionSite, ...]:
    if attending is None:
        return attention_sites(layer)
    return tuple(
        AttentionSite(path, attending[module], module) for path, module in layer.named_modules() if module in attending
    )


def _compare(stack: LayerStack, watched: _Watched, call: LayerCall) -> None:
    layer = stack.layers[call.layer]
    first = not watched.order
    watched.order.append(call.layer)
    watched.held.append(call.held)
    output = call.held.get(Reading("", "output"))
    watched.last = output.tensor if output is not None else None
    watched.flat |= {reading for reading, held in call.held.items() if held.tensor.ndim != len(call.shape)}
    if watched.failed is not None:
        return
    if first:
        watched.chains = find_chains(layer, call, watched.sites[call.layer])
        reason = "no module's output was found that, added to the layer's input, makes up its output"
    else:
        kept = (keep_chain(layer, chain, call) for chain in watched.chains)
        watched.chains = tuple(chain for chain in kept if chain is not None)
        reason = f"layer {len(watched.order) - 1} of {stack.name} is wired differently from the ones before it"
    if not watched.chains:
        watched.failed = reason


def _watch_final_norm(listener: Listener, stack: LayerStack, watched: _Watched) -> None:
    inside = {id(module) for layer in stack.layers for module in layer.modules()}

    def given(path: str) -> Callable[[Tensor | None], None]:
        def receive(tensor: Tensor | None) -> None:
            if same_numbers(tensor, watched.last):
                watched.final_norms[path] = len(watched.order)

        return receive

    for path, module in stack.owner.named_modules():
        if path and id(module) not in inside and is_norm(module):
            listener.on_input(module, given(path))


def _watch_routers(listener: Listener, stack: LayerStack, watched: _Watched) -> None:
    def given(path: str) -> Callable[[Any], None]:
        def receive(output: Any) -> None:
            if not _is_routing(output):
                watched.unlike_routers.add(path)

        return receive

    for layer in stack.layers:
        for path in _routers_of(layer):
            listener.on_result(layer.get_submodule(path), given(path))


def _routers_of(layer: nn.Module) -> set[str]:
    return {path for path, module in layer.named_modules() if type(module).__name__.endswith("TopKRouter")}


def _is_routing(output: Any) -> bool:
    """Logits `[token expert]`, then weights and experts `[token choice]`."""
    if not (isinstance(output, tuple) and len(output) == 3 and all(isinstance(part, Tensor) for part in output)):
        return False
    logits, weights, experts = output
    shaped = logits.ndim == weights.ndim == 2 and weights.shape == experts.shape
    return shaped and weights.is_floating_point() and not experts.is_floating_point()


def _describe(stack: LayerStack, watched: _Watched, outputs: HeadOutputs) -> Wiring:
    chain = watched.chains[0] if watched.chains else None
    readings = {"resid_pre": Reading("", "input")}
    norms: dict[str, str] = {}
    absent: dict[str, str] = {}
    for step in chain.steps if chain is not None else ():
        _add_step(readings, norms, step)
    readings["resid_post"] = Reading("", "output")
    _explain_stream(stack, chain, watched, readings, absent)
    projections = _projections(stack, chain, watched, outputs, absent)
    for kind, path in projections.items():
        point = _WRITE_POINTS[kind][2]
        if all(Reading(path, "input") in held for held in watched.held):
            readings[point] = Reading(path, "input")
        else:
            absent[point] = f"{path} is used without being called, so its input passes no hook"
    router = _router(stack, watched, absent)
    _add_activation(stack, chain, router, readings, absent)
    final = [path for path, calls in watched.final_norms.items() if calls == len(watched.order)]
    return Wiring(
        layout=_layout(stack, chain),
        order=tuple(watched.order),
        readings=readings,
        norms=norms,
        projections=projections,
        router=router,
        final_norm=final[-1] if final else None,
        flat=frozenset(point for point, reading in readings.items() if reading in watched.flat),
        copies=_copies(readings, watched),
        absent=absent,
    )


def _copies(readings: Mapping[str, Reading], watched: _Watched) -> frozenset[str]:
    """Points of which a reference would not stay what it was; the stream's ends share the layers' tensors."""
    calls = [(point, held.get(reading)) for point, reading in readings.items() for held in watched.held]
    copied = {point for point, held in calls if held is not None and held.must_be_copied}
    ends = {"resid_pre": "embed", "resid_post": "final"}
    return frozenset(copied | {end for point, end in ends.items() if point in copied})


def _add_step(readings: dict[str, Reading], norms: dict[str, str], step: Step) -> None:
    write, after, _ = _WRITE_POINTS[step.kind]
    readings[write] = Reading(step.writes[0], "output")
    if step.streams:
        readings[after] = step.streams[0]
    if step.norms:
        norms[after if step.streams else "resid_post"] = step.norms[0]


def _explain_stream(
    stack: LayerStack,
    chain: Chain | None,
    watched: _Watched,
    readings: Mapping[str, Reading],
    absent: dict[str, str],
) -> None:
    crosses = [("cross_out", "resid_cross")] if stack.has_cross else []
    for write, after in (STREAM_WRITES[0], *crosses, STREAM_WRITES[2]):
        if write not in readings:
            absent[write] = watched.failed or "nothing of this kind is written in these layers"
        if after not in readings and chain is not None and chain.parallel:
            absent[after] = "attention and MLP are added to the stream at once, so it has no point between them"
        elif after not in readings:
            absent[after] = watched.failed or "no module sees the stream at this point"


def _layout(stack: LayerStack, chain: Chain | None) -> Layout | None:
    if chain is None:
        return None
    if chain.parallel:
        return "parallel"
    if any(step.norms for step in chain.steps):
        return "post-LN"
    layer = stack.layers[0]
    normed = any(is_norm(layer.get_submodule(step.writes[0])) for step in chain.steps)
    return "post-norm" if normed else "pre-LN"


def _projections(
    stack: LayerStack, chain: Chain | None, watched: _Watched, outputs: HeadOutputs, absent: dict[str, str]
) -> dict[AttentionKind, str]:
    found: dict[AttentionKind, str] = {}
    kinds: tuple[AttentionKind, ...] = ("self", "cross") if stack.has_cross else ("self",)
    for kind in kinds:
        point = _WRITE_POINTS[kind][2]
        step = next((step for step in chain.steps if step.kind == kind), None) if chain is not None else None
        if step is None:
            absent[point] = watched.failed or "no attention of this kind ran in these layers"
            continue
        known = outputs.get(kind)
        candidates = [*step.linears, *_uncalled(step, watched)]
        proven = [path for path in candidates if _takes(stack, watched, step, path, known)]
        if proven:
            found[kind] = proven[0]
        elif candidates and known is None:
            absent[point] = f"{candidates[0]} is used without being called, and only the heads' outputs could prove it"
        elif candidates:
            absent[point] = f"what {candidates[0]} is given is not what the heads put out"
        else:
            absent[point] = "no linear map was found whose output is what attention writes"
    return found


def _uncalled(step: Step, watched: _Watched) -> list[str]:
    """W_O of torch's own attention, whose weight is used without the module being called."""
    torch_own = (site for site in watched.sites[0] if isinstance(site.module, nn.MultiheadAttention))
    names = [f"{site.path}.out_proj".lstrip(".") for site in torch_own if site.kind == step.kind]
    return [name for name in names if Reading(name, "output") not in watched.held[0]]


def _takes(stack: LayerStack, watched: _Watched, step: Step, path: str, known: Sequence[Tensor] | None) -> bool:
    """What the heads put out is the map's input; for a map that is not called: gives what attention writes.

    Without the heads' outputs, a called map is believed because its output is what attention writes.
    """
    called = Reading(path, "input") in watched.held[0]
    if known is None:
        return called
    if len(known) != len(watched.held):
        return False
    for layer, held, z in zip(watched.order, watched.held, known, strict=True):
        if called:
            target, given = held[Reading(path, "input")].tensor, z
        else:
            projection = stack.layers[layer].get_submodule(path)
            target = held[Reading(step.writes[0], "output")].tensor
            given = functional.linear(z, projection.weight, projection.bias)  # type: ignore[arg-type]
        if given.numel() != target.numel() or not _close(given.reshape(target.shape), target):
            return False
    return True


def _close(one: Tensor, other: Tensor) -> bool:
    gap, known = (one.detach() - other.detach()).abs(), other.detach().isfinite()
    if not bool(known.any()):
        return False
    return bool(gap[known].max() <= 64 * torch.finfo(other.dtype).eps * other.detach()[known].abs().max())


def _router(stack: LayerStack, watched: _Watched, absent: dict[str, str]) -> str | None:
    """The one router in every layer; a stack without any says nothing, it is dense."""
    paths = [_routers_of(layer) for layer in stack.layers]
    common = set.intersection(*paths)
    if len(common) == 1 and not common & watched.unlike_routers:
        return next(iter(common))
    if any(paths):
        reason = "only some layers of this stack route their tokens to experts"
        if common & watched.unlike_routers:
            reason = f"{next(iter(common))} gives something else than logits, weights and experts"
        absent.update(dict.fromkeys(ROUTER_POINTS, reason))
    return None


def _add_activation(
    stack: LayerStack, chain: Chain | None, router: str | None, readings: dict[str, Reading], absent: dict[str, str]
) -> None:
    step = next((step for step in chain.steps if step.kind == "mlp"), None) if chain is not None else None
    if step is not None and step.linears:
        readings["mlp_act"] = Reading(step.linears[0], "input")
    elif router is not None or any(_has_experts(layer) for layer in stack.layers):
        absent["mlp_act"] = "the experts' activations are sorted by expert inside one fused module"
    elif step is None:
        absent["mlp_act"] = absent.get("mlp_out", "no MLP was found")
    else:
        absent["mlp_act"] = "no linear map was found whose output is what the MLP writes"


def _has_experts(layer: nn.Module) -> bool:
    return any("experts" in type(module).__name__.lower() for module in layer.modules())
