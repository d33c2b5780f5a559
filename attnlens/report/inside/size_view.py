"""Views of what models are made of and what they cost: shares of a whole, and what grows with the length of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnlens.models.sizing import ModelSize
from attnlens.report.tables import Cell, Table
from attnlens.sizes.presets import PRESETS

__all__ = [
    "GrowthView",
    "Line",
    "WholesView",
    "bytes_text",
    "cache_view",
    "flops_text",
    "memory_view",
    "moved_view",
    "operations_view",
    "parameters_view",
    "presets_table",
    "short_count",
]

PARTS = {
    "embeddings": "embeddings",
    "attention": "attention",
    "mlp": "feed-forward",
    "experts": "experts",
    "router": "router",
    "norms": "norms",
    "head": "output layer",
}


@dataclass(frozen=True)
class WholesView:
    """Several wholes, each divided into the same parts.

    Attributes:
        title: what the parts are parts of.
        caption: one sentence.
        rows: names of the wholes.
        parts: names of the parts.
        amounts: per whole the amount of each part; 0 where it has none.
        unit: "parameters" or "bytes".
    """

    title: str
    caption: str
    rows: tuple[str, ...]
    parts: tuple[str, ...]
    amounts: tuple[tuple[int, ...], ...]
    unit: str

    @property
    def totals(self) -> tuple[int, ...]:
        """Of each whole."""
        return tuple(sum(amounts) for amounts in self.amounts)

    def written(self, amount: int) -> str:
        """An amount for a reader."""
        return bytes_text(amount) if self.unit == "bytes" else short_count(amount)

    def table(self) -> Table:
        """One row per part, one column per whole, and the sum."""
        rows: list[tuple[Cell, ...]] = [
            (part, *(amounts[place] for amounts in self.amounts)) for place, part in enumerate(self.parts)
        ]
        return Table(self.caption, (self.unit, *self.rows), (*rows, ("all", *self.totals)))


@dataclass(frozen=True)
class Line:
    """One quantity by length.

    Attributes:
        name: of the quantity, with its model.
        model: number of the model, for its colour.
        kind: number of the quantity, for its stroke.
        values: one per length.
    """

    name: str
    model: int
    kind: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class GrowthView:
    """Quantities that grow with the length of a text.

    Attributes:
        title: what grows.
        caption: one or two sentences.
        lengths: tokens.
        lines: the quantities.
        unit: "operations" or "bytes".
    """

    title: str
    caption: str
    lengths: tuple[int, ...]
    lines: tuple[Line, ...]
    unit: str

    def written(self, amount: int) -> str:
        """An amount for a reader."""
        return bytes_text(amount) if self.unit == "bytes" else flops_text(amount)

    def table(self) -> Table:
        """One row per length."""
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (n, *(self.written(line.values[place]) for line in self.lines)) for place, n in enumerate(self.lengths)
        )
        return Table(self.caption, ("tokens", *(line.name for line in self.lines)), rows)


Named = tuple[str, ModelSize]


def parameters_view(models: Sequence[Named]) -> WholesView:
    """Parameters by what they are for."""
    found = [size.counted.parts.to_json() for _, size in models]
    parts = [part for part in PARTS if any(part in each for each in found)]
    told = [_told(name, size) for name, size in models]
    return WholesView(
        "Parameters by part",
        " ".join(told),
        tuple(name for name, _ in models),
        tuple(PARTS[part] for part in parts),
        tuple(tuple(each.get(part, 0) for part in parts) for each in found),
        "parameters",
    )


def _told(name: str, size: ModelSize) -> str:
    tied = "; its output layer is the embedding once more" if size.counted.tied else ""
    active = f", of which a token uses {size.counted.active:,}" if size.counted.active != size.n_parameters else ""
    return f"{name} has {size.n_parameters:,} parameters{active}{tied}."


def memory_view(models: Sequence[Named], place: int) -> WholesView:
    """What training on one text takes, with eager and with fused attention.

    Args:
        models: with their costs.
        place: of the length in these costs.
    """
    rows, amounts = [], []
    for name, size in models:
        kept = size.costs[place].activations
        fixed = (size.weight_bytes, size.training.gradients, size.training.optimizer)
        for kind, weights in (("eager", kept.weights), ("fused", kept.fused_weights)):
            rows.append(f"{name}, {kind}")
            amounts.append((*fixed, kept.body, weights, kept.logits))
    n_tokens = models[0][1].costs[place].n_tokens
    caption = (
        f"Training on one text of {n_tokens:,} tokens with Adam. Attention weights are what eager attention keeps for "
        "the backward pass; a fused kernel keeps one number per query and head. Computed from the shapes, without "
        "dropout; what a library keeps beside it is not counted."
    )
    parts = ("weights", "gradients", "Adam", "activations", "attention weights", "logits")
    return WholesView("Memory to train", caption, tuple(rows), parts, tuple(amounts), "bytes")


def operations_view(models: Sequence[Named]) -> GrowthView:
    """Additions and multiplications of one forward pass: attention's scores and sums, and all else."""
    lines = []
    for place, (name, size) in enumerate(models):
        lines.append(Line(f"{name}: attention", place, 0, tuple(cost.attention_flops for cost in size.costs)))
        lines.append(Line(f"{name}: all else", place, 1, tuple(cost.linear_flops for cost in size.costs)))
    crossings = ", ".join(f"{size.crossing:,} tokens in {name}" for name, size in models)
    caption = (
        "Comparing every token with every other grows with the square of the length (solid); everything that is done "
        f"to each token by itself grows with the length (dashed). The square part is the larger one from {crossings}."
    )
    return GrowthView("Operations of one forward pass", caption, _lengths(models), tuple(lines), "operations")


