"""Pattern measures over a corpus: the same functions as of one run, taken while the weights pass by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.errors import UsageError
from attnlens.measures import patterns, shapes
from attnlens.measures.running import SUMMARY, RowMeans, WeightTile, head_summary

__all__ = ["PASSING", "pattern_means"]

_TileFunction = Callable[[WeightTile], Float[Tensor, "batch head query"]]


def _first(tile: WeightTile) -> Float[Tensor, "batch head query"]:
    """Weight on each text's first token; NaN where it is hidden, or not among the tile's keys."""
    weights, visible = tile.weights, tile.visible()
    starts = tile.text_starts or (0,) * len(weights)
    found = weights.new_full(weights.shape[:-1], torch.nan, dtype=torch.float64)
    for text, start in enumerate(starts):
        column = start - tile.first_key
        if 0 <= column < weights.shape[-1]:
            seen = visible[text : text + 1] if len(visible) > 1 else visible
            found[text] = patterns.key_mass(weights[text : text + 1], column, seen)[0]
    return found


def _at(offset: int) -> _TileFunction:
    return lambda tile: patterns.offset_mass(tile.weights, offset, tile.visible(), tile.first_query - tile.first_key)


PASSING: Mapping[str, _TileFunction] = {
    "entropy": lambda tile: patterns.entropy(tile.weights),
    "breadth": lambda tile: patterns.breadth(tile.weights, tile.visible()),
    "distance": lambda tile: patterns.distance(tile.weights, tile.first_query - tile.first_key),
    "distance-variance": lambda tile: patterns.distance_variance(tile.weights, tile.first_query - tile.first_key),
    "self": _at(0),
    "previous": _at(-1),
    "next": _at(1),
    "first": _first,
    "max-weight": lambda tile: patterns.max_weight(tile.weights),
    "diagonal": lambda tile: shapes.band_mass(tile.weights, 1, tile.visible(), tile.first_query - tile.first_key),
}
"""Measures that `pattern_means` knows, by their names in the registry; what needs whole maps or tokens is not here."""


def pattern_means(*names: str, offsets: tuple[int, ...] = ()) -> RowMeans:
    """A reducer for `lens.reduce`: means of pattern measures over all queries of a corpus, for every head.

    The measures are those of the registry by these names, with one difference: a reducer sees no tokens, so that the
    queries are all that are not padding, special tokens among them. Cross-attention gives numbers too, where distances
    count from one text's positions to another's.

    Args:
        names: out of `PASSING`; none takes `head_summary`, whose four measures share their passes and cost least.
        offsets: weight at these distances as well, under the names `offset-2`, `offset+1`.

    Raises:
        UsageError: a measure that needs a whole map or tokens, or does not exist.
    """
    if unknown := [name for name in names if name not in PASSING]:
        raise UsageError(f"{unknown[0]!r} is not taken while weights pass by; choose some of {', '.join(PASSING)}.")
    if not offsets and (not names or names == SUMMARY):
        return head_summary()
    functions = [PASSING[name] for name in names] + [_at(offset) for offset in offsets]
    labels = (*names, *(f"offset{offset:+d}" for offset in offsets))

    def measure(tile: WeightTile) -> Float[Tensor, "measure batch head query"]:
        return torch.stack([function(tile).double() for function in functions])

    return RowMeans(labels, measure)
