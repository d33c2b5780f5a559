"""Views of what a model makes of places: the same words in another order, and texts longer than it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnlens.report.inside.schemes import SCHEMES
from attnlens.report.tables import Cell, Table, number, rounding

if TYPE_CHECKING:
    from attnlens.steps.beyond import Beyond
    from attnlens.steps.order import OrderedRows

__all__ = ["OrderView", "SpanView", "order_view", "span_view"]

_SAME = 1e-4  # weights closer than this are one weight to a reader


@dataclass(frozen=True)
class OrderView:
    """One row of attention over the same words in two orders.

    Attributes:
        rows: the numbers.
        orders: the words in the first order, and in the second.
        title, caption: plain text; the caption says what moved, and why.
    """

    rows: OrderedRows
    orders: tuple[str, str]
    title: str
    caption: str

    def table(self) -> Table:
        """One row per token, in the first order."""
        columns: tuple[str, ...] = ("token", "place", "place in 2nd order", "weight", "weight in 2nd order")
        numbers = [*self.rows.placed]
        if self.rows.placeless is not None:
            columns += ("without positions", "without positions, 2nd order")
            numbers += [*self.rows.placeless]
        rows: list[tuple[Cell, ...]] = [
            (label, at, self.rows.places[at], *(float(row[at]) for row in numbers))
            for at, label in enumerate(self.rows.labels)
        ]
        return Table(self.title, columns, tuple(rows))


def order_view(rows: OrderedRows) -> OrderView:
    """What of one row is place: the same words in another order, with positions and without."""
    second = [""] * len(rows.labels)
    for token, place in enumerate(rows.places):
        second[place] = rows.labels[token]
    moved, without = rows.moved
    said = f"With positions, a weight moves by up to {number(moved, 3)} when the words change places. "
    if without is None:
        said += f"Without them nothing can be shown: {rows.how}"
    elif without < _SAME:
        said += (
            f"Without them ({rows.how}) every word gets the same weight in both orders, to {rounding(without)}: by "
            "itself, attention does not know order."
        )
    else:
        why = (
            "the mask hides some words from others on the way, and that tells places as well. A head of layer 0 shows "
            "attention that cannot tell."
            if rows.mask_tells
            else "something else in the model tells places as well."
        )
        said += f"Without them ({rows.how}) a weight still moves by {number(without, 3)}: {why}"
    return OrderView(
        rows=rows,
        orders=(" ".join(rows.labels), " ".join(second)),
        title=f"{rows.head}: what {rows.labels[rows.query]!r} attends to, in two orders",
        caption=said,
    )


@dataclass(frozen=True)
class SpanView:
    """Losses of a text that is longer than a scheme was made for.

    Attributes:
        names: of the spans of positions, "0–63".
        losses: of the next token, in nats.
        beyond: whether each span lies beyond the limit.
        title, caption: plain text.
    """

    names: tuple[str, ...]
    losses: tuple[float, ...]
    beyond: tuple[bool, ...]
    title: str
    caption: str

    def table(self) -> Table:
        """One row per span."""
        numbers = zip(self.names, self.losses, self.beyond, strict=True)
        rows = tuple((name, loss, "yes" if out else "no") for name, loss, out in numbers)
        return Table(self.title, ("positions", "loss of the next token (nats)", "beyond the limit"), rows)


def span_view(found: Beyond) -> SpanView:
    """What happens beyond the length that a scheme was made for, and how much worse the model reads there."""
    said = ["This model names no limit." if found.limit is None else f"This model takes {found.limit:,} tokens."]
    said.append(SCHEMES[found.scheme].beyond)
    if found.refusal:
        said.append(f"One token more is refused: “{found.refusal}”")
    if found.why_not:
        said.append(found.why_not)
    if found.spans:
        texts = "one text" if found.n_texts == 1 else f"{found.n_texts} texts"
        said.append(f"Here it reads {texts} of {found.spans[-1].stop:,} tokens all the same.")
    if (change := found.change) is not None:
        how = "worse" if change > 0 else "better"
        said.append(
            f"At their end it predicts the next token {number(abs(change))} nats {how} than just before the limit."
        )
    return SpanView(
        names=tuple(f"{span.start}–{span.stop - 1}" for span in found.spans),
        losses=tuple(span.loss for span in found.spans),
        beyond=tuple(found.limit is not None and span.start >= found.limit for span in found.spans),
        title="Loss by position",
        caption=" ".join(said),
    )
