"""Batches that the embedded models train on: padded text, masked text, repeated random tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

__all__ = ["Batch", "masked", "repeated_blocks", "text_batches"]

IGNORED = -100  # the label that cross_entropy leaves out


@dataclass(frozen=True)
class Batch:
    """Token ids, which of them are real (True), and the target of each position (IGNORED: none)."""

    ids: Int64[Tensor, "batch position"]
    keep: Bool[Tensor, "batch position"]
    targets: Int64[Tensor, "batch position"]


def text_batches(encoded: Sequence[Sequence[int]], *, batch_size: int, pad: int, rng: random.Random) -> Iterator[Batch]:
    """Endless batches of texts of similar length; `targets` are the next tokens.

    Texts are shuffled anew for every pass; within a stretch of 32 batches they are sorted by length, to pad little.
    """
    order = list(range(len(encoded)))
    while True:
        rng.shuffle(order)
        stretches = (order[i : i + 32 * batch_size] for i in range(0, len(order), 32 * batch_size))
        for stretch in stretches:
            stretch.sort(key=lambda index: len(encoded[index]))
            groups = [stretch[i : i + batch_size] for i in range(0, len(stretch), batch_size)]
            rng.shuffle(groups)
            for group in groups:
                yield _padded([encoded[index] for index in group], pad)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Batch:
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    keep = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    targets = torch.full_like(ids, IGNORED)
    targets[:, :-1] = ids[:, 1:].masked_fill(~keep[:, 1:], IGNORED)
    return Batch(ids, keep, targets)


def masked(batch: Batch, *, mask_id: int, shares: Float[Tensor, " vocab"], generator: torch.Generator) -> Batch:
    """Replace tokens by the mask, each id with its own probability; `targets` are what stood there."""
    chosen = batch.keep & (torch.rand(batch.ids.shape, generator=generator) < shares[batch.ids])
    return Batch(batch.ids.masked_fill(chosen, mask_id), batch.keep, batch.ids.masked_fill(~chosen, IGNORED))


def repeated_blocks(
    *,
    rows: int,
    length: int,
    start: int,
    ordinary: Sequence[int],
    shortest: int,
    longest: int,
    generator: torch.Generator,
) -> Batch:
    """Start token, then a block of distinct random tokens repeated to `length`; targets only within the later copies.

    The first copy, and where the second begins, cannot be predicted, so they are not trained on (else the model learns
    the average token first and may never find the repetition).
    """
    pool = torch.tensor(ordinary)
    ids, targets = [], []
    for _ in range(rows):
        block_length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        block = pool[torch.randperm(len(pool), generator=generator)[:block_length]]
        row = torch.cat([torch.tensor([start]), block.repeat(length // block_length + 1)])[:length]
        target = torch.full_like(row, IGNORED)
        target[block_length + 1 : -1] = row[block_length + 2 :]
        ids.append(row)
        targets.append(target)
    stacked = torch.stack(ids)
    return Batch(stacked, torch.ones_like(stacked, dtype=torch.bool), torch.stack(targets))
