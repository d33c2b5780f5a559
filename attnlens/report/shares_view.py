"""Views of a logit as a sum: what heads and MLPs add to it, layer by layer; and what input tokens add."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnlens.heads import Head
from attnlens.report.tables import Table, count, number

if TYPE_CHECKING:
    from attnlens.measures.attribution import HeadAttribution, TokenAttribution
    from attnlens.models.direct import DirectAttribution

__all__ = ["Share", "SharesView", "TokenSharesView", "direct_view", "gates_view", "token_shares_view"]

# A model of more layers shows one step per layer in the waterfall.
_SPLIT_LAYERS = 12
_METHODS = {
    "gradients": "Integrated gradients",
    "ablation": "One token replaced at a time",
    "shapley": "Shapley values",
}


@dataclass(frozen=True)
class Share:
    """A part of a logit: who adds it, of which layer (None for what stands before or behind the layers), how much."""

    name: str
    kind: str
    layer: int | None
    value: float


@dataclass(frozen=True)
class SharesView:
    """A logit, or what all heads do to it, as a sum; every value in logits, positive speaks for the target.

    Attributes:
        shares: every part, in the order of the model.
        steps: the same, put together for a waterfall: one per layer, or per attention and MLP of a layer.
        total: what the shares sum to; `total_name` says what that is.
        gap: the sum of the shares minus `total`.
        target: which logit.
        title, caption: plain text.
    """

    shares: tuple[Share, ...]
    steps: tuple[Share, ...]
    total: float
    total_name: str
    gap: float
    target: str
    title: str
    caption: str

    def ranked(self, limit: int) -> tuple[tuple[Share, ...], Share | None]:
        """The `limit` largest parts, largest first whatever their sign, and the sum of the others."""
        order = sorted(self.shares, key=lambda part: -abs(part.value))
        others = order[limit:]
        rest = Share(f"{len(others)} others", "others", None, math.fsum(part.value for part in others))
        return tuple(order[:limit]), rest if others else None

    def table(self) -> Table:
        """One row per part, largest first whatever its sign."""
        order = sorted(self.shares, key=lambda part: -abs(part.value))
        rows = tuple((part.name, part.kind, part.layer, part.value) for part in order)
        return Table(f"{self.title}: {self.target}.", ("part", "kind", "layer", "logits"), rows)


@dataclass(frozen=True)
class TokenSharesView:
    """What each input token adds to a logit.

    Attributes:
        values: one per token, in logits, positive speaks for the target.
        labels: printable text of the tokens.
        total: score of the text minus score of the baseline; `gap`: sum of the values minus that.
        target, title, caption: plain text.
    """

    values: tuple[float, ...]
    labels: tuple[str, ...]
    total: float
    gap: float
    target: str
    title: str
    caption: str

    def table(self) -> Table:
        """One row per token."""
        rows = tuple((place, *pair) for place, pair in enumerate(zip(self.labels, self.values, strict=True)))
        return Table(f"{self.title}: {self.target}.", ("position", "token", "logits"), rows)


def direct_view(found: DirectAttribution) -> SharesView:
    """Direct logit attribution: everything that was written into the stream at the position of the target."""
    layers: list[list[Share]] = []
    for layer in range(len(found.mlp)):
        attention = _heads_of(layer, found.heads[layer].tolist(), "")
        if found.cross_heads is not None:
            attention += _heads_of(layer, found.cross_heads[layer].tolist(), "X")
        if bias := float(found.attention_bias[layer]):
            attention.append(Share(f"L{layer} attention bias", "bias", layer, bias))
        layers.append([*attention, Share(f"L{layer} MLP", "MLP", layer, float(found.mlp[layer]))])
    before = Share("embedding", "embedding", None, found.embedding)
    behind = [Share("final norm and bias", "bias", None, found.constant)] if found.constant else []
    return SharesView(
        shares=(before, *(part for layer in layers for part in layer), *behind),
        steps=(before, *_steps(layers), *behind),
        total=found.logit,
        total_name="logit",
        gap=found.gap,
        target=found.target.name,
        title="Direct logit attribution",
        caption=(
            f"The {found.target.name} is {number(found.logit)}: the sum of what each part wrote into the stream at "
            "that position, through the final norm with its scale held fixed. What later layers make of it is left out."
        ),
    )


def gates_view(found: HeadAttribution) -> SharesView:
    """What heads add to a logit by whatever way, between all heads silenced and all at work."""
    layers = [_heads_of(layer, row, found.stack) for layer, row in enumerate(found.values.tolist())]
    return SharesView(
        shares=tuple(part for layer in layers for part in layer),
        steps=tuple(Share(f"L{layer}", "attention", layer, _sum(parts)) for layer, parts in enumerate(layers) if parts),
        total=found.total,
        total_name="all heads",
        gap=found.gap,
        target=found.score,
        title="Head attribution by integrated gradients",
        caption=(
            f"The stream of this model goes through a norm in every layer, so its {found.score} is no plain sum. This "
            f"is what heads add directly and through later layers: all of them together {number(found.total)} logits, "
            "compared with all of them silenced."
        ),
    )


def token_shares_view(found: TokenAttribution) -> TokenSharesView:
    """What input tokens add to a logit, compared with a baseline text."""
    effort = {"gradients": count(found.steps, "step"), "shapley": count(found.steps, "random order")}
    told = f" ({effort[found.method]})" if found.method in effort else ""
    gap = {
        "gradients": "Convergence delta:",
        "shapley": "Gap by rounding:",
        "ablation": "What tokens do only together:",
    }[found.method]
    return TokenSharesView(
        values=tuple(found.values.tolist()),
        labels=found.tokens,
        total=found.total,
        gap=found.gap,
        target=found.score,
        title=_METHODS[found.method],
        caption=(
            f"{_METHODS[found.method]}{told} of the {found.score}. The text gives {number(found.total)} logits more "
            f"than its baseline, {found.baseline}. {gap} {found.gap:.2g}."
        ),
    )


def _heads_of(layer: int, values: Iterable[float], stack: str) -> list[Share]:
    heads = ((Head(layer, place, stack), value) for place, value in enumerate(values))
    return [Share(str(head), "head", layer, value) for head, value in heads if not math.isnan(value)]


def _steps(layers: list[list[Share]]) -> list[Share]:
    """Per layer what attention adds and what the MLP adds; in deep models both in one."""
    steps = []
    for layer, parts in enumerate(layers):
        if len(layers) > _SPLIT_LAYERS:
            steps.append(Share(f"L{layer}", "layer", layer, _sum(parts)))
            continue
        steps.append(Share(f"L{layer} attention", "attention", layer, _sum(parts[:-1])))
        steps.append(parts[-1])
    return steps


def _sum(parts: Iterable[Share]) -> float:
    return math.fsum(part.value for part in parts)
