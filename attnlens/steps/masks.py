"""Which keys a mask lets a query see: kinds of masks, told apart by their cells, and what softmax makes of one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from attnlens.axes import Visibility
from attnlens.capture.patterns import LazyPattern, Pattern
from attnlens.capture.run import Capture
from attnlens.capture.sites import CROSS
from attnlens.errors import CaptureError, UsageError
from attnlens.heads import Head
from attnlens.measures.position_measures import scores_of

__all__ = [
    "KINDS",
    "MaskGroup",
    "MaskKind",
    "MaskName",
    "MaskedRow",
    "make_mask",
    "mask_groups",
    "mask_kind",
    "masked_row",
    "window_of",
]

MaskName = Literal["none", "causal", "sliding window", "both-sided window", "prefix", "cross", "nothing", "other"]
KINDS: tuple[MaskName, ...] = ("none", "causal", "sliding window", "both-sided window", "prefix", "cross")


@dataclass(frozen=True)
class MaskKind:
    """What kind a mask is, as far as one text shows it.

    Attributes:
        name: "none" hides nothing; "causal" every later key; a "sliding window" also keys further back than `window`
            tokens, the query itself included; a "both-sided window" keys further than `window` to either side; "prefix"
            is causal behind its first `prefix` tokens, which see each other; "cross" looks into another text and hides
            nothing; "nothing" hides everything.
        window, prefix: in tokens; None for other kinds.
        padding: keys that no query sees.
    """

    name: MaskName
    window: int | None = None
    prefix: int | None = None
    padding: tuple[int, ...] = ()


def make_mask(
    name: MaskName,
    n_query: int,
    n_key: int,
    *,
    window: int | None = None,
    prefix: int | None = None,
    padding: tuple[int, ...] = (),
) -> Visibility:
    """The mask of a kind: True where the query sees the key. The last query stands on the last key, but in "cross".

    Raises:
        UsageError: a kind that cannot be made, or one without its window or prefix.
    """
    apart = torch.arange(n_key)[None, :] - torch.arange(n_key - n_query, n_key)[:, None]
    if name in ("none", "cross"):
        seen = torch.ones(n_query, n_key, dtype=torch.bool)
    elif name == "causal":
        seen = apart <= 0
    elif name == "sliding window" and window is not None:
        seen = (apart <= 0) & (apart > -window)
    elif name == "both-sided window" and window is not None:
        seen = apart.abs() <= window
    elif name == "prefix" and prefix is not None:
        seen = (apart <= 0) | (torch.arange(n_key)[None, :] < prefix)
    else:
        raise UsageError(f"{name!r} is no mask that can be made of window={window} and prefix={prefix}.")
    if padding:
        seen = seen.clone()
        seen[:, list(padding)] = False
    return seen


def mask_kind(visible: Visibility, *, cross: bool = False) -> MaskKind:
    """Tell what kind a mask is by its cells alone: the kind that gives exactly these, keys that nobody sees aside.

    A text shorter than a window shows no window, and one without a visible later key shows no prefix.

    Args:
        visible: True where the query sees the key.
        cross: queries and keys are of two texts.
    """
    n_query, n_key = visible.shape
    padding = tuple((~visible.any(0)).nonzero().flatten().tolist())
    if len(padding) == n_key:
        return MaskKind("nothing")
    if cross:
        whole = make_mask("cross", n_query, n_key, padding=padding)
        return MaskKind("cross" if bool((whole == visible).all()) else "other", padding=padding)
    apart = torch.arange(n_key)[None, :] - torch.arange(n_key - n_query, n_key)[:, None]
    back = int(-(apart[visible].min()))
    ahead = visible & (apart > 0)
    prefix = int(ahead.any(0).nonzero().max()) + 1 if bool(ahead.any()) else 0
    rows = ~(visible.sum(-1) == 0)  # rows of padding, which see nothing, say nothing either
    tried = (
        MaskKind("none", padding=padding),
        MaskKind("causal", padding=padding),
        MaskKind("sliding window", window=back + 1, padding=padding),
        MaskKind("both-sided window", window=back, padding=padding),
        MaskKind("prefix", prefix=prefix, padding=padding),
    )
    for kind in tried:
        made = make_mask(kind.name, n_query, n_key, window=kind.window, prefix=kind.prefix, padding=padding)
        if bool((made[rows] == visible[rows]).all()):
            return kind
    return MaskKind("other", padding=padding)


@dataclass(frozen=True)
class MaskGroup:
    """Layers of one stack that share a mask.

    Attributes:
        letter: of the stack.
        layers: which.
        kind: of the mask.
        visible: True where the query sees the key.
        window: the window that the config names, where the text is too short to show it; else None.
    """

    letter: str
    layers: tuple[int, ...]
    kind: MaskKind
    visible: Visibility
    window: int | None = None


def mask_groups(run: Capture, window: int | None = None) -> tuple[MaskGroup, ...]:
    """The different masks of a run, stack by stack, each with the layers that have it.

    Args:
        run: of one text.
        window: the sliding window that the model's config names, in tokens.
    """
    groups: list[MaskGroup] = []
    for stack in run.anatomy.stacks:
        known: list[tuple[Visibility, list[int]]] = []
        for layer, pattern in enumerate(_patterns(run, stack.letter)):
            if pattern is None:
                continue
            seen = pattern.visible()
            same = next((layers for other, layers in known if torch.equal(other, seen)), None)
            if same is None:
                known.append((seen, [layer]))
            else:
                same.append(layer)
        for seen, layers in known:
            kind = mask_kind(seen, cross=stack.letter == CROSS)
            unseen = window if window is not None and stack.causal and window >= len(seen) else None
            groups.append(MaskGroup(stack.letter, tuple(layers), kind, seen, unseen if kind.name == "causal" else None))
    return tuple(groups)


def _patterns(run: Capture, letter: str) -> tuple[Pattern | None, ...]:
    try:
        return run.patterns_of(stack=letter or None)
    except CaptureError:  # a decoder that stands alone
        return ()


@dataclass(frozen=True)
class MaskedRow:
    """One query's row on its way through mask and softmax.

    Attributes:
        scores: before the mask, in logits; NaN where they are not known (a family that hands over weights only).
        visible: True where the query sees the key.
        masked: likewise behind the mask: -inf where the key is hidden.
        weights: `softmax(masked)`; sums to 1, to less where a sink takes a part.
        unmasked: what softmax would give without the mask; NaN where a score is not known.
        sink: the head's further logit, whose weight is dropped; None without.
        difference: largest difference between `weights` and those of the run.
        from_weights: the scores are logarithms of weights, known up to a constant.
    """

    scores: Float64[Tensor, " key"]
    visible: Bool[Tensor, " key"]
    masked: Float64[Tensor, " key"]
    weights: Float64[Tensor, " key"]
    unmasked: Float64[Tensor, " key"]
    sink: float | None
    difference: float
    from_weights: bool


def masked_row(run: Capture, head: Head, query: int) -> MaskedRow:
    """The row of one query of one head: scores, mask, weights, and what the weights would be without the mask.

    Raises:
        CaptureError: the layer was not kept.
    """
    patterns = run.patterns_of(stack=head.stack or None)
    pattern = patterns[head.layer] if head.layer < len(patterns) else None
    if pattern is None:
        raise CaptureError(f"this run holds nothing of {head}; capture with its layer.")
    place = pattern.heads.index(head.head) if pattern.heads else head.head
    scores = scores_of(pattern, place)[query].double()
    sink = None
    if isinstance(pattern, LazyPattern):
        visible = pattern.scores.visible(heads=slice(place, place + 1))[0, 0, query]
        sink = None if pattern.scores.sinks is None else float(pattern.scores.sinks[place])
    else:
        visible = pattern.visible()[query]
        scores = scores.masked_fill(~visible, torch.nan)
    masked = scores.masked_fill(~visible, -torch.inf)
    weights = _softmax(masked, sink)
    recorded = pattern.weights(heads=slice(place, place + 1), queries=slice(query, query + 1))[0, 0].double()
    return MaskedRow(
        scores=scores,
        visible=visible,
        masked=masked,
        weights=weights,
        unmasked=_softmax(scores, sink),
        sink=sink,
        difference=float((weights - recorded).abs().max()),
        from_weights=not isinstance(pattern, LazyPattern),
    )


def _softmax(scores: Float64[Tensor, " key"], sink: float | None) -> Float64[Tensor, " key"]:
    """`exp(score) / sum exp`, the sink in the sum; 0 everywhere where nothing is visible."""
    if bool(scores.isneginf().all()):
        return torch.zeros_like(scores)
    return scores.softmax(-1) if sink is None else torch.cat([scores, scores.new_tensor([sink])]).softmax(-1)[:-1]


def window_of(config: object) -> int | None:
    """The sliding window that a model's config names, in tokens; None where it names none, or does not use it."""
    named = getattr(config, "sliding_window", None)
    unused = getattr(config, "use_sliding_window", True) is False
    return int(named) if isinstance(named, int) and named > 0 and not unused else None
