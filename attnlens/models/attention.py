"""Finds out, by running a model once, which of its modules attend, in what order, and how they can be listened to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnlens.capture.calls import AttentionCall, WeightsCall
from attnlens.capture.intercept import intercepting
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY, Site, SiteCounter, Sites
from attnlens.capture.tap import FUNCTIONS, INTERFACE, Tap, needs_eager, recording
from attnlens.errors import AttnlensError, UnsupportedModelError
from attnlens.models.families import Family
from attnlens.models.layers import LayerStack
from attnlens.models.made_up import MadeUp, described

__all__ = ["AttentionSizes", "Found", "find_attention"]


_ROUTES = {"_InterfaceCall": "interface", "_FunctionCall": "sdpa", "_MultiHeadCall": "multi-head"}


@dataclass(frozen=True)
class AttentionSizes:
    """One site's sizes, as its call showed them; `n_kv_heads` and `d_head` are None where only weights were seen."""

    n_heads: int
    n_kv_heads: int | None
    d_head: int | None


@dataclass(frozen=True)
class Found:
    """How a model attends.

    Attributes:
        tap: where to listen.
        sizes: of every site.
        route: "interface", "softmax", "sdpa" or "multi-head", for people.
        batch_axis: which axis of the model's arguments counts the texts: 0, or 1 for `[position batch d_model]`.
    """

    tap: Tap
    sizes: dict[Site, AttentionSizes]
    route: str
    batch_axis: int = 0


def find_attention(
    model: nn.Module, stacks: Sequence[LayerStack], batch: MadeUp, family: Family | None = None
) -> Found:
    """Run `model` on `batch` and find the modules that attend.

    Args:
        model: in evaluation mode.
        stacks: its stacks of layers.
        batch: what to run it on.
        family: an adapter that names the modules, where there is one.

    Raises:
        UnsupportedModelError: no attention could be reached.
    """
    routes = [FUNCTIONS]
    if family is None and isinstance(model, PreTrainedModel) and model._can_set_attn_implementation():
        routes = [INTERFACE, FUNCTIONS]
    for route in routes:
        listener = _Listener(needs_eager(model))
        with torch.no_grad(), _counting(stacks) as runs, _listening(model, route, listener, stacks, family):
            _run(model, batch)
        if listener.calls:
            axis = _batch_axis(model, batch, {call.rows for call in listener.calls})
            return _found(model, route, listener.calls, stacks, runs, axis)
    raise UnsupportedModelError(
        f"no attention of {type(model).__name__} could be reached: it calls neither transformers' attention interface "
        "nor PyTorch's softmax, SDPA or multi-head attention (a fused kernel of its own never builds weights). "
        'Load it with attn_implementation="eager", or describe it in an adapter (entry point attnlens.families).'
    )


def _run(model: nn.Module, batch: MadeUp) -> None:
    """Run the model; what it raises itself is told as such.

    Raises:
        UnsupportedModelError: the model does not run on the batch.
    """
    try:
        batch.call(model)
    except AttnlensError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be run on {described(batch.arguments)} ({type(error).__name__}: "
            f"{error}); give what it can be called with: attnlens.load(model=..., example=...)."
        ) from error


@dataclass(frozen=True)
class _Seen:
    """One attention call: whose, of what sizes, for how many texts, and whether it reads another stack."""

    module: nn.Module
    sizes: AttentionSizes
    rows: int
    reads_source: bool
    route: str