def moved_view(models: Sequence[Named]) -> GrowthView:
    """Bytes that attention moves, eager and fused."""
    lines = [
        Line(f"{name}: {kind}", place, number, tuple(cost.moved[kind] for cost in size.costs))
        for place, (name, size) in enumerate(models)
        for number, kind in enumerate(("eager", "fused"))
    ]
    caption = (
        "Bytes that attention reads and writes in main memory in one forward pass. Eager attention (solid) writes and "
        "reads scores and weights of every pair of tokens; a fused kernel (dashed; FlashAttention, arXiv:2205.14135) "
        "keeps them on the chip and moves queries, keys, values and outputs alone. Both compute the same."
    )
    return GrowthView("Bytes that attention moves", caption, _lengths(models), tuple(lines), "bytes")


def cache_view(models: Sequence[Named]) -> GrowthView | None:
    """The key-value cache as it is, and if heads shared their keys otherwise; None where no model keeps one."""
    lines = []
    for place, (name, size) in enumerate(models):
        own = size.kv_bytes_per_token
        for number, (kind, per_token) in enumerate(size.kv_by_sharing.items()):
            mine = " (its own)" if per_token == own else ""
            values = tuple(cost.kv_cache * per_token // own for cost in size.costs)
            lines.append(Line(f"{name}: {kind}{mine}", place, 2 if kind == "MQA" else number, values))
    if not lines:
        return None
    caption = (
        "Keys and values of every earlier token are kept while a model writes. If every head has its own (MHA), groups "
        "of heads share them (GQA) or all heads share one (MQA), the cache is smaller by as much; a sliding window "
        "bounds it."
    )
    return GrowthView("The key-value cache", caption, _lengths(models), tuple(lines), "bytes")


def presets_table() -> Table:
    """The published configurations, with their sources."""
    rows = tuple(
        (each.title, short_count(int(each.parameters)), "" if each.active is None else short_count(int(each.active)),
         each.name, each.source)
        for each in PRESETS.values()
    )  # fmt: skip
    return Table("Presets and their sources", ("model", "published", "active", "--preset", "source"), rows)


def short_count(amount: int) -> str:
    """A large number for a reader.

    >>> short_count(124439808), short_count(174604259328), short_count(950)
    ('124 M', '175 B', '950')
    """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return str(amount)


def bytes_text(amount: int) -> str:
    """Bytes for a reader.

    >>> bytes_text(1536), bytes_text(900)
    ('1.5 KiB', '900 B')
    """
    value, unit = float(amount), 0
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.0f} {units[unit]}" if unit == 0 or value >= 100 else f"{value:,.1f} {units[unit]}"


def flops_text(amount: int) -> str:
    """Operations for a reader.

    >>> flops_text(2_500_000)
    '2.5 MFLOP'
    """
    for name, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if amount >= size:
            return f"{amount / size:,.1f} {name}"
    return f"{amount / 1e3:,.1f} kFLOP"


def _lengths(models: Sequence[Named]) -> tuple[int, ...]:
    return tuple(cost.n_tokens for cost in models[0][1].costs)
