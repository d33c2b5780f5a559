"""How steps say their numbers, and how far a recomputation is from what the model gave."""

from __future__ import annotations

import math

import torch

__all__ = ["gap_words", "written"]


def written(value: float) -> str:
    """A number with four digits that count.

    >>> written(0.123456), written(-1234.5), written(1e-12)
    ('0.1235', '−1234', '1e−12')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def gap_words(gap: float, limit: float, dtype: torch.dtype) -> str:
    """How far a step written out is from what the model gave, relative to its largest number.

    >>> gap_words(3e-7, 1e-5, torch.float32)
    'recomputes to 3e−7'
    >>> gap_words(0.25, 0.125, torch.bfloat16)
    'differs by 0.2 of the largest number, where bfloat16 allows 0.1: something is in this step that is not shown'
    """
    figure = "0" if gap == 0 else f"{gap:.0e}".replace("e-0", "e−").replace("e-", "e−") if gap < 0.01 else f"{gap:.1g}"
    if gap <= limit and dtype in (torch.float32, torch.float64):
        return f"recomputes to {figure}"
    name = str(dtype).removeprefix("torch.")
    if gap <= limit:
        return f"recomputes to {figure}, which is what {name} keeps"
    return (
        f"differs by {figure} of the largest number, where {name} allows {limit:.1g}: something is in this step that "
        "is not shown"
    )
