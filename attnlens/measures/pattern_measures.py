"""The measures of attention patterns, as they are registered: what `patterns` and `shapes` compute of heads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from attnlens.measures import patterns, shapes
from attnlens.measures.registry import STACK, Measure, Needs, Option
from attnlens.measures.rows import HeadRows, OverHeads, RowFunction, segments_of

__all__ = [
    "BREADTH",
    "COLUMN",
    "DELIMITERS",
    "DIAGONAL",
    "DISTANCE",
    "DISTANCE_VARIANCE",
    "ENTROPY",
    "FIRST",
    "KOVALEVA_CLASS",
    "MAX_WEIGHT",
    "NEXT",
    "OFFSET",
    "PREVIOUS",
    "SELF",
    "TOEPLITZ_SHARE",
]

_CLARK = "Clark et al. 2019, arXiv:1906.04341"
_KOVALEVA = "Kovaleva et al. 2019, ACL D19-1445"
_VOITA = "Voita et al. 2019, arXiv:1905.09418"


def _measure(
    name: str, title: str, description: str, of: RowFunction, *options: Option, one_text: bool = True, **more: Any
) -> Measure:
    """A measure of patterns: a share between 0 and 1 unless `more` says otherwise."""
    shared: dict[str, Any] = {"low": 0.0, "high": 1.0, "axes": ("layer", "head")}
    return Measure(
        name=name,
        title=title,
        description=description,
        options=(STACK, *options),
        needs=Needs(one_text=one_text),
        compute=OverHeads(of),
        **shared | more,
    )


def _offset_mass(rows: HeadRows) -> Float64[Tensor, "head query"]:
    return patterns.offset_mass(rows.weights, rows.given.options["offset"], rows.visible)


def _diagonal(rows: HeadRows) -> Float64[Tensor, "head query"]:
    return shapes.band_mass(rows.weights, rows.given.options["width"], rows.visible)


def _column(rows: HeadRows) -> Float64[Tensor, " head"]:
    return shapes.column_share(rows.weights, rows.keep, rows.given.options["n_columns"])


def _toeplitz_share(rows: HeadRows) -> Float64[Tensor, " head"]:
    return shapes.toeplitz_share(rows.weights, rows.visible, rows.keep)


def _kovaleva_class(rows: HeadRows) -> Float64[Tensor, " head"]:
    delimiters = patterns.over_queries(patterns.set_mass(rows.weights, rows.delimiters), rows.keep)
    vertical = torch.fmax(delimiters, shapes.column_share(rows.weights, rows.keep))
    diagonal = patterns.over_queries(shapes.band_mass(rows.weights, 1, rows.visible), rows.keep)
    segments = torch.tensor(segments_of(rows.query_tokens)), torch.tensor(segments_of(rows.key_tokens))
    block = patterns.over_queries(shapes.block_mass(rows.weights, *segments), rows.keep)
    within = patterns.over_queries(shapes.block_breadth(rows.weights, *segments, rows.visible), rows.keep)
    return shapes.kovaleva_class(vertical, diagonal, block, within)


ENTROPY = _measure(
    "entropy",
    "entropy",
    "Entropy of a query's weights, averaged: 0 is one key.",
    lambda rows: patterns.entropy(rows.weights),
    one_text=False,
    unit="nats",
    high=None,
    more="attention is spread over more keys",
    source=f"{_CLARK}, section 3.3",
    aliases=("pattern_entropy",),
)
BREADTH = _measure(
    "breadth",
    "breadth",
    "Entropy as a share of the largest possible one: 0 is one key, 1 is all visible keys alike.",
    lambda rows: patterns.breadth(rows.weights, rows.visible),
    one_text=False,
    more="attention is closer to uniform over what is visible",
    source=f"{_CLARK}, section 3.3; the division is ours",
)
DISTANCE = _measure(
    "distance",
    "distance",
    "Mean distance between query and key, by weight.",
    lambda rows: patterns.distance(rows.weights),
    unit="tokens",
    high=None,
    more="the head looks further away",
    source="Vig & Belinkov 2019, arXiv:1906.04284",
    aliases=("qk_distance",),
)
DISTANCE_VARIANCE = _measure(
    "distance-variance",
    "variance of distance",
    "Variance of the distance between query and key, by weight, averaged: 0 is one distance only.",
    lambda rows: patterns.distance_variance(rows.weights),
    unit="tokens^2",
    high=None,
    more="a query looks at near and far keys at once",
    source="HeadVis (Neuronpedia 2026), qk_distance_variance",
    aliases=("qk_distance_variance",),
)
OFFSET = _measure(
    "offset",
    "fixed offset",
    "Weight on the token at a fixed distance, averaged.",
    _offset_mass,
    Option("offset", -1, "how far from the query the key stands; negative is before it"),
    more="the head looks at that distance",
    source=f"{_VOITA}, section 5",
)
SELF = _measure(
    "self",
    "same token",
    "Weight of a token on itself, averaged.",
    lambda rows: patterns.offset_mass(rows.weights, 0, rows.visible),
    more="tokens look at themselves",
    source=f"{_CLARK}, section 3.1",
    aliases=("self_attention_score",),
)
PREVIOUS = _measure(
    "previous",
    "previous token",
    "Weight on the token before, averaged.",
    lambda rows: patterns.offset_mass(rows.weights, -1, rows.visible),
    more="the head looks at the token before",
    source=f"{_CLARK}, section 3.1",
    aliases=("prev_token_score", "previous_token_score"),
)
NEXT = _measure(
    "next",
    "next token",
    "Weight on the token after, averaged.",
    lambda rows: patterns.offset_mass(rows.weights, 1, rows.visible),
    more="the head looks at the token after; no head of a causal model can",
    source=f"{_CLARK}, section 3.1",
)
FIRST = _measure(
    "first",
    "first position",
    "Weight on the first position of the text, averaged.",
    lambda rows: patterns.key_mass(rows.weights, 0, rows.visible),
    one_text=False,
    more="attention rests on the first token (a sink, above .3)",
    source="Gu et al. 2025, arXiv:2410.10781",
)
DELIMITERS = _measure(
    "delimiters",
    "special tokens",
    "Weight on special tokens together, averaged.",
    lambda rows: patterns.set_mass(rows.weights, rows.special),
    one_text=False,
    more="attention rests on [CLS], [SEP], <s> and the like",
    source=f"{_CLARK}, section 3.2",
)
MAX_WEIGHT = _measure(
    "max-weight",
    "largest weight",
    "The largest weight of a query, averaged.",
    lambda rows: patterns.max_weight(rows.weights),
    one_text=False,
    more="the head is surer where to look",
    source=f"{_VOITA}, section 4 (confidence)",
)
DIAGONAL = _measure(
    "diagonal",
    "diagonal",
    "Weight on the token itself and its neighbours, averaged.",
    _diagonal,
    Option("width", 1, "how far from the query a neighbour may stand, in tokens"),
    more="the map is a diagonal",
    source=f"{_KOVALEVA}, section 4.1",
)
COLUMN = _measure(
    "column",
    "columns",
    "Share of all attention that the most attended tokens take together.",
    _column,
    Option("n_columns", 2, "how many of the most attended tokens are counted"),
    one_text=False,
    more="the map is made of columns: all queries look at the same tokens",
    source=f"{_KOVALEVA}, section 4.1",
)
TOEPLITZ_SHARE = _measure(
    "toeplitz-share",
    "explained by distance",
    "How much of the map the distance from query to key explains: 1 is all, 0 as little as uniform attention does.",
    _toeplitz_share,
    low=None,
    more="position alone determines where the head looks (from .8 on)",
    source="attnlens; generalises Voita et al. 2019, arXiv:1905.09418, section 5",
)
KOVALEVA_CLASS = _measure(
    "kovaleva-class",
    "shape of the map",
    "Class of the map on this text: vertical, diagonal, both, block or heterogeneous.",
    _kovaleva_class,
    high=4.0,
    more="nothing: these are numbers of classes",
    source=f"{_KOVALEVA}, section 4.1; by rules of ours",
    classes=shapes.KOVALEVA_CLASSES,
)
