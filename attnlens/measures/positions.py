"""How models tell positions apart, as numbers: tables, rotations, slopes and biases, and what they do to scores.

`attnlens.models.position_data` reads these numbers off a model; everything here is arithmetic on arrays.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "bias_by_distance",
    "cosine_by_distance",
    "cosines",
    "position_share",
    "relative_buckets",
    "rope_angles",
    "rope_decay",
    "rope_frequencies",
    "rotate",
    "sinusoidal_table",
]


def sinusoidal_table(n_positions: int, d_model: int, *, base: float = 10000.0) -> Float64[Tensor, "position d_model"]:
    """Sines and cosines of falling frequency, in turn: columns 2i and 2i+1 are of `position / base**(2i/d_model)`.

    Between -1 and 1. Models differ in the order of the columns.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    frequencies = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :d_model]


def cosines(table: Float[Tensor, "position d_model"]) -> Float64[Tensor, "position other"]:
    """Cosine between the vectors of every two positions; NaN where a vector is 0."""
    lengths = table.double().norm(dim=-1, keepdim=True)
    unit = torch.where(lengths > 0, table.double() / lengths, torch.nan)
    return unit @ unit.mT


def cosine_by_distance(table: Float[Tensor, "position d_model"]) -> Float64[Tensor, " distance"]:
    """Mean cosine between the vectors of positions that far apart, from distance 0; NaN where no pair is defined."""
    known = cosines(table)
    return torch.stack([known.diagonal(distance).nanmean() for distance in range(len(table))])


def rope_frequencies(d_rotated: int, *, base: float = 10000.0) -> Float64[Tensor, " pair"]:
    """Radians per position of each pair of coordinates: `base**(-2i/d_rotated)`.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.
    """
    return base ** (-torch.arange(0, d_rotated, 2, dtype=torch.float64) / d_rotated)


def rope_angles(frequencies: Float[Tensor, " pair"], n_positions: int) -> Float64[Tensor, "position pair"]:
    """Angle in radians by which each pair of coordinates is turned at each position."""
    return torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies.double()


def rotate(
    vectors: Float[Tensor, "*batch position d_head"], angles: Float[Tensor, "position pair"], *, halves: bool = True
) -> Float64[Tensor, "*batch position d_head"]:
    """Turn each pair of coordinates by its angle; the coordinates behind the pairs stay as they are.

    Lengths do not change, and the inner product of two vectors depends on their distance alone.

    Args:
        vectors: queries or keys.
        angles: radians.
        halves: pairs are (i, i + pairs) (LLaMA, GPT-NeoX); False: (2i, 2i + 1) (GPT-J, the paper).
    """
    n_pairs = angles.shape[-1]
    turned, rest = vectors[..., : 2 * n_pairs].double(), vectors[..., 2 * n_pairs :].double()
    one, other = turned.chunk(2, -1) if halves else (turned[..., ::2], turned[..., 1::2])
    sine, cosine = angles.double().sin(), angles.double().cos()
    pair = one * cosine - other * sine, other * cosine + one * sine
    both = torch.cat(pair, -1) if halves else torch.stack(pair, -1).flatten(-2)
    return torch.cat([both, rest], -1)


def rope_decay(
    frequencies: Float[Tensor, " pair"], distances: Int64[Tensor, " distance"], d_head: int | None = None
) -> Float64[Tensor, " distance"]:
    """Inner product of a constant vector, rotated at two positions, by their distance; 1 at distance 0, from -1 to 1.

    The mean of the cosines of the angles: what a head that reads nothing but a constant would score. It falls with the
    distance, in waves; coordinates that are not rotated (partial rotations) keep it up.

    Args:
        frequencies: radians per position.
        distances: in positions.
        d_head: width of the heads, where not all of it is rotated; None for all.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.3.
    """
    n_pairs = len(frequencies)
    still = 0 if d_head is None else d_head - 2 * n_pairs
    angles = distances.double()[:, None] * frequencies.double()
    return (2 * angles.cos().sum(-1) + still) / (2 * n_pairs + still)


