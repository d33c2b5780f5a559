"""What a run loses when its queries, keys and weights are kept in fewer bits, in a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attnlens.capture.patterns import DensePattern, Pattern
from attnlens.capture.run import Capture, Patterns
from attnlens.errors import UsageError

__all__ = ["in_precision"]

_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Rows of each layer whose weights are compared: all up to this many, else as many in blocks over the whole length.
_COMPARED_ROWS = 64
_BLOCK_ROWS = 16


def in_precision(run: Capture, dtype: torch.dtype) -> Capture:
    """`run` with queries, keys and dense weights in `dtype`; points and logits stay as they are.

    Its `settings["stored"]` names the dtype, the largest absolute difference that it makes to a weight
    (`largest_difference`; of what was lost in an earlier save, too, at most), and of how many query rows of each layer
    that is (`rows_compared`): of every row up to 64 tokens, of 64 rows in 4 blocks beyond.

    Raises:
        UsageError: no floating-point precision of 16 bits or more, or one in which the numbers overflow.
    """
    if dtype not in _PRECISIONS:
        known = ", ".join(str(precision).removeprefix("torch.") for precision in _PRECISIONS)
        raise UsageError(f"dtype={dtype!r} is no precision to keep queries and keys in; expected one of {known}.")
    changed = replace(
        run,
        patterns=_all_converted(run.patterns, dtype),
        encoder=_all_converted(run.encoder, dtype),
        cross=_all_converted(run.cross, dtype),
    )
    before = (*run.patterns, *run.encoder, *run.cross)
    after = (*changed.patterns, *changed.encoder, *changed.cross)
    pairs = [(one, other) for one, other in zip(before, after, strict=True) if one is not None and other is not None]
    largest = max((_largest_difference(one, other) for one, other in pairs), default=0.0)
    stored: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "largest_difference": largest + _lost_before(run),
        "rows_compared": max((min(_COMPARED_ROWS, one.shape[0]) for one, _ in pairs), default=0),
    }
    return replace(changed, settings={**run.settings, "stored": stored})


def _lost_before(run: Capture) -> float:
    """What an earlier save of the same run has changed already."""
    stored = run.settings.get("stored")
    known = stored.get("largest_difference") if isinstance(stored, dict) else None
    return known if isinstance(known, float) else 0.0


def _all_converted(patterns: Patterns, dtype: torch.dtype) -> Patterns:
    return tuple(None if pattern is None else _converted(pattern, dtype) for pattern in patterns)


def _converted(pattern: Pattern, dtype: torch.dtype) -> Pattern:
    if isinstance(pattern, DensePattern):
        return DensePattern(_rounded(pattern.probabilities, dtype), pattern.seen, pattern.heads)
    scores = pattern.scores
    rounded = replace(scores, query=_rounded(scores.query, dtype), key=_rounded(scores.key, dtype))
    return replace(pattern, scores=rounded)


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = tensor.to(dtype)
    if not torch.equal(rounded.isfinite(), tensor.isfinite()):
        name = str(dtype).removeprefix("torch.")
        raise UsageError(f"the queries or keys of this run are too large for {name}; take bfloat16 or float32.")
    return rounded


def _largest_difference(one: Pattern, other: Pattern) -> float:
    largest = 0.0
    for rows in _rows(one.shape[0]):
        difference = one.weights(queries=rows).double() - other.weights(queries=rows).double()
        largest = max(largest, float(difference.abs().max()))
    return largest


def _rows(n_queries: int) -> Iterator[slice]:
    """Rows to compare: all, or blocks from the first row to the last."""
    if n_queries <= _COMPARED_ROWS:
        yield slice(0, n_queries)
        return
    n_blocks = _COMPARED_ROWS // _BLOCK_ROWS
    for block in range(n_blocks):
        first = (n_queries - _BLOCK_ROWS) * block // (n_blocks - 1)
        yield slice(first, first + _BLOCK_ROWS)
