"""What a reader sees of all heads of a layer at one query: whom each looks at, and what each adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlens.report.inside.head_view import plain, reach_of
from attnlens.report.inside.words import gap_words
from attnlens.report.tables import Table
from attnlens.steps.heads import ManyHeads

__all__ = ["ManyHeadsView", "many_heads_view"]

_MOST_KEYS = 60  # tokens that stand beside a head
_NAMED = 3


@dataclass(frozen=True)
class ManyHeadsView:
    """The heads of a layer at one query.

    Attributes:
        title: which layer and token.
        split: how the width of the model is divided among the heads, and put together again.
        summary: how far the sum of the writes is from what the model gave, in words.
        exact: whether that is within what the model's precision allows.
        names: of the heads.
        query: position of the query among the keys shown; None where it is not one of them (cross-attention).
        positions, labels: of the keys shown, those with the most weight in any head where there are many.
        left_out: what is said of the others; empty where all are shown.
        weights: whom each head looks at; NaN where a key is hidden.
        outputs: what each head puts out: side by side, the input of W_O.
        lengths, cosines, shares: of what each head writes, against the sum (see `attnlens.steps.heads.ManyHeads`).
        bias_share: what W_O's bias has of the sum; None without a bias.
        groups: heads that share keys and values; empty where none do.
        total: what they add up to.
    """

    title: str
    split: str
    summary: str
    exact: bool
    names: tuple[str, ...]
    query: int | None
    positions: tuple[int, ...]
    labels: tuple[str, ...]
    left_out: str
    weights: Float[np.ndarray, "head key"]
    outputs: Float[np.ndarray, "head d_value"]
    lengths: tuple[float, ...]
    cosines: tuple[float, ...]
    shares: tuple[float, ...]
    bias_share: float | None
    groups: str
    total: Float[np.ndarray, " d_model"]

    def table(self) -> Table:
        """One row per head, and one for the bias."""
        rows: list[tuple[str | float | None, ...]] = [
            (name, self._looks(head), self.lengths[head], self.cosines[head], self.shares[head])
            for head, name in enumerate(self.names)
        ]
        if self.bias_share is not None:
            rows.append(("bias of W_O", "", None, None, self.bias_share))
        columns = ("head", "looks most at", "length of its write", "cosine with the sum", "share of the sum")
        return Table(f"{self.title}: every head.", columns, tuple(rows))

    def _looks(self, head: int) -> str:
        row = np.nan_to_num(self.weights[head])
        best = row.argsort(kind="stable")[::-1][:_NAMED]
        return ", ".join(f"{self.labels[place]} {row[place]:.0%}" for place in best if row[place] > 0)

    def to_json(self, digits: int = 4) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "title": self.title,
            "names": list(self.names),
            "query": self.query,
            "positions": list(self.positions),
            "labels": list(self.labels),
            "weights": plain(self.weights, digits),
            "outputs": plain(self.outputs, digits),
            "reach": reach_of(self.outputs),
            "lengths": list(self.lengths),
            "longest": max(self.lengths) or 1.0,
            "cosines": list(self.cosines),
            "shares": list(self.shares),
            "bias_share": self.bias_share,
            "widest": max(map(abs, self.shares)) or 1.0,
            "total": plain(self.total, digits),
            "total_reach": reach_of(self.total),
        }


def many_heads_view(many: ManyHeads, query_labels: Sequence[str], key_labels: Sequence[str]) -> ManyHeadsView:
    """The heads in words and arrays.

    Args:
        many: heads of one layer at one query.
        query_labels: of all tokens that ask.
        key_labels: of all tokens that are asked.
    """
    first = many.heads[0]
    weights = np.stack([np.where(head.visible, head.weights, np.nan) for head in many.heads])
    chosen = list(range(len(key_labels)))
    if len(chosen) > _MOST_KEYS:
        strongest = np.nan_to_num(weights).max(0).argsort(kind="stable")[::-1]
        chosen = sorted(strongest[:_MOST_KEYS].tolist())
    others = len(key_labels) - len(chosen)
    outputs = np.stack([head.z.numpy() for head in many.heads])
    n_heads, d_value = outputs.shape
    d_model = many.writes.shape[1]
    letter, layer = first.head.stack, first.head.layer
    shares = many.shares.tolist()
    own_key = letter != "X" and first.query in chosen
    gap = "" if many.gap is None else gap_words(many.gap, many.limit, first.dtype)
    each = f"{n_heads} heads of {d_value} numbers each"
    return ManyHeadsView(
        title=f"Layer {letter}L{layer} at {query_labels[first.query]!r}, token {first.query}",
        split=f"{each}, side by side {n_heads * d_value}, which W_O turns into the {d_model} of the stream.",
        summary=f"The writes add up to what the layer's attention gave: {gap}." if gap else "",
        exact=many.gap is not None and many.gap <= many.limit,
        names=tuple(str(head.head) for head in many.heads),
        query=chosen.index(first.query) if own_key else None,
        positions=tuple(chosen),
        labels=tuple(key_labels[place] for place in chosen),
        left_out=f"{others} more tokens are left out; no head gives one of them more weight." if others else "",
        weights=weights[:, chosen],
        outputs=outputs,
        lengths=tuple(many.lengths.tolist()),
        cosines=tuple(many.cosines.tolist()),
        shares=tuple(shares[:n_heads]),
        bias_share=shares[n_heads] if many.bias is not None else None,
        groups=_groups(many),
        total=many.total.numpy(),
    )


def _groups(many: ManyHeads) -> str:
    groups = list(dict.fromkeys(head.shared_by for head in many.heads))
    if len(groups) == len(many.heads):
        return ""
    listed = "; ".join(", ".join(f"H{head}" for head in group) for group in groups)
    return f"Keys and values are shared by groups: {listed}. Queries are each head's own."
