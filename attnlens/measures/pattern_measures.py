"""The measures of attention patterns, as they are registered: what `patterns` and `shapes` compute of heads."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from attnlens.measures import patterns
from attnlens.measures.registry import STACK, Measure
from attnlens.measures.rows import HeadRows, OverHeads

__all__ = ["ENTROPY", "PREVIOUS"]

_HEADS = ("layer", "head")
_CLARK = "Clark et al. 2019, arXiv:1906.04341"


def _entropy(rows: HeadRows) -> Float64[Tensor, "head query"]:
    return patterns.entropy(rows.weights)


def _previous(rows: HeadRows) -> Float64[Tensor, "head query"]:
    return patterns.offset_mass(rows.weights, -1, rows.visible)


ENTROPY = Measure(
    name="entropy",
    title="entropy",
    description="Entropy of a query's weights, averaged: 0 is one key.",
    unit="nats",
    low=0.0,
    high=None,
    more="attention is spread over more keys",
    source=f"{_CLARK}, section 3.3",
    axes=_HEADS,
    options=(STACK,),
    aliases=("pattern_entropy",),
    compute=OverHeads(_entropy),
)
PREVIOUS = Measure(
    name="previous",
    title="previous token",
    description="Weight on the token before, averaged.",
    low=0.0,
    high=1.0,
    more="the head looks at the token before",
    source=f"{_CLARK}, section 3.1",
    axes=_HEADS,
    options=(STACK,),
    aliases=("prev_token_score", "previous_token_head"),
    compute=OverHeads(_previous, needs_one_text=True),
)
