"""A reducer that answers all families' questions about a batch while its weights pass by, one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from attnlens.measures.running import WeightTile
from probes.family import Measuring, Probe
from probes.scoring.layout import Hits, Layout, Masses, Options, lay_out
from probes.scoring.ledger import Ledger
from probes.scoring.measured import Measured
from probes.scoring.pieces import pieces_of
from probes.tally import UNIT, in_units
from probes.view import LayerView
from probes.winners import Winners
from probes.words import FAINT, Aggregation, Reading

__all__ = ["Scorer"]


class Scorer:
    """Adds up one batch; made anew for each, into the ledger of its shard.

    The weights of one layer are put together, answered and overwritten by those of the next, word-level ones too.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        probes: Sequence[Probe],
        ledger: Ledger,
        *,
        n_heads: int,
        aggregation: Aggregation,
        layers: Sequence[int] | None = None,
    ) -> None:
        """Ask the families about the texts.

        Args:
            readings: the texts of the batch, as the model gets them, padded on the right.
            probes: the families that read them.
            ledger: what adds up.
            n_heads: heads of a layer.
            aggregation: how a word's row follows from those of its pieces.
            layers: those that pass by; None for all from the first one on. The ledger has their heads, in this order.
        """
        self._place = None if layers is None else {layer: place for place, layer in enumerate(layers)}
        self.readings, self.ledger, self.n_heads = tuple(readings), ledger, n_heads
        self.n_tokens = max(len(reading.special) for reading in readings)
        self.n_words = max(len(reading.kept) for reading in readings)
        sizes = {"token": self.n_tokens, "word": self.n_words}
        self.layout: Layout = lay_out(readings, probes, ledger, sizes)
        self.measuring = [probe for probe in probes if isinstance(probe, Measuring)]
        self.measured = Measured(readings, ledger)
        self.pieces = pieces_of(readings, n_heads, self.n_tokens, self.n_words, aggregation)
        self._exact = np.zeros(len(readings) * n_heads * self.n_tokens**2 + 1)  # the last one stays 0: see `Pieces`
        self._words = np.empty(self.pieces.place.shape)
        self._layer: _Layer | None = None

    def add(self, tile: WeightTile) -> None:
        """Take some rows; once a layer is complete, answer everything from it."""
        if self._layer is None:
            self._layer = _Layer((len(self.readings), self.n_heads, self.n_tokens, self.n_tokens), tile)
        if self._layer.add(tile):
            self._layer.close([len(reading.special) for reading in self.readings])
            layer: int = tile.site.layer  # type: ignore[attr-defined]
            self._score(self._layer, (layer if self._place is None else self._place[layer]) * self.n_heads)

    def merge(self, other: Any) -> Any:
        """Nothing to merge: what was counted is in the ledger."""
        return self

    def value(self) -> None:
        """Nothing: what was counted is in the ledger."""

    def _score(self, layer: _Layer, first_head: int) -> None:
        totals = np.zeros((len(self.layout.rows), self.n_heads), np.int64)
        exact = self._exact[:-1].reshape(layer.tokens.shape)
        exact[:] = layer.tokens.numpy()
        self._answer("token", exact, totals)
        words = self.pieces.words(self._exact, layer.tokens.shape, self._words) if self._needs_words else exact
        view = LayerView(self.readings, layer.tokens, layer.visible, torch.from_numpy(words))
        if self._needs_words:
            self._answer("word", words, totals)
        for level, hits in self.layout.hits.items():
            add_hits(hits, self._winners(level, view), totals)
        self.ledger.add(self.layout.rows, first_head, totals)
        for probe in self.measuring:
            for index, values in enumerate(probe.measure(view)):
                self.measured.add(probe.name, index, values, first_head)

    @property
    def _needs_words(self) -> bool:
        asked = {*self.layout.hits, *self.layout.masses, *self.layout.options} - {"token"}
        return bool(asked or self.measuring)

    def _answer(self, space: str, weights: Float64[np.ndarray, "text head query key"], totals: np.ndarray) -> None:
        """What weight cells have, and who wins among options."""
        if (masses := self.layout.masses.get(space)) is not None:
            add_masses(masses, weights, totals)
        if (options := self.layout.options.get(space)) is not None:
            add_options(options, weights, totals)

    def _winners(self, level: str, view: LayerView) -> Winners:
        match level:
            case "token":
                return view.token_wins
            case "word":
                return view.word_wins
            case _:
                return view.column_wins