@dataclass
class _Listener:
    """Notes every attention call and lets the model go on as it would."""

    eager: bool
    calls: list[_Seen] = field(default_factory=list)

    def on_attention(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        n_rows, n_heads, n_queries, d_head = call.query.shape
        n_keys = call.key.shape[2]
        sizes, route = AttentionSizes(n_heads, _n_different(call.key), d_head), _ROUTES[type(call).__name__]
        self.calls.append(_Seen(call.module, sizes, n_rows, n_queries != n_keys, route))
        return call.run_eager() if self.eager else (call.run_fused(), None)

    def on_weights(self, call: WeightsCall) -> Tensor:
        n_rows, n_heads, n_queries, n_keys = call.weights.shape
        if _named_attention(call.module) or n_queries == n_keys:
            sizes = AttentionSizes(n_heads, None, None)
            self.calls.append(_Seen(call.module, sizes, n_rows, n_queries != n_keys, "softmax"))
        return call.weights


def _n_different(key: Float[Tensor, "batch head key d_head"]) -> int:
    """Key heads that differ; some families (Falcon) repeat each for the queries that share it before they attend."""
    n_heads = key.shape[1]
    for count in (count for count in range(1, n_heads) if n_heads % count == 0):
        group = n_heads // count
        if torch.equal(key, key[:, ::group].repeat_interleave(group, 1)):
            return count
    return n_heads


class _AnyModule(SiteCounter):
    """Accepts every module, since the sites are what is being looked for; counts how often each module runs."""

    def __init__(self) -> None:
        super().__init__(Sites())

    def next(self, module: nn.Module) -> Site:
        return Site(ONLY, 0)


@contextmanager
def _listening(
    model: nn.Module, route: str, listener: _Listener, stacks: Sequence[LayerStack], family: Family | None
) -> Iterator[None]:
    if route == INTERFACE:
        with recording(Tap.through_interface(model, Sites()), listener, _AnyModule()):
            yield
        return
    candidates = _candidates(model, stacks, family)
    with ExitStack() as stack:
        stack.enter_context(intercepting(candidates, listener, _AnyModule()))
        yield


@contextmanager
def _counting(stacks: Sequence[LayerStack]) -> Iterator[Counter[nn.Module]]:
    """How often each layer runs while the block does."""
    runs: Counter[nn.Module] = Counter()

    def count(layer: nn.Module, _args: object) -> None:
        runs[layer] += 1

    with ExitStack() as hooks:
        for layer in (layer for stack in stacks for layer in stack.layers):
            hooks.callback(layer.register_forward_pre_hook(count).remove)
        yield runs


def _candidates(model: nn.Module, stacks: Sequence[LayerStack], family: Family | None) -> list[nn.Module]:
    """Modules that may attend: those that an adapter names, else everything in a layer but PyTorch's own parts."""
    named = None if family is None else family.attention_modules(model)
    if named is not None:
        return list(named)
    inside = {module: None for stack in stacks for layer in stack.layers for module in layer.modules()}
    return [
        module
        for module in inside
        if isinstance(module, nn.MultiheadAttention) or not type(module).__module__.startswith("torch.nn")
    ]


def _named_attention(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "attention" in name or "attn" in name


def _batch_axis(model: nn.Module, batch: MadeUp, rows: set[int]) -> int:
    """The axis of what the model was given that counts its texts, as its attention does.

    Raises:
        UnsupportedModelError: it attends within parts of a text (windows), or across texts.
    """
    if len(rows) == 1:
        axes = [axis for axis, size in enumerate(batch.sizes[:2]) if size in rows]
        if axes or not batch.sizes:
            return axes[0] if axes else 0
    raise UnsupportedModelError(
        f"{type(model).__name__} was given {list(batch.sizes)} and attends in groups of {sorted(rows)}, not text by "
        "text (windows of a picture, say); such attention is no map over one text."
    )


def _found(
    model: nn.Module,
    route: str,
    calls: Sequence[_Seen],
    stacks: Sequence[LayerStack],
    runs: Counter[nn.Module],
    batch_axis: int,
) -> Found:
    home = {
        module: (stack, i) for stack in stacks for i, layer in enumerate(stack.layers) for module in layer.modules()
    }
    seen: Counter[str] = Counter()
    attended: Counter[tuple[nn.Module, str]] = Counter()
    sites: dict[nn.Module, tuple[Site, ...]] = {}
    sizes: dict[Site, AttentionSizes] = {}
    two_sided = len(stacks) > 1 or (stacks[0].has_cross and any(call.reads_source for call in calls))
    for call in calls:
        if call.module not in home:
            raise UnsupportedModelError(
                f"{type(call.module).__name__} of {type(model).__name__} attends outside its layers; "
                "name the layers in an adapter (entry point attnlens.families)."
            )
        stack, layer = home[call.module]
        letter = _letter(stack, call.reads_source) if two_sided else ONLY
        times = max(1, runs[stack.layers[layer]])
        site = Site(letter, layer if times == 1 else seen[letter])
        attended[stack.layers[layer], letter] += 1
        if site in sizes or attended[stack.layers[layer], letter] > times:
            raise UnsupportedModelError(
                f"layer {layer} of {type(model).__name__} attends more than once per token; "
                "such layers are not one map per head."
            )
        seen[letter] += 1
        sites[call.module] = (*sites.get(call.module, ()), site)
        sizes[site] = call.sizes
    known, kinds = Sites(sites), {call.route for call in calls}
    tap = Tap.through_interface(model, known) if route == INTERFACE else Tap(model, FUNCTIONS, known)
    return Found(tap, sizes, "softmax" if "softmax" in kinds else calls[0].route, batch_axis)


def _letter(stack: LayerStack, reads_source: bool) -> str:
    """The source and the target of a made-up batch differ in length: that tells cross-attention from self-attention."""
    if stack.kind == "encoder":
        return ENCODER
    return CROSS if reads_source else DECODER
