"""The names that users of TransformerLens know, for what a run holds: `blocks.3.attn.hook_pattern`, `cache["q", 5]`.

Names and shapes are those of TransformerLens 3 (Nanda and Bloom 2022, github.com/TransformerLensOrg/TransformerLens):
vectors `[batch pos d_model]`, those of heads `[batch pos head d_head]`, maps `[batch head query key]`. An
encoder-decoder's blocks are `encoder.3` and `decoder.3`, the latter with `cross_attn`. The numbers are those of the
model's own weights: nothing is folded or centred, as with `from_pretrained_no_processing` there. A name stands for what
it stands for there, or it is not given:

- With rotary positions `hook_q` is the query before the rotation, which attention never receives: there are
  `hook_rot_q` and `hook_rot_k`.
- Behind a norm after each sum (BERT) `hook_resid_mid` and `hook_resid_post` are the sums before that norm;
  `ln1.hook_normalized` and `hook_normalized_resid_post` are what comes out of it.
- `hook_embed` is what the token embedding gives; `hook_full_embed` is the stream that enters the first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.capture.patterns import LazyPattern
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS, DECODER, ENCODER, ONLY
from attnlens.errors import ActivationNameError, CaptureError, UsageError
from attnlens.models.anatomy import Anatomy, Stack

__all__ = ["ActivationCache", "ActivationNames", "NamesFilter"]

NamesFilter = str | Sequence[str] | Callable[[str], bool] | None

_BLOCKS = {ONLY: "blocks", ENCODER: "encoder", DECODER: "decoder", CROSS: "decoder"}
_FINAL = {ONLY: "ln_final", ENCODER: "encoder_final_ln", DECODER: "decoder_final_ln"}
_LAYER = "{layer}"
# What is written into the stream, its name, the name of the stream after it, and the point that this is.
_WRITES = (
    ("attn_out", "hook_attn_out", "hook_resid_mid", "resid_mid"),
    ("cross_out", "hook_cross_attn_out", "hook_resid_mid_cross", "resid_cross"),
    ("mlp_out", "hook_mlp_out", "hook_resid_post", "resid_post"),
)
# Names of the bridge of TransformerLens 3 for what goes into a block and comes out of its parts.
_BRIDGE = (
    ("hook_in", "resid_pre"),
    ("hook_out", "resid_post"),
    ("attn.hook_out", "attn_out"),
    ("cross_attn.hook_out", "cross_out"),
    ("mlp.hook_out", "mlp_out"),
)
_MODULE_OF = {
    **dict.fromkeys(("pattern", "attn_scores", "q", "k", "v", "z", "rot_q", "rot_k", "result"), "attn"),
    **dict.fromkeys(("pre", "post", "pre_linear"), "mlp"),
}
_SHORT_NAMES = {"attn": "pattern", "attn_logits": "attn_scores", "query": "q", "key": "k", "value": "v"}
_SHORT_NAMES |= {"mlp_pre": "pre", "mlp_post": "post"}
_SHORT_MODULES = {"a": "attn", "m": "mlp", "attention": "attn", "b": "", "block": "", "blocks": ""}
_NEVER = {
    "hook_pos_embed": "positions are added inside the embeddings; hook_full_embed is the sum of all of them",
    "hook_token_type_embed": "segments are added inside the embeddings; hook_full_embed is the sum of all of them",
    "hook_scale": "what a norm divides by is not captured",
    "hook_normalized": "what a norm gives to the attention or the MLP is not captured",
    "mlp.hook_pre": "the MLP is captured after its activation, as mlp.hook_post",
    "_input": "the inputs of q, k and v are not captured; hook_resid_pre is what the norm before them reads",
    "hook_mlp_in": "it is the stream: ask for hook_resid_mid",
    "hook_attn_in": "it is the stream: ask for hook_resid_pre",
}


@dataclass(frozen=True)
class _Kind:
    """One name for every layer that has it.

    Attributes:
        template: the name, with `{layer}` in it.
        points: what a run has to keep for it.
        value: run and layer -> the tensor without the axis of the batch.
        layers: which layers have it; None for what exists once.
    """

    template: str
    points: tuple[str, ...]
    value: Callable[[Capture, int], Tensor]
    layers: tuple[int, ...] | None


class ActivationNames:
    """Every name that a model has, what is needed for it, and why others do not exist."""

    def __init__(self, anatomy: Anatomy, normed: Collection[str], embeds: Callable[[Capture], Tensor] | None) -> None:
        """Set up.

        Args:
            anatomy: of the model.
            normed: letters of the stacks that have a norm behind the last layer.
            embeds: gives the token embeddings `[position width]` of a run; None where the model reads no tokens.
        """
        self.anatomy = anatomy
        self._absent: dict[str, str] = {}
        kinds = [kind for stack in anatomy.stacks for kind in self._of_stack(stack)]
        for letter, name in _FINAL.items():
            if letter in normed and any(stack.letter == letter for stack in anatomy.stacks):
                kinds.append(_Kind(f"{name}.hook_normalized", ("final",), _point("final", letter), None))
            else:
                self._absent[f"{name}.hook_normalized"] = "this model has no such norm behind its last layer"
        if embeds is not None:
            kinds.append(_Kind("hook_embed", (), lambda run, _: embeds(run), None))
        else:
            self._absent["hook_embed"] = "this model does not read tokens by one embedding"
        self._kinds = kinds
        self._by_name = {
            kind.template.replace(_LAYER, str(layer)): (kind, layer)
            for kind in kinds
            for layer in (kind.layers if kind.layers is not None else (0,))
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def value(self, run: Capture, name: str) -> Tensor:
        """The tensor behind a full name, without the axis of the batch."""
        kind, layer = self._by_name[name]
        return kind.value(run, layer)

    def select(self, names_filter: NamesFilter) -> tuple[str, ...]:
        """The names that a filter lets through; without one all but `hook_result`, which takes heads x d_model numbers.

        Raises:
            ActivationNameError: a name in the filter does not exist.
            UsageError: nothing gets through.
        """
        if names_filter is None:
            chosen = tuple(name for name in self if not name.endswith("hook_result"))
        elif callable(names_filter):
            chosen = tuple(name for name in self if names_filter(name))
        else:
            named = [names_filter] if isinstance(names_filter, str) else list(names_filter)
            chosen = tuple(dict.fromkeys(self.full(name) for name in named))
        if not chosen:
            raise UsageError(f"names_filter leaves nothing; there are {self.listed}.")
        return chosen

    def needs(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
        """The points to keep for these names, and the layers; None for all of them."""
        kinds = [self._by_name[name] for name in names]
        points = dict.fromkeys(point for kind, _ in kinds for point in kind.points)
        layers = sorted({layer for kind, layer in kinds if kind.layers is not None})
        everywhere = len(layers) == self.anatomy.n_layers
        if everywhere or self.anatomy.is_encoder_decoder:  # there, a number means another layer in each stack
            return tuple(points), None
        return tuple(points), tuple(layers) or self.anatomy.stacks[0].attention_layers[:1]

    def full(self, key: object) -> str:
        """The full name behind a key: itself, `("pattern", 5)`, `("pattern", 5, "cross_attn")`, or `"embed"`.

        Raises:
            ActivationNameError: no such name, with what there is.
        """
        parts = key if isinstance(key, tuple) else (key,)
        name = parts[0]
        if not isinstance(name, str) or len(parts) > 3:
            raise ActivationNameError(f"{key!r} is no name of an activation; there are {self.listed}.")
        full = name if len(parts) == 1 and ("." in name or name.startswith("hook_")) else self._spelled(key, parts)
        if full in self._by_name:
            return full
        raise ActivationNameError(f"there is no {full!r} in this model{self._why(full)}; there are {self.listed}.")

    @property
    def listed(self) -> str:
        """What there is, for a message."""
        return ", ".join(dict.fromkeys(kind.template for kind in self._kinds))

    def _spelled(self, key: object, parts: tuple[object, ...]) -> str:
        name = _SHORT_NAMES.get(str(parts[0]), str(parts[0])).removeprefix("hook_")
        layer, given = (*parts[1:], None, None)[:2]
        if layer is None:
            return f"{_FINAL[self.anatomy.main_stack]}.hook_normalized" if name == "normalized" else f"hook_{name}"
        if not isinstance(layer, int) or (given is not None and not isinstance(given, str)):
            raise ActivationNameError(f"{key!r} is no name of an activation; expected a name and a layer's number.")
        module = _MODULE_OF.get(name, "") if given is None else _SHORT_MODULES.get(given, given)
        number = layer + self.anatomy.n_layers if layer < 0 else layer
        front = f"{_BLOCKS[self.anatomy.main_stack]}.{number}."
        return f"{front}{module}{'.' if module else ''}hook_{name}"

    def _why(self, full: str) -> str:
        parts = full.split(".")
        template = ".".join([parts[0], _LAYER, *parts[2:]]) if len(parts) > 2 and parts[1].isdigit() else full
        if any(kind.template == template for kind in self._kinds):
            return f": layer {parts[1]} does not exist or has no attention"
        known = self._absent.get(template) or next((why for name, why in _NEVER.items() if full.endswith(name)), None)
        return "" if known is None else f": {known}"

    def _of_stack(self, stack: Stack) -> Iterator[_Kind]:
        yield from self._of_heads(stack)
        if stack.letter != CROSS:
            yield from self._of_stream(stack)
            yield from self._of_sums(stack)

    def _of_heads(self, stack: Stack) -> Iterator[_Kind]:
        letter, layers = stack.letter, stack.attention_layers
        front = f"{_BLOCKS[letter]}.{_LAYER}.{'cross_attn' if letter == CROSS else 'attn'}."
        yield _Kind(f"{front}hook_pattern", (), lambda run, at: run.attention(at, stack=letter or None), layers)
        rotated = "rope" in stack.position and letter != CROSS
        if rotated:
            why = "attention receives it after the rotary embedding, as hook_rot_{}"
            self._absent |= {f"{front}hook_{name}": why.format(name) for name in "qk"}
        if self.anatomy.route == "softmax":
            why = "the family builds its weights with code of its own, which hands over no scores"
            self._absent[f"{front}hook_attn_scores"] = why
        else:
            yield _Kind(f"{front}hook_attn_scores", (), lambda run, at: _scores(run, letter, at), layers)
        names = {"q": "rot_q" if rotated else "q", "k": "rot_k" if rotated else "k", "v": "v", "z": "z"}
        for point, name in (*names.items(), ("write", "result")):
            template = f"{front}hook_{name}"
            if point in stack.residual_points:
                yield _Kind(template, (point,), _of_positions(point, letter), layers)
            elif point in stack.absent:
                self._absent[template] = stack.absent[point]

    def _of_stream(self, stack: Stack) -> Iterator[_Kind]:
        """Points that are called the same whatever the layout is."""
        front, layers = f"{_BLOCKS[stack.letter]}.{_LAYER}.", tuple(range(stack.n_layers))
        names = [("hook_resid_pre", "resid_pre"), ("mlp.hook_post", "mlp_act"), *_BRIDGE]
        names += [(name, point) for point, name, _, _ in _WRITES]
        for name, point in names:
            if point in stack.residual_points:
                yield _Kind(f"{front}{name}", (point,), _point(point, stack.letter), layers)
            elif point in stack.absent:
                self._absent[f"{front}{name}"] = stack.absent[point]
        if "embed" in stack.residual_points:
            once = "hook_full_embed" if stack.letter == ONLY else f"{_BLOCKS[stack.letter]}.hook_full_embed"
            yield _Kind(once, ("embed",), _point("embed", stack.letter), None)

    def _of_sums(self, stack: Stack) -> Iterator[_Kind]:
        """The stream after each write: as it is, or, where a norm follows, before and after that norm."""
        front, layers = f"{_BLOCKS[stack.letter]}.{_LAYER}.", tuple(range(stack.n_layers))
        before, n_norms = "resid_pre", 0
        for write, _, name, after in _WRITES:
            if write not in stack.residual_points:
                if write == "cross_out":
                    continue
                self._absent[f"{front}{name}"] = stack.absent.get(write, "it is not found in this model")
                return
            if stack.layout == "post-LN":
                n_norms += 1
                normed = "hook_normalized_resid_post" if after == "resid_post" else f"ln{n_norms}.hook_normalized"
                if before in stack.residual_points:
                    yield _Kind(f"{front}{name}", (before, write), _sum(before, write, stack.letter), layers)
                if after in stack.residual_points:
                    yield _Kind(f"{front}{normed}", (after,), _point(after, stack.letter), layers)
            elif after in stack.residual_points:
                yield _Kind(f"{front}{name}", (after,), _point(after, stack.letter), layers)
            else:
                self._absent[f"{front}{name}"] = stack.absent.get(after, "it is not found in this model")
            before = after


class ActivationCache(Mapping[str, Tensor]):
    """The activations of one run by name; each is computed when it is asked for.

    `cache["blocks.3.attn.hook_pattern"]`, `cache["pattern", 3]`, `cache["q", -1]` and `cache["embed"]` all work.

    Attributes:
        run: the run behind it.
    """

    def __init__(self, run: Capture, names: ActivationNames, kept: Iterable[str], *, batch: bool = True) -> None:
        """`kept`: full names that `run` holds what is needed for; `batch`: whether tensors have an axis of one text."""
        self.run = run
        self._names, self._kept, self._batch = names, dict.fromkeys(kept), batch

    def __repr__(self) -> str:
        return f"ActivationCache({len(self)} activations of {self.run!r})"

    def __getitem__(self, key: object) -> Tensor:
        """The activation, `[batch ...]` (without the axis of the batch where that was asked for).

        Raises:
            ActivationNameError: no such name in this model, or it was left out; also a KeyError.
        """
        name = self._names.full(key)
        if name not in self._kept:
            raise ActivationNameError(
                f"{name!r} was not kept; name it in run_with_cache(text, names_filter=[{name!r}, ...])."
            )
        value = self._names.value(self.run, name)
        return value[None] if self._batch else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def remove_batch_dim(self) -> ActivationCache:
        """The same without the axis of the batch."""
        return ActivationCache(self.run, self._names, self._kept, batch=False)


def _point(point: str, letter: str) -> Callable[[Capture, int], Tensor]:
    once = point in ("embed", "final")
    return lambda run, layer: run.residual(point, None if once else layer, stack=letter or None)


def _of_positions(point: str, letter: str) -> Callable[[Capture, int], Tensor]:
    """A point of heads with the position in front, as TransformerLens has it."""
    return lambda run, layer: run.residual(point, layer, stack=letter or None).transpose(0, 1)


def _sum(point: str, write: str, letter: str) -> Callable[[Capture, int], Tensor]:
    """The stream right after a write, before the norm that follows."""
    stack = letter or None
    return lambda run, layer: run.residual(point, layer, stack=stack) + run.residual(write, layer, stack=stack)


def _scores(run: Capture, letter: str, layer: int) -> Float[Tensor, "head query key"]:
    """What softmax is taken of: scaled, capped, with biases, and -inf where the key is not visible.

    Raises:
        CaptureError: the run kept weights, from which scores cannot be told.
    """
    pattern = run.patterns_of(stack=letter or None)[layer]
    if not isinstance(pattern, LazyPattern) or pattern.heads is not None:
        raise CaptureError("attention scores follow from queries and keys of all heads; capture with mode='lazy'.")
    run.visible(layer, stack=letter or None)  # a run out of a file is held against its hash here
    terms = pattern.scores
    query, key = terms.query[0].to(terms.dtype), terms.key[0].to(terms.dtype)
    grouped = query.unflatten(0, (key.shape[0], -1))  # type: ignore[no-untyped-call]
    scores: Tensor = (grouped @ key[:, None].mT).flatten(0, 1) * terms.scaling
    if terms.softcap is not None:
        scores = torch.tanh(scores / terms.softcap) * terms.softcap
    if terms.bias is not None:
        scores = scores + terms.bias[0]
    return scores.masked_fill(~terms.visible()[0], -torch.inf)
