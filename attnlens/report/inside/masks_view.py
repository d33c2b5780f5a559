"""Views of masks: who may see whom, a row on its way through softmax, and the kinds of masks beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from attnlens.axes import Visibility
from attnlens.heads import Head
from attnlens.report.tables import Table, count, number, rounding, share
from attnlens.steps.masks import MaskGroup, MaskKind, MaskName, make_mask

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.steps.masks import MaskedRow
    from attnlens.steps.padding import PaddedPair

__all__ = [
    "KIND_NAMES",
    "MaskView",
    "RowView",
    "group_views",
    "kind_views",
    "padding_caption",
    "padding_views",
    "row_view",
]

KIND_NAMES: Mapping[MaskName, str] = {
    "none": "No mask",
    "causal": "Causal",
    "sliding window": "Sliding window",
    "both-sided window": "Window to both sides",
    "prefix": "Prefix",
    "cross": "Cross",
    "nothing": "Hides everything",
    "other": "Of its own kind",
}
_SENTENCES: Mapping[MaskName, str] = {
    "none": "Every token sees every other, before and behind it (BERT, encoders).",
    "causal": "A token sees itself and what came before, never what comes next (GPT, LLaMA).",
    "sliding window": "As causal, but only the last few tokens: what is further back is hidden (Mistral).",
    "both-sided window": "A token sees its neighbours to both sides, up to a distance (ModernBERT's local layers).",
    "prefix": "The first tokens all see each other; behind them it is causal (PaliGemma, prefix T5).",
    "cross": "Tokens of one text look into another, and nothing there is hidden (decoder to encoder).",
    "nothing": "No token sees any.",
    "other": "What it hides fits none of the kinds below.",
}
_STACKS = {"": "", "E": "encoder, ", "D": "decoder, ", "X": "cross-attention, "}
_FEW = 5  # words of a text without a better one


@dataclass(frozen=True)
class MaskView:
    """Who may see whom.

    Attributes:
        visible: True where the query sees the key.
        rows, columns: printable text of the queries and keys.
        title, caption: plain text.
        own: this is one of the opened model's masks.
    """

    visible: Bool[np.ndarray, "query key"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    caption: str
    own: bool = False

    def table(self) -> Table:
        """One row per query: what it sees and what is hidden from it."""
        rows = tuple(
            (label, int(seen.sum()), _listed(self.columns, seen), _listed(self.columns, ~seen))
            for label, seen in zip(self.rows, self.visible, strict=True)
        )
        return Table(f"{self.title}: what each token sees.", ("token", "sees", "which", "hidden"), rows)


def _listed(labels: Sequence[str], chosen: Bool[np.ndarray, " key"]) -> str:
    return " ".join(label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen) or "–"


def group_views(run: Capture, groups: Sequence[MaskGroup]) -> tuple[MaskView, ...]:
    """The opened model's own masks, each with the layers that have it."""
    return tuple(_group_view(run, group) for group in groups)


def _group_view(run: Capture, group: MaskGroup) -> MaskView:
    own = tuple(token.label for token in run.tokens)
    source = own if run.source is None else tuple(token.label for token in run.source.tokens)
    rows, columns = source if group.letter == "E" else own, source if group.letter in ("E", "X") else own
    kind, hidden = group.kind, 1 - float(group.visible.double().mean())
    size = "" if kind.window is None else f" of {count(kind.window, 'token')}"
    size += "" if kind.prefix is None else f" of {count(kind.prefix, 'token')}"
    said = f"{_SENTENCES[kind.name]} Here {share(hidden)} of the cells are hidden."
    if group.window is not None:
        said += f" The config names a window of {group.window:,} tokens, which this text is too short to show."
    return MaskView(
        visible=group.visible.numpy(),
        rows=rows,
        columns=columns,
        title=f"{KIND_NAMES[kind.name]}{size}: {_STACKS[group.letter]}{_layers(group.layers)}",
        caption=said,
        own=True,
    )


