"""What a text costs to run: what grows with its length, and what grows with its square."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attnlens.capture.sites import CROSS
from attnlens.models.anatomy import Stack
from attnlens.sizes.parameters import Counted

__all__ = ["attention_flops", "crossing", "linear_flops", "moved_bytes", "score_bytes"]

_LOGSUMEXP = 4  # bytes: a fused kernel keeps one float32 per query and head for the backward pass


def attention_flops(stacks: Sequence[Stack], n_tokens: int) -> int:
    """Additions and multiplications of scores and of weighing values, causal halves not computed: the square part."""
    total = 0
    for stack in stacks:
        pairs = n_tokens * (n_tokens + 1) // 2 if stack.causal else n_tokens * n_tokens
        total += 4 * stack.n_layers * stack.n_heads * stack.d_head * pairs
    return total


def linear_flops(counted: Counted, n_tokens: int) -> int:
    """Additions and multiplications of the matrices that every token is multiplied with: the linear part.

    Two per weight (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); the output layer runs at every token. Of an
    encoder-decoder for a source and a target of this length each.
    """
    return 2 * counted.matrices * n_tokens


def crossing(stacks: Sequence[Stack], counted: Counted) -> int:
    """The length from which attention's square part costs more than the linear part."""
    per_pair = sum(4 * s.n_layers * s.n_heads * s.d_head / (2 if s.causal else 1) for s in stacks)
    return int(2 * counted.matrices / per_pair) + 1


def score_bytes(stacks: Sequence[Stack], n_tokens: int, itemsize: int, *, fused: bool = False) -> int:
    """What all layers keep of attention weights for a backward pass: every weight, or one number per query and head."""
    per_query = sum(stack.n_layers * stack.n_heads for stack in stacks) * n_tokens
    return per_query * (_LOGSUMEXP if fused else n_tokens * itemsize)


def moved_bytes(stacks: Sequence[Stack], n_tokens: int, itemsize: int, *, fused: bool = False) -> int:
    """Bytes that attention reads from and writes to the accelerator's main memory in one forward pass.

    Queries, keys and values are read, outputs written. Eager attention also writes and reads scores, and writes and
    reads weights: four passes over `[head query key]`. A fused kernel keeps those on the chip (Dao et al. 2022,
    FlashAttention, arXiv:2205.14135, section 3); it may read keys and values more than once: its figure is the least.
    """
    total = 0
    for stack in stacks:
        rows = (2 * stack.n_heads + 2 * stack.n_kv_heads) * stack.d_head * n_tokens
        scores = 0 if fused else 4 * stack.n_heads * n_tokens * n_tokens
        total += stack.n_layers * (rows + scores) * itemsize
    return total


def blocks(stacks: Sequence[Stack]) -> Iterator[Stack]:
    """Stacks whose layers are blocks with a feed-forward layer; cross-attention stands within one."""
    return (stack for stack in stacks if stack.letter != CROSS)
