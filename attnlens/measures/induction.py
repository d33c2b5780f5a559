"""Heads that look for repeated tokens: previous token, duplicate token and induction, and the texts that show them.

Each score is the attention that goes where the rule says, averaged over the queries for which the rule names a key:
0 to 1. On random tokens that repeat, nothing but position and repetition can guide a head.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv:2209.11895.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

__all__ = [
    "RULES",
    "DetectorScores",
    "detector_scores",
    "duplicate_targets",
    "induction_targets",
    "previous_targets",
    "repeated_tokens",
    "target_mass",
]


def previous_targets(tokens: Int64[Tensor, "*batch position"]) -> Bool[Tensor, "*batch query key"]:
    """For each query, the token before it."""
    n = tokens.shape[-1]
    return torch.eye(n, dtype=torch.bool).roll(-1, -1).tril(-1).expand(*tokens.shape[:-1], n, n)


def duplicate_targets(tokens: Int64[Tensor, "*batch position"]) -> Bool[Tensor, "*batch query key"]:
    """For each query, the earlier copies of its token."""
    return (tokens[..., :, None] == tokens[..., None, :]).tril(-1)


def induction_targets(tokens: Int64[Tensor, "*batch position"]) -> Bool[Tensor, "*batch query key"]:
    """For each query, the tokens that followed the earlier copies of it, and stand before the query.

    The definition of the paper; its appendix speaks of tokens that "preceded the same token". A token that stands just
    before the query is no target only if its own predecessor is another token.
    """
    copies = duplicate_targets(tokens)
    followed = torch.zeros_like(copies)
    followed[..., 1:] = copies[..., :-1]
    return followed.tril(-1)


RULES: Mapping[str, Callable[[Int64[Tensor, "*batch position"]], Bool[Tensor, "*batch query key"]]] = {
    "previous": previous_targets,
    "duplicate": duplicate_targets,
    "induction": induction_targets,
}


def repeated_tokens(
    vocabulary: Sequence[int],
    *,
    length: int = 25,
    repeats: int = 4,
    sequences: int = 10,
    seed: int = 0,
    start: int | None = None,
) -> Int64[Tensor, "sequence position"]:
    """Texts of distinct random tokens that come again and again: `start x1 .. xn x1 .. xn ...`.

    Args:
        vocabulary: ids to draw from, without special tokens.
        length: tokens until the first repetition.
        repeats: how often they stand there in all.
        sequences: how many texts.
        seed: of the drawing; torch's random state is left alone.
        start: id of a token in front of each text, such as the beginning-of-sequence token; None for none.

    Raises:
        ValueError: fewer ids than `length`, or a size below 1 (2 for `repeats`).
    """
    if length > len(vocabulary) or length < 1 or repeats < 2 or sequences < 1:
        raise ValueError(
            f"{sequences} texts of {length} distinct tokens, {repeats} times each, cannot be drawn from "
            f"{len(vocabulary)} tokens; expected length 1 to {len(vocabulary)}, repeats from 2, sequences from 1"
        )
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(list(vocabulary), dtype=torch.int64)
    drawn = torch.stack([ids[torch.randperm(len(ids), generator=generator)[:length]] for _ in range(sequences)])
    texts = drawn.repeat(1, repeats)
    return texts if start is None else torch.cat([torch.full((sequences, 1), start), texts], 1)


def target_mass(
    pattern: Float[Tensor, "*batch query key"],
    targets: Bool[Tensor, "*#batch query key"],
    keep: Bool[Tensor, " query"] | None = None,
) -> Float64[Tensor, "*batch"]:
    """Attention to the targets, averaged over the queries that have one; 0 to 1, NaN where no query has one.

    Args:
        pattern: weights.
        targets: True where the rule names the key for the query.
        keep: True for the queries that count; None for all.
    """
    queries = targets.any(-1) if keep is None else targets.any(-1) & keep
    mass = (pattern.double() * targets).sum(-1)
    count = queries.sum(-1).double()
    return torch.where(count > 0, (mass * queries).sum(-1) / count, torch.nan)


@dataclass(frozen=True)
class DetectorScores:
    """The two scores of TransformerLens' head detector, for comparison with it; they are not ours.

    Attributes:
        mul: share of all attention that lies on the targets, queries without a target included.
        abs: 1 minus the mean absolute difference between weights and targets taken as 0 and 1, per query.
    """

    mul: Float64[Tensor, "*batch"]
    abs: Float64[Tensor, "*batch"]


def detector_scores(
    pattern: Float[Tensor, "*batch query key"], targets: Bool[Tensor, "*#batch query key"]
) -> DetectorScores:
    """What `transformer_lens.head_detector.detect_head` computes with `error_measure` "mul" and "abs"; at most 1.

    Unlike it, these are not rounded to three digits. `mul` is 0 to 1; `abs` falls below 0 where much is missed.

    Source: TransformerLens, `compute_head_attention_similarity_score`.
    """
    weights = pattern.double()
    total = weights.sum((-2, -1))
    mul = torch.where(total > 0, (weights * targets).sum((-2, -1)) / total, torch.nan)
    return DetectorScores(mul, 1 - (weights - targets.double()).abs().sum((-2, -1)) / pattern.shape[-2])