def _layers(layers: Sequence[int]) -> str:
    """Layers as ranges: "layers 0–2, 5"."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    named = ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
    return f"layer{'s' if len(layers) > 1 else ''} {named}"


def kind_views(labels: Sequence[str], own: Sequence[MaskKind] = ()) -> tuple[MaskView, ...]:
    """Every kind of mask on the same tokens; those that the opened model has are marked."""
    n = len(labels)
    window, prefix = max(1, min(3, n - 1)), max(1, n // 3)
    made: tuple[tuple[MaskName, Visibility, str], ...] = (
        ("none", make_mask("none", n, n), ""),
        ("causal", make_mask("causal", n, n), ""),
        ("sliding window", make_mask("sliding window", n, n, window=window), f" Here: {count(window, 'token')}."),
        ("both-sided window", make_mask("both-sided window", n, n, window=window), f" Here: {window} to each side."),
        ("prefix", make_mask("prefix", n, n, prefix=prefix), f" Here: the first {count(prefix, 'token')}."),
        ("cross", make_mask("cross", min(_FEW, n), n), " Here: five tokens of another text ask."),
    )
    had = {kind.name for kind in own}
    names = tuple(labels)
    views = []
    for name, seen, more in made:
        rows = tuple(f"y{at + 1}" for at in range(len(seen))) if name == "cross" else names
        views.append(
            MaskView(seen.numpy(), rows, names, KIND_NAMES[name], f"{_SENTENCES[name]}{more}", own=name in had)
        )
    return tuple(views)


def padding_views(pair: PaddedPair) -> tuple[MaskView, ...]:
    """The two texts of a batch: the shorter one is filled up, and what fills it is hidden."""
    longest = max(pair.lengths)
    views = []
    for labels, length, seen in zip(pair.labels, pair.lengths, pair.visible, strict=True):
        missing = longest - length
        said = f"{count(length, 'token')} and {missing} of padding, which nobody sees." if missing else (
            f"{count(length, 'token')}: the longest text of the batch needs no padding."
        )  # fmt: skip
        views.append(MaskView(seen.numpy(), labels, labels, " ".join(labels[:length]), said, own=True))
    return tuple(views)


def padding_caption(pair: PaddedPair) -> str:
    """What padding did to the weights."""
    if pair.lengths[0] == pair.lengths[1]:
        return "Both texts are equally long, so nothing is padded; give a shorter or a longer one."
    got = "no weight at all" if pair.on_padding == 0 else f"a weight of {pair.on_padding:.0e} at most"
    return (
        f"Padding gets {got}, in any layer and head, and the shorter text has the weights that it has alone, to "
        f"{rounding(pair.difference)}: padding changes nothing."
    )


@dataclass(frozen=True)
class RowView:
    """One query's row, before the mask and behind it.

    Attributes:
        row: the numbers.
        labels: of the keys.
        title, caption: plain text.
    """

    row: MaskedRow
    labels: tuple[str, ...]
    title: str
    caption: str

    @property
    def steps(self) -> tuple[tuple[str, Float[np.ndarray, " key"], int], ...]:
        """Name, numbers and decimals of each line of the picture, from top to bottom; NaN where not known."""
        return (
            ("score", self.row.scores.numpy(), 2),
            ("after the mask", self.row.masked.numpy(), 2),
            ("weight", self.row.weights.numpy(), 3),
            ("weight without mask", self.row.unmasked.numpy(), 3),
        )

    def table(self) -> Table:
        """One row per key."""
        numbers = zip(*(values.tolist() for _, values, _ in self.steps), strict=True)
        rows = tuple(
            (label, "yes" if seen else "hidden", *(_cell(value) for value in values))
            for label, seen, values in zip(self.labels, self.row.visible.tolist(), numbers, strict=True)
        )
        return Table(self.title, ("key", "seen", *(name for name, _, _ in self.steps)), rows)


def _cell(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return "−∞" if np.isneginf(value) else value


def row_view(row: MaskedRow, run: Capture, head: Head, query: int) -> RowView:
    """How softmax sees the mask, in one row of one head."""
    own = tuple(token.label for token in run.tokens)
    source = own if run.source is None else tuple(token.label for token in run.source.tokens)
    rows, labels = source if head.stack == "E" else own, source if head.stack in ("E", "X") else own
    hidden = int((~row.visible).sum())
    said = (
        f"The mask hides {count(hidden, 'key')} of {len(labels)}: their scores become −∞, exp(−∞) is 0, and softmax "
        "shares the weight among the rest."
        if hidden
        else "The mask hides nothing from this token, so softmax sees the scores as they are."
    )
    lost = float(row.unmasked[~row.visible].sum()) if hidden else 0.0
    if hidden and not np.isnan(lost):
        said += f" Without the mask, {share(lost, 1)} of the weight would go to them."
    if row.from_weights:
        said += " This family hands over weights only: scores are their logarithms, and those of hidden keys unknown."
    if row.sink is not None:
        said += (
            f" A learned sink of {number(row.sink)} logits takes part in the softmax and its weight is dropped: the "
            f"row sums to {number(float(row.weights.sum()), 3)}."
        )
    said += f" These weights are the model's own, to {rounding(row.difference)}."
    return RowView(row, labels, f"{head}: what {rows[query]!r} ({query}) may see", said)
