"""The key-value cache: what generation keeps of the tokens that are there, so that none is computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnlens.capture.sites import CROSS
from attnlens.models.anatomy import Stack

__all__ = ["cache_by_sharing", "cache_bytes"]


def cache_bytes(
    stacks: Sequence[Stack],
    n_tokens: int,
    windows: Sequence[int | None],
    itemsize: int,
    n_kv_heads: int | None = None,
) -> int:
    """Bytes of keys and values after `n_tokens`; an encoder, and a model that does not write, keep none.

    Args:
        stacks: of the model.
        n_tokens: of the text; of an encoder-decoder of source and target each.
        windows: per layer of what writes, how many tokens it sees; None where it sees all.
        itemsize: bytes of one number.
        n_kv_heads: reckon with this many key-value heads; None takes the model's own.
    """
    total = 0
    for stack in stacks:
        per_token = 2 * (n_kv_heads or stack.n_kv_heads) * stack.d_head * itemsize
        if stack.letter == CROSS:
            total += stack.n_layers * per_token * n_tokens
        elif stack.causal:
            total += sum(per_token * (n_tokens if window is None else min(window - 1, n_tokens)) for window in windows)
    return total


def cache_by_sharing(
    stacks: Sequence[Stack], n_tokens: int, windows: Sequence[int | None], itemsize: int
) -> Mapping[str, int]:
    """The cache of this model, and as it would be if more or fewer heads shared their keys and values.

    Returns:
        "MHA" (every head has its own), "GQA" (groups share; only where the model has such groups), "MQA" (all heads
        share one; Shazeer 2019, arXiv:1911.02150; for groups Ainslie et al. 2023, arXiv:2305.13245) -> bytes. Empty
        for a model that keeps no cache.
    """
    main = next((stack for stack in reversed(stacks) if stack.causal), None)
    if main is None:
        return {}
    kinds: dict[str, int | None] = {"MHA": main.n_heads}
    if 1 < main.n_kv_heads < main.n_heads:
        kinds["GQA"] = None
    kinds["MQA"] = 1
    return {kind: cache_bytes(stacks, n_tokens, windows, itemsize, heads) for kind, heads in kinds.items()}
