"""Which texts run together: of similar length, so that little is padding, and bounded by tokens and by memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["BATCH_TOKENS", "batches_of"]

BATCH_TOKENS = 2048
_MOST_WEIGHTS = 1 << 23  # of one layer of one batch
_LEAST_TOKENS = 384  # a smaller batch is not worth a forward pass of its own, whatever the padding
_MOST_PADDING = 0.1  # share of a batch; beyond it, the longer text begins a new one


def batches_of(lengths: Sequence[int], n_heads: int, batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of the texts of each batch, shortest texts first.

    Args:
        lengths: tokens of each text.
        n_heads: heads of a layer, whose weights are in memory together.
        batch_tokens: tokens of a batch at most, padding included; a longer text is a batch of its own.
    """
    batch: list[int] = []
    used = 0
    for index in sorted(range(len(lengths)), key=lambda at: (lengths[at], at)):
        longest, n_texts = lengths[index], len(batch) + 1
        padded = longest * n_texts
        too_many = padded > batch_tokens or n_heads * longest * padded > _MOST_WEIGHTS
        wasteful = used >= _LEAST_TOKENS and padded - used - longest > _MOST_PADDING * padded
        if batch and (too_many or wasteful):
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += longest
    if batch:
        yield batch