class _Layer:
    """The weights of one layer, put together from tiles; memory that the next layer overwrites."""

    def __init__(self, shape: tuple[int, int, int, int], tile: WeightTile) -> None:
        dtype = torch.promote_types(tile.raw.dtype, torch.float32)
        self.tokens: Float[Tensor, "text head query key"] = torch.zeros(shape, dtype=dtype)
        self.visible: Bool[Tensor, "text query key"] = torch.zeros(shape[0], *shape[2:], dtype=torch.bool)
        self._missing = self._size = shape[0] * shape[1] * shape[2]

    def add(self, tile: WeightTile) -> bool:
        """Take a tile; True where the layer is complete with it."""
        if self._missing == self._size:
            self.visible.zero_()
        rows = self.tokens[tile.batch, tile.heads, tile.queries]
        keys = slice(tile.first_key, tile.first_key + tile.raw.shape[-1])
        rows[..., : keys.start] = 0.0
        rows[..., keys.stop :] = 0.0
        if tile.totals is None:
            rows[..., keys].copy_(tile.raw)
        elif tile.raw.device == rows.device:
            torch.div(tile.raw, tile.totals, out=rows[..., keys])
        else:
            rows[..., keys].copy_(tile.weights)
        self.visible[tile.batch, tile.queries, keys] |= tile.visible().any(1).cpu()
        self._missing -= rows.shape[0] * rows.shape[1] * rows.shape[2]
        return self._missing == 0

    def close(self, lengths: Sequence[int]) -> None:
        """Faint weights (see `probes.words.counted`) and the padding become 0; the next tile begins a new layer."""
        torch.nn.functional.threshold_(self.tokens, FAINT, 0.0)  # type: ignore[attr-defined]
        n = self.tokens.shape[-1]
        beyond = torch.arange(n) >= torch.tensor(lengths)[:, None]
        if bool(beyond.any()):
            text, token = beyond.nonzero(as_tuple=True)
            self.tokens[text, :, token] = 0.0
            self.visible &= ~beyond[:, None] & ~beyond[:, :, None]
        self._missing = self._size


def add_masses(masses: Masses, weights: Float64[np.ndarray, "text head query key"], totals: np.ndarray) -> None:
    """Weights on cells, each rounded to parts of the unit before it is added."""
    found = _gathered(weights, masses.text, masses.place)
    if masses.weight is not None:
        found = found * masses.weight[:, None]
    masses.sums.add(in_units(found), totals)


def add_options(options: Options, weights: Float64[np.ndarray, "text head query key"], totals: np.ndarray) -> None:
    """Who wins among the options of each trial, and what weight they have."""
    if not options.n_options:
        return
    cells = _gathered(weights, options.text, options.place) * options.weight[:, None]
    amount = np.zeros((options.n_options, weights.shape[1]))
    for cell, option in options.steps:
        amount[option] += cells[cell]
    best = np.maximum.reduceat(amount, options.starts, axis=0)
    won = (amount == best[options.trial]).astype(np.int64)
    ties = np.add.reduceat(won, options.starts, axis=0)
    options.hits.add(won * (UNIT // ties)[options.trial], totals)
    options.masses.add(in_units(amount), totals)


def add_hits(hits: Hits, winners: Winners, totals: np.ndarray) -> None:
    """Cells that win their row (or column): a tie of n counts a unit's n-th part."""
    run = hits.of_cell[winners.cell]
    answers = np.flatnonzero(run >= 0)
    run, units, head = run[answers], UNIT // winners.ties[answers], winners.front[answers] % winners.shape[1]
    lengths = hits.starts[run + 1] - hits.starts[run]
    of = np.repeat(np.arange(len(run)), lengths)
    entry = np.arange(len(of)) + (hits.starts[run] - np.cumsum(lengths) + lengths)[of]
    amounts = np.rint(units[of] * hits.weight[entry])
    sums = np.bincount(hits.row[entry] * totals.shape[1] + head[of], weights=amounts, minlength=totals.size)
    totals += sums.reshape(totals.shape).astype(np.int64)  # whole numbers below 2**53, so exact in any order


def _gathered(
    weights: Float64[np.ndarray, "text head query key"],
    text: Int64[np.ndarray, " entry"],
    place: Int64[np.ndarray, " entry"],
) -> Float64[np.ndarray, "entry head"]:
    """Weights of cells, for every head."""
    _, n_heads, n_queries, n_keys = weights.shape
    size = n_queries * n_keys
    first = text * (n_heads * size) + place
    return np.asarray(np.take(weights.reshape(-1), first[:, None] + np.arange(n_heads) * size))