def alibi_slopes(n_heads: int) -> Float64[Tensor, " head"]:
    """What each head's scores lose per position of distance, steepest first; in logits.

    `2**(-8/n), 2**(-16/n), ...` for a power of two; else those of the power below, then every second one of the power
    above.

    Source: Press et al. 2021, arXiv:2108.12409, section 3, and the authors' code for other numbers of heads.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    finer = [2.0 ** (-4.0 * (2 * head + 1) / power) for head in range(n_heads - power)]
    return torch.tensor(slopes + finer, dtype=torch.float64)


def alibi_bias(slopes: Float[Tensor, " head"], n_query: int, n_key: int) -> Float64[Tensor, "head query key"]:
    """Minus slope times distance, the last query on the last key; in logits. Models may add a constant to each row."""
    queries = torch.arange(n_query)[:, None] + n_key - n_query
    return -slopes.double()[:, None, None] * (queries - torch.arange(n_key)).abs()


def relative_buckets(
    distances: Int64[Tensor, "*shape"], n_buckets: int, furthest: int, *, both_ways: bool
) -> Int64[Tensor, "*shape"]:
    """Row of a table of relative biases for each distance (key minus query), 0 to `n_buckets - 1`.

    Half of the rows are for one distance each, the rest for ranges that grow logarithmically up to `furthest`, beyond
    which all distances share the last row. Where a query sees both ways, keys behind it have the second half of the
    table; else all keys behind it are of distance 0.

    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1, and the authors' code.
    """
    first = torch.zeros_like(distances)
    if both_ways:
        n_buckets //= 2
        first = (distances > 0).long() * n_buckets
        apart = distances.abs()
    else:
        apart = (-distances).clamp_min(0)
    exact = n_buckets // 2
    ratio = (apart.clamp_min(1).float() / exact).log() / math.log(furthest / exact)
    far = (exact + (ratio * (n_buckets - exact)).long()).clamp_max(n_buckets - 1)
    return first + torch.where(apart < exact, apart, far)


def bias_by_distance(
    bias: Float[Tensor, "*head query key"], visible: Bool[Tensor, "query key"] | None = None
) -> Float64[Tensor, "*head offset"]:
    """Mean of a bias over the visible cells of each distance (key minus query), `-(n_query-1)` to `n_key-1`; in logits.

    NaN where no cell has that distance.
    """
    n_query, n_key = bias.shape[-2:]
    seen = torch.ones(n_query, n_key, dtype=torch.bool) if visible is None else visible
    places = _distances(n_query, n_key) + n_query - 1
    sums = torch.zeros(*bias.shape[:-2], n_query + n_key - 1, dtype=torch.float64)
    counts = torch.zeros(n_query + n_key - 1, dtype=torch.float64)
    sums.index_add_(-1, places[seen], bias.double()[..., seen])
    counts.index_add_(0, places[seen], torch.ones(int(seen.sum()), dtype=torch.float64))
    return torch.where(counts > 0, sums / counts, torch.nan)


def position_share(
    scores: Float[Tensor, "head query key"],
    visible: Bool[Tensor, "query key"],
    keep: Bool[Tensor, " query"] | None = None,
) -> Float64[Tensor, " head"]:
    """Share of what scores vary by within their rows that the distance from query to key explains; 0 to 1.

    R^2 of the least-squares fit `score = row + f(distance)` over visible cells. What a whole row has in common does not
    change attention, so it counts on neither side. 1: the head looks at places, whatever stands there. A distance that
    occurs once is fitted as it is, so that a text of few tokens explains much by itself: compare texts of one length.
    NaN where nothing varies.

    Args:
        scores: before the softmax, or logarithms of weights; only finite ones count.
        visible: True where the query sees the key.
        keep: True for the queries that count; None for all.

    Source: ours; it is to scores what `shapes.toeplitz_share` is to weights.
    """
    seen = visible if keep is None else visible & keep[:, None]
    return torch.stack([_explained(head.double(), seen & head.isfinite()) for head in scores])


def _explained(scores: Float64[Tensor, "query key"], cells: Bool[Tensor, "query key"]) -> Float64[Tensor, ""]:
    n_query, n_key = scores.shape
    n_offsets = n_query + n_key - 1
    places = _distances(n_query, n_key) + n_query - 1
    counts = cells.sum(-1, keepdim=True).clamp_min(1)
    centred = torch.where(cells, scores, 0.0)
    centred = torch.where(cells, centred - centred.sum(-1, keepdim=True) / counts, 0.0)
    total = centred.square().sum()
    spread = torch.where(cells, scores, 0.0).abs().max()
    if float(total) <= 1e-20 * float(spread) ** 2 * cells.numel():  # what is left of rounding is no variation
        return torch.tensor(torch.nan, dtype=torch.float64)
    # Normal equations of f, with the rows' own means taken out.
    occurs = torch.zeros(n_query, n_offsets, dtype=torch.float64).scatter_(1, places, cells.double())
    gram = torch.diag(occurs.sum(0)) - (occurs / counts).mT @ occurs
    moments = torch.zeros(n_offsets, dtype=torch.float64).index_add_(0, places.flatten(), centred.flatten())
    kernel = torch.linalg.pinv(gram, hermitian=True) @ moments
    share: Tensor = ((kernel @ moments) / total).clamp(0.0, 1.0)
    return share


def _distances(n_query: int, n_key: int) -> Int64[Tensor, "query key"]:
    """Key position minus query position."""
    return torch.arange(n_key)[None, :] - torch.arange(n_query)[:, None]
