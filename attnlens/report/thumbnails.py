"""Every head's pattern in small, some layers at a time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from attnlens.capture.run import Capture
from attnlens.heads import Head
from attnlens.report.maps import Choice, held_heads, maps_of, tokens_of
from attnlens.report.packed import thumbnail_codes

__all__ = ["LARGEST", "SHORT", "pool_to", "thumbnails"]

# Cells along a side of a thumbnail.
LARGEST = 64
# Tokens up to which a map is shown whole; longer ones are looked at through an overview and a window.
SHORT = 128
# Weights that one answer may take to compute.
_WORK = 24_000_000


def thumbnails(
    run: Capture, letter: str, choice: Choice | None = None, first_layer: int = 0
) -> tuple[dict[str, UInt8[np.ndarray, "row column"]], int | None]:
    """Pictures of the heads of some layers, as many as can be computed at once, each cell its largest weight.

    Args:
        run: the run.
        letter: of the stack.
        choice: which rows and columns; a long text is pooled by tokens, with all of them.
        first_layer: where to begin.

    Returns:
        By address; and the layer to go on with, None at the end.
    """
    n_queries, n_keys = (len(tokens) for tokens in tokens_of(run, letter))
    by_layer: dict[int, list[Head]] = {}
    for head in held_heads(run, letter):
        if head.layer >= first_layer:
            by_layer.setdefault(head.layer, []).append(head)
    found: dict[str, UInt8[np.ndarray, "row column"]] = {}
    work = 0
    for layer, heads in by_layer.items():
        work += len(heads) * n_queries * n_keys
        if found and work > _WORK:
            return found, layer
        if max(n_queries, n_keys) <= SHORT:
            pictures = [pool_to(weights, LARGEST) for weights in maps_of(run, heads, choice).weights]
        elif run.patterns_of(stack=letter or None)[layer].heads is None:  # type: ignore[union-attr]
            over = run.overview(layer, rows=LARGEST, columns=LARGEST, stack=letter or None)
            pictures = list(over.weights.numpy())
        else:
            pictures = [run.overview(head=head, rows=LARGEST, columns=LARGEST).weights.numpy() for head in heads]
        found |= {str(head): thumbnail_codes(picture) for head, picture in zip(heads, pictures, strict=True)}
    return found, None


def pool_to(weights: Float[np.ndarray, "query key"], largest: int) -> Float[np.ndarray, "row column"]:
    """At most `largest` cells along each side, each the largest weight of its part, NaN where all of it is hidden."""
    filled = np.where(np.isnan(weights), -1, weights)
    for axis in (0, 1):
        n = filled.shape[axis]
        if n > largest:
            filled = np.maximum.reduceat(filled, np.arange(largest) * n // largest, axis=axis)
    return np.where(filled < 0, np.nan, filled)
